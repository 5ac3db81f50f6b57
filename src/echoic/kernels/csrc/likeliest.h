// Of rows of logits the largest, and the logarithm of the sum of their exponentials, in one pass.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "simd.h"

namespace echoic::ECHOIC_ISA {

// What rows have shown so far. A row's vectors come in any order, each once.
class Likeliest {
  static constexpr int L = lanes<float>;
  static constexpr float none = -std::numeric_limits<float>::infinity(), lowest = std::numeric_limits<float>::lowest();

 public:
  // The k >= 1 largest numbers of each row are wanted.
  Likeliest(int64_t rows, int64_t k) : k_(k), held_(size_t(rows * k), {none, 0}), rows_(size_t(rows)) {}

  // Numbers `place` and on of a row; -inf where a vector is longer than its row.
  void see(int64_t row, int64_t place, vec<float> logits) {
    Row& r = rows_[size_t(row)];
    if (any_above(logits, r.top)) {
      const float top = largest(logits);
      r.sums *= std::exp(r.top - top);
      r.top = top;
    }
    const exponential<float> e(logits - splat(r.top));
    r.sums += e.power + e.power * e.part;
    if (any_above(logits, r.least)) keep(row, place, logits);
  }

  // values, places (rows, k), in no order, the place of a -inf means nothing; norms (rows): log sum exp, no number where one of a row is a NaN or inf, or all
  // are -inf.
  void tell(float* values, int64_t* places, float* norms) const {
    for (size_t i = 0; i < held_.size(); i++) values[i] = held_[i].first, places[i] = held_[i].second;
    for (size_t row = 0; row < rows_.size(); row++) {
      double sum = 0;
      for (int j = 0; j < L; j++) sum += rows_[row].sums[j];
      norms[row] = rows_[row].top == lowest && sum == sum ? none : rows_[row].top + float(std::log(sum));
    }
  }

 private:
  struct Row {
    vec<float> sums{};  // of exp(logit - top)
    float top = lowest, least = none;  // least: of the k that are held, once there are so many
    int64_t count = 0;
  };

  void keep(int64_t row, int64_t place, vec<float> logits) {
    Row& r = rows_[size_t(row)];
    const auto begin = held_.begin() + row * k_;
    const auto larger = [](const auto& a, const auto& b) { return a.first > b.first; };  // a heap with the smallest in front
    for (int j = 0; j < L; j++) {
      if (!(logits[j] > r.least)) continue;
      if (r.count == k_) std::pop_heap(begin, begin + k_, larger);
      else r.count++;
      *(begin + r.count - 1) = {logits[j], place + j};
      std::push_heap(begin, begin + r.count, larger);
      if (r.count == k_) r.least = begin->first;
    }
  }

  int64_t k_;
  std::vector<std::pair<float, int64_t>> held_;  // (rows, k)
  std::vector<Row> rows_;
};

// logits (rows, size), dense; 1 <= k <= size.
inline void likeliest(int64_t rows, int64_t size, int64_t k, const float* logits, float* values, int64_t* places, float* norms) {
  constexpr int L = lanes<float>;
  Likeliest found(rows, k);
  for (int64_t row = 0; row < rows; row++, logits += size) {
    int64_t i = 0;
    for (; i + L <= size; i += L) found.see(row, i, load(logits + i));
    if (i < size) {
      float last[L];
      std::fill_n(std::copy(logits + i, logits + size, last), L - (size - i), -std::numeric_limits<float>::infinity());
      found.see(row, i, load(last));
    }
  }
  found.tell(values, places, norms);
}

}  // namespace echoic::ECHOIC_ISA
