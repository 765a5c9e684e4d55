// Activations of one number, by erf, tanh and exp of the C library, for the files that are built
// without auto-vectorization (scalar.cpp and *_scalar.cpp) alone.
#pragma once

#include <cmath>
#include <numbers>

namespace ablation {

/// 1 / (1 + exp(-x)) without an exponential that overflows.
inline float sigmoid(float x) {
    const float e = std::exp(-std::fabs(x));
    return (x < 0.0F ? e : 1.0F) / (1.0F + e);
}

/// x / (1 + exp(-slope x)), likewise.
inline float sigmoid_gated(float x, float slope) {
    const float e = std::exp(-std::fabs(slope * x));
    return (x < 0.0F ? x * e : x) / (1.0F + e);
}

inline float silu(float x) { return sigmoid_gated(x, 1.0F); }

inline float gelu_erf(float x) {
    constexpr float kRootHalf = std::numbers::sqrt2_v<float> / 2.0F;
    return 0.5F * x * (1.0F + std::erf(x * kRootHalf));
}

inline float gelu_tanh(float x) {
    constexpr float kRootTwoOverPi =
        std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;
    const float u = kRootTwoOverPi * (x + 0.044715F * x * x * x);
    return 0.5F * x * (1.0F + std::tanh(u));
}

inline float gelu_sigmoid(float x) { return sigmoid_gated(x, 1.702F); }

}  // namespace ablation
