// The baseline: three loops, one output element at a time, one multiply and one add per step.
// Cost: 2 M N K FLOPs; each element of a is read N times and each of b M times, as caches allow.
#include <cstdint>

#include "core/table.h"
#include "elementwise/scalar_functions.h"
#include "matmul/matmul.h"

namespace ablation {

namespace {

float activate(float x, Activation activation) {
    switch (activation) {
        case Activation::None:
            return x;
        case Activation::relu:
            return x < 0.0F ? 0.0F : x;  // keeps NaN
        case Activation::gelu:
            return gelu_erf(x);
        case Activation::gelu_tanh:
            return gelu_tanh(x);
        case Activation::gelu_sigmoid:
            return gelu_sigmoid(x);
        case Activation::silu:
            return silu(x);
    }
    return x;
}

}  // namespace

void matmul_scalar(const Call& call) {
    const auto [a, b, bias, addend] = matmul_inputs(call);
    const auto& attributes = call.attributes;
    const auto [batch, m, n, k] = matmul_sizes(call);
    const std::int64_t b_row = attributes.transpose_b ? 1 : n;
    const std::int64_t b_column = attributes.transpose_b ? k : 1;
    for (std::int64_t row = 0; row < batch * m; ++row) {
        const float* a_row = a.data + row * k;
        const float* b_matrix = b.data + row / m * k * n;
        for (std::int64_t column = 0; column < n; ++column) {
            const float* b_element = b_matrix + column * b_column;
            float sum = 0.0F;
            for (std::int64_t i = 0; i < k; ++i) sum += a_row[i] * b_element[i * b_row];
            float value = attributes.alpha * sum;
            if (bias.present) value += bias.data[column];
            if (addend.present) value += addend.data[row * n + column];
            call.output.data[row * n + column] = activate(value, attributes.activation);
        }
    }
}

}  // namespace ablation
