// Rows times packed weights that are kept: what every product of a prediction is made of, and linear layers.
#pragma once
#include <limits>
#include <vector>

#include "gemv.h"
#include "likeliest.h"
#include "memory.h"
#include "pack.h"
#include "plan.h"
#include "predict.h"
#include "tile.h"

namespace echoic::ECHOIC_ISA {

// As `product` (tile.h), from left rows as they come; a row that is alone is multiplied by gemv.h. `space` is for one caller
// at a time.
template <class P, int gates, int group, class Left, class Done>
void multiply_packed(int64_t rows, Left&& left, int64_t depth, const typename P::element* packed, int64_t first, int64_t last,
                     std::vector<typename P::element>& space, Done&& done) {
  using T = typename P::sum;
  if constexpr (P::each == 1) {
    if (rows == 1)
      return product_of_vector<T, gates, group>(left(0), depth, packed, first, last,
                                                [&](int64_t v, const vec<T>(&sums)[gates]) { done(0, v, sums); });
  }
  [[maybe_unused]] typename P::Session session;
  product<P, gates, group>(rows, left_rows<P>(rows, depth, space, left), elements<P>(depth), packed, first, last, done);
}

template <class P> class Linear final : public LinearMap {
  static constexpr int L = lanes<float>;

 public:
  Linear(int64_t inputs, int64_t outputs, const float* weight, const float* bias)
      : inputs_(inputs), outputs_(outputs), packed_(padded(outputs) * elements<P>(inputs)), bias_(padded(outputs), true) {
    constexpr int row = 0;
    pack_forward<P>(packed_.data(), weight, &row, 1, 4, inputs, outputs, 0, padded(outputs) / L);
    if (bias && outputs) std::memcpy(bias_.data(), bias, size_t(outputs) * sizeof(float));
    std::fill(bias_.data() + outputs, bias_.data() + padded(outputs), -std::numeric_limits<float>::infinity());  // see likeliest
  }

  void run(int64_t rows, const float* x, float* y) const override {
    each(rows, x, [&](int64_t i, int64_t v, vec<float> out) { store_first(y + i * outputs_ + v * L, out, outputs_ - v * L); });
  }

  void likeliest(int64_t rows, const float* x, int64_t k, float* values, int64_t* places, float* norms) const override {
    Likeliest found(rows, k);
    each(rows, x, [&](int64_t i, int64_t v, vec<float> out) { found.see(i, v * L, out); });
    found.tell(values, places, norms);
  }

 private:
  static constexpr int64_t rows_at_once = 512;  // of activations, so many stay in the cache

  // done(row, vector of outputs, its numbers)
  template <class Done> void each(int64_t rows, const float* x, Done&& done) const {
    std::vector<typename P::element> space;
    for (int64_t start = 0; start < rows; start += rows_at_once)
      multiply_packed<P, 1, 4>(
          std::min(rows_at_once, rows - start), [&](int64_t i) { return x + (start + i) * inputs_; }, inputs_, packed_.data(), 0,
          padded(outputs_) / L, space,
          [&](int64_t i, int64_t v, const vec<float>(&sums)[1]) { done(start + i, v, sums[0] + load(bias_.data() + v * L)); });
  }

  int64_t inputs_, outputs_;
  Buffer<typename P::element> packed_;
  Buffer<float> bias_;
};

}  // namespace echoic::ECHOIC_ISA
