// Which row of a ragged batch does what at which step, and which thread owns it.
//
// Rows are ranked by falling length, so that the rows alive at a step are the first few, and only
// valid steps are stored: place = offset[step] + rank. This order knows nothing of threads.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "recurrence.h"

namespace echoic {

constexpr int64_t padded(int64_t units) { return (units + 15) / 16 * 16; }

struct Plan {
  std::vector<int64_t> row, length;     // of a rank
  std::vector<int64_t> alive, offset;   // of a step; offset has one more
  int64_t steps;
  bool reverse;

  explicit Plan(const Shape& s) : row(s.B), length(s.B), reverse(s.reverse) {
    std::iota(row.begin(), row.end(), int64_t(0));
    if (s.lengths)
      std::stable_sort(row.begin(), row.end(), [&](int64_t a, int64_t b) { return s.lengths[a] > s.lengths[b]; });
    for (int64_t rank = 0; rank < s.B; rank++) length[rank] = s.lengths ? s.lengths[row[rank]] : s.T;
    steps = s.B ? length[0] : 0;
    alive.resize(steps);
    offset.assign(steps + 1, 0);
    int64_t rank = s.B;
    for (int64_t step = 0; step < steps; step++) {
      while (rank > 0 && length[rank - 1] <= step) rank--;
      alive[step] = rank;
      offset[step + 1] = offset[step] + rank;
    }
  }
  int64_t time(int64_t rank, int64_t step) const { return reverse ? length[rank] - 1 - step : step; }
};

// Threads share a batch by rows, each its own for all steps, and wait for nobody; with too few rows
// for that they share the units of a step, and wait for each other after each product.
struct Share {
  int row_groups, unit_groups;

  Share(const Shape& s, const Plan& plan) {
    int threads = std::max(1, s.threads);
    row_groups = int(std::clamp<int64_t>(s.B / 8, 1, threads));
    unit_groups = int(std::clamp<int64_t>(padded(s.H) / 64, 1, threads / row_groups));
    double work = double(plan.offset.back()) * double(gate_count(s.kind)) * double(s.H) * double(s.H + s.D);
    if (work < 4e5) row_groups = unit_groups = 1;  // less than waking a thread costs
  }
  int threads() const { return row_groups * unit_groups; }
};

// Part `which` of `parts` of [0, count), in whole blocks.
inline std::pair<int64_t, int64_t> part(int64_t count, int64_t block, int which, int parts) {
  int64_t blocks = (count + block - 1) / block;
  return {std::min(count, blocks * which / parts * block), std::min(count, blocks * (which + 1) / parts * block)};
}

}  // namespace echoic
