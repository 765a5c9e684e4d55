// Row primitives on float32 vectors (providers: avx512, avx2, neon, baseline, vdsp), chosen once at
// load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ablation {

/// y and x may be the same array but must not overlap otherwise. n >= 0. NaN and infinity propagate
/// as in PyTorch. A binary function reads element i of a at a[i * a_step]; a step is 0 (one value
/// for all) or 1.
struct SimdProvider {
    using Unary = void (*)(float* y, const float* x, std::int64_t n);
    using Binary = void (*)(float* y, const float* a, std::int64_t a_step, const float* b,
                            std::int64_t b_step, std::int64_t n);

    const char* name;
    /// Largest element; NaN if any element is NaN; -infinity if n == 0.
    float (*max)(const float* x, std::int64_t n);
    float (*sum)(const float* x, std::int64_t n);
    /// Sum of (x - mean)^2.
    float (*sum_squared_difference)(const float* x, float mean, std::int64_t n);
    /// y = exp(x - shift), returns the sum of y. Relative error of exp at most 2 ulp;
    /// exp(-infinity) = 0.
    float (*exp_shifted)(float* y, const float* x, float shift, std::int64_t n);
    /// y = x * factor.
    void (*scale)(float* y, const float* x, float factor, std::int64_t n);
    /// y = x * factor + addend.
    void (*scale_add)(float* y, const float* x, float factor, const float* addend, std::int64_t n);
    /// y = (x - mean) * inverse_deviation * weight + bias.
    void (*normalize)(float* y, const float* x, float mean, float inverse_deviation,
                      const float* weight, const float* bias, std::int64_t n);
    /// y = x * factor * weight.
    void (*scale_by)(float* y, const float* x, float factor, const float* weight, std::int64_t n);
    /// (y[2i], y[2i + 1]) = (x[2i] cos[i] - x[2i + 1] sin[i], x[2i] sin[i] + x[2i + 1] cos[i]);
    /// n, the number of elements of x, is even.
    void (*rotate_pairs)(float* y, const float* x, const float* cos, const float* sin,
                         std::int64_t n);
    /// (y[i], y[h + i]) = (x[i] cos[i] - x[h + i] sin[i], x[i] sin[i] + x[h + i] cos[i]), h = n / 2;
    /// n, the number of elements of x, is even.
    void (*rotate_halves)(float* y, const float* x, const float* cos, const float* sin,
                          std::int64_t n);
    Binary add, sub, mul, div;
    /// NaN if either is.
    Binary maximum, minimum;
    /// 1 where it holds, else 0; NaN is equal to and less than nothing.
    Binary equal, less, less_equal;
    Unary exp, sqrt, tanh, erf, abs;
    /// 1 / (1 + exp(-x)).
    Unary sigmoid;
    Unary relu;
    /// y = max(x + bias, 0).
    void (*bias_relu)(float* y, const float* x, const float* bias, std::int64_t n);
    /// x * Phi(x), the exact form with erf.
    Unary gelu;
    /// The tanh approximation of gelu (torch's approximate="tanh").
    Unary gelu_tanh;
    /// x / (1 + exp(-1.702 x)).
    Unary gelu_sigmoid;
    /// x / (1 + exp(-x)).
    Unary silu;
    /// y = silu(a) * b; y may be either.
    void (*silu_mul)(float* y, const float* a, const float* b, std::int64_t n);
    /// 1 / sqrt(x).
    Unary rsqrt;
    /// `rounds` multiply-adds on each of 12 independent registers, to measure the ceiling; returns
    /// the FLOPs done. *sink must be 0; what is left in it means nothing. Null where the provider
    /// has no registers of its own (vdsp).
    std::int64_t (*multiply_add)(std::int64_t rounds, float* sink) = nullptr;
};

struct PackedProvider;
struct FlashPackedProvider;
struct FlashBackwardProvider;
struct FlashBf16Provider;

/// What one instruction set runs: the row primitives, and every body that is written over a vector
/// type (bodies.h), null for vdsp, which has no registers of its own.
struct InstructionSet {
    const SimdProvider* simd;
    const PackedProvider* packed = nullptr;
    const FlashPackedProvider* flash_packed = nullptr;
    const FlashBackwardProvider* flash_backward = nullptr;

    const char* name() const { return simd->name; }
};

/// A set above avx512 that only the kernels of bfloat16 know.
struct Bf16InstructionSet {
    const char* name;
    const FlashBf16Provider* flash;
    /// As SimdProvider's, of bfloat16; null where it is known to be faster than float32.
    std::int64_t (*multiply_add)(std::int64_t rounds, float* sink) = nullptr;
};

#if defined(ABLATION_APPLE)
extern const InstructionSet vdsp_set;
#endif
#if defined(__x86_64__)
extern const InstructionSet avx512_set, avx2_set;
extern const Bf16InstructionSet amx_bf16_set, avx512_bf16_set;
#endif
#if defined(__aarch64__)
extern const InstructionSet neon_set;
#endif
extern const InstructionSet baseline_set;

/// The row primitives in use: of the best set that the CPU can run, or of a lower one forced by
/// ABLATION_SIMD (avx512, avx2, neon, baseline, vdsp; those of simd_bf16_available() are avx512).
/// Throws std::runtime_error naming the valid values if it is not one of them.
const SimdProvider& simd();
/// The set that code with registers of its own uses: that of simd(), or the best below it where
/// that has none (vdsp).
const InstructionSet& instruction_set();
/// The set by which kernels of bfloat16 multiply it as it is: the first of simd_bf16_available()
/// that is measured to multiply faster than float32, or the one that ABLATION_SIMD names. Null
/// where there is none, or a set of float32 is named.
const Bf16InstructionSet* bf16_instruction_set();
/// FLOPs per nanosecond of independent multiply-adds of one set on one core, the best of several
/// runs of some 10 us. 0 if it is not built, can't run here or has no registers of its own.
double multiply_add_flops_per_ns(std::string_view name);
/// Sets compiled into this library, best first.
std::vector<std::string> simd_built();
/// Those of them that this CPU can run.
std::vector<std::string> simd_available();
/// Sets of instructions for bfloat16 that this process can run, best first: "amx_bf16",
/// "avx512_bf16".
std::vector<std::string> simd_bf16_available();

}  // namespace ablation
