// All of the core for one instruction set; compiled once for each.
#include "cells/gru.h"
#include "cells/gru_before.h"
#include "cells/lstm.h"
#include "cells/rnn.h"
#include "driver.h"
#include "gradients.h"
#include "likeliest.h"
#include "linear.h"
#include "steps.h"

namespace echoic::ECHOIC_ISA {
namespace {

// Calls f with the cell of a kind.
template <class F> auto with_cell(Kind kind, F&& f) {
  switch (kind) {
    case Kind::rnn_relu: return f(Rnn<Phi::relu>{});
    case Kind::rnn_sigmoid: return f(Rnn<Phi::sigmoid>{});
    case Kind::lstm: return f(Lstm{});
    case Kind::gru_after: return f(Gru{});
    case Kind::gru_before: return f(GruBefore{});
    default: return f(Rnn<Phi::tanh>{});
  }
}

template <class P, class T = typename P::sum>
void forward(const Shape& shape, const Inputs<T>& in, const Outputs<T>& out) {
  with_cell(shape.kind, [&](auto cell) { Layer<P, decltype(cell)>(shape, in).forward(out); });
}

template <class P, class T = typename P::sum>
void backward(const Shape& shape, const Inputs<T>& in, const T* tape, const OutputGradients<T>& given,
              const InputGradients<T>& out) {
  with_cell(shape.kind, [&](auto cell) { Layer<P, decltype(cell)>(shape, in).backward(tape, given, out); });
}

template <class P> constexpr Calls<typename P::sum> calls{forward<P>, backward<P>};

template <class P, class T = typename P::sum> std::unique_ptr<Predictor<T>> predict(const LayerShape& shape, const Inputs<T>& in) {
  return with_cell(shape.kind, [&](auto cell) -> std::unique_ptr<Predictor<T>> {
    using Weights = Dense<P, decltype(cell)>;
    return std::make_unique<Steps<T, decltype(cell), Weights>>(shape, in, Weights(shape, in.weight_ih, in.weight_hh));
  });
}

std::unique_ptr<Predictor<float>> predict_int8(const LayerShape& shape, const Inputs<float>& in, const Int8Weights& weights) {
  return with_cell(shape.kind, [&](auto cell) -> std::unique_ptr<Predictor<float>> {
    using Weights = Int8<decltype(cell)>;
    return std::make_unique<Steps<float, decltype(cell), Weights>>(shape, in, Weights(shape, weights));
  });
}

template <class P> std::unique_ptr<LinearMap> linear(int64_t inputs, int64_t outputs, const float* weight, const float* bias) {
  return std::make_unique<Linear<P>>(inputs, outputs, weight, bias);
}

#if defined(__AVX512BF16__)
constexpr Calls<float> bfloat16 = calls<Halves>;
constexpr auto* predict_bfloat16 = &predict<Halves>;
constexpr auto* linear_bfloat16 = &linear<Halves>;
#else
constexpr Calls<float> bfloat16{};
constexpr std::unique_ptr<Predictor<float>> (*predict_bfloat16)(const LayerShape&, const Inputs<float>&) = nullptr;
constexpr std::unique_ptr<LinearMap> (*linear_bfloat16)(int64_t, int64_t, const float*, const float*) = nullptr;
#endif

}  // namespace

#define ECHOIC_NAME_OF(isa) #isa
#define ECHOIC_NAME(isa) ECHOIC_NAME_OF(isa)
extern const Isa isa;
const Isa isa{ECHOIC_NAME(ECHOIC_ISA), calls<Whole<float>>, calls<Whole<double>>, bfloat16,
              predict<Whole<float>>, predict<Whole<double>>, predict_bfloat16, predict_int8, int8_name,
              linear<Whole<float>>, linear_bfloat16, likeliest};

}  // namespace echoic::ECHOIC_ISA
