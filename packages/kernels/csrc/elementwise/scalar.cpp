// Element-wise ops, one element at a time: the plainest form. This file is built with
// auto-vectorization off. Cost: see elementwise.h; erf and tanh are those of the C library.
#include <bit>
#include <cmath>

#include "elementwise/elementwise.h"
#include "elementwise/scalar_functions.h"
#include "elementwise/scalar_loops.h"

namespace ablation {

namespace {

/// max(x, 0), NaN stays. A mask, since gcc makes a branch of `x < 0 ? 0 : x`, which mispredicted
/// signs slow tenfold.
float positive_part(float x) {
    const std::uint32_t keep = static_cast<std::uint32_t>(x < 0.0F) - 1U;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & keep);
}

/// 1 where it holds, else 0.
float truth(bool holds) { return holds ? 1.0F : 0.0F; }

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

// A NaN in a is taken; beside one in b nothing is larger or less.
void maximum_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return a > b || a != a ? a : b; });
}
void minimum_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return a < b || a != a ? a : b; });
}

void equal_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return truth(a == b); });
}
void less_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return truth(a < b); });
}
void less_equal_scalar(const Call& call) {
    binary_scalar(call, [](float a, float b) { return truth(a <= b); });
}

void relu_scalar(const Call& call) { unary_scalar(call, positive_part); }

void gelu_scalar(const Call& call) {
    switch (call.attributes.approximate) {
        case GeluForm::none:
            return unary_scalar(call, [](float x) { return gelu_erf(x); });
        case GeluForm::tanh:
            return unary_scalar(call, [](float x) { return gelu_tanh(x); });
        case GeluForm::sigmoid:
            return unary_scalar(call, [](float x) { return gelu_sigmoid(x); });
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
