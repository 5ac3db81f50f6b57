// Numbers laid out as the products read them: weights once a call, left rows as they come.
//
// Along the sum of a product P::each numbers stand in one element (simd.h): with one this is the number
// itself, with two a pair of bfloat16, the last one beside a 0 where their count is odd.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

namespace echoic::ECHOIC_ISA {

template <class P> constexpr int64_t elements(int64_t numbers) { return (numbers + P::each - 1) / P::each; }

// The nearest bfloat16, ties to even; a NaN stays one.
inline uint16_t halved(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Writes number k of the sum into a panel whose lines are `across` elements wide.
template <class P>
inline void put(typename P::element* panel, int64_t across, int64_t k, int64_t column, typename P::sum value) {
  if constexpr (P::each == 1) {
    panel[k * across + column] = value;
  } else {
    uint16_t half = halved(value);
    std::memcpy(reinterpret_cast<char*>(panel + k / 2 * across + column) + k % 2 * 2, &half, sizeof half);
  }
}

// Panels of the gates `rows` of a weight (G*H, depth), for `product` with `gates` gates and this group:
// line k holds, for each gate, the weights from input k to the panel's units.
template <class P, class T = typename P::sum>
void pack_forward(typename P::element* out, const T* weight, const int* rows, int gates, int group, int64_t depth,
                  int64_t units, int64_t first, int64_t last) {
  constexpr int L = lanes<T>;
  for (int64_t v = first; v < last; v += group) {
    int64_t across = std::min<int64_t>(group, last - v) * L;
    auto* panel = out + v * gates * elements<P>(depth) * L;
    for (int g = 0; g < gates; g++)
      for (int64_t j = 0; j < across; j++) {
        int64_t unit = v * L + j, kept = unit < units ? depth : 0;
        const T* from = weight + (rows[g] * units + unit) * depth;
        for (int64_t k = 0; k < kept; k++) put<P>(panel, gates * across, k, g * across + j, from[k]);
        for (int64_t k = kept; k < elements<P>(depth) * P::each; k++)
          put<P>(panel, gates * across, k, g * across + j, T(0));
      }
  }
}

// Panels of the same weight transposed, for `product<P, 1, 4>`: line k holds the weights of stored column k
// (gate k / stride, unit k % stride) to the panel's inputs. stride is a multiple of P::each.
template <class P, class T = typename P::sum>
void pack_backward(typename P::element* out, const T* weight, const int* rows, int gates, int64_t stride, int64_t units,
                   int64_t inputs, int64_t first, int64_t last) {
  constexpr int L = lanes<T>;
  for (int64_t v = first; v < last; v += 4) {
    int64_t across = std::min<int64_t>(4, last - v) * L, real = std::clamp<int64_t>(inputs - v * L, 0, across);
    auto* panel = out + v * elements<P>(gates * stride) * L;
    for (int64_t k = 0; k < gates * stride; k++) {
      int64_t unit = k % stride, kept = unit < units ? real : 0;
      const T* from = weight + (rows[k / stride] * units + unit) * inputs + v * L;
      for (int64_t j = 0; j < kept; j++) put<P>(panel, across, k, j, from[j]);
      for (int64_t j = kept; j < across; j++) put<P>(panel, across, k, j, T(0));
    }
  }
}

// The rows on the left of a product as it wants them: left(row) gives `numbers` contiguous numbers; what is
// returned gives elements<P>(numbers) elements, in `space` where they had to be made.
template <class P, class Left>
auto left_rows(int64_t rows, int64_t numbers, std::vector<typename P::element>& space, Left left) {
  if constexpr (P::each == 1) {
    return left;
  } else {
    int64_t width = (elements<P>(numbers) + 15) / 16 * 16;
    if (int64_t(space.size()) < rows * width) space.resize(size_t(rows * width));
    for (int64_t row = 0; row < rows; row++) {
      const float* from = left(row);
      for (int64_t k = 0; k < numbers; k += 32)
        store(space.data() + row * width + k / 2,
              P::along(load_first(from + k, numbers - k), load_first(from + k + 16, numbers - k - 16)));
    }
    return [first = space.data(), width](int64_t row) { return first + row * width; };
  }
}

// One line of a sum over rows: number k of `even` and of `odd` beside each other. `count` is a multiple of 16.
template <class P> void put_pair(typename P::element* out, const float* even, const float* odd, int64_t count) {
  for (int64_t k = 0; k < count; k += 16) store(out + k, P::across(load(even + k), load(odd + k)));
}

}  // namespace echoic::ECHOIC_ISA
