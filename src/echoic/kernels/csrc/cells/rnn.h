// Elman's network: h = m * phi(W x + U h_before + b). Equations and sources: cells/rnn.py.
#pragma once
#include "../step.h"

namespace echoic::ECHOIC_ISA {

enum class Phi { tanh, relu, sigmoid };

template <Phi phi> struct Rnn {
  static constexpr int stored = 1, first_from_state = 0, group = 4;
  static constexpr bool memory = false, second = false;
  static constexpr int from_input[] = {0}, from_state[] = {0};

  template <class T> static void forward(const Step<T>& s, int64_t rank, int64_t unit, const vec<T> (&u)[1]) {
    T* stored_h = s.gate(s.gates, rank, unit, 0);
    vec<T> a = load(stored_h) + u[0], h;
    if constexpr (phi == Phi::tanh) h = tanh<T>(a);
    if constexpr (phi == Phi::sigmoid) h = sigmoid<T>(a);
    if constexpr (phi == Phi::relu) h = a < T(0) ? vec<T>{} : a;  // a NaN stays
    store(stored_h, h);
    s.put_h(rank, unit, s.masked(s.mask_candidate, rank, unit, h), s.get(s.h_before, rank, unit));
  }

  template <class T> static void backward(const Step<T>& s, int64_t rank, int64_t unit, vec<T> dh) {
    vec<T> h = load(s.gate(s.gates, rank, unit, 0)), past, slope;
    dh = s.masked(s.mask_candidate, rank, unit, s.split(s.keep_h, rank, unit, dh, past));
    if constexpr (phi == Phi::tanh) slope = T(1) - h * h;
    if constexpr (phi == Phi::sigmoid) slope = h * (T(1) - h);
    if constexpr (phi == Phi::relu) slope = h <= T(0) ? vec<T>{} : splat(T(1));  // a NaN passes, as in torch
    store(s.gate(s.dgates, rank, unit, 0), dh * slope);
    s.put(s.carry_h, rank, unit, past);
  }
};

}  // namespace echoic::ECHOIC_ISA
