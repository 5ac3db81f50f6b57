// The microkernel for one row: a vector times packed weights, in floating point and in eight bits.
//
// Every weight is read once and used once, so the caches' speed is the limit: panels are read line after
// line (pack.h), and several sums of a unit run side by side, so that no product waits for the one before.
#pragma once
#include <cstdint>
#include <cstring>

#include "simd.h"
#include "tile.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace echoic::ECHOIC_ISA {

// sums[w] = sum over k < depth of a[k] * panel[k][w], a panel being lines of `width` vectors.
template <class T, int width>
inline void multiply_vector(int64_t depth, const T* a, const T* panel, vec<T> (&sums)[width]) {
  constexpr int L = lanes<T>, chains = width == 1 ? 8 : width == 2 ? 4 : width == 3 ? 3 : 2;
  vec<T> chain[chains][width] = {};
  int64_t k = 0;
  for (; k + chains <= depth; k += chains, panel += chains * width * L)
#pragma GCC unroll 8
    for (int c = 0; c < chains; c++) {
      vec<T> left = splat(a[k + c]);
#pragma GCC unroll 4
      for (int w = 0; w < width; w++) chain[c][w] += left * load(panel + (c * width + w) * L);
    }
  for (; k < depth; k++, panel += width * L)
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) chain[0][w] += splat(a[k]) * load(panel + w * L);
#pragma GCC unroll 4
  for (int w = 0; w < width; w++) {
    sums[w] = chain[0][w];
#pragma GCC unroll 8
    for (int c = 1; c < chains; c++) sums[w] += chain[c][w];
  }
}

// As `product` (tile.h) for the one row `a`: done(vector, sums of each gate).
template <class T, int gates, int group, class Done>
inline void product_of_vector(const T* a, int64_t depth, const T* packed, int64_t first, int64_t last, Done&& done) {
  for (int64_t v = first; v < last; v += group) {
    const int units = int(std::min<int64_t>(group, last - v));
    const T* panel = packed + v * gates * depth * lanes<T>;
    with_constant<group>(units, [&](auto known) {
      constexpr int across = decltype(known)::value, width = gates * across;
      vec<T> sums[width];
      multiply_vector<T, width>(depth, a, panel, sums);
#pragma GCC unroll 4
      for (int u = 0; u < across; u++) {
        vec<T> one[gates];
#pragma GCC unroll 4
        for (int g = 0; g < gates; g++) one[g] = sums[g * across + u];
        done(v + u, one);
      }
    });
  }
}

// Eight bits. A vector is its scale times q, whole numbers in -127..127, stored as q + 128; numbers under
// `nothing` are 0. A vector with a number that is not finite has a scale of NaN.
constexpr int int8_units = 16;  // a block: units whose weights stand side by side
constexpr float nothing = 1e-30f;
constexpr int64_t int8_depth(int64_t depth) { return (depth + 15) / 16 * 16; }  // so many are stored, the last ones 0

// Keeps a product and the sum after it apart: fused they would round otherwise, and not on every processor.
template <class V> inline void settle(V& v) { __asm__("" : "+m"(v)); }

// values: depth numbers; out: int8_depth(depth) of them. Returns the scale.
inline float quantise(const float* values, int64_t depth, uint8_t* out) {
  constexpr int L = lanes<float>;
  typedef int32_t whole __attribute__((vector_size(vector_bytes)));
  typedef uint8_t bytes __attribute__((vector_size(vector_bytes / 4)));
  typedef uint8_t bytes_anywhere __attribute__((vector_size(vector_bytes / 4), aligned(1), may_alias));
  vec<float> most{}, bad{};
  for (int64_t k = 0; k < depth; k += L) {
    vec<float> v = load_first(values + k, depth - k), size = v < 0.0f ? -v : v;
    most = size > most ? size : most;
    bad += v - v;  // 0, or NaN
  }
  float largest = 0, wrong = 0;
  for (int j = 0; j < L; j++) {
    largest = most[j] > largest ? most[j] : largest;
    wrong += bad[j];
  }
  const float per_unit = largest < nothing ? 0.0f : 127.0f / largest;
  for (int64_t k = 0; k < depth; k += L) {
    vec<float> scaled = load_first(values + k, depth - k) * per_unit;
    settle(scaled);
    scaled += exp_of<float>::round;  // the nearest whole number, of two the even one, now stands in the low bits
    *reinterpret_cast<bytes_anywhere*>(out + k) = __builtin_convertvector((whole)scaled + 128, bytes);
  }
  std::memset(out + depth, 128, size_t(int8_depth(depth) - depth));
  return largest / 127.0f + wrong;
}

