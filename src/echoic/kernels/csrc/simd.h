// One vector type for every processor, and the functions a gate is made of.
//
// GNU vector extensions: the same source, compiled once per instruction set (isa.cpp), gives AVX-512,
// AVX2 and portable code. Everything below lives in a namespace of its own for each, so that no
// function compiled for one processor is ever linked into the code of another.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif
#include <utility>

namespace echoic::ECHOIC_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int registers = 32;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
constexpr int registers = 16;
#else
constexpr int vector_bytes = 16;
constexpr int registers = 16;
#endif

template <class T> struct vector_of {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef T anywhere __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
};
template <class T> using vec = typename vector_of<T>::type;
template <class T> constexpr int lanes = vector_bytes / int(sizeof(T));

template <class T> inline vec<T> load(const T* p) { return *reinterpret_cast<const typename vector_of<T>::anywhere*>(p); }
template <class T> inline void store(T* p, vec<T> v) { *reinterpret_cast<typename vector_of<T>::anywhere*>(p) = v; }
template <class T> inline vec<T> splat(T value) { return value - vec<T>{}; }

// The first n of a vector; nothing after them is touched, what is read there is 0. n may be more than a vector.
template <class T> inline vec<T> load_first(const T* p, int64_t n) {
  if (n >= lanes<T>) return load(p);
  vec<T> v{};
  if (n > 0) std::memcpy(&v, p, size_t(n) * sizeof(T));
  return v;
}
template <class T> inline void store_first(T* p, vec<T> v, int64_t n) {
  if (n >= lanes<T>) return store(p, v);
  if (n > 0) std::memcpy(p, &v, size_t(n) * sizeof(T));
}

template <int across, size_t... lane> inline vec<float> exchanged(vec<float> v, std::index_sequence<lane...>) {
  return __builtin_shufflevector(v, v, int(lane) ^ across...);
}

// The largest number of a vector.
template <int across = lanes<float> / 2> inline float largest(vec<float> v) {
  const vec<float> other = exchanged<across>(v, std::make_index_sequence<size_t(lanes<float>)>());
  v = other > v ? other : v;
  if constexpr (across > 1) return largest<across / 2>(v);
  else return v[0];
}

inline bool any_above(vec<float> v, float bound) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
#elif defined(__AVX__)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_set1_ps(bound), _CMP_GT_OQ)) != 0;
#else
  bool any = false;
  for (int j = 0; j < lanes<float>; j++) any |= v[j] > bound;
  return any;
#endif
}

// What a product multiplies. `element` is what stands in memory: `each` numbers that follow one another along
// the sum; `add` gives sum + left * right, `sum` being the type of all that is not a product's argument.
// Elements along a sum come in whole blocks, filled with zeros, and rows on the left in as many, filled with anything. A
// Session lives while a thread multiplies.
template <class T> struct Whole {
  using sum = T;
  using element = T;
  static constexpr int each = 1;
  static constexpr int64_t block = 1;
  struct Session {};
  static vec<T> add(vec<T> sum, vec<T> left, vec<T> right) { return sum + left * right; }
};

#if defined(__AVX512BF16__)
// Two bfloat16 in 32 bits, the earlier in the low half; their products are added in float.
struct Halves {
  using sum = float;
  using element = int32_t;
  static constexpr int each = 2;
#if defined(__AMX_BF16__)
  static constexpr int64_t block = 16;
  class Session;  // amx.h
#else
  static constexpr int64_t block = 1;
  struct Session {};
#endif
  static vec<float> add(vec<float> sum, vec<int32_t> left, vec<int32_t> right) {
    return (vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
  }
  // 32 numbers in their order
  static vec<int32_t> along(vec<float> first, vec<float> second) {
    return (vec<int32_t>)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  }
  // 16 pairs, one number from each
  static vec<int32_t> across(vec<float> low, vec<float> high) {
    const __m512i turn = (__m512i)vec<int32_t>{0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
                                               0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f};
    return (vec<int32_t>)_mm512_permutexvar_epi16(turn, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
  }
};
#endif

template <class T> struct exp_of;
template <> struct exp_of<float> {
  using whole = int32_t;
  static constexpr int mantissa = 23, bias = 127, degree = 7;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
  static constexpr float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, limit = 87.0f;
};
template <> struct exp_of<double> {
  using whole = int64_t;
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
  static constexpr double round = 6755399441055744.0;
  static constexpr double log2e = 1.4426950408889634, ln2_high = 0.693147180369123816490,
                          ln2_low = 1.90821492927058770002e-10, limit = 700.0;
};

// exp(x) = power * (1 + part), x within +-limit: x = n ln 2 + r, power = 2^n, part = exp(r) - 1 by its Taylor series.
template <class T> struct exponential {
  vec<T> power, part;
  explicit exponential(vec<T> x, T limit = exp_of<T>::limit) {
    using e = exp_of<T>;
    typedef typename e::whole whole __attribute__((vector_size(vector_bytes)));
    x = x > limit ? splat(limit) : x;  // a NaN stays
    x = x < -limit ? splat(-limit) : x;
    vec<T> shifted = x * e::log2e + e::round;
    vec<T> n = shifted - e::round;
    vec<T> r = (x - n * e::ln2_high) - n * e::ln2_low;
    T factorial = 1;
    for (int k = 2; k <= e::degree; k++) factorial *= T(k);
    vec<T> sum = splat(T(1) / factorial);
#pragma GCC unroll 16
    for (int k = e::degree; k > 1; k--) {
      factorial /= T(k);
      sum = sum * r + T(1) / factorial;
    }
    part = sum * r;
    power = (vec<T>)(((whole)shifted << e::mantissa) + (typename e::whole(e::bias) << e::mantissa));
  }
};

template <class T> inline vec<T> sigmoid(vec<T> x) {
  exponential<T> e(-x);
  return T(1) / (T(1) + e.power + e.power * e.part);
}

// (exp(2x) - 1) / (exp(2x) + 1); exp(2x) - 1 is summed without cancellation, so that a small x keeps its digits.
template <class T> inline vec<T> tanh(vec<T> x) {
  exponential<T> e(x + x, T(44));
  vec<T> less = (e.power - T(1)) + e.power * e.part;
  return less / (less + T(2));
}

}  // namespace echoic::ECHOIC_ISA
