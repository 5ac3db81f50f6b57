// Prediction alone: a layer in one direction whose weights are packed once, and kept.
//
// As in recurrence.h every pointer is the caller's, arrays are dense and row-major, and no output may
// overlap another argument. Weights are read while the layer is made, and not kept.
#pragma once
#include <cstdint>
#include <memory>

#include "recurrence.h"

namespace echoic {

struct LayerShape {
  Kind kind;
  int64_t D, H;  // D features in, H units
  bool reverse;  // each row is read from its own last valid step to its first
};

// Weights of eight bits, (G*H, D) and (G*H, H) in -127..127; a row's true weights are `scale` (G*H) times these.
struct Int8Weights {
  const int8_t *weight_ih, *weight_hh;
  const float *scale_ih, *scale_hh;
};

// One step at a time. The rows' numbers stand in the stepper's own arrays, for the caller to write and read.
template <class real> class Stepper {
 public:
  virtual ~Stepper() = default;
  // x_t and the state before in x, h and c give the state after in h and c. more (B, G*H), or null: added to the gates
  // beside W x. One caller at a time.
  virtual void step(const real* more) = 0;
  // The same where row i reads the input numbered ids[i] of Predictor::know. Throws std::out_of_range.
  virtual void step_known(const real* more) = 0;

  int64_t B, D, H;
  int64_t stride;  // elements from one row of h, or of c, to the next
  real *x, *h, *c;  // (B, D) dense, (B, stride), (B, stride), c null where the cell has no memory; 0 at first
  int64_t* ids;     // (B); 0 at first
};

template <class real> class Predictor {
 public:
  virtual ~Predictor() = default;

  // Keeps what the N inputs x (N, D) add to the gates: N * G*H numbers, so that a step need not read W. Once, while
  // the predictor is made.
  virtual void know(const real* x, int64_t N) = 0;

  // B rows of at most T steps, on at most `threads` threads. Any number of callers at once.
  struct Rows {
    int64_t B, T;
    const int64_t* lengths;  // (B) in 0..T, or null: all T
    int threads;
    const real* x;           // (B, T, D); what stands after a row's length is never read
    const real *h0, *c0;     // (B, H), or null: zeros
    real *y, *h, *c;         // (B, T, H), 0 on padding; (B, H) the last states, c where the cell has one
  };
  virtual void run(const Rows& rows) const = 0;

  // For B rows in step. The predictor must outlive it.
  virtual std::unique_ptr<Stepper<real>> stepper(int64_t B) const = 0;
};

// x W^T + b of weights (outputs, inputs) that are packed once; b may be null.
class LinearMap {
 public:
  virtual ~LinearMap() = default;
  // x (rows, inputs) -> y (rows, outputs). Any number of callers at once.
  virtual void run(int64_t rows, const float* x, float* y) const = 0;
  // As `likeliest` (likeliest.h) of y, which is never written down. 1 <= k <= outputs.
  virtual void likeliest(int64_t rows, const float* x, int64_t k, float* values, int64_t* places, float* norms) const = 0;
};

}  // namespace echoic
