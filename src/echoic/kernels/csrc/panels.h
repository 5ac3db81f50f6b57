// A layer's weights as its forward products read them (pack.h), and what is added to W x.
#pragma once
#include <iterator>

#include "memory.h"
#include "pack.h"
#include "plan.h"
#include "recurrence.h"

namespace echoic::ECHOIC_ISA {

// The gates a cell's products give, and how their vectors stand side by side in a panel.
template <class Cell> struct Products {
  static constexpr int input = int(std::size(Cell::from_input)), state = int(std::size(Cell::from_state));
  static constexpr int input_group = input == 1 ? 4 : 1;
};

// (gates of the input + 1, Hp): what is added to W x for each stored column, then b_hh of a gate that r multiplies.
template <class T, class Cell> Buffer<T> sum_biases(Kind kind, int64_t H, const T* bias_ih, const T* bias_hh) {
  constexpr int gates = Products<Cell>::input;
  const int64_t Hp = padded(H);
  Buffer<T> out((gates + 1) * Hp, true);
  if (!bias_ih) return out;
  for (int g = 0; g < gates; g++) {
    bool apart = kind == Kind::gru_after && Cell::from_input[g] == 2;
    for (int64_t unit = 0; unit < H; unit++) {
      int64_t row = Cell::from_input[g] * H + unit;
      out.data()[g * Hp + unit] = bias_ih[row] + (apart ? T(0) : bias_hh[row]);
      if (apart) out.data()[gates * Hp + unit] = bias_hh[row];
    }
  }
  return out;
}

// Where a layer's packed weights stand: as Panels and sum_biases give them.
template <class P> struct Packed {
  const typename P::element *input, *state, *second;
  const typename P::sum* biases;
};

// W, U, and the U of a cell's second product.
template <class P, class Cell> class Panels {
  using T = typename P::sum;
  using E = typename P::element;
  using C = Products<Cell>;

 public:
  Panels() = default;
  Panels(int64_t D, int64_t H)
      : D_(D), H_(H), state_place_(padded(H) * C::input * elements<P>(D)),
        second_place_(state_place_ + padded(H) * C::state * elements<P>(H)),
        weights_(second_place_ + (Cell::second ? padded(H) * elements<P>(H) : 0)) {}

  // The vectors [first, last) of every gate; threads may fill different ones at the same time.
  void fill(const T* weight_ih, const T* weight_hh, int64_t first, int64_t last) {
    E* to = weights_.data();
    pack_forward<P>(to, weight_ih, Cell::from_input, C::input, C::input_group, D_, H_, first, last);
    pack_forward<P>(to + state_place_, weight_hh, Cell::from_state, C::state, Cell::group, H_, H_, first, last);
    if constexpr (Cell::second)
      pack_forward<P>(to + second_place_, weight_hh, &Cell::second_gate, 1, 4, H_, H_, first, last);
  }
  const E* input() const { return weights_.data(); }
  const E* state() const { return weights_.data() + state_place_; }
  const E* second() const { return weights_.data() + second_place_; }

 private:
  int64_t D_ = 0, H_ = 0, state_place_ = 0, second_place_ = 0;
  Buffer<E> weights_;
};

}  // namespace echoic::ECHOIC_ISA
