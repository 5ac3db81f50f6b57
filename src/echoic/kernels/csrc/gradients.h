// What the gates' gradients of a chunk give: the rest of the driver's pass back (driver.h).
#pragma once
#include "driver.h"

namespace echoic::ECHOIC_ISA {

// (x, m h_before, and with `second` its left): what the gates' gradients of one row are multiplied with.
template <class P, class Cell>
void Layer<P, Cell>::fill_operand(T* to, int64_t step, int64_t rank, const T* tape) const {
  if (s_.D) std::memcpy(to, in_.x + (plan_.row[rank] * s_.T + plan_.time(rank, step)) * s_.D, size_t(s_.D) * sizeof(T));
  std::fill(to + s_.D, to + Dp_, T(0));
  const T* before = step ? h_ + (plan_.offset[step - 1] + rank) * Hp_ : given_.h0.data() + rank * Hp_;
  for (int64_t unit = 0; unit < Hp_; unit += L) {
    vec<T> h = load(before + unit);
    store(to + Dp_ + unit, given_.mask_hidden.data() ? h * load(given_.mask_hidden.data() + rank * Hp_ + unit) : h);
  }
  if constexpr (Cell::second)
    std::memcpy(to + Dp_ + Hp_, tape + (plan_.offset[step] + rank) * gate_stride_ + Cell::second_left * Hp_, size_t(Hp_) * sizeof(T));
}

// What the gates' gradients of a chunk give for its inputs, and add to the weights'.
template <class P, class Cell>
void Layer<P, Cell>::gradients_of(const Own& own, int64_t first, int64_t last, const T* tape, const T* base,
                                  const E* packed_input, E* operand, T* sums, T* dx, std::vector<E>& space) {
  const int R = share_.row_groups;
  const int64_t width = Dp_ + 2 * Hp_, across = Dp_ + Hp_;
  std::vector<const T*> gate;
  std::vector<std::pair<int64_t, int64_t>> place;  // (step, rank)
  for (int64_t step = first; step < last; step++)
    for (int64_t rank = own.group; rank < plan_.alive[step]; rank += R) {
      gate.push_back(base + (plan_.offset[step] - plan_.offset[first] + rank) * gate_stride_);
      place.push_back({step, rank});
    }
  const int64_t rows = int64_t(gate.size()), depth = elements<P>(rows);
  if (rows == 0) return;
  E* left = operand + depth * width;  // with halves: the gates' gradients, in pairs of rows
  const int64_t left_columns = Cell::stored * Hp_;
  std::vector<T> pair(size_t(P::each > 1 ? 2 * width + gate_stride_ : 0));
  auto fill = [&](T* to, int64_t row) {
    if (row < rows) fill_operand(to, place[size_t(row)].first, place[size_t(row)].second, tape);
    else std::fill_n(to, width, T(0));
  };
  for (int64_t start = own.part * P::block; start < depth; start += share_.unit_groups * P::block) {
    for (int64_t i = start; i < start + P::block; i++) {
      if constexpr (P::each == 1) {
        fill(operand + i * width, i);
      } else {
        fill(pair.data(), 2 * i);
        fill(pair.data() + width, 2 * i + 1);
        put_pair<P>(operand + i * width, pair.data(), pair.data() + width, Cell::second ? width : across);
      }
    }
    if constexpr (P::each > 1) {
      auto of = [&](int64_t row) { return row < rows ? gate[size_t(row)] : pair.data() + 2 * width; };  // or zeros
      if constexpr (P::block == 1) {
        put_pair<P>(left + start * left_columns, of(2 * start), of(2 * start + 1), left_columns);
      } else {  // turned: tiles want pairs that follow one another along the sum
        static_assert(P::block == L);
        for (int64_t column = 0; column < left_columns; column += L) {
          vec<E> square[L];
          for (int j = 0; j < L; j++) square[j] = P::across(load(of(2 * (start + j)) + column), load(of(2 * (start + j) + 1) + column));
          turn<E>(square);
          for (int j = 0; j < L; j++) store(left + (column + j) * left_step(rows) + start, square[j]);
        }
      }
    }
  }
  groups_[size_t(own.group)]->join();
  // sums[column] += its gates' gradients, row by row, times the operands [from, until)
  auto add = [&](int column, int64_t from, int64_t until, int64_t to) {
    int64_t c0 = column * Hp_ + own.first * L, c1 = column * Hp_ + own.last * L;
    if constexpr (P::each == 1) {
      for (int64_t i = 0; i < rows;) {  // a group's rows stand evenly apart, but for where a step ends unevenly
        int64_t run = 1;
        while (i + run < rows && gate[size_t(i + run)] - gate[size_t(i + run) - 1] == R * gate_stride_) run++;
        product_over_rows<P>(run, gate[size_t(i)], R * gate_stride_, c0, c1, operand + i * width + from, width,
                             until - from, sums + to, across);
        i += run;
      }
    } else if constexpr (P::block == 1) {
      product_over_rows<P>(depth, left, left_columns, c0, c1, operand + from, width, until - from, sums + to, across);
    } else {
#if defined(__AMX_BF16__)
      tiles::product_over_rows(depth, left, left_step(rows), c0, c1, operand + from, width, until - from, sums + to, across);
#endif
    }
  };
  for (int column = 0; column < Cell::stored; column++) {
    bool input = column < input_gates, state = column >= Cell::first_from_state && column < Cell::first_from_state + state_gates;
    int64_t from = input ? 0 : Dp_, until = state ? Dp_ + Hp_ : Dp_;
    if (until > from) add(column, from, until, from);
    if (Cell::second && column == 0) add(column, Dp_ + Hp_, Dp_ + 2 * Hp_, Dp_);
  }
  add_vectors(own, first, last, tape, gate, sums);
  if (dx) {
    auto [x0, x1] = part(Dp_ / L, 4, own.part, share_.unit_groups);
    auto lefts = left_rows<P>(rows, input_gates * Hp_, space, [&](int64_t i) { return gate[size_t(i)]; });
    product<P, 1, 4>(
        rows, lefts, elements<P>(input_gates * Hp_), packed_input, x0, x1,
        [&](int64_t i, int64_t v, const vec<T>(&sum)[1]) {
          auto [step, rank] = place[size_t(i)];
          store_first(dx + (plan_.row[rank] * s_.T + plan_.time(rank, step)) * s_.D + v * L, sum[0], s_.D - v * L);
        });
  }
}

// Biases and peepholes: sums over rows, unit by unit.
template <class P, class Cell>
void Layer<P, Cell>::add_vectors(const Own& own, int64_t first, int64_t last, const T* tape, const std::vector<const T*>& gate, T* sums) {
  T *bias = sums + bias_place(), *peephole = sums + peephole_place();
  for (int column = 0; column < Cell::stored; column++)
    for (int64_t unit = own.first * L; unit < own.last * L; unit += L) {
      vec<T> sum = load(bias + column * Hp_ + unit);
      for (const T* row : gate) sum += load(row + column * Hp_ + unit);
      store(bias + column * Hp_ + unit, sum);
    }
  if constexpr (Cell::memory) {
    if (!in_.peephole_i) return;
    size_t i = 0;
    for (int64_t step = first; step < last; step++) {
      Step<T> now = at(step, const_cast<T*>(tape) + plan_.offset[step] * gate_stride_);
      for (int64_t rank = own.group; rank < plan_.alive[step]; rank += share_.row_groups, i++)
        for (int64_t unit = own.first * L; unit < own.last * L; unit += L) {
          vec<T> before = now.get(now.c_before, rank, unit), after = Cell::new_memory(now, rank, unit, before);
          const T* d = gate[i] + unit;
          store(peephole + unit, load(peephole + unit) + load(d) * before);
          store(peephole + Hp_ + unit, load(peephole + Hp_ + unit) + load(d + Hp_) * before);
          store(peephole + 2 * Hp_ + unit, load(peephole + 2 * Hp_ + unit) + load(d + 3 * Hp_) * after);
        }
    }
  }
}

template <class P, class Cell>
void Layer<P, Cell>::add_up(int thread, const T* sums, int64_t size, const InputGradients<T>& out) {
  auto total = [&](int64_t place) {
    T sum = sums[place];
    for (int group = 1; group < share_.row_groups; group++) sum += sums[group * size + place];
    return sum;
  };
  auto [u0, u1] = part(s_.H, 1, thread, share_.threads());
  auto spread = [&](T* weight, T* bias, int column, int gate, int64_t from, int64_t inputs) {
    for (int64_t unit = u0; unit < u1; unit++) {
      int64_t line = (column * Hp_ + unit) * (Dp_ + Hp_) + from;
      T* to = weight + (gate * s_.H + unit) * inputs;
      for (int64_t k = 0; k < inputs; k++) to[k] = total(line + k);
      if (bias) bias[gate * s_.H + unit] = total(bias_place() + column * Hp_ + unit);
    }
  };
  for (int g = 0; g < input_gates; g++) spread(out.weight_ih, out.bias_ih, g, Cell::from_input[g], 0, s_.D);
  for (int g = 0; g < state_gates; g++)
    spread(out.weight_hh, out.bias_hh, Cell::first_from_state + g, Cell::from_state[g], Dp_, s_.H);
  if constexpr (Cell::second) spread(out.weight_hh, out.bias_hh, 0, Cell::second_gate, Dp_, s_.H);
  if (out.peephole_i)
    for (int64_t unit = u0; unit < u1; unit++) {
      out.peephole_i[unit] = total(peephole_place() + unit);
      out.peephole_f[unit] = total(peephole_place() + Hp_ + unit);
      out.peephole_o[unit] = total(peephole_place() + 2 * Hp_ + unit);
    }
}

}  // namespace echoic::ECHOIC_ISA
