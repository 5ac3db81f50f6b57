// What a call is given beside its weights, as the driver wants it: rows by rank, units padded with zeros.
#pragma once
#include <cstring>

#include "memory.h"
#include "plan.h"
#include "recurrence.h"

namespace echoic::ECHOIC_ISA {

template <class T> struct Given {
  Buffer<T> h0, c0, fed0;                // (B, Hp): the first states, and h0 times its mask; c0 where the cell has memory
  Buffer<T> mask_hidden, mask_candidate; // (B, Hp), or empty
  Buffer<T> keep_h, keep_c;              // (N, Hp) as steps are packed, or empty
  Buffer<T> peephole_i, peephole_f, peephole_o;  // (Hp), or empty

  Given(const Shape& s, const Inputs<T>& in, const Plan& plan, bool memory) {
    h0 = by_rank(s, plan, in.h0);
    if (memory) c0 = by_rank(s, plan, in.c0);
    if (in.mask_hidden) mask_hidden = by_rank(s, plan, in.mask_hidden);
    if (in.mask_candidate) mask_candidate = by_rank(s, plan, in.mask_candidate);
    keep_h = by_step(s, plan, in.keep_h);
    keep_c = by_step(s, plan, in.keep_c);
    peephole_i = alone(s, in.peephole_i);
    peephole_f = alone(s, in.peephole_f);
    peephole_o = alone(s, in.peephole_o);
    fed0 = by_rank(s, plan, in.h0);
    if (mask_hidden)
      for (int64_t i = 0; i < s.B * padded(s.H); i++) fed0.data()[i] *= mask_hidden.data()[i];
  }

  // (B, H) in the caller's order -> (B, Hp); null gives zeros
  static Buffer<T> by_rank(const Shape& s, const Plan& plan, const T* rows) {
    const int64_t Hp = padded(s.H);
    Buffer<T> out(s.B * Hp, true);
    for (int64_t rank = 0; rows && rank < s.B; rank++)
      std::memcpy(out.data() + rank * Hp, rows + plan.row[rank] * s.H, size_t(s.H) * sizeof(T));
    return out;
  }

 private:
  // (T, B, H) in the caller's order -> (N, Hp)
  static Buffer<T> by_step(const Shape& s, const Plan& plan, const T* keep) {
    const int64_t Hp = padded(s.H);
    Buffer<T> out(keep ? plan.offset.back() * Hp : 0, true);
    for (int64_t step = 0; keep && step < plan.steps; step++)
      for (int64_t rank = 0; rank < plan.alive[step]; rank++)
        std::memcpy(out.data() + (plan.offset[step] + rank) * Hp,
                    keep + (plan.time(rank, step) * s.B + plan.row[rank]) * s.H, size_t(s.H) * sizeof(T));
    return out;
  }

  static Buffer<T> alone(const Shape& s, const T* values) {
    Buffer<T> out(values ? padded(s.H) : 0, true);
    if (values) std::memcpy(out.data(), values, size_t(s.H) * sizeof(T));
    return out;
  }
};

}  // namespace echoic::ECHOIC_ISA
