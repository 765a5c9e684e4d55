// Shape rule of layer_norm, and the rows that float32 does not hold.
#include "layer_norm/layer_norm.h"

#include <cmath>

#include "core/check.h"

namespace ablation {

Shape infer_layer_norm(const Call& call) {
    const TensorView& x = call.inputs[0];
    require_rank("layer_norm", "x", x, 1);
    const Shape row{x.shape[-1]};
    require_shape("layer_norm", "weight", call.inputs[1], row, "the last axis of x");
    require_shape("layer_norm", "bias", call.inputs[2], row, "the last axis of x");
    require_not_negative("layer_norm", "eps", call.attributes.eps);
    return x.shape;
}

void layer_norm_in_double(float* y, const float* x, float eps, const float* weight,
                          const float* bias, std::int64_t d) {
    const auto size = static_cast<double>(d);
    double sum = 0.0;
    for (std::int64_t i = 0; i < d; ++i) sum += static_cast<double>(x[i]);
    const double mean = sum / size;
    double squares = 0.0;
    for (std::int64_t i = 0; i < d; ++i) {
        const double difference = static_cast<double>(x[i]) - mean;
        squares += difference * difference;
    }
    const double inverse = 1.0 / std::sqrt(squares / size + static_cast<double>(eps));
    for (std::int64_t i = 0; i < d; ++i) {
        const double normalized = (static_cast<double>(x[i]) - mean) * inverse;
        y[i] = static_cast<float>(normalized * static_cast<double>(weight[i]) +
                                  static_cast<double>(bias[i]));
    }
}

}  // namespace ablation
