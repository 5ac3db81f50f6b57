// The GRU with the reset gate after the product. Equations and sources: cells/gru.py.
//   n = tanh(W_n x + b_in + r * q),  q = U_n h_before + b_hn;   h = (1 - z) * m n + z * h_before
// Stored: n r z q, so that W x's share (n r z) and U h's (r z q) each stand side by side.
#pragma once
#include "../step.h"

namespace echoic::ECHOIC_ISA {

struct Gru {
  static constexpr int stored = 4, first_from_state = 1, group = 1;
  static constexpr bool memory = false, second = false;
  static constexpr int from_input[] = {2, 0, 1}, from_state[] = {0, 1, 2};

  template <class T> static void forward(const Step<T>& s, int64_t rank, int64_t unit, const vec<T> (&u)[3]) {
    T* gate = s.gate(s.gates, rank, unit, 0);
    int64_t next = s.stride;
    vec<T> before = s.get(s.h_before, rank, unit);
    vec<T> r = sigmoid<T>(load(gate + next) + u[0]), z = sigmoid<T>(load(gate + 2 * next) + u[1]);
    vec<T> q = u[2] + load(s.bias_state + unit);
    vec<T> n = tanh<T>(load(gate) + r * q);
    store(gate, n);
    store(gate + next, r);
    store(gate + 2 * next, z);
    store(gate + 3 * next, q);
    vec<T> shown = s.masked(s.mask_candidate, rank, unit, n);
    s.put_h(rank, unit, shown + z * (before - shown), before);
  }

  template <class T> static void backward(const Step<T>& s, int64_t rank, int64_t unit, vec<T> dh) {
    const T* gate = s.gate(s.gates, rank, unit, 0);
    T* out = s.gate(s.dgates, rank, unit, 0);
    int64_t next = s.stride;
    vec<T> n = load(gate), r = load(gate + next), z = load(gate + 2 * next), q = load(gate + 3 * next);
    vec<T> before = s.get(s.h_before, rank, unit), past;
    dh = s.split(s.keep_h, rank, unit, dh, past);
    vec<T> shown = s.masked(s.mask_candidate, rank, unit, n);
    vec<T> d_n = s.masked(s.mask_candidate, rank, unit, dh * (T(1) - z)) * (T(1) - n * n);
    store(out, d_n);
    store(out + next, d_n * q * r * (T(1) - r));
    store(out + 2 * next, dh * (before - shown) * z * (T(1) - z));
    store(out + 3 * next, d_n * r);
    s.put(s.carry_h, rank, unit, past + dh * z);
  }
};

}  // namespace echoic::ECHOIC_ISA
