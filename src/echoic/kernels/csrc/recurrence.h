// A recurrent layer in one direction, forwards and backwards: the core's own interface.
//
// Every pointer is the caller's and stays the caller's; nothing is kept after a call. No output may
// overlap another argument. Arrays are dense and row-major. `real` is float or double throughout.
// Gates stand below one another in torch's order: LSTM i f g o, GRU r z n, RNN h.
#pragma once
#include <cstdint>
#include <memory>

namespace echoic {

enum class Kind : int { rnn_tanh = 0, rnn_relu = 1, rnn_sigmoid = 2, lstm = 3, gru_after = 4, gru_before = 5 };

constexpr int64_t gate_count(Kind kind) { return kind == Kind::lstm ? 4 : kind < Kind::lstm ? 1 : 3; }

// B rows of at most T steps of D features, H units.
struct Shape {
  Kind kind;
  int64_t B, T, D, H;
  const int64_t* lengths;  // (B) in 0..T, or null: all T
  bool reverse;            // each row is read from its own last valid step to its first
  int threads;
};

template <class real> struct Inputs {
  const real* x;                                        // (B, T, D); what stands after a row's length is never read
  const real *weight_ih, *weight_hh;                    // (G*H, D), (G*H, H)
  const real *bias_ih, *bias_hh;                        // (G*H), or null
  const real *peephole_i, *peephole_f, *peephole_o;     // (H) each, LSTM only, all or none null
  const real *h0, *c0;                                  // (B, H), or null: zeros; c0 is the LSTM's
  const real *mask_hidden, *mask_candidate;             // (B, H), or null: see cells/base.py
  const real *keep_h, *keep_c;                          // (T, B, H) zoneout: share of the new value that is taken; or null
};

template <class real> struct Outputs {
  real* y;        // (B, T, H), 0 on padding
  real *h, *c;    // (B, H) the last states
  real* tape;     // tape_size elements that backward will want, or null where it will not be called
};

template <class real> struct OutputGradients {
  const real* y;  // (B, T, H): y_step from one step to the next, T * y_step from row to row; padding is never read
  int64_t y_step;
  const real *h, *c;  // (B, H), or null: zeros
};

// Each is written whole; null: not wanted.
template <class real> struct InputGradients {
  real* x;                                          // (B, T, D), 0 on padding
  real *weight_ih, *weight_hh, *bias_ih, *bias_hh;  // as the weights; never null, but for the biases
  real *peephole_i, *peephole_f, *peephole_o;
  real *h0, *c0;  // (B, H)
};

// Elements of a tape for B * T rows: what forward leaves for backward.
int64_t tape_size(const Shape& shape);

template <class real> class Predictor;  // predict.h
class LinearMap;
struct LayerShape;
struct Int8Weights;

template <class real> struct Calls {
  void (*forward)(const Shape&, const Inputs<real>&, const Outputs<real>&);
  void (*backward)(const Shape&, const Inputs<real>&, const real* tape, const OutputGradients<real>&,
                   const InputGradients<real>&);
};

// One instruction set's code. `bfloat16` multiplies numbers rounded to bfloat16 and adds in float; all that is
// not a product is as in `single`. What has its name is null where the processor has no instruction for it.
struct Isa {
  const char* name;
  Calls<float> single;
  Calls<double> twice;
  Calls<float> bfloat16;
  // Of Inputs the weights, biases and peepholes are read; predict_int8 takes the weights from Int8Weights.
  std::unique_ptr<Predictor<float>> (*predict_float)(const LayerShape&, const Inputs<float>&);
  std::unique_ptr<Predictor<double>> (*predict_double)(const LayerShape&, const Inputs<double>&);
  std::unique_ptr<Predictor<float>> (*predict_bfloat16)(const LayerShape&, const Inputs<float>&);
  std::unique_ptr<Predictor<float>> (*predict_int8)(const LayerShape&, const Inputs<float>&, const Int8Weights&);
  const char* (*int8_name)();  // which instructions multiply eight bits on this processor
  // (inputs, outputs, weight, bias)
  std::unique_ptr<LinearMap> (*linear)(int64_t, int64_t, const float*, const float*);
  std::unique_ptr<LinearMap> (*linear_bfloat16)(int64_t, int64_t, const float*, const float*);
  void (*likeliest)(int64_t rows, int64_t size, int64_t k, const float* logits, float* values, int64_t* places, float* norms);  // likeliest.h
};

}  // namespace echoic
