// What a cell's page may see of one step, and what it must say of itself.
//
// A cell is a struct with
//   stored            columns of H a row keeps on the tape: gates before their functions in, what backward wants out
//   memory            whether it has a c beside its h
//   from_input[]      the torch gate that W x goes to, for the stored columns 0, 1, ...
//   from_state[]      the torch gate that U h goes to, for the stored columns first_from_state, ...
//   forward(step, rank, unit, u)     u[g] = U_g h for each gate of from_state: one vector of units of one row
//   backward(step, rank, unit, dh)   dh = the gradient of the new h, whole
// A cell that multiplies twice in a step (GRU, reset before) also has `second`: see cells/gru_before.h.
#pragma once
#include "simd.h"

namespace echoic::ECHOIC_ISA {

// Pointers to rank 0; a rank's row is `stride` (h, c and their like) or `gate_stride` further.
template <class T> struct Step {
  int64_t stride, gate_stride;
  T *gates, *h, *c, *fed;               // fed: what the next step multiplies, h times its mask
  const T *h_before, *c_before;
  const T *mask_hidden, *mask_candidate;  // (B, stride) or null
  const T *keep_h, *keep_c;               // this step's zoneout, or null
  const T *peephole_i, *peephole_f, *peephole_o;
  const T *bias_state;                    // b_hh of the candidate where r multiplies it (GRU, reset after)
  T *dgates;                              // backward's answer, columns as stored
  T *carry_h, *carry_c;                   // (B, stride): what reaches the state before past the product

  vec<T> get(const T* p, int64_t rank, int64_t unit) const { return load(p + rank * stride + unit); }
  void put(T* p, int64_t rank, int64_t unit, vec<T> v) const { store(p + rank * stride + unit, v); }
  T* gate(T* base, int64_t rank, int64_t unit, int which) const {
    return base + rank * gate_stride + which * stride + unit;
  }
  // m * candidate, m the candidate's mask
  vec<T> masked(const T* mask, int64_t rank, int64_t unit, vec<T> v) const {
    return mask ? v * get(mask, rank, unit) : v;
  }
  // zoneout: keep * now + (1 - keep) * before
  vec<T> kept(const T* keep, int64_t rank, int64_t unit, vec<T> now, vec<T> before) const {
    if (!keep) return now;
    vec<T> k = get(keep, rank, unit);
    return k * now + (T(1) - k) * before;
  }
  void put_h(int64_t rank, int64_t unit, vec<T> now, vec<T> before) const {
    vec<T> new_h = kept(keep_h, rank, unit, now, before);
    put(h, rank, unit, new_h);
    if (fed != h) put(fed, rank, unit, masked(mask_hidden, rank, unit, new_h));
  }
  // Splits a state's gradient into what its new value gets (returned) and what the old one gets (`past`).
  vec<T> split(const T* keep, int64_t rank, int64_t unit, vec<T> gradient, vec<T>& past) const {
    if (!keep) {
      past = vec<T>{};
      return gradient;
    }
    vec<T> k = get(keep, rank, unit);
    past = (T(1) - k) * gradient;
    return k * gradient;
  }
};

}  // namespace echoic::ECHOIC_ISA
