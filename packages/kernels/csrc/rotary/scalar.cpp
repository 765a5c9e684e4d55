// rotary, one pair at a time. Built with auto-vectorization off. Cost: see rotary.h.
#include "rotary/rotary.h"

namespace ablation {

void rotary_scalar(const Call& call) {
    const RotaryRows rows(call);
    const std::int64_t step = rows.halves ? 1 : 2, apart = rows.halves ? rows.half : 1;
    rows.for_rows(call, 0, rows.count,
                  [=](float* y, const float* x, const float* cos, const float* sin) {
                      for (std::int64_t i = 0; i < rows.half; ++i) {
                          const std::int64_t first = step * i, second = first + apart;
                          const float a = x[first], b = x[second];
                          y[first] = a * cos[i] - b * sin[i];
                          y[second] = a * sin[i] + b * cos[i];
                      }
                  });
}

}  // namespace ablation
