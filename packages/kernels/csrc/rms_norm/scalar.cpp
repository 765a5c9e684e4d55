// rms_norm in two passes over a row: mean of squares; the scaled row. The sum is kept in double,
// which costs nothing here. Built with auto-vectorization off. Cost: see rms_norm.h.
#include <cmath>

#include "rms_norm/rms_norm.h"

namespace ablation {

void rms_norm_scalar(const Call& call) {
    const float eps = call.attributes.eps;
    const std::int64_t d = call.output.shape[-1];
    const std::int64_t count = call.output.shape.count();
    const float* weight = call.inputs[1].data;
    for (std::int64_t row = 0; row < count; row += d) {
        const float* x = call.inputs[0].data + row;
        float* y = call.output.data + row;
        double squares = 0.0;
        for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(x[i] * x[i]);
        const float mean = static_cast<float>(squares / static_cast<double>(d));
        const float inverse = 1.0F / std::sqrt(mean + eps);
        for (std::int64_t i = 0; i < d; ++i) y[i] = x[i] * inverse * weight[i];
    }
}

}  // namespace ablation
