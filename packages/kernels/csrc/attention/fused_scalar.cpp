// fused with a scalar softmax: the scores stay in scratch, a tile of query rows at a time; maximum,
// exponential and sum, and the division of the output, go through the row one element at a time
// with the C library's exp. The matrix products are sgemm's.
#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/tiles.h"
#include "core/table.h"

namespace ablation {

namespace {

float softmax_row_scalar(float* scores, const float* mask, std::int64_t mask_step,
                         const Attributes& attributes, std::int64_t n) {
    const float cap = attributes.softcap;
    if (cap > 0.0F) {
        for (std::int64_t i = 0; i < n; ++i) scores[i] = cap * std::tanh(scores[i] / cap);
    }
    if (mask != nullptr && attributes.mask_replaces) {
        replace_scores(scores, mask, mask_step, n);
    } else if (mask != nullptr) {
        for (std::int64_t i = 0; i < n; ++i) scores[i] += mask[i * mask_step];
    }
    float maximum = -std::numeric_limits<float>::infinity();
    for (std::int64_t i = 0; i < n; ++i) {
        // The negated comparison lets a NaN in, and the second test keeps it there.
        if (!(scores[i] <= maximum) && !std::isnan(maximum)) maximum = scores[i];
    }
    const bool sees_a_key = maximum != -std::numeric_limits<float>::infinity();
    float sum = 0.0F;
    for (std::int64_t i = 0; i < n; ++i) {
        scores[i] = sees_a_key ? std::exp(scores[i] - maximum) : 0.0F;
        sum += scores[i];
    }
    return sum;
}

void scale_row_scalar(float* y, const float* x, float factor, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

}  // namespace

void attention_fused_scalar(const Call& call) {
    fused_serial(call, softmax_row_scalar, scale_row_scalar);
}

}  // namespace ablation
