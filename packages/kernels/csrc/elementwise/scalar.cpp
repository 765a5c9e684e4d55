// Element-wise ops, one element at a time: the plainest form. This file is built with
// auto-vectorization off. Cost: see elementwise.h; erf and tanh are those of the C library.
#include <bit>
#include <cmath>
#include <numbers>

#include "elementwise/broadcast.h"
#include "elementwise/elementwise.h"

namespace ablation {

namespace {

/// max(x, 0), NaN stays. A mask, since gcc makes a branch of `x < 0 ? 0 : x`, which mispredicted
/// signs slow tenfold.
float positive_part(float x) {
    const std::uint32_t keep = static_cast<std::uint32_t>(x < 0.0F) - 1U;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & keep);
}

/// x / (1 + exp(-x)) without an exponential that overflows.
float silu(float x) {
    const float e = std::exp(-std::fabs(x));
    return (x < 0.0F ? x * e : x) / (1.0F + e);
}

template <class Operation>
void binary_scalar(const Call& call, Operation operation) {
    const Broadcast plan = plan_broadcast(call, 2);
    const std::int64_t a_step = plan.row_steps()[0], b_step = plan.row_steps()[1];
    plan.for_rows(0, call.output.shape.count(),
                  [&](std::int64_t offset, const Broadcast::Offsets& offsets, std::int64_t count) {
                      float* y = call.output.data + offset;
                      const float* a = call.inputs[0].data + offsets[0];
                      const float* b = call.inputs[1].data + offsets[1];
                      for (std::int64_t i = 0; i < count; ++i) {
                          y[i] = operation(a[i * a_step], b[i * b_step]);
                      }
                  });
}

template <class Operation>
void unary_scalar(const Call& call, Operation operation) {
    const float* x = call.inputs[0].data;
    float* y = call.output.data;
    const std::int64_t count = call.output.shape.count();
    for (std::int64_t i = 0; i < count; ++i) y[i] = operation(x[i]);
}

}  // namespace

void add_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return a + b; });
}
void sub_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return a - b; });
}
void mul_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return a * b; });
}
void div_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return a / b; });
}

void relu_scalar(const Call& call) { unary_scalar(call, positive_part); }

void gelu_scalar(const Call& call) {
    constexpr float kRootHalf = std::numbers::sqrt2_v<float> / 2.0F;
    constexpr float kRootTwoOverPi =
        std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;
    if (call.attributes.approximate == GeluForm::tanh) {
        unary_scalar(call, [](float x) {
            const float u = kRootTwoOverPi * (x + 0.044715F * x * x * x);
            return 0.5F * x * (1.0F + std::tanh(u));
        });
    } else {
        unary_scalar(call, [](float x) { return 0.5F * x * (1.0F + std::erf(x * kRootHalf)); });
    }
}

void silu_scalar(const Call& call) { unary_scalar(call, silu); }

void silu_mul_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return silu(a) * b; });
}

void rsqrt_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return 1.0F / std::sqrt(x); });
}

void bias_relu_scalar(const Call& call) {
    const std::int64_t n = call.inputs[1].shape[0];
    const std::int64_t count = call.output.shape.count();
    const float* bias = call.inputs[1].data;
    for (std::int64_t row = 0; row < count; row += n) {
        const float* x = call.inputs[0].data + row;
        float* y = call.output.data + row;
        for (std::int64_t i = 0; i < n; ++i) {
            y[i] = positive_part(x[i] + bias[i]);
        }
    }
}

}  // namespace ablation
