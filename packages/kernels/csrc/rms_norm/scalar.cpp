// rms_norm in two passes over a row: mean of squares; the scaled row. The sum is kept in double,
// which costs nothing here. Built with auto-vectorization off. Cost: see rms_norm.h.
#include <cmath>

#include "rms_norm/rms_norm.h"

namespace ablation {

void rms_norm_scalar(const Call& call) {
    const float eps = call.attributes.eps;
    const RmsNormRows rows(call);
    const std::int64_t d = rows.d;
    const auto add = [&](float* y, const float* addend) {
        for (std::int64_t i = 0; i < d; ++i) y[i] += addend[i];
    };
    const auto norm = [&](float* y, const float* x, const float* weight) {
        double squares = 0.0;
        for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(x[i] * x[i]);
        const float mean = static_cast<float>(squares / static_cast<double>(d));
        const float inverse = 1.0F / std::sqrt(mean + eps);
        for (std::int64_t i = 0; i < d; ++i) y[i] = x[i] * inverse * weight[i];
    };
    rows.for_rows(call, 0, rows.count, norm, add);
}

}  // namespace ablation
