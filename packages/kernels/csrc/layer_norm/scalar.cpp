// layer_norm in three passes over a row: mean; variance; the normalized row. Sums are kept in
// double, which costs nothing here. Built with auto-vectorization off. Cost: see layer_norm.h.
#include <cmath>

#include "layer_norm/layer_norm.h"

namespace ablation {

void layer_norm_scalar(const Call& call) {
    const float eps = call.attributes.eps;
    const std::int64_t d = call.output.shape[-1];
    const std::int64_t count = call.output.shape.count();
    const float* weight = call.inputs[1].data;
    const float* bias = call.inputs[2].data;
    for (std::int64_t row = 0; row < count; row += d) {
        const float* x = call.inputs[0].data + row;
        float* y = call.output.data + row;
        double sum = 0.0;
        for (std::int64_t i = 0; i < d; ++i) sum += static_cast<double>(x[i]);
        const float mean = static_cast<float>(sum / static_cast<double>(d));
        double squares = 0.0;
        for (std::int64_t i = 0; i < d; ++i) {
            const float difference = x[i] - mean;
            squares += static_cast<double>(difference * difference);
        }
        const float variance = static_cast<float>(squares / static_cast<double>(d));
        if (!float_holds(mean, variance + eps)) {
            layer_norm_in_double(y, x, eps, weight, bias, d);
            continue;
        }
        const float inverse_deviation = 1.0F / std::sqrt(variance + eps);
        for (std::int64_t i = 0; i < d; ++i) {
            y[i] = (x[i] - mean) * inverse_deviation * weight[i] + bias[i];
        }
    }
}

}  // namespace ablation
