// Weights laid out as the products read them: once a call, and then line after line.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "simd.h"

namespace echoic::ECHOIC_ISA {

// Panels of the gates `rows` of a weight (G*H, depth), for `product` with `gates` gates and this group:
// line k holds, for each gate, the weights from input k to the panel's units.
template <class T>
void pack_forward(T* out, const T* weight, const int* rows, int gates, int group, int64_t depth, int64_t units,
                  int64_t first, int64_t last) {
  constexpr int L = lanes<T>;
  for (int64_t v = first; v < last; v += group) {
    int64_t across = std::min<int64_t>(group, last - v) * L;
    T* panel = out + v * gates * depth * L;
    for (int g = 0; g < gates; g++)
      for (int64_t j = 0; j < across; j++) {
        int64_t unit = v * L + j;
        T* to = panel + g * across + j;
        if (unit < units) {
          const T* from = weight + (rows[g] * units + unit) * depth;
          for (int64_t k = 0; k < depth; k++) to[k * gates * across] = from[k];
        } else {
          for (int64_t k = 0; k < depth; k++) to[k * gates * across] = T(0);
        }
      }
  }
}

// Panels of the same weight transposed, for `product<T, 1, 4>`: line k holds the weights of stored column k
// (gate k / stride, unit k % stride) to the panel's inputs.
template <class T>
void pack_backward(T* out, const T* weight, const int* rows, int gates, int64_t stride, int64_t units, int64_t inputs,
                   int64_t first, int64_t last) {
  constexpr int L = lanes<T>;
  for (int64_t v = first; v < last; v += 4) {
    int64_t across = std::min<int64_t>(4, last - v) * L;
    T* to = out + v * gates * stride * L;
    int64_t real = std::clamp<int64_t>(inputs - v * L, 0, across);
    for (int g = 0; g < gates; g++)
      for (int64_t unit = 0; unit < stride; unit++, to += across) {
        int64_t kept = unit < units ? real : 0;
        if (kept) std::memcpy(to, weight + (rows[g] * units + unit) * inputs + v * L, size_t(kept) * sizeof(T));
        std::fill(to + kept, to + across, T(0));
      }
  }
}

}  // namespace echoic::ECHOIC_ISA
