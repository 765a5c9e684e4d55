// rotary, one pair at a time. Built with auto-vectorization off. Cost: see rotary.h.
#include "rotary/rotary.h"

namespace ablation {

void rotary_scalar(const Call& call) {
    const RotaryRows rows(call);
    const std::int64_t half = rows.d / 2;
    for (std::int64_t row = 0; row < rows.count; ++row) {
        const float* x = call.inputs[0].data + row * rows.d;
        const float* cos = call.inputs[1].data + rows.position(row) * half;
        const float* sin = call.inputs[2].data + rows.position(row) * half;
        float* y = call.output.data + row * rows.d;
        for (std::int64_t i = 0; i < half; ++i) {
            const float even = x[2 * i], odd = x[2 * i + 1];
            y[2 * i] = even * cos[i] - odd * sin[i];
            y[2 * i + 1] = even * sin[i] + odd * cos[i];
        }
    }
}

}  // namespace ablation
