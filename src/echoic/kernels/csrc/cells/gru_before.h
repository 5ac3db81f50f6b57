// The GRU with the reset gate before the product. Equations and sources: cells/gru.py.
//   n = tanh(W_n x + b_in + U_n m_h (r * h_before) + b_hn);   h = (1 - z) * m n + z * h_before
// Two products a step: r and z first, then n of what r lets through. Stored: n r z and r * h_before.
#pragma once
#include "../step.h"

namespace echoic::ECHOIC_ISA {

struct GruBefore {
  static constexpr int stored = 4, first_from_state = 1, group = 1;
  static constexpr bool memory = false, second = true;
  static constexpr int from_input[] = {2, 0, 1}, from_state[] = {0, 1};
  static constexpr int second_gate = 2, second_left = 3;  // torch's n; the stored column that U_n multiplies

  template <class T> static void forward(const Step<T>& s, int64_t rank, int64_t unit, const vec<T> (&u)[2]) {
    T* gate = s.gate(s.gates, rank, unit, 0);
    int64_t next = s.stride;
    vec<T> r = sigmoid<T>(load(gate + next) + u[0]);
    store(gate + next, r);
    store(gate + 2 * next, sigmoid<T>(load(gate + 2 * next) + u[1]));
    store(gate + 3 * next, s.masked(s.mask_hidden, rank, unit, r * s.get(s.h_before, rank, unit)));
  }

  template <class T> static void forward_second(const Step<T>& s, int64_t rank, int64_t unit, vec<T> u) {
    T* gate = s.gate(s.gates, rank, unit, 0);
    vec<T> n = tanh<T>(load(gate) + u), z = load(gate + 2 * s.stride), before = s.get(s.h_before, rank, unit);
    store(gate, n);
    vec<T> shown = s.masked(s.mask_candidate, rank, unit, n);
    s.put_h(rank, unit, shown + z * (before - shown), before);
  }

  template <class T> static void backward(const Step<T>& s, int64_t rank, int64_t unit, vec<T> dh) {
    const T* gate = s.gate(s.gates, rank, unit, 0);
    T* out = s.gate(s.dgates, rank, unit, 0);
    int64_t next = s.stride;
    vec<T> n = load(gate), z = load(gate + 2 * next), before = s.get(s.h_before, rank, unit), past;
    dh = s.split(s.keep_h, rank, unit, dh, past);
    vec<T> shown = s.masked(s.mask_candidate, rank, unit, n);
    store(out, s.masked(s.mask_candidate, rank, unit, dh * (T(1) - z)) * (T(1) - n * n));
    store(out + 2 * next, dh * (before - shown) * z * (T(1) - z));
    s.put(s.carry_h, rank, unit, past + dh * z);
  }

  // du: the gradient of m_h (r * h_before)
  template <class T> static void backward_second(const Step<T>& s, int64_t rank, int64_t unit, vec<T> du) {
    vec<T> r = load(s.gate(s.gates, rank, unit, 1));
    du = s.masked(s.mask_hidden, rank, unit, du);
    store(s.gate(s.dgates, rank, unit, 1), du * s.get(s.h_before, rank, unit) * r * (T(1) - r));
    s.put(s.carry_h, rank, unit, s.get(s.carry_h, rank, unit) + du * r);
  }
};

}  // namespace echoic::ECHOIC_ISA
