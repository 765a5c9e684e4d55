// Row primitives by Accelerate: vDSP for arithmetic and reductions, vForce for exp and tanh.
// Where Accelerate has no such function (erf) or promises nothing about NaN (thresholds,
// comparisons), the baseline body, which is four lanes wide on arm64 as well, does the work.
#if defined(ABLATION_APPLE)

#include <Accelerate/Accelerate.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "isa/simd.h"

namespace ablation {

namespace {

/// Elements of a temporary on the stack; small enough to stay in the first-level cache.
constexpr std::int64_t kBlock = 1024;
/// vForce counts in int: longer arrays go in pieces.
constexpr std::int64_t kForceBlock = std::int64_t{1} << 30;

vDSP_Length length(std::int64_t n) { return static_cast<vDSP_Length>(n); }

float max(const float* x, std::int64_t n) {
    if (n == 0) return -std::numeric_limits<float>::infinity();
    // vDSP_maxv may skip NaN. The sum is NaN if an element is (or if both infinities occur): only
    // then look.
    float total = 0.0F;
    vDSP_sve(x, 1, &total, length(n));
    if (std::isnan(total)) {
        for (std::int64_t i = 0; i < n; ++i) {
            if (std::isnan(x[i])) return x[i];
        }
    }
    float largest = 0.0F;
    vDSP_maxv(x, 1, &largest, length(n));
    return largest;
}

// The sums of blocks are gathered in double: the error doesn't grow with n, whatever the order in
// which vDSP_sve adds.
float sum(const float* x, std::int64_t n) {
    double total = 0.0;
    for (std::int64_t start = 0; start < n; start += kBlock) {
        float part = 0.0F;
        vDSP_sve(x + start, 1, &part, length(std::min(kBlock, n - start)));
        total += static_cast<double>(part);
    }
    return static_cast<float>(total);
}

float sum_squared_difference(const float* x, float mean, std::int64_t n) {
    float difference[kBlock];
    const float shift = -mean;
    double total = 0.0;
    for (std::int64_t start = 0; start < n; start += kBlock) {
        const vDSP_Length count = length(std::min(kBlock, n - start));
        float part = 0.0F;
        vDSP_vsadd(x + start, 1, &shift, difference, 1, count);
        vDSP_svesq(difference, 1, &part, count);
        total += static_cast<double>(part);
    }
    return static_cast<float>(total);
}

using Force = void (*)(float*, const float*, const int*);

void by_force(Force function, float* y, const float* x, std::int64_t n) {
    for (std::int64_t start = 0; start < n; start += kForceBlock) {
        const int count = static_cast<int>(std::min(kForceBlock, n - start));
        function(y + start, x + start, &count);
    }
}

float exp_shifted(float* y, const float* x, float shift, std::int64_t n) {
    const float negated = -shift;
    vDSP_vsadd(x, 1, &negated, y, 1, length(n));
    by_force(vvexpf, y, y, n);
    return sum(y, n);
}

void scale(float* y, const float* x, float factor, std::int64_t n) {
    vDSP_vsmul(x, 1, &factor, y, 1, length(n));
}

void scale_add(float* y, const float* x, float factor, const float* addend, std::int64_t n) {
    vDSP_vsma(x, 1, &factor, addend, 1, y, 1, length(n));
}

void normalize(float* y, const float* x, float mean, float inverse_deviation, const float* weight,
               const float* bias, std::int64_t n) {
    // Subtract first: x * inverse - mean * inverse would cancel where the mean is large.
    const float shift = -mean;
    vDSP_vsadd(x, 1, &shift, y, 1, length(n));
    vDSP_vsmul(y, 1, &inverse_deviation, y, 1, length(n));
    vDSP_vma(y, 1, weight, 1, bias, 1, y, 1, length(n));
}

void scale_by(float* y, const float* x, float factor, const float* weight, std::int64_t n) {
    vDSP_vsmul(x, 1, &factor, y, 1, length(n));
    vDSP_vmul(y, 1, weight, 1, y, 1, length(n));
}

void rotate_pairs(float* y, const float* x, const float* cos, const float* sin, std::int64_t n) {
    baseline_set.simd->rotate_pairs(y, x, cos, sin, n);
}

void rotate_halves(float* y, const float* x, const float* cos, const float* sin, std::int64_t n) {
    baseline_set.simd->rotate_halves(y, x, cos, sin, n);
}

void fill(float* y, float value, std::int64_t n) { vDSP_vfill(&value, y, 1, length(n)); }

void add(float* y, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
         std::int64_t n) {
    if (a_step == 0 && b_step == 0) return fill(y, *a + *b, n);
    if (a_step == 0) return vDSP_vsadd(b, 1, a, y, 1, length(n));
    if (b_step == 0) return vDSP_vsadd(a, 1, b, y, 1, length(n));
    vDSP_vadd(a, 1, b, 1, y, 1, length(n));
}

void sub(float* y, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
         std::int64_t n) {
    if (a_step == 0 && b_step == 0) return fill(y, *a - *b, n);
    if (a_step == 0) {
        const float minus_one = -1.0F;
        return vDSP_vsmsa(b, 1, &minus_one, a, y, 1, length(n));
    }
    if (b_step == 0) {
        const float negated = -*b;
        return vDSP_vsadd(a, 1, &negated, y, 1, length(n));
    }
    vDSP_vsub(b, 1, a, 1, y, 1, length(n));  // the subtrahend comes first
}

void mul(float* y, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
         std::int64_t n) {
    if (a_step == 0 && b_step == 0) return fill(y, *a * *b, n);
    if (a_step == 0) return vDSP_vsmul(b, 1, a, y, 1, length(n));
    if (b_step == 0) return vDSP_vsmul(a, 1, b, y, 1, length(n));
    vDSP_vmul(a, 1, b, 1, y, 1, length(n));
}

void div(float* y, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
         std::int64_t n) {
    if (a_step == 0 && b_step == 0) return fill(y, *a / *b, n);
    if (a_step == 0) return vDSP_svdiv(a, b, 1, y, 1, length(n));
    if (b_step == 0) return vDSP_vsdiv(a, 1, b, y, 1, length(n));
    vDSP_vdiv(b, 1, a, 1, y, 1, length(n));  // the divisor comes first
}

void exp(float* y, const float* x, std::int64_t n) { by_force(vvexpf, y, x, n); }
void tanh(float* y, const float* x, std::int64_t n) { by_force(vvtanhf, y, x, n); }

/// A row primitive of the baseline body.
template <SimdProvider::Unary SimdProvider::* function>
void unary(float* y, const float* x, std::int64_t n) {
    (baseline_set.simd->*function)(y, x, n);
}
template <SimdProvider::Binary SimdProvider::* function>
void binary(float* y, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
            std::int64_t n) {
    (baseline_set.simd->*function)(y, a, a_step, b, b_step, n);
}

void bias_relu(float* y, const float* x, const float* bias, std::int64_t n) {
    vDSP_vadd(x, 1, bias, 1, y, 1, length(n));
    baseline_set.simd->relu(y, y, n);
}

void silu_mul(float* y, const float* a, const float* b, std::int64_t n) {
    baseline_set.simd->silu_mul(y, a, b, n);
}

void gelu_tanh(float* y, const float* x, std::int64_t n) {
    // 0.5 x (1 + tanh(k x (1 + 0.044715 x^2))), k = sqrt(2 / pi).
    const float k = 0.7978845608028654F;
    const float k_cubic = 0.7978845608028654F * 0.044715F;
    const float one = 1.0F;
    const float half = 0.5F;
    float gate[kBlock];
    for (std::int64_t start = 0; start < n; start += kBlock) {
        const int count = static_cast<int>(std::min(kBlock, n - start));
        const vDSP_Length size = length(count);
        const float* const in = x + start;
        vDSP_vsq(in, 1, gate, 1, size);
        vDSP_vsmsa(gate, 1, &k_cubic, &k, gate, 1, size);
        vDSP_vmul(gate, 1, in, 1, gate, 1, size);
        vvtanhf(gate, gate, &count);
        vDSP_vsadd(gate, 1, &one, gate, 1, size);
        vDSP_vsmul(gate, 1, &half, gate, 1, size);
        vDSP_vmul(gate, 1, in, 1, y + start, 1, size);
    }
}

constexpr SimdProvider kProvider = {
    .name = "vdsp",
    .max = max,
    .sum = sum,
    .sum_squared_difference = sum_squared_difference,
    .exp_shifted = exp_shifted,
    .scale = scale,
    .scale_add = scale_add,
    .normalize = normalize,
    .scale_by = scale_by,
    .rotate_pairs = rotate_pairs,
    .rotate_halves = rotate_halves,
    .add = add,
    .sub = sub,
    .mul = mul,
    .div = div,
    .maximum = binary<&SimdProvider::maximum>,
    .minimum = binary<&SimdProvider::minimum>,
    .equal = binary<&SimdProvider::equal>,
    .less = binary<&SimdProvider::less>,
    .less_equal = binary<&SimdProvider::less_equal>,
    .exp = exp,
    .sqrt = unary<&SimdProvider::sqrt>,
    .tanh = tanh,
    .erf = unary<&SimdProvider::erf>,
    .abs = unary<&SimdProvider::abs>,
    .sigmoid = unary<&SimdProvider::sigmoid>,
    .relu = unary<&SimdProvider::relu>,
    .bias_relu = bias_relu,
    .gelu = unary<&SimdProvider::gelu>,
    .gelu_tanh = gelu_tanh,
    .gelu_sigmoid = unary<&SimdProvider::gelu_sigmoid>,
    .silu = unary<&SimdProvider::silu>,
    .silu_mul = silu_mul,
    .rsqrt = unary<&SimdProvider::rsqrt>,
};

}  // namespace

constinit const InstructionSet vdsp_set = {.simd = &kProvider};

}  // namespace ablation

#endif  // ABLATION_APPLE
