// Rows that take their steps together, forwards: one sequence, or one step of a few.
//
// The products of the inputs of a chunk of steps come first, all at once; then its steps. Threads share the
// units of a step and meet after each product. A row that is alone is multiplied by gemv.h.
#pragma once
#include <memory>
#include <stdexcept>
#include <vector>

#include "driver.h"
#include "gemv.h"
#include "linear.h"
#include "panels.h"
#include "predict.h"

namespace echoic::ECHOIC_ISA {

constexpr int64_t steps_at_once = 64;

// A layer's weights for its three products. Each calls done(row, vector, sums of each gate) for the vectors [first, last).
template <class Numbers, class Cell> class Dense {
  using P = Products<Cell>;
  using T = typename Numbers::sum;
  using E = typename Numbers::element;

 public:
  using Scratch = std::vector<E>;
  using Multiplied = Numbers;
  static constexpr int64_t bytes = sizeof(E) / Numbers::each;

  Dense(const LayerShape& s, const T* weight_ih, const T* weight_hh) : D_(s.D), H_(s.H), panels_(s.D, s.H) {
    panels_.fill(weight_ih, weight_hh, 0, padded(s.H) / lanes<T>);
  }
  const Panels<Numbers, Cell>& panels() const { return panels_; }
  Scratch scratch(int64_t) const { return {}; }

  template <class Left, class Done> void input(int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    multiply_packed<Numbers, P::input, P::input_group>(rows, left, D_, panels_.input(), first, last, s, done);
  }
  template <class Left, class Done> void state(int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    multiply_packed<Numbers, P::state, Cell::group>(rows, left, H_, panels_.state(), first, last, s, done);
  }
  template <class Left, class Done> void second(int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    multiply_packed<Numbers, 1, 4>(rows, left, H_, panels_.second(), first, last, s, done);
  }

 private:
  int64_t D_, H_;
  Panels<Numbers, Cell> panels_;
};

// The same in eight bits: each vector is quantised as it comes.
template <class Cell> class Int8 {
  using P = Products<Cell>;
  using T = float;
  static constexpr int L = lanes<float>;

  template <int gates> struct Matrix {
    int64_t depth;
    Buffer<int8_t> panels;   // a block of 16 units after another: see Int8Kernel
    Buffer<int32_t> start;   // (blocks, gates, 16)
    Buffer<float> scale;     // (blocks, gates, 16)
    Int8Kernel kernel = int8_kernel<gates>();

    // weight: (G*H, depth); rows: which gates of it
    Matrix(const int8_t* weight, const float* scales, const int* rows, int64_t depth, int64_t H)
        : depth(depth), panels(padded(H) * gates * int8_depth(depth), true), start(padded(H) * gates, true),
          scale(padded(H) * gates, true) {
      for (int64_t unit = 0; unit < H; unit++)
        for (int g = 0; g < gates; g++) {
          int64_t block = unit / int8_units, row = rows[g] * H + unit;
          int64_t place = (block * gates + g) * int8_units + unit % int8_units;
          int8_t* panel = panels.data() + block * gates * int8_units * int8_depth(depth);
          int32_t sum = 0;
          for (int64_t k = 0; k < depth; k++) {
            int8_t w = weight[row * depth + k];
            panel[((k / 4 * gates + g) * int8_units + unit % int8_units) * 4 + k % 4] = w;
            sum += w;
          }
          start.data()[place] = -128 * sum;
          scale.data()[place] = scales[row];
        }
    }
  };

 public:
  struct Scratch {
    Buffer<uint8_t> values;
    Buffer<float> scale;
  };
  static constexpr int64_t bytes = 1;

  Int8(const LayerShape& s, const Int8Weights& w)
      : input_(w.weight_ih, w.scale_ih, Cell::from_input, s.D, s.H), state_(w.weight_hh, w.scale_hh, Cell::from_state, s.H, s.H),
        second_(w.weight_hh, w.scale_hh, second_gate(), s.H, Cell::second ? s.H : 0) {}

  Scratch scratch(int64_t rows) const {
    return {Buffer<uint8_t>(rows * std::max(int8_depth(input_.depth), int8_depth(state_.depth))), Buffer<float>(rows)};
  }
  template <class Left, class Done> void input(int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    times<P::input>(input_, rows, left, first, last, s, done);
  }
  template <class Left, class Done> void state(int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    times<P::state>(state_, rows, left, first, last, s, done);
  }
  template <class Left, class Done> void second(int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    times<1>(second_, rows, left, first, last, s, done);
  }

 private:
  static const int* second_gate() {
    if constexpr (Cell::second) return &Cell::second_gate;
    return nullptr;
  }

  template <int gates, class Left, class Done>
  void times(const Matrix<gates>& m, int64_t rows, Left&& left, int64_t first, int64_t last, Scratch& s, Done&& done) const {
    const int64_t across = int8_depth(m.depth);
    for (int64_t i = 0; i < rows; i++) s.scale.data()[i] = quantise(left(i), m.depth, s.values.data() + i * across);
    alignas(vector_bytes) int32_t sums[gates * int8_units];
    typedef int32_t whole __attribute__((vector_size(vector_bytes)));
    typedef int32_t whole_anywhere __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
    for (int64_t block = first * L / int8_units; block < last * L / int8_units; block++) {
      const int64_t place = block * gates * int8_units;
      for (int64_t i = 0; i < rows; i++) {
        m.kernel(m.depth, s.values.data() + i * across, m.panels.data() + place * across, m.start.data() + place, sums);
        for (int u = 0; u < int8_units; u += L) {
          vec<float> one[gates];
          for (int g = 0; g < gates; g++) {
            whole sum = *reinterpret_cast<const whole_anywhere*>(sums + g * int8_units + u);
            one[g] = __builtin_convertvector(sum, vec<float>) * (load(m.scale.data() + place + g * int8_units + u) * s.scale.data()[i]);
          }
          done(i, (block * int8_units + u) / L, one);
        }
      }
    }
  }

  Matrix<P::input> input_;
  Matrix<P::state> state_;
  Matrix<1> second_;
};

// Threads that share one row's units, each with so much of U to read a step that meeting costs little beside it.
inline int threads_for_a_row(int64_t bytes_a_step, int64_t steps, int64_t blocks, int threads) {
  if (bytes_a_step * steps < int64_t(2) << 20) return 1;  // less than waking a thread costs
  return int(std::clamp<int64_t>(bytes_a_step / (64 << 10), 1, std::min<int64_t>(blocks, std::max(1, threads))));
}

template <class T, class Cell, class Weights> class Steps final : public Predictor<T> {
  static constexpr int L = lanes<T>;
  using P = Products<Cell>;
  using Rows = typename Predictor<T>::Rows;
  using Scratch = typename Weights::Scratch;

 public:
  // Of `in` the biases and peepholes are read, here.
  Steps(const LayerShape& s, const Inputs<T>& in, Weights weights)
      : s_(s), Hp_(padded(s.H)), vectors_(Hp_ / L), gate_stride_(Cell::stored * Hp_ + 16), weights_(std::move(weights)),
        biases_(sum_biases<T, Cell>(s.kind, s.H, in.bias_ih, in.bias_hh)) {
    const T* given[] = {in.peephole_i, in.peephole_f, in.peephole_o};
    for (int i = 0; i < 3; i++)
      if (given[i]) {
        peephole_[i] = Buffer<T>(Hp_, true);
        std::memcpy(peephole_[i].data(), given[i], size_t(s.H) * sizeof(T));
      }
  }

  void know(const T* x, int64_t N) override {
    Buffer<T> known(N * P::input * Hp_);
    Scratch scratch = weights_.scratch(N);
    weights_.input(
        N, [&](int64_t i) { return x + i * s_.D; }, 0, vectors_, scratch,
        [&](int64_t i, int64_t v, const vec<T>(&sums)[P::input]) {
          for (int g = 0; g < P::input; g++)
            store(known.data() + (i * P::input + g) * Hp_ + v * L, sums[g] + load(biases_.data() + g * Hp_ + v * L));
        });
    known_ = std::move(known), N_ = N;
  }

  void run(const Rows& r) const override {
    if (r.B == 1) return run_one(r);
    if constexpr (requires { typename Weights::Multiplied; }) run_together(r);
    else run_apart(r);
  }

  std::unique_ptr<Stepper<T>> stepper(int64_t B) const override { return std::make_unique<Single>(*this, B); }

 private:
  // What rows hold while they are stepped.
  struct Work {
    Buffer<T> gates, h[2], c;

    Work(const Steps& s, int64_t rows, int64_t steps)
        : gates(rows * std::min(steps, steps_at_once) * s.gate_stride_), h{Buffer<T>(rows * s.Hp_, true), Buffer<T>(rows * s.Hp_, true)},
          c(Cell::memory ? rows * s.Hp_ : 0, true) {}
  };

  // `steps` steps of one row, or one step of `rows` rows: x_i is at x + i * x_next, and y_i is to go to y + i * y_next.
  struct Path {
    int64_t rows, steps;
    const T* x;  // or null: what the inputs add stands in the gates
    const T* more;  // (rows, G*H) of one step, or null: added to the gates too
    int64_t x_next;
    T* y;  // or null
    int64_t y_next;
  };

  struct Single final : Stepper<T> {
    const Steps& layer;
    Buffer<T> input;
    std::vector<int64_t> numbers;
    Work work;
    Scratch scratch;
    Meeting nobody;

    Single(const Steps& s, int64_t rows)
        : layer(s), input(std::max<int64_t>(1, rows * s.s_.D), true), numbers(size_t(rows)), work(s, rows, 1), scratch(s.weights_.scratch(rows)) {
      this->B = rows, this->D = s.s_.D, this->H = s.s_.H, this->stride = s.Hp_;
      this->x = input.data(), this->h = work.h[0].data(), this->c = work.c.data(), this->ids = numbers.data();
    }
    void step(const T* more) override { reads(this->x, more); }
    void step_known(const T* more) override {
      const int64_t size = P::input * layer.Hp_;
      for (int64_t id : numbers)
        if (id < 0 || id >= layer.N_) throw std::out_of_range("no input of that number is known");
      for (int64_t i = 0; i < this->B; i++)
        std::memcpy(work.gates.data() + i * layer.gate_stride_, layer.known_.data() + numbers[size_t(i)] * size, size_t(size) * sizeof(T));
      reads(nullptr, more);
    }
    void reads(const T* x, const T* more) {
      layer.advance({this->B, 1, x, more, this->D, nullptr, 0}, work, scratch, 0, layer.vectors_, nobody);
      std::memcpy(this->h, work.h[1].data(), size_t(this->B * this->stride) * sizeof(T));
    }
  };

  // One thread's share, the vectors [first, last) of every gate. The state before is in w.h[0] and w.c, the state
  // after in w.h[steps % 2] and w.c.
  void advance(const Path& p, Work& w, Scratch& scratch, int64_t first, int64_t last, Meeting& meeting) const {
    for (int64_t begin = 0; begin < p.steps; begin += steps_at_once) {
      const int64_t count = std::min(steps_at_once, p.steps - begin);
      if (p.x) weights_.input(
          p.rows * count, [&](int64_t i) { return p.x + (begin + i) * p.x_next; }, first, last, scratch,
          [&](int64_t i, int64_t v, const vec<T>(&sums)[P::input]) {
            for (int g = 0; g < P::input; g++)
              store(w.gates.data() + i * gate_stride_ + g * Hp_ + v * L, sums[g] + load(biases_.data() + g * Hp_ + v * L));
          });
      for (int64_t i = 0; p.more && i < p.rows; i++)
        for (int g = 0; g < P::input; g++)
          for (int64_t v = first; v < last; v++) {
            T* gate = w.gates.data() + i * gate_stride_ + g * Hp_ + v * L;
            const T* more = p.more + (i * gate_count(s_.kind) + Cell::from_input[g]) * s_.H + v * L;
            store(gate, load(gate) + load_first(more, s_.H - v * L));
          }
      for (int64_t step = begin; step < begin + count; step++) {
        Step<T> now = at(w, step, w.gates.data() + (step - begin) * gate_stride_);
        weights_.state(
            p.rows, [&](int64_t i) { return now.h_before + i * Hp_; }, first, last, scratch,
            [&](int64_t i, int64_t v, const vec<T>(&u)[P::state]) { Cell::template forward<T>(now, i, v * L, u); });
        if constexpr (Cell::second) {
          meeting.join();
          weights_.second(
              p.rows, [&](int64_t i) { return now.gate(now.gates, i, 0, Cell::second_left); }, first, last, scratch,
              [&](int64_t i, int64_t v, const vec<T>(&u)[1]) { Cell::template forward_second<T>(now, i, v * L, u[0]); });
        }
        if (p.y && first * L < s_.H)
          std::memcpy(p.y + step * p.y_next + first * L, now.h + first * L, size_t(std::min(s_.H, last * L) - first * L) * sizeof(T));
        meeting.join();
      }
    }
  }

  Step<T> at(Work& w, int64_t step, T* gates) const {
    Step<T> now{};
    now.stride = Hp_;
    now.gate_stride = gate_stride_;
    now.gates = gates;
    now.h_before = w.h[step % 2].data();
    now.h = now.fed = w.h[(step + 1) % 2].data();
    now.c_before = now.c = w.c.data();
    now.bias_state = biases_.data() + P::input * Hp_;
    now.peephole_i = peephole_[0].data();
    now.peephole_f = peephole_[1].data();
    now.peephole_o = peephole_[2].data();
    return now;
  }

  static int64_t length(const Rows& r, int64_t row) { return r.lengths ? r.lengths[row] : r.T; }

  Path path(const Rows& r, int64_t row) const {
    const int64_t n = length(r, row), start = row * r.T + (s_.reverse && n ? n - 1 : 0), way = s_.reverse ? -1 : 1;
    return {1, n, r.x + start * s_.D, nullptr, way * s_.D, r.y + start * s_.H, way * s_.H};
  }

  void begin(const Rows& r, int64_t row, Work& w) const {
    auto set = [&](const T* from, Buffer<T>& to) {
      if (from) std::memcpy(to.data(), from + row * s_.H, size_t(s_.H) * sizeof(T));
      else std::memset(to.data(), 0, size_t(s_.H) * sizeof(T));
    };
    set(r.h0, w.h[0]);
    if constexpr (Cell::memory) set(r.c0, w.c);
  }

  void end(const Rows& r, int64_t row, const Work& w) const {
    const int64_t n = length(r, row);
    std::memcpy(r.h + row * s_.H, w.h[n % 2].data(), size_t(s_.H) * sizeof(T));
    if constexpr (Cell::memory) std::memcpy(r.c + row * s_.H, w.c.data(), size_t(s_.H) * sizeof(T));
    std::fill(r.y + (row * r.T + n) * s_.H, r.y + (row + 1) * r.T * s_.H, T(0));
  }

  // One row, whose units the threads share.
  void run_one(const Rows& r) const {
    const Path p = path(r, 0);
    const int64_t read = (P::state + int(Cell::second)) * s_.H * s_.H * Weights::bytes;
    const int threads = threads_for_a_row(read, p.steps, (vectors_ * L + 63) / 64, r.threads);
    Work work(*this, 1, p.steps);
    begin(r, 0, work);
    Meeting meeting(threads, 1000);  // a step takes microseconds
    run_on_threads(threads, [&](int thread) {
      Scratch scratch = weights_.scratch(std::min(p.steps, steps_at_once));
      auto [first, last] = part(vectors_, 64 / L, thread, threads);
      advance(p, work, scratch, first, last, meeting);
    });
    end(r, 0, work);
  }

  // Rows one after another, shared by the threads.
  void run_apart(const Rows& r) const {
    const int threads = int(std::clamp<int64_t>(r.threads, 1, std::max<int64_t>(1, r.B)));
    run_on_threads(threads, [&](int thread) {
      Scratch scratch = weights_.scratch(std::min(r.T, steps_at_once));
      Work work(*this, 1, r.T);
      Meeting nobody;
      for (int64_t row = thread; row < r.B; row += threads) {
        begin(r, row, work);
        advance(path(r, row), work, scratch, 0, vectors_, nobody);
        end(r, row, work);
      }
    });
  }

  // Rows together, by the driver of every batch.
  void run_together(const Rows& r) const {
    using Numbers = typename Weights::Multiplied;
    const Panels<Numbers, Cell>& panels = weights_.panels();
    const Packed<Numbers> packed{panels.input(), panels.state(), panels.second(), biases_.data()};
    Inputs<T> in{};
    in.x = r.x;
    in.peephole_i = peephole_[0].data();
    in.peephole_f = peephole_[1].data();
    in.peephole_o = peephole_[2].data();
    in.h0 = r.h0;
    in.c0 = r.c0;
    Layer<Numbers, Cell>({s_.kind, r.B, r.T, s_.D, s_.H, r.lengths, s_.reverse, r.threads}, in, &packed).forward({r.y, r.h, r.c, nullptr});
  }

  LayerShape s_;
  int64_t Hp_, vectors_, gate_stride_;
  Weights weights_;
  Buffer<T> biases_, peephole_[3], known_;  // known_: (N, inputs' gates, Hp)
  int64_t N_ = 0;
};

}  // namespace echoic::ECHOIC_ISA
