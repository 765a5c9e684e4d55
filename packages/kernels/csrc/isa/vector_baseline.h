// The vector type of gcc's and clang's vector extensions: 4 lanes, for any CPU; no fused
// multiply-add is assumed.
// To be included by files compiled for this instruction set alone.
#pragma once

#include "isa/vector_math.h"

namespace ablation {

namespace {

struct Baseline {
    static constexpr const char* name = "baseline";
    using Float = float __attribute__((vector_size(16)));
    using Mask = std::int32_t __attribute__((vector_size(16)));
    static constexpr std::int64_t width = 4;
    static constexpr int registers = 16;
    static constexpr int tile_vectors = 2;

    static Float set(float v) { return Float{v, v, v, v}; }
    static Float load(const float* p, body::All, float = 0.0F) {
        Float v;
        __builtin_memcpy(&v, p, sizeof v);
        return v;
    }
    static Float load(const float* p, body::First lanes, float fill = 0.0F) {
        Float v = set(fill);
        for (std::int64_t i = 0; i < lanes.n; ++i) v[i] = p[i];
        return v;
    }
    static void store(float* p, Float v, body::All) { __builtin_memcpy(p, &v, sizeof v); }
    static void store(float* p, Float v, body::First lanes) {
        for (std::int64_t i = 0; i < lanes.n; ++i) p[i] = v[i];
    }
    static Float load_twice(const float* p, body::All) { return Float{p[0], p[0], p[1], p[1]}; }
    static Float load_twice(const float* p, body::First lanes) {
        return lanes.n < 2 ? set(0.0F) : set(p[0]);
    }
    static Float swap_pairs(Float v) { return Float{v[1], v[0], v[3], v[2]}; }
    static Float keep(Float v, body::First lanes) {
        const auto n = static_cast<std::int32_t>(lanes.n);
        return zero_unless(Mask{0, 1, 2, 3} < Mask{n, n, n, n}, v);
    }

    static Float add(Float a, Float b) { return a + b; }
    static Float sub(Float a, Float b) { return a - b; }
    static Float mul(Float a, Float b) { return a * b; }
    static Float div(Float a, Float b) { return a / b; }
    static Float fma(Float a, Float b, Float c) { return a * b + c; }
    static Float min(Float a, Float b) { return a < b ? a : b; }
    static Float max(Float a, Float b) { return a > b ? a : b; }
    static Float abs(Float v) { return as_float(as_bits(v) & bits(0x7fffffff)); }
    static Float with_sign_of(Float magnitude, Float v) {
        return as_float(as_bits(magnitude) | (as_bits(v) & bits(INT32_MIN)));
    }
    static Float sqrt(Float v) {
        return Float{__builtin_sqrtf(v[0]), __builtin_sqrtf(v[1]), __builtin_sqrtf(v[2]),
                     __builtin_sqrtf(v[3])};
    }
    /// For |v| < 2^22: the sum has no room for a fraction.
    static Float round(Float v) { return (v + set(0x1.8p23F)) - set(0x1.8p23F); }
    /// v = upper + lower, halves whose products are exact (Dekker).
    static Float square_remainder(Float v, Float square) {
        const Float upper = as_float(as_bits(v) & bits(~0xfff));
        const Float lower = v - upper;
        return ((upper * upper - square) + (upper + upper) * lower) + lower * lower;
    }
    /// In two steps, since 2^n itself may lie outside float32's range.
    static Float multiply_by_power_of_two(Float v, Float n) {
        const Mask whole = __builtin_convertvector(n, Mask);
        const Mask half = whole >> 1;
        return v * power_of_two(half) * power_of_two(whole - half);
    }
    static Float power_of_two(Mask n) { return as_float((n + bits(127)) << 23); }

    static Mask bits(std::int32_t v) { return Mask{v, v, v, v}; }
    static Mask as_bits(Float v) { return reinterpret_cast<Mask>(v); }
    static Float as_float(Mask m) { return reinterpret_cast<Float>(m); }
    static Mask not_less(Float a, Float b) { return ~(a < b); }
    static Mask unordered(Float a, Float b) { return ~((a == a) & (b == b)); }
    static Mask either(Mask a, Mask b) { return a | b; }
    static bool any(Mask m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
    static Float zero_unless(Mask m, Float v) { return as_float(m & as_bits(v)); }
    static Float select(Mask m, Float a, Float b) {
        return as_float((m & as_bits(a)) | (~m & as_bits(b)));
    }

    static float sum(Float v) { return (v[0] + v[2]) + (v[1] + v[3]); }
    static float largest(Float v) {
        const float left = v[0] > v[1] ? v[0] : v[1];
        const float right = v[2] > v[3] ? v[2] : v[3];
        return left > right ? left : right;
    }
};

}  // namespace

}  // namespace ablation
