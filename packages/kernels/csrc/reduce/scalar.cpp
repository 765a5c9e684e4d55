// sum and amax, one element at a time; the sum is kept in double, which costs nothing here. Built
// with auto-vectorization off. Cost: see reduce.h.
#include "reduce/reduce.h"

namespace ablation {

void sum_scalar(const Call& call) {
    const std::int64_t d = call.inputs[0].shape[-1];
    const std::int64_t rows = call.output.shape.count();
    for (std::int64_t row = 0; row < rows; ++row) {
        const float* x = call.inputs[0].data + row * d;
        double total = 0.0;
        for (std::int64_t i = 0; i < d; ++i) total += static_cast<double>(x[i]);
        call.output.data[row] = static_cast<float>(total);
    }
}

void amax_scalar(const Call& call) {
    const std::int64_t d = call.inputs[0].shape[-1];
    const std::int64_t rows = call.output.shape.count();
    for (std::int64_t row = 0; row < rows; ++row) {
        const float* x = call.inputs[0].data + row * d;
        float largest = x[0];
        // A NaN is taken over, and is never less than what follows.
        for (std::int64_t i = 1; i < d; ++i) {
            if (largest < x[i] || x[i] != x[i]) largest = x[i];
        }
        call.output.data[row] = largest;
    }
}

}  // namespace ablation
