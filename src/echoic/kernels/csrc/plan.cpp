#include "plan.h"

namespace echoic {

// As Layer::forward lays it out: stored gates, then h, then c where there is one.
int64_t tape_size(const Shape& s) {
  int64_t stride = padded(s.H), stored = gate_count(s.kind) == 1 ? 1 : 4, states = s.kind == Kind::lstm ? 2 : 1;
  return s.B * s.T * (stored * stride + 16 + states * stride);
}

}  // namespace echoic
