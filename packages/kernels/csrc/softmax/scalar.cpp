// softmax in three passes over a row: maximum; exp and sum; division. exp is the C library's; the
// sum is kept in double, which costs nothing here. Built with auto-vectorization off. Cost: see
// softmax.h.
#include <cmath>
#include <limits>

#include "softmax/softmax.h"

namespace ablation {

void softmax_scalar(const Call& call) {
    const std::int64_t n = call.output.shape[-1];
    const std::int64_t count = call.output.shape.count();
    for (std::int64_t row = 0; row < count; row += n) {
        const float* x = call.inputs[0].data + row;
        float* y = call.output.data + row;
        float largest = -std::numeric_limits<float>::infinity();
        for (std::int64_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
        double sum = 0.0;
        for (std::int64_t i = 0; i < n; ++i) {
            y[i] = std::exp(x[i] - largest);
            sum += static_cast<double>(y[i]);
        }
        const float inverse = static_cast<float>(1.0 / sum);
        for (std::int64_t i = 0; i < n; ++i) y[i] *= inverse;
    }
}

}  // namespace ablation
