// Numbers laid out as the products read them: weights once a call, left rows as they come.
//
// Along the sum of a product P::each numbers stand in one element (simd.h): with one this is the number
// itself, with two a pair of bfloat16, the last one beside a 0 where their count is odd.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "simd.h"

namespace echoic::ECHOIC_ISA {

// Elements that `numbers` take along a sum, in whole blocks.
template <class P> constexpr int64_t elements(int64_t numbers) {
  constexpr int64_t most = P::each * P::block;
  return (numbers + most - 1) / most * P::block;
}

// A vector of elements of a row of `numbers` numbers, from element k on; 0 after the row's end.
template <class P> inline vec<typename P::element> elements_at(const typename P::sum* row, int64_t k, int64_t numbers) {
  const auto* from = row + k * P::each;
  int64_t left = numbers - k * P::each;
  if constexpr (P::each == 1) return load_first(from, left);
  else return P::along(load_first(from, left), load_first(from + 16, left - 16));
}

// One row of a swap of the blocks that lie `across` from the diagonal: see turn.
template <int across, bool low, class T, size_t... column>
inline vec<T> swapped(vec<T> a, vec<T> b, std::index_sequence<column...>) {
  constexpr int L = lanes<T>;
  if constexpr (low) return __builtin_shufflevector(a, b, (int(column) & across ? L + (int(column) ^ across) : int(column))...);
  else return __builtin_shufflevector(a, b, (int(column) & across ? L + int(column) : int(column) ^ across)...);
}

// A square of as many rows as lanes, turned over its diagonal: blocks of 1, then of 2, 4, ... change places.
template <class T, int across = 1> inline void turn(vec<T>* rows) {
  constexpr int L = lanes<T>;
  if constexpr (across < L) {
    for (int i = 0; i < L; i++)
      if (!(i & across)) {
        vec<T> low = rows[i], high = rows[i | across];
        rows[i] = swapped<across, true, T>(low, high, std::make_index_sequence<L>());
        rows[i | across] = swapped<across, false, T>(low, high, std::make_index_sequence<L>());
      }
    turn<T, across * 2>(rows);
  }
}

// Panels of the gates `rows` of a weight (G*H, depth), for `product` with `gates` gates and this group:
// line k holds, for each gate, the weights from element k of the input to the panel's units.
template <class P, class T = typename P::sum, class E = typename P::element>
void pack_forward(E* out, const T* weight, const int* rows, int gates, int group, int64_t depth, int64_t units,
                  int64_t first, int64_t last) {
  constexpr int L = lanes<T>;
  const int64_t lines = elements<P>(depth);
  for (int64_t v = first; v < last; v += group) {
    int64_t across = std::min<int64_t>(group, last - v);
    for (int64_t k = 0; k < lines; k += L)
      for (int64_t column = 0; column < gates * across; column++) {
        int64_t gate = rows[column / across], unit = (v + column % across) * L;
        vec<E> square[L];
        for (int j = 0; j < L; j++)
          square[j] = elements_at<P>(weight + (gate * units + unit + j) * depth, k, unit + j < units ? depth : 0);
        turn<E>(square);
        E* to = out + (v * gates * lines + k * gates * across + column) * L;
        for (int j = 0; j < std::min<int64_t>(L, lines - k); j++) store(to + j * gates * across * L, square[j]);
      }
  }
}

// One line of a sum over rows: number k of `even` and of `odd` beside each other. `count` is a multiple of 16.
template <class P> void put_pair(typename P::element* out, const float* even, const float* odd, int64_t count) {
  for (int64_t k = 0; k < count; k += 16) store(out + k, P::across(load(even + k), load(odd + k)));
}

// Panels of the same weight transposed, for `product<P, 1, 4>`: line k holds the weights of stored column k
// (gate k / stride, unit k % stride) to the panel's inputs. stride is a multiple of P::each.
template <class P, class T = typename P::sum, class E = typename P::element>
void pack_backward(E* out, const T* weight, const int* rows, int gates, int64_t stride, int64_t units, int64_t inputs,
                   int64_t first, int64_t last) {
  constexpr int L = lanes<T>;
  for (int64_t v = first; v < last; v += 4) {
    int64_t across = std::min<int64_t>(4, last - v);
    E* to = out + v * elements<P>(gates * stride) * L;
    for (int64_t k = 0; k < elements<P>(gates * stride) * P::each; k += P::each, to += across * L) {
      auto line = [&](int64_t k, int64_t w) {  // numbers of stored column k; 0 where a block is filled up
        if (k >= gates * stride) return vec<T>{};
        int64_t unit = k % stride, from = (v + w) * L;
        return load_first(weight + (rows[k / stride] * units + unit) * inputs + from, unit < units ? inputs - from : 0);
      };
      for (int64_t w = 0; w < across; w++)
        if constexpr (P::each == 1) store(to + w * L, line(k, w));
        else store(to + w * L, P::across(line(k, w), line(k + 1, w)));
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
    int64_t room = (rows + P::block - 1) / P::block * P::block * width;
    if (int64_t(space.size()) < room) space.resize(size_t(room));
    for (int64_t row = 0; row < rows; row++) {
      const float* from = left(row);
      for (int64_t k = 0; k < width; k += 16) store(space.data() + row * width + k, elements_at<P>(from, k, numbers));
    }
    return [first = space.data(), width](int64_t row) { return first + row * width; };
  }
}

}  // namespace echoic::ECHOIC_ISA
