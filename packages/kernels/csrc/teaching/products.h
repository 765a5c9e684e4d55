// The inner loops of all four forms. They are shared so that a form differs from its parent in the
// order in which it goes over memory and in nothing else.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "teaching/teaching.h"

namespace ablation::teaching {

/// scores[r][c] = scale * q[r] . k[c]. Rows of q and k are `d` floats, a row of scores begins
/// `stride` floats after the one before.
inline void multiply_keys(const float* q, const float* k, std::int64_t d, std::int64_t rows,
                          std::int64_t keys, float scale, float* scores, std::int64_t stride) {
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < keys; ++c) {
            float sum = 0.0F;
            for (std::int64_t e = 0; e < d; ++e) sum += q[r * d + e] * k[c * d + e];
            scores[r * stride + c] = scale * sum;
        }
    }
}

/// output[r] += sum over c of weights[r][c] * v[c]. The innermost loop runs along a row of v, so
/// that it reads and writes contiguously.
inline void add_weighted_values(const float* weights, std::int64_t stride, const float* v,
                                std::int64_t d, std::int64_t rows, std::int64_t keys,
                                float* output) {
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < keys; ++c) {
            const float weight = weights[r * stride + c];
            for (std::int64_t e = 0; e < d; ++e) output[r * d + e] += weight * v[c * d + e];
        }
    }
}

/// A row of n scores becomes weights that sum to 1. The sum is kept in double, as a float32 sum of
/// 4096 weights was seen 1e-5 off.
inline void softmax_row(float* scores, std::int64_t n, Softmax softmax) {
    const float shift = softmax == Softmax::safe ? *std::max_element(scores, scores + n) : 0.0F;
    double sum = 0.0;
    for (std::int64_t c = 0; c < n; ++c) {
        scores[c] = std::exp(scores[c] - shift);
        sum += static_cast<double>(scores[c]);
    }
    const auto total = static_cast<float>(sum);
    for (std::int64_t c = 0; c < n; ++c) scores[c] /= total;
}

}  // namespace ablation::teaching
