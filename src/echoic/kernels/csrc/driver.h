// A layer over a ragged batch, forwards and backwards: the same for every cell.
//
// A batch is cut into chunks of steps. Of a chunk, forwards, come first the products of its inputs, then
// its steps one after another, then the copy of its outputs; backwards the steps, then what its gates'
// gradients give for the inputs and the weights. So all that a chunk touches stays in the cache.
// Each thread owns some rows and some units (plan.h); in a sum over rows each row group has an
// addend of its own, and these are added in order: the same bits in every run.
#pragma once
#include <memory>
#include <vector>

#include "given.h"
#include "memory.h"
#include "pack.h"
#include "panels.h"
#include "plan.h"
#include "pool.h"
#include "step.h"
#include "tile.h"

namespace echoic::ECHOIC_ISA {

constexpr int64_t chunk_rows = 192;

template <class P, class Cell> class Layer {
  using T = typename P::sum;
  using E = typename P::element;
  static constexpr int L = lanes<T>;
  static constexpr int input_gates = Products<Cell>::input, state_gates = Products<Cell>::state;
  static constexpr int input_group = Products<Cell>::input_group;

 public:
  // packed: the weights, where they are packed already: then `in` has none, and only forward is for it.
  Layer(const Shape& s, const Inputs<T>& in, const Packed<P>* packed = nullptr)
      : s_(s), in_(in), packed_(packed), plan_(s), given_(s, in, plan_, Cell::memory), share_(s, plan_), Hp_(padded(s.H)), Dp_(padded(s.D)), vectors_(Hp_ / L),
        gate_stride_(Cell::stored * Hp_ + 16), meeting_(share_.threads()), groups_(size_t(share_.row_groups)) {
    for (auto& group : groups_) group = std::make_unique<Meeting>(share_.unit_groups);
    int64_t most = chunk_rows * share_.row_groups;
    for (int64_t step = 0; step < plan_.steps;) {
      int64_t last = step + 1;
      while (last < plan_.steps && plan_.offset[last + 1] - plan_.offset[step] <= most) last++;
      chunks_.push_back({step, last});
      longest_chunk_ = std::max(longest_chunk_, plan_.offset[last] - plan_.offset[step]);
      step = last;
    }
  }

  void forward(const Outputs<T>& out) {
    int64_t n = plan_.offset.back();
    Buffer<T> held(out.tape ? 0 : n * Hp_ * (Cell::memory ? 2 : 1));
    Buffer<T> gates(out.tape ? 0 : share_.row_groups * longest_chunk_ * gate_stride_);
    T* states = out.tape ? out.tape + s_.B * s_.T * gate_stride_ : held.data();
    h_ = states;
    c_ = Cell::memory ? states + n * Hp_ : nullptr;
    Buffer<T> fed(given_.mask_hidden.data() ? 2 * s_.B * Hp_ : 0);
    const int64_t input_depth = elements<P>(s_.D), state_depth = elements<P>(s_.H);
    Panels<P, Cell> panels;
    Buffer<T> biases;
    if (!packed_) {
      panels = Panels<P, Cell>(s_.D, s_.H);
      biases = sum_biases<T, Cell>(s_.kind, s_.H, in_.bias_ih, in_.bias_hh);
    }
    const Packed<P> packed = packed_ ? *packed_ : Packed<P>{panels.input(), panels.state(), panels.second(), biases.data()};

    run_on_threads(share_.threads(), [&](int thread) {
      [[maybe_unused]] typename P::Session session;
      if (!packed_) {
        auto [v0, v1] = part(vectors_, 64 / L, thread, share_.threads());
        panels.fill(in_.weight_ih, in_.weight_hh, v0, v1);
        meeting_.join();
      }

      Own own = owned(thread);
      Meeting& group = *groups_[size_t(own.group)];
      std::vector<const T*> x;
      std::vector<T*> gate;
      std::vector<E> space;
      for (auto [first, last] : chunks_) {
        T* base = out.tape ? out.tape + plan_.offset[first] * gate_stride_
                           : gates.data() + own.group * longest_chunk_ * gate_stride_;
        x.clear();
        gate.clear();
        for (int64_t step = first; step < last; step++)
          for (int64_t rank = own.group; rank < plan_.alive[step]; rank += share_.row_groups) {
            x.push_back(in_.x + (plan_.row[rank] * s_.T + plan_.time(rank, step)) * s_.D);
            gate.push_back(base + (plan_.offset[step] - plan_.offset[first] + rank) * gate_stride_);
          }
        auto x_rows = left_rows<P>(int64_t(x.size()), s_.D, space, [&](int64_t i) { return x[size_t(i)]; });
        product<P, input_gates, input_group>(
            int64_t(x.size()), x_rows, input_depth, packed.input, own.first, own.last,
            [&](int64_t i, int64_t v, const vec<T>(&sums)[input_gates]) {
              for (int g = 0; g < input_gates; g++)
                store(gate[size_t(i)] + g * Hp_ + v * L, only_units(sums[g], v) + load(packed.biases + g * Hp_ + v * L));
              if (v == 0) std::memset(gate[size_t(i)] + Cell::stored * Hp_, 0, size_t(gate_stride_ - Cell::stored * Hp_) * sizeof(T));
            });
        for (int64_t step = first; step < last; step++) {
          Step<T> now = at(step, base + (plan_.offset[step] - plan_.offset[first]) * gate_stride_);
          now.bias_state = packed.biases + input_gates * Hp_;
          now.fed = given_.mask_hidden.data() ? fed.data() + (step % 2) * s_.B * Hp_ : now.h;
          const T* left = step == 0 ? given_.fed0.data() : given_.mask_hidden.data() ? fed.data() + (1 - step % 2) * s_.B * Hp_ : now.h_before;
          int64_t rows = own.rows(plan_.alive[step], share_.row_groups);
          bool fresh = step == 0 && !in_.h0;
          auto rank = [&](int64_t i) { return own.group + i * share_.row_groups; };
          auto h_rows = left_rows<P>(fresh ? 0 : rows, s_.H, space, [&](int64_t i) { return left + rank(i) * Hp_; });
          product<P, state_gates, Cell::group>(
              rows, h_rows, fresh ? 0 : state_depth, packed.state, own.first, own.last,
              [&](int64_t i, int64_t v, const vec<T>(&u)[state_gates]) { Cell::template forward<T>(now, rank(i), v * L, u); });
          if constexpr (Cell::second) {
            group.join();
            auto lefts = left_rows<P>(rows, s_.H, space, [&](int64_t i) { return now.gate(now.gates, rank(i), 0, Cell::second_left); });
            product<P, 1, 4>(
                rows, lefts, fresh ? 0 : state_depth, packed.second, own.first, own.last,
                [&](int64_t i, int64_t v, const vec<T>(&u)[1]) { Cell::template forward_second<T>(now, rank(i), v * L, u[0]); });
          }
          group.join();
        }
        for (int64_t step = first; step < last; step++)
          for (int64_t rank = own.group; rank < plan_.alive[step]; rank += share_.row_groups)
            copy(out.y + (plan_.row[rank] * s_.T + plan_.time(rank, step)) * s_.H,
                 h_ + (plan_.offset[step] + rank) * Hp_, own);
      }
      for (int64_t rank = own.group; rank < s_.B; rank += share_.row_groups) {
        int64_t row = plan_.row[rank], length = plan_.length[rank];
        int64_t end = length ? (plan_.offset[length - 1] + rank) * Hp_ : 0;
        copy(out.h + row * s_.H, length ? h_ + end : given_.h0.data() + rank * Hp_, own);
        if constexpr (Cell::memory) copy(out.c + row * s_.H, length ? c_ + end : given_.c0.data() + rank * Hp_, own);
        for (int64_t step = length; step < s_.T; step++)
          if (own.real > own.first * L)
            std::fill(out.y + (row * s_.T + step) * s_.H + own.first * L, out.y + (row * s_.T + step) * s_.H + own.real, T(0));
      }
    });
  }

  void backward(const T* tape, const OutputGradients<T>& given, const InputGradients<T>& out) {
    int64_t n = plan_.offset.back();
    T* states = const_cast<T*>(tape) + s_.B * s_.T * gate_stride_;
    h_ = states;
    c_ = Cell::memory ? states + n * Hp_ : nullptr;
    const int R = share_.row_groups;
    Buffer<T> carry_h = Given<T>::by_rank(s_, plan_, given.h);
    Buffer<T> carry_c = Cell::memory ? Given<T>::by_rank(s_, plan_, given.c) : Buffer<T>(0);
    Buffer<T> dgates(R * 2 * longest_chunk_ * gate_stride_);
    const int64_t state_depth = elements<P>(state_gates * Hp_), second_depth = elements<P>(Hp_);
    Buffer<E> weights(Hp_ * (state_depth + (Cell::second ? second_depth : 0)) + (out.x ? Dp_ * elements<P>(input_gates * Hp_) : 0));
    E *packed_state = weights.data(), *packed_second = packed_state + Hp_ * state_depth;
    E* packed_input = packed_second + (Cell::second ? Hp_ * second_depth : 0);
    Buffer<E> operands(R * operands_size());
    const int64_t sums_size = Cell::stored * Hp_ * (Dp_ + Hp_ + 1) + 3 * Hp_;
    Buffer<T> sums(R * sums_size, true);

    run_on_threads(share_.threads(), [&](int thread) {
      [[maybe_unused]] typename P::Session session;
      auto [v0, v1] = part(vectors_, 4, thread, share_.threads());
      pack_backward<P>(packed_state, in_.weight_hh, Cell::from_state, state_gates, Hp_, s_.H, s_.H, v0, v1);
      if constexpr (Cell::second) pack_backward<P>(packed_second, in_.weight_hh, &Cell::second_gate, 1, Hp_, s_.H, s_.H, v0, v1);
      if (out.x) {
        auto [x0, x1] = part(Dp_ / L, 4, thread, share_.threads());
        pack_backward<P>(packed_input, in_.weight_ih, Cell::from_input, input_gates, Hp_, s_.H, s_.D, x0, x1);
      }
      meeting_.join();

      Own own = owned(thread);
      Meeting& group = *groups_[size_t(own.group)];
      std::vector<E> space;
      T* after = nullptr;  // the gates' gradients of the step after, rank 0
      int64_t alive_after = 0;
      auto rank = [&](int64_t i) { return own.group + i * R; };
      // The whole gradient of a step's h: from the step after through U, from past the product, from above.
      auto whole = [&](const Step<T>& now, int64_t step, int64_t r, int64_t v, vec<T> through) {
        vec<T> dh = now.masked(given_.mask_hidden.data(), r, v * L, through) + now.get(now.carry_h, r, v * L);
        const T* dy = given.y + (plan_.row[r] * s_.T + plan_.time(r, step)) * given.y_step;
        return dh + load_first(dy + v * L, s_.H - v * L);
      };
      for (size_t which = chunks_.size(); which-- > 0;) {
        auto [first, last] = chunks_[which];
        T* base = dgates.data() + (own.group * 2 + int64_t(which % 2)) * longest_chunk_ * gate_stride_;
        for (int64_t step = last; step-- > first;) {
          Step<T> now = at(step, const_cast<T*>(tape) + plan_.offset[step] * gate_stride_);
          now.dgates = base + (plan_.offset[step] - plan_.offset[first]) * gate_stride_;
          now.carry_h = carry_h.data();
          now.carry_c = carry_c.data();
          int64_t rows = own.rows(plan_.alive[step], R), going_on = own.rows(alive_after, R);
          auto lefts = left_rows<P>(going_on, state_gates * Hp_, space,
                                    [&](int64_t i) { return now.gate(after, rank(i), 0, Cell::first_from_state); });
          product<P, 1, 4>(
              going_on, lefts, state_depth, packed_state, own.first, own.last, [&](int64_t i, int64_t v, const vec<T>(&through)[1]) {
                Cell::template backward<T>(now, rank(i), v * L, whole(now, step, rank(i), v, through[0]));
              });
          for (int64_t i = going_on; i < rows; i++)
            for (int64_t v = own.first; v < own.last; v++)
              Cell::template backward<T>(now, rank(i), v * L, whole(now, step, rank(i), v, vec<T>{}));
          if constexpr (Cell::second) {
            group.join();
            auto seconds = left_rows<P>(rows, Hp_, space, [&](int64_t i) { return now.gate(now.dgates, rank(i), 0, 0); });
            product<P, 1, 4>(
                rows, seconds, second_depth, packed_second, own.first, own.last, [&](int64_t i, int64_t v, const vec<T>(&du)[1]) {
                  Cell::template backward_second<T>(now, rank(i), v * L, du[0]);
                });
          }
          after = now.dgates;
          alive_after = plan_.alive[step];
          group.join();
        }
        gradients_of(own, first, last, tape, base, packed_input, operands.data() + own.group * operands_size(),
                     sums.data() + own.group * sums_size, out.x, space);
        group.join();
      }
      // what reaches the first state: rows that have a step, then those that have none
      Step<T> start = at(0, nullptr);
      start.carry_h = carry_h.data();
      auto finish = [&](int64_t r, int64_t v, vec<T> through) {
        int64_t place = plan_.row[r] * s_.H + v * L, real = s_.H - v * L;
        if (out.h0) store_first(out.h0 + place, start.masked(given_.mask_hidden.data(), r, v * L, through) + start.get(start.carry_h, r, v * L), real);
        if constexpr (Cell::memory)
          if (out.c0) store_first(out.c0 + place, load(carry_c.data() + r * Hp_ + v * L), real);
      };
      if (out.h0 || out.c0) {
        int64_t going_on = own.rows(alive_after, R), rows = own.rows(s_.B, R);
        auto lefts = left_rows<P>(going_on, state_gates * Hp_, space,
                                  [&](int64_t i) { return start.gate(after, rank(i), 0, Cell::first_from_state); });
        product<P, 1, 4>(
            going_on, lefts, state_depth, packed_state, own.first, own.last,
            [&](int64_t i, int64_t v, const vec<T>(&through)[1]) { finish(rank(i), v, through[0]); });
        for (int64_t i = going_on; i < rows; i++)
          for (int64_t v = own.first; v < own.last; v++) finish(rank(i), v, vec<T>{});
      }
      if (out.x)
        for (int64_t r = own.group; r < s_.B; r += R)
          if (own.part == 0) {
            T* row = out.x + plan_.row[r] * s_.T * s_.D;
            std::fill(row + plan_.length[r] * s_.D, row + s_.T * s_.D, T(0));
          }
      meeting_.join();
      add_up(thread, sums.data(), sums_size, out);
    });
  }

 private:
  struct Chunk {
    int64_t first, last;
  };
  // What a thread owns: every row_groups-th rank, the vectors first..last of each gate, units up to `real`.
  struct Own {
    int group, part;
    int64_t first, last, real;
    int64_t rows(int64_t alive, int row_groups) const { return alive > group ? (alive - group + row_groups - 1) / row_groups : 0; }
  };

  Own owned(int thread) const {
    int group = thread / share_.unit_groups, which = thread % share_.unit_groups;
    auto [first, last] = part(vectors_, 64 / L, which, share_.unit_groups);
    return {group, which, first, last, std::min(s_.H, last * L)};
  }

  static void copy(T* to, const T* from, const Own& own) {
    if (own.real > own.first * L) std::memcpy(to + own.first * L, from + own.first * L, size_t(own.real - own.first * L) * sizeof(T));
  }

  // 0 where there is no unit: an infinite input times a weight that is not there would be a NaN.
  vec<T> only_units(vec<T> v, int64_t at) const {
    if (at * L + L <= s_.H) return v;
    T values[L] = {};
    store_first(values, v, s_.H - at * L);
    return load(values);
  }

  Step<T> at(int64_t step, T* gates) const {
    Step<T> now{};
    now.stride = Hp_;
    now.gate_stride = gate_stride_;
    now.gates = gates;
    int64_t place = plan_.steps ? plan_.offset[step] * Hp_ : 0;
    now.h = h_ + place;
    now.h_before = step ? h_ + plan_.offset[step - 1] * Hp_ : given_.h0.data();
    if constexpr (Cell::memory) {
      now.c = c_ + place;
      now.c_before = step ? c_ + plan_.offset[step - 1] * Hp_ : given_.c0.data();
    }
    now.mask_hidden = given_.mask_hidden.data();
    now.mask_candidate = given_.mask_candidate.data();
    now.keep_h = given_.keep_h ? given_.keep_h.data() + place : nullptr;
    now.keep_c = given_.keep_c ? given_.keep_c.data() + place : nullptr;
    now.peephole_i = given_.peephole_i.data();
    now.peephole_f = given_.peephole_f.data();
    now.peephole_o = given_.peephole_o.data();
    return now;
  }

  // Where sums of a row group stand: (stored*Hp, Dp + Hp) weights, (stored*Hp) biases, (3, Hp) peepholes.
  int64_t bias_place() const { return Cell::stored * Hp_ * (Dp_ + Hp_); }
  int64_t peephole_place() const { return bias_place() + Cell::stored * Hp_; }

  // With tiles: elements from one line of the gates' gradients to the next. One cache line more than there are, as lines that
  // lie a power of two apart would share few places of the cache.
  static int64_t left_step(int64_t rows) { return elements<P>(rows) + (P::block > 1 ? 16 : 0); }

  // What stands on the right of a chunk's sums over rows, and with halves on their left: elements of a row group.
  int64_t operands_size() const {
    return elements<P>(longest_chunk_) * (Dp_ + 2 * Hp_) + (P::each > 1 ? Cell::stored * Hp_ * left_step(longest_chunk_) : 0);
  }

  // gradients.h
  void fill_operand(T* to, int64_t step, int64_t rank, const T* tape) const;
  void gradients_of(const Own& own, int64_t first, int64_t last, const T* tape, const T* base, const E* packed_input,
                    E* operand, T* sums, T* dx, std::vector<E>& space);
  void add_vectors(const Own& own, int64_t first, int64_t last, const T* tape, const std::vector<const T*>& gate, T* sums);
  void add_up(int thread, const T* sums, int64_t size, const InputGradients<T>& out);

  const Shape& s_;
  const Inputs<T>& in_;
  const Packed<P>* packed_;
  Plan plan_;
  Given<T> given_;
  Share share_;
  int64_t Hp_, Dp_, vectors_, gate_stride_;
  Meeting meeting_;
  std::vector<std::unique_ptr<Meeting>> groups_;
  std::vector<Chunk> chunks_;
  int64_t longest_chunk_ = 0;  // rows
  T *h_ = nullptr, *c_ = nullptr;
};

}  // namespace echoic::ECHOIC_ISA
