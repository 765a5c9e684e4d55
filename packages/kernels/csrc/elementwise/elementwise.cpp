// Shape rules of the element-wise ops, and the merging of axes that makes broadcasting cheap.
#include "elementwise/elementwise.h"

#include <utility>

#include "core/check.h"
#include "elementwise/broadcast.h"

namespace ablation {

namespace {

/// `so_far` broadcast with one more input, by NumPy's rules.
Shape broadcast_shape(const char* op, const char* argument, const Shape& so_far,
                      const TensorView& view) {
    require_rank(op, argument, view, 0);
    const Shape& shape = view.shape;
    Shape result = shape.rank > so_far.rank ? shape : so_far;
    const int shared = shape.rank > so_far.rank ? so_far.rank : shape.rank;
    for (int axis = -shared; axis < 0; ++axis) {
        if (shape[axis] != so_far[axis] && shape[axis] != 1 && so_far[axis] != 1) {
            reject(op, argument, "has shape " + shape.str(),
                   "a shape that broadcasts with " + so_far.str() +
                       ": sizes equal or 1, aligned at the last axis");
        }
        result[axis] = shape[axis] == 1 ? so_far[axis] : shape[axis];
    }
    return result;
}

Shape infer_binary(const char* op, const Call& call) {
    const Shape first = broadcast_shape(op, "a", Shape{}, call.inputs[0]);
    return broadcast_shape(op, "b", first, call.inputs[1]);
}

Shape infer_unary(const char* op, const Call& call) {
    require_rank(op, "x", call.inputs[0], 0);
    return call.inputs[0].shape;
}

}  // namespace

Shape infer_add(const Call& call) { return infer_binary("add", call); }
Shape infer_sub(const Call& call) { return infer_binary("sub", call); }
Shape infer_mul(const Call& call) { return infer_binary("mul", call); }
Shape infer_div(const Call& call) { return infer_binary("div", call); }
Shape infer_maximum(const Call& call) { return infer_binary("maximum", call); }
Shape infer_minimum(const Call& call) { return infer_binary("minimum", call); }
Shape infer_pow(const Call& call) { return infer_binary("pow", call); }
Shape infer_equal(const Call& call) { return infer_binary("equal", call); }
Shape infer_less(const Call& call) { return infer_binary("less", call); }
Shape infer_less_equal(const Call& call) { return infer_binary("less_equal", call); }

Shape infer_where(const Call& call) {
    const Shape first = broadcast_shape("where", "condition", Shape{}, call.inputs[0]);
    const Shape second = broadcast_shape("where", "x", first, call.inputs[1]);
    return broadcast_shape("where", "y", second, call.inputs[2]);
}

Shape infer_exp(const Call& call) { return infer_unary("exp", call); }
Shape infer_log(const Call& call) { return infer_unary("log", call); }
Shape infer_sqrt(const Call& call) { return infer_unary("sqrt", call); }
Shape infer_tanh(const Call& call) { return infer_unary("tanh", call); }
Shape infer_sigmoid(const Call& call) { return infer_unary("sigmoid", call); }
Shape infer_erf(const Call& call) { return infer_unary("erf", call); }
Shape infer_abs(const Call& call) { return infer_unary("abs", call); }
Shape infer_sin(const Call& call) { return infer_unary("sin", call); }
Shape infer_cos(const Call& call) { return infer_unary("cos", call); }
Shape infer_relu(const Call& call) { return infer_unary("relu", call); }
Shape infer_gelu(const Call& call) { return infer_unary("gelu", call); }
Shape infer_silu(const Call& call) { return infer_unary("silu", call); }
Shape infer_rsqrt(const Call& call) { return infer_unary("rsqrt", call); }

Shape infer_silu_mul(const Call& call) {
    const TensorView& a = call.inputs[0];
    require_rank("silu_mul", "a", a, 0);
    require_shape("silu_mul", "b", call.inputs[1], a.shape, "the shape of a");
    return a.shape;
}

Shape infer_bias_relu(const Call& call) {
    const TensorView& x = call.inputs[0];
    require_rank("bias_relu", "x", x, 1);
    require_shape("bias_relu", "bias", call.inputs[1], Shape{x.shape[-1]}, "the last axis of x");
    return x.shape;
}

Broadcast plan_broadcast(const Call& call, int operands) {
    const Shape& output = call.output.shape;
    Broadcast plan;
    plan.operands = operands;
    std::array<std::int64_t, kMaxOperands> strides;
    strides.fill(1);
    // From the last axis to the first; turned round at the end.
    for (int axis = -1; axis >= -output.rank; --axis) {
        const std::int64_t size = output[axis];
        if (size == 1) continue;
        Broadcast::Offsets steps{};
        for (int i = 0; i < operands; ++i) {
            const auto operand = static_cast<std::size_t>(i);
            const Shape& shape = call.inputs[operand].shape;
            if (-axis > shape.rank || shape[axis] == 1) continue;
            steps[operand] = strides[operand];
            strides[operand] *= size;
        }
        if (plan.rank > 0) {
            const auto inner = static_cast<std::size_t>(plan.rank - 1);
            bool merges = true;
            for (std::size_t i = 0; i < kMaxOperands; ++i) {
                merges = merges && steps[i] == plan.steps[inner][i] * plan.sizes[inner];
            }
            if (merges) {
                plan.sizes[inner] *= size;
                continue;
            }
        }
        plan.sizes[static_cast<std::size_t>(plan.rank)] = size;
        plan.steps[static_cast<std::size_t>(plan.rank)] = steps;
        ++plan.rank;
    }
    if (plan.rank == 0) {
        plan.rank = 1;
        plan.sizes[0] = 1;
    }
    for (int low = 0, high = plan.rank - 1; low < high; ++low, --high) {
        std::swap(plan.sizes[static_cast<std::size_t>(low)],
                  plan.sizes[static_cast<std::size_t>(high)]);
        std::swap(plan.steps[static_cast<std::size_t>(low)],
                  plan.steps[static_cast<std::size_t>(high)]);
    }
    return plan;
}

}  // namespace ablation