// sums[g][u] = sum over k < depth of q[k] * weight of input k to unit u of gate g, exactly.
// a: q + 128, int8_depth(depth) of them. panel: for every four inputs, gates lines of 16 units of 4 weights.
// start: (gates, 16), -128 times the sum of a unit's weights.
using Int8Kernel = void (*)(int64_t depth, const uint8_t* a, const int8_t* panel, const int32_t* start, int32_t* sums);

inline int32_t four(const uint8_t* a) {
  int32_t word;
  std::memcpy(&word, a, 4);
  return word;
}

#if defined(__AVX512F__)
template <int gates>
__attribute__((target("avx512vnni"), noinline)) void int8_vnni(int64_t depth, const uint8_t* a, const int8_t* panel,
                                                               const int32_t* start, int32_t* sums) {
  constexpr int chains = gates > 2 ? 2 : 4;
  __m512i chain[chains][gates];
#pragma GCC unroll 4
  for (int c = 0; c < chains; c++)
#pragma GCC unroll 4
    for (int g = 0; g < gates; g++) chain[c][g] = c ? _mm512_setzero_si512() : _mm512_loadu_si512(start + g * int8_units);
  for (int64_t k = 0; k < int8_depth(depth); k += 4 * chains)
#pragma GCC unroll 4
    for (int c = 0; c < chains; c++, panel += gates * 64) {
      __m512i left = _mm512_set1_epi32(four(a + k + 4 * c));
#pragma GCC unroll 4
      for (int g = 0; g < gates; g++) chain[c][g] = _mm512_dpbusd_epi32(chain[c][g], left, _mm512_loadu_si512(panel + g * 64));
    }
#pragma GCC unroll 4
  for (int g = 0; g < gates; g++) {
    __m512i sum = chain[0][g];
#pragma GCC unroll 4
    for (int c = 1; c < chains; c++) sum = _mm512_add_epi32(sum, chain[c][g]);
    _mm512_storeu_si512(sums + g * int8_units, sum);
  }
}
#endif

#if defined(__AVX2__)
// |q| times the weight with q's sign: two such products are at most 2 * 127 * 127, which 16 bits hold.
template <int gates>
__attribute__((noinline)) void int8_avx2(int64_t depth, const uint8_t* a, const int8_t* panel, const int32_t*, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1), middle = _mm256_set1_epi8(-128);
  for (int half = 0; half < 2; half++) {
    __m256i sum[gates];
#pragma GCC unroll 4
    for (int g = 0; g < gates; g++) sum[g] = _mm256_setzero_si256();
    const int8_t* line = panel + half * 32;
    for (int64_t k = 0; k < int8_depth(depth); k += 4, line += gates * 64) {
      __m256i q = _mm256_xor_si256(_mm256_set1_epi32(four(a + k)), middle), size = _mm256_abs_epi8(q);
#pragma GCC unroll 4
      for (int g = 0; g < gates; g++) {
        __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + g * 64));
        __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(weights, q));
        sum[g] = _mm256_add_epi32(sum[g], _mm256_madd_epi16(pairs, ones));
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < gates; g++) _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + g * int8_units + half * 8), sum[g]);
  }
}
#else
template <int gates>
void int8_portable(int64_t depth, const uint8_t* a, const int8_t* panel, const int32_t*, int32_t* sums) {
  for (int i = 0; i < gates * int8_units; i++) sums[i] = 0;
  for (int64_t k = 0; k < int8_depth(depth); k += 4, panel += gates * 64)
    for (int i = 0; i < gates * int8_units; i++)
      for (int j = 0; j < 4; j++) sums[i] += (int32_t(a[k + j]) - 128) * panel[4 * i + j];
}
#endif

inline const char* int8_name() {
#if defined(__AVX512F__)
  if (__builtin_cpu_supports("avx512vnni")) return "vnni";
#endif
#if defined(__AVX2__)
  return "avx2";
#else
  return "portable";
#endif
}

template <int gates> Int8Kernel int8_kernel() {
#if defined(__AVX512F__)
  if (__builtin_cpu_supports("avx512vnni")) return int8_vnni<gates>;
#endif
#if defined(__AVX2__)
  return int8_avx2<gates>;
#else
  return int8_portable<gates>;
#endif
}

}  // namespace echoic::ECHOIC_ISA
