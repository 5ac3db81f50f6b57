// The LSTM, with or without peepholes. Equations and sources: cells/lstm.py.
//   c = f * c_before + i * m g,   h = o * tanh(c);   i, f see c_before, o sees c
#pragma once
#include "../step.h"

namespace echoic::ECHOIC_ISA {

struct Lstm {
  static constexpr int stored = 4, first_from_state = 0, group = 1;
  static constexpr bool memory = true, second = false;
  static constexpr int from_input[] = {0, 1, 2, 3}, from_state[] = {0, 1, 2, 3};

  template <class T> static void forward(const Step<T>& s, int64_t rank, int64_t unit, const vec<T> (&u)[4]) {
    T* gate = s.gate(s.gates, rank, unit, 0);
    int64_t next = s.stride;
    vec<T> before = s.get(s.c_before, rank, unit);
    vec<T> a_i = load(gate) + u[0], a_f = load(gate + next) + u[1];
    vec<T> a_g = load(gate + 2 * next) + u[2], a_o = load(gate + 3 * next) + u[3];
    if (s.peephole_i) {
      a_i += load(s.peephole_i + unit) * before;
      a_f += load(s.peephole_f + unit) * before;
    }
    vec<T> i = sigmoid<T>(a_i), f = sigmoid<T>(a_f), g = tanh<T>(a_g);
    vec<T> c = f * before + i * s.masked(s.mask_candidate, rank, unit, g);
    if (s.peephole_o) a_o += load(s.peephole_o + unit) * c;
    vec<T> o = sigmoid<T>(a_o), h = o * tanh<T>(c);
    store(gate, i);
    store(gate + next, f);
    store(gate + 2 * next, g);
    store(gate + 3 * next, o);
    s.put(s.c, rank, unit, s.kept(s.keep_c, rank, unit, c, before));
    s.put_h(rank, unit, h, s.get(s.h_before, rank, unit));
  }

  // c before zoneout, from the tape
  template <class T> static vec<T> new_memory(const Step<T>& s, int64_t rank, int64_t unit, vec<T> before) {
    const T* gate = s.gate(s.gates, rank, unit, 0);
    return load(gate + s.stride) * before + load(gate) * s.masked(s.mask_candidate, rank, unit, load(gate + 2 * s.stride));
  }

  template <class T> static void backward(const Step<T>& s, int64_t rank, int64_t unit, vec<T> dh) {
    const T* gate = s.gate(s.gates, rank, unit, 0);
    T* out = s.gate(s.dgates, rank, unit, 0);
    int64_t next = s.stride;
    vec<T> i = load(gate), f = load(gate + next), g = load(gate + 2 * next), o = load(gate + 3 * next);
    vec<T> before = s.get(s.c_before, rank, unit), past_h, past_c;
    vec<T> shown = tanh<T>(new_memory(s, rank, unit, before));
    dh = s.split(s.keep_h, rank, unit, dh, past_h);
    vec<T> dc = s.split(s.keep_c, rank, unit, s.get(s.carry_c, rank, unit), past_c);
    vec<T> d_o = dh * shown * o * (T(1) - o);
    dc += dh * o * (T(1) - shown * shown);
    if (s.peephole_o) dc += load(s.peephole_o + unit) * d_o;
    vec<T> d_i = dc * s.masked(s.mask_candidate, rank, unit, g) * i * (T(1) - i);
    vec<T> d_f = dc * before * f * (T(1) - f);
    vec<T> d_g = s.masked(s.mask_candidate, rank, unit, dc * i) * (T(1) - g * g);
    past_c += dc * f;
    if (s.peephole_i) past_c += load(s.peephole_i + unit) * d_i + load(s.peephole_f + unit) * d_f;
    store(out, d_i);
    store(out + next, d_f);
    store(out + 2 * next, d_g);
    store(out + 3 * next, d_o);
    s.put(s.carry_h, rank, unit, past_h);
    s.put(s.carry_c, rank, unit, past_c);
  }
};

}  // namespace echoic::ECHOIC_ISA
