// Element-wise ops a vector register at a time, by the row primitives of the SIMD provider; the
// parallel kernels split the elements over the pool, in the middle of a row if need be, bias_relu
// whole rows. Cost: see elementwise.h.
#include "isa/simd.h"
#include "core/parallel_rows.h"
#include "elementwise/broadcast.h"
#include "elementwise/elementwise.h"

namespace ablation {

namespace {

/// Nanoseconds per element of one thread, measured with operands in the second-level cache.
constexpr double kStreamNs = 0.1;
constexpr double kExpNs = 0.22;
constexpr double kTanhNs = 0.42;
constexpr double kErfNs = 0.75;
constexpr double kGeluNs = 0.6;
constexpr double kSiluNs = 0.35;
constexpr double kSqrtNs = 0.17;
constexpr double kRsqrtNs = 0.3;

void binary_range(const Call& call, const Broadcast& plan, SimdProvider::Binary operation,
                  std::int64_t begin, std::int64_t end) {
    const std::int64_t a_step = plan.row_steps()[0], b_step = plan.row_steps()[1];
    plan.for_rows(begin, end,
                  [&](std::int64_t offset, const Broadcast::Offsets& offsets, std::int64_t count) {
                      operation(call.output.data + offset, call.inputs[0].data + offsets[0], a_step,
                                call.inputs[1].data + offsets[1], b_step, count);
                  });
}

void binary(const Call& call, SimdProvider::Binary operation) {
    binary_range(call, plan_broadcast(call, 2), operation, 0, call.output.shape.count());
}

void binary_parallel(const Call& call, SimdProvider::Binary operation) {
    const Broadcast plan = plan_broadcast(call, 2);
    parallel_rows(call.output.shape.count(), kStreamNs, [&](std::int64_t begin, std::int64_t end) {
        binary_range(call, plan, operation, begin, end);
    });
}

void unary(const Call& call, SimdProvider::Unary operation) {
    operation(call.output.data, call.inputs[0].data, call.output.shape.count());
}

void unary_parallel(const Call& call, SimdProvider::Unary operation, double element_ns) {
    parallel_rows(call.output.shape.count(), element_ns, [&](std::int64_t begin, std::int64_t end) {
        operation(call.output.data + begin, call.inputs[0].data + begin, end - begin);
    });
}

SimdProvider::Unary gelu_form(const Call& call) {
    switch (call.attributes.approximate) {
        case GeluForm::none:
            return simd().gelu;
        case GeluForm::tanh:
            return simd().gelu_tanh;
        case GeluForm::sigmoid:
            return simd().gelu_sigmoid;
    }
    return nullptr;
}

void bias_relu_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const std::int64_t n = call.inputs[1].shape[0];
    const SimdProvider& provider = simd();
    for (std::int64_t row = begin; row < end; ++row) {
        provider.bias_relu(call.output.data + row * n, call.inputs[0].data + row * n,
                           call.inputs[1].data, n);
    }
}

}  // namespace

void add_simd(const Call& call) { binary(call, simd().add); }
void add_simd_parallel(const Call& call) { binary_parallel(call, simd().add); }
void sub_simd(const Call& call) { binary(call, simd().sub); }
void sub_simd_parallel(const Call& call) { binary_parallel(call, simd().sub); }
void mul_simd(const Call& call) { binary(call, simd().mul); }
void mul_simd_parallel(const Call& call) { binary_parallel(call, simd().mul); }
void div_simd(const Call& call) { binary(call, simd().div); }
void div_simd_parallel(const Call& call) { binary_parallel(call, simd().div); }

void maximum_simd(const Call& call) { binary(call, simd().maximum); }
void maximum_simd_parallel(const Call& call) { binary_parallel(call, simd().maximum); }
void minimum_simd(const Call& call) { binary(call, simd().minimum); }
void minimum_simd_parallel(const Call& call) { binary_parallel(call, simd().minimum); }
void equal_simd(const Call& call) { binary(call, simd().equal); }
void equal_simd_parallel(const Call& call) { binary_parallel(call, simd().equal); }
void less_simd(const Call& call) { binary(call, simd().less); }
void less_simd_parallel(const Call& call) { binary_parallel(call, simd().less); }
void less_equal_simd(const Call& call) { binary(call, simd().less_equal); }
void less_equal_simd_parallel(const Call& call) { binary_parallel(call, simd().less_equal); }

void exp_simd(const Call& call) { unary(call, simd().exp); }
void exp_simd_parallel(const Call& call) { unary_parallel(call, simd().exp, kExpNs); }
void sqrt_simd(const Call& call) { unary(call, simd().sqrt); }
void sqrt_simd_parallel(const Call& call) { unary_parallel(call, simd().sqrt, kSqrtNs); }
void tanh_simd(const Call& call) { unary(call, simd().tanh); }
void tanh_simd_parallel(const Call& call) { unary_parallel(call, simd().tanh, kTanhNs); }
void sigmoid_simd(const Call& call) { unary(call, simd().sigmoid); }
void sigmoid_simd_parallel(const Call& call) { unary_parallel(call, simd().sigmoid, kSiluNs); }
void erf_simd(const Call& call) { unary(call, simd().erf); }
void erf_simd_parallel(const Call& call) { unary_parallel(call, simd().erf, kErfNs); }
void abs_simd(const Call& call) { unary(call, simd().abs); }
void abs_simd_parallel(const Call& call) { unary_parallel(call, simd().abs, kStreamNs); }

void relu_simd(const Call& call) { unary(call, simd().relu); }
void relu_simd_parallel(const Call& call) { unary_parallel(call, simd().relu, kStreamNs); }

void gelu_simd(const Call& call) { unary(call, gelu_form(call)); }
void gelu_simd_parallel(const Call& call) { unary_parallel(call, gelu_form(call), kGeluNs); }

void silu_simd(const Call& call) { unary(call, simd().silu); }
void silu_simd_parallel(const Call& call) { unary_parallel(call, simd().silu, kSiluNs); }

void silu_mul_simd(const Call& call) {
    simd().silu_mul(call.output.data, call.inputs[0].data, call.inputs[1].data,
                    call.output.shape.count());
}
void silu_mul_simd_parallel(const Call& call) {
    parallel_rows(call.output.shape.count(), kSiluNs, [&](std::int64_t begin, std::int64_t end) {
        simd().silu_mul(call.output.data + begin, call.inputs[0].data + begin,
                        call.inputs[1].data + begin, end - begin);
    });
}

void rsqrt_simd(const Call& call) { unary(call, simd().rsqrt); }
void rsqrt_simd_parallel(const Call& call) { unary_parallel(call, simd().rsqrt, kRsqrtNs); }

void bias_relu_simd(const Call& call) {
    bias_relu_rows(call, 0, call.output.shape.count() / call.inputs[1].shape[0]);
}
void bias_relu_simd_parallel(const Call& call) {
    const std::int64_t n = call.inputs[1].shape[0];
    parallel_rows(call.output.shape.count() / n, kStreamNs * static_cast<double>(n),
                  [&](std::int64_t begin, std::int64_t end) { bias_relu_rows(call, begin, end); });
}

}  // namespace ablation
