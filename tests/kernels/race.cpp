// Calls the core from C++ with threads of its own, for ThreadSanitizer: batches shared by rows, by units
// and by both, forwards and backwards, and two callers at once. Prints "no race" where none was seen.
//   g++ -std=c++20 -O1 -g -fsanitize=thread -DECHOIC_ISA=portable -I csrc race.cpp csrc/{isa,memory,plan,pool}.cpp
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "pool.h"
#include "predict.h"
#include "recurrence.h"

namespace echoic::portable { extern const Isa isa; }
using namespace echoic;

namespace {

struct Layer {
  using Numbers = std::vector<float>;
  std::mt19937 random{1};
  std::vector<int64_t> lengths;
  Shape shape;
  Numbers x, w, u, b, peephole, state, mask, keep, y, h, c, tape, dx, dw, du, db, dp, dstate;

  Numbers numbers(int64_t size, float scale = 0.3f) {
    Numbers out(static_cast<size_t>(size));
    for (float& each : out) each = std::uniform_real_distribution<float>(-scale, scale)(random);
    return out;
  }

  Layer(Kind kind, int64_t B, int64_t T, int64_t D, int64_t H, int threads) {
    for (int64_t row = 0; row < B; row++) lengths.push_back(row * 7 % (T + 1));
    lengths[0] = T;
    shape = {kind, B, T, D, H, lengths.data(), B % 2 == 1, threads};
    int64_t rows = gate_count(kind) * H;
    x = numbers(B * T * D), w = numbers(rows * D), u = numbers(rows * H), b = numbers(rows), peephole = numbers(H);
    state = numbers(B * H), mask = Numbers(size_t(B * H), 1.25f), keep = Numbers(size_t(T * B * H), 0.75f);
    y = h = c = tape = dx = dw = du = db = dp = dstate = {};
    y.resize(size_t(B * T * H)), h.resize(size_t(B * H)), c.resize(size_t(B * H)), tape.resize(size_t(tape_size(shape)));
    dx.resize(x.size()), dw.resize(w.size()), du.resize(u.size()), db.resize(2 * b.size());
    dp.resize(3 * peephole.size()), dstate.resize(2 * state.size());
  }

  // The sum of all gradients: anything not written, or written twice, moves it from run to run.
  double train() {
    const float* seen = shape.kind == Kind::lstm ? peephole.data() : nullptr;
    Inputs<float> in{x.data(), w.data(), u.data(), b.data(), b.data(), seen, seen, seen, state.data(), state.data(),
                     mask.data(), mask.data(), keep.data(), keep.data()};
    portable::isa.single.forward(shape, in, {y.data(), h.data(), c.data(), nullptr});
    portable::isa.single.forward(shape, in, {y.data(), h.data(), c.data(), tape.data()});
    size_t H = peephole.size(), rows = b.size();
    float* dpeephole = seen ? dp.data() : nullptr;
    InputGradients<float> out{dx.data(), dw.data(), du.data(), db.data(), db.data() + rows, dpeephole,
                              seen ? dpeephole + H : nullptr, seen ? dpeephole + 2 * H : nullptr, dstate.data(),
                              dstate.data() + state.size()};
    portable::isa.single.backward(shape, in, tape.data(), {y.data(), shape.H, h.data(), c.data()}, out);
    double sum = 0;
    for (const Numbers* all : {&dx, &dw, &du, &db, &dp, &dstate})
      for (float each : *all) sum += each;
    return sum;
  }

  // The sum of all that a predictor answers.
  double predict(const Predictor<float>& predictor) {
    predictor.run({shape.B, shape.T, lengths.data(), shape.threads, x.data(), state.data(), state.data(), y.data(), h.data(), c.data()});
    double sum = 0;
    for (const Numbers* all : {&y, &h, &c})
      for (float each : *all) sum += each;
    return sum;
  }
};

bool predicts_the_same(Kind kind, int64_t B, int threads, bool eight) {
  Layer layer(kind, B, 70, 20, 260, threads);
  Inputs<float> in{};
  in.weight_ih = layer.w.data(), in.weight_hh = layer.u.data(), in.bias_ih = in.bias_hh = layer.b.data();
  LayerShape shape{kind, layer.shape.D, layer.shape.H, layer.shape.reverse};
  std::vector<int8_t> w, u;
  for (float each : layer.w) w.push_back(int8_t(each * 400));
  for (float each : layer.u) u.push_back(int8_t(each * 400));
  const std::vector<float> scale(layer.b.size(), 1.0f / 400);  // a relu's states must not grow past all numbers
  Int8Weights quantised{w.data(), u.data(), scale.data(), scale.data()};
  auto predictor = eight ? portable::isa.predict_int8(shape, in, quantised) : portable::isa.predict_float(shape, in);
  double first = layer.predict(*predictor);
  if (std::isfinite(first) && layer.predict(*predictor) == first) return true;
  std::printf("kind %d, B %ld, %d threads, eight bits %d: another prediction\n", int(kind), long(B), threads, eight);
  return false;
}

bool repeats(Kind kind, int64_t B, int64_t H, int threads) {
  Layer layer(kind, B, 6, 20, H, threads);
  double first = layer.train();
  for (int run = 0; run < 2; run++)
    if (!std::isfinite(first) || layer.train() != first) {
      std::printf("kind %d, B %ld, H %ld, %d threads: another answer\n", int(kind), long(B), long(H), threads);
      return false;
    }
  return true;
}

// Callers of one linear layer at the same time.
bool serves_many() {
  const int64_t rows = 60, inputs = 40, outputs = 700, k = 12;
  std::vector<float> weight(inputs * outputs), x(rows * inputs);
  for (size_t i = 0; i < weight.size(); i++) weight[i] = float(i % 37) / 37 - 0.5f;
  for (size_t i = 0; i < x.size(); i++) x[i] = float(i % 29) / 29 - 0.5f;
  auto layer = portable::isa.linear(inputs, outputs, weight.data(), weight.data());
  std::vector<std::vector<float>> norms(4, std::vector<float>(rows));
  std::vector<std::thread> callers;
  for (std::vector<float>& mine : norms)
    callers.emplace_back([&] {
      std::vector<float> values(rows * k), y(rows * outputs);
      std::vector<int64_t> places(rows * k);
      layer->run(rows, x.data(), y.data());
      layer->likeliest(rows, x.data(), k, values.data(), places.data(), mine.data());
    });
  for (std::thread& each : callers) each.join();
  for (const std::vector<float>& mine : norms)
    if (mine != norms[0] || !std::isfinite(mine[0])) {
      std::printf("linear: another answer\n");
      return false;
    }
  return true;
}

}  // namespace

int main() {
  bool good = serves_many();
  for (int kind = 0; kind < 6; kind++)
    for (int threads : {4, 2, 3}) {
      good &= repeats(Kind(kind), 40, 80, threads);   // by rows
      good &= repeats(Kind(kind), 5, 260, threads);   // by units
      good &= repeats(Kind(kind), 17, 150, threads);  // by both: 2 groups of rows, 2 of units
    }
  for (int kind = 0; kind < 6; kind++)
    for (int threads : {2, 4})
      for (int64_t rows : {1, 5})
        for (bool eight : {false, true}) good &= predicts_the_same(Kind(kind), rows, threads, eight);
  std::thread other([&] { repeats(Kind::lstm, 5, 260, 3) || (std::puts("another answer beside a second caller"), std::exit(1), false); });
  good &= repeats(Kind::gru_before, 17, 150, 4);
  other.join();
  if (good) std::puts("no race");
  return good ? 0 : 1;
}
