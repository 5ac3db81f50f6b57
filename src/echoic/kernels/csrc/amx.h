// Products of bfloat16 on AMX's tiles: eight registers of 16 rows of 64 bytes.
//
// A tile of the left holds 16 rows of 16 pairs, one of the right 16 lines of 16 pairs, one of sums 16 rows of 16
// floats. Two tiles of each side give four of sums, so that four loads go with four products. Everything
// that is multiplied stands in whole tiles: sums run over blocks of 16 pairs (Halves::block, the last filled with
// zeros), and of 16 rows on the left those that are none are computed and not looked at.
#pragma once
#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace echoic::ECHOIC_ISA {

#if defined(__AMX_BF16__)

// While it lives this thread's tiles are as above; then they are as they were, as the thread is lent (pool.h).
class Halves::Session {
 public:
  Session() {
    asm volatile("sttilecfg %0" : "=m"(before_));
    Tiles now{};
    now.palette = 1;
    std::fill_n(now.bytes, 8, uint16_t(64));
    std::fill_n(now.rows, 8, uint8_t(16));
    asm volatile("ldtilecfg %0" ::"m"(now));
  }
  ~Session() { asm volatile("ldtilecfg %0" ::"m"(before_)); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  struct Tiles {
    uint8_t palette, start, none[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  };
  Tiles before_;
};

namespace tiles {

// `step` counts elements of 32 bits from one row to the next.
template <int tile> inline void load(const void* from, int64_t step) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(tile), "r"(from), "r"(step * 4) : "memory");
}
template <int tile> inline void save(void* to, int64_t step) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(tile), "r"(to), "r"(step * 4) : "memory");
}
template <int tile> inline void clear() { asm volatile("tilezero %%tmm%c0" ::"i"(tile)); }
template <int sums, int left, int right> inline void add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(left), "i"(right));
}

// out (16 * rows, 16 * columns) = or, with `more`, += a (16 * rows, depth) times b (depth, 16 * columns).
template <int rows, int columns, bool more>
inline void multiply(int64_t depth, const int32_t* a, int64_t a_step, const int32_t* b, int64_t b_step, float* out, int64_t out_step) {
  static_assert(rows * columns <= 4 && rows <= 2 && columns <= 2);
  float* below = out + 16 * out_step;
  if constexpr (more) {
    load<0>(out, out_step);
    if constexpr (columns > 1) load<1>(out + 16, out_step);
    if constexpr (rows > 1) load<2>(below, out_step);
    if constexpr (rows * columns > 2) load<3>(below + 16, out_step);
  } else {
    clear<0>();
    if constexpr (columns > 1) clear<1>();
    if constexpr (rows > 1) clear<2>();
    if constexpr (rows * columns > 2) clear<3>();
  }
  for (int64_t k = 0; k < depth; k += 16, a += 16, b += 16 * b_step) {
    load<6>(b, b_step);
    load<4>(a, a_step);
    add<0, 4, 6>();
    if constexpr (columns > 1) {
      load<7>(b + 16, b_step);
      add<1, 4, 7>();
    }
    if constexpr (rows > 1) {
      load<5>(a + 16 * a_step, a_step);
      add<2, 5, 6>();
      if constexpr (columns > 1) add<3, 5, 7>();
    }
  }
  save<0>(out, out_step);
  if constexpr (columns > 1) save<1>(out + 16, out_step);
  if constexpr (rows > 1) save<2>(below, out_step);
  if constexpr (rows * columns > 2) save<3>(below + 16, out_step);
}

// The same for one or two tiles of rows by one or two of columns.
template <bool more>
inline void multiply(int rows, int columns, int64_t depth, const int32_t* a, int64_t a_step, const int32_t* b, int64_t b_step,
                     float* out, int64_t out_step) {
  auto call = rows > 1 ? (columns > 1 ? multiply<2, 2, more> : multiply<2, 1, more>) : columns > 1 ? multiply<1, 2, more> : multiply<1, 1, more>;
  call(depth, a, a_step, b, b_step, out, out_step);
}

// out[m][n] += sum over k < depth of a[m][k] * b[k][n], m in [first, last), n < columns: whole tiles.
// Columns come in blocks whose lines of b stay in the cache while all of a passes by.
inline void product_over_rows(int64_t depth, const int32_t* a, int64_t a_step, int64_t first, int64_t last, const int32_t* b,
                              int64_t b_step, int64_t columns, float* out, int64_t out_step) {
  constexpr int64_t block = 256;
  for (int64_t start = 0; start < columns; start += block)
    for (int64_t m = first; m < last; m += 32)
      for (int64_t n = start; n < std::min(columns, start + block); n += 32)
        multiply<true>(last - m > 16 ? 2 : 1, columns - n > 16 ? 2 : 1, depth, a + m * a_step, a_step, b + n, b_step,
                       out + m * out_step + n, out_step);
}

}  // namespace tiles
#endif

}  // namespace echoic::ECHOIC_ISA
