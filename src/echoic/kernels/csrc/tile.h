// The one microkernel, and the two products made of it.
//
// A tile is `rows` rows by `width` vectors of sums held in registers while k runs over their products.
// `product` is for activations (rows of A are contiguous, B is packed in panels), `product_over_rows`
// for the gradients of weights (the sum runs over rows of both).
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "amx.h"
#include "simd.h"

namespace echoic::ECHOIC_ISA {

// Rows of a tile `width` vectors wide: what the registers hold beside one line of B.
constexpr int tile_rows(int width) {
  int free = registers - width - 2;
  int rows = free / width;
  return rows > 8 ? 8 : rows < 1 ? 1 : rows;
}

// sums[r][w] = sum over k < depth of a[r][k] * b[k * step + w]. step: elements from one line of b to the next.
template <class P, int rows, int width, class T = typename P::sum, class E = typename P::element>
__attribute__((noinline)) void multiply(int64_t depth, const E* const* a, const E* b, int64_t step, T* out) {
  vec<T> sums[rows][width] = {};
  const E* row[rows];
  for (int r = 0; r < rows; r++) row[r] = a[r];
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; k++, b += step) {
    vec<E> line[width];
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) line[w] = load(b + w * lanes<E>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      vec<E> left = splat(row[r][k]);
#pragma GCC unroll 4
      for (int w = 0; w < width; w++) sums[r][w] = P::add(sums[r][w], left, line[w]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) store(out + (r * width + w) * lanes<T>, sums[r][w]);
}

// out[r][w] += sum over k < depth of a[k * a_step + r] * b[k * b_step + w]: A is read down its columns.
template <class P, int rows, int width, class T = typename P::sum, class E = typename P::element>
__attribute__((noinline)) void multiply_columns(int64_t depth, const E* a, int64_t a_step, const E* b, int64_t b_step,
                                                T* out, int64_t out_step) {
  vec<T> sums[rows][width];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) sums[r][w] = load(out + r * out_step + w * lanes<T>);
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; k++, a += a_step, b += b_step) {
    vec<E> line[width];
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) line[w] = load(b + w * lanes<E>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      vec<E> left = splat(a[r]);
#pragma GCC unroll 4
      for (int w = 0; w < width; w++) sums[r][w] = P::add(sums[r][w], left, line[w]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) store(out + r * out_step + w * lanes<T>, sums[r][w]);
}

// The most rows of the left that one call multiplies.
template <class P> constexpr int most_rows(int width) { return P::block > 1 ? 32 : tile_rows(width); }

template <int n> using constant = std::integral_constant<int, n>;

// Calls f(constant<n>) for n in 1..most.
template <int most, class F> inline void with_constant(int n, F&& f) {
  if constexpr (most > 1) {
    if (n < most) return with_constant<most - 1>(n, f);
  }
  f(constant<most>{});
}

// Calls f(constant<rows>, constant<width>) for the tile of that size.
template <class F> inline void with_tile(int rows, int width, F&& f) {
  with_constant<4>(width, [&](auto w) {
    with_constant<tile_rows(decltype(w)::value)>(rows, [&](auto r) { f(r, w); });
  });
}

// out[r * width + w] = a[r] times vector w of the panel, r < rows <= most_rows(width). Tiles want rows that stand evenly apart.
template <class P, class T = typename P::sum, class E = typename P::element>
inline void multiply_rows(int rows, int width, int64_t depth, const E* const* a, const E* panel, T* out) {
  if constexpr (P::block > 1) {
#if defined(__AMX_BF16__)
    for (int w = 0; w < width; w += 2)
      tiles::multiply<false>(rows > 16 ? 2 : 1, std::min(2, width - w), depth, a[0], rows > 1 ? a[1] - a[0] : 0,
                           panel + w * lanes<E>, width * lanes<E>, out + w * lanes<T>, width * lanes<T>);
#endif
  } else {
    with_tile(rows, width, [&](auto r, auto w) {
      multiply<P, decltype(r)::value, decltype(w)::value>(depth, a, panel, width * lanes<E>, out);
    });
  }
}

// done(row, vector, sums of each gate) for every row < rows and every vector of a gate in [first, last):
// sums[g] = A[row] times gate g's columns. left(row) is a pointer to `depth` contiguous elements of A.
// packed: panels of `group` vectors of each gate side by side, gates * group <= 4 (pack.h).
template <class P, int gates, int group, class Left, class Done>
inline void product(int64_t rows, Left&& left, int64_t depth, const typename P::element* packed, int64_t first,
                    int64_t last, Done&& done) {
  using T = typename P::sum;
  using E = typename P::element;
  alignas(vector_bytes) T sums[most_rows<P>(1) * 4 * lanes<T>];
  const E* a[most_rows<P>(1)];
  for (int64_t v = first; v < last; v += group) {
    int units = int(std::min<int64_t>(group, last - v)), width = gates * units, most = most_rows<P>(width);
    const E* panel = packed + v * gates * depth * lanes<E>;
    int64_t tiles = (rows + most - 1) / most;
    for (int64_t tile = 0, row = 0; tile < tiles; tile++) {
      int size = int((rows - row + tiles - tile - 1) / (tiles - tile));  // even tiles: no thin one at the end
      size = int(std::min<int64_t>(rows - row, (size + P::block - 1) / P::block * P::block));
      for (int r = 0; r < size; r++) a[r] = left(row + r);
      multiply_rows<P>(size, width, depth, a, panel, sums);
      for (int r = 0; r < size; r++)
        for (int u = 0; u < units; u++) {
          vec<T> one[gates];
          for (int g = 0; g < gates; g++) one[g] = load(sums + (r * width + g * units + u) * lanes<T>);
          done(row + r, v + u, one);
        }
      row += size;
    }
  }
}

// out[m][n] += sum over k < depth of a[k][m] * b[k][n], m in [first, last), n < columns (whole vectors).
template <class P, class T = typename P::sum, class E = typename P::element>
inline void product_over_rows(int64_t depth, const E* a, int64_t a_step, int64_t first, int64_t last, const E* b,
                              int64_t b_step, int64_t columns, T* out, int64_t out_step) {
  for (int64_t n = 0; n < columns; n += 4 * lanes<T>) {
    int width = int(std::min<int64_t>(4, (columns - n) / lanes<T>));
    for (int64_t m = first; m < last; m += tile_rows(width))
      with_tile(int(std::min<int64_t>(tile_rows(width), last - m)), width, [&](auto r, auto w) {
        multiply_columns<P, decltype(r)::value, decltype(w)::value>(depth, a + m, a_step, b + n, b_step,
                                                                    out + m * out_step + n, out_step);
      });
  }
}

}  // namespace echoic::ECHOIC_ISA
