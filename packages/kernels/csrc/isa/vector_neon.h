// The vector type of 64-bit Arm's NEON: 4 lanes; tails through a copy of the lanes.
// To be included by files compiled for this instruction set alone.
#pragma once

#include <arm_neon.h>

#include "isa/vector_math.h"

namespace ablation {

namespace {

struct Neon {
    static constexpr const char* name = "neon";
    using Float = float32x4_t;
    using Mask = uint32x4_t;
    static constexpr std::int64_t width = 4;
    static constexpr int registers = 32;
    static constexpr int tile_vectors = 4;

    static Float set(float v) { return vdupq_n_f32(v); }
    static Float load(const float* p, body::All, float = 0.0F) { return vld1q_f32(p); }
    static Float load(const float* p, body::First lanes, float fill = 0.0F) {
        float values[4] = {fill, fill, fill, fill};
        for (std::int64_t i = 0; i < lanes.n; ++i) values[i] = p[i];
        return vld1q_f32(values);
    }
    static void store(float* p, Float v, body::All) { vst1q_f32(p, v); }
    static void store(float* p, Float v, body::First lanes) {
        float values[4];
        vst1q_f32(values, v);
        for (std::int64_t i = 0; i < lanes.n; ++i) p[i] = values[i];
    }
    static Float load_twice(const float* p, body::All) {
        const float32x2_t v = vld1_f32(p);
        return vcombine_f32(vdup_lane_f32(v, 0), vdup_lane_f32(v, 1));
    }
    static Float load_twice(const float* p, body::First lanes) {
        return lanes.n < 2 ? set(0.0F) : vdupq_n_f32(p[0]);
    }
    static Float swap_pairs(Float v) { return vrev64q_f32(v); }
    static Float keep(Float v, body::First lanes) {
        const std::uint32_t index[4] = {0, 1, 2, 3};
        const auto n = static_cast<std::uint32_t>(lanes.n);
        return zero_unless(vcltq_u32(vld1q_u32(index), vdupq_n_u32(n)), v);
    }

    static Float add(Float a, Float b) { return vaddq_f32(a, b); }
    static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
    static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
    static Float div(Float a, Float b) { return vdivq_f32(a, b); }
    static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float min(Float a, Float b) { return vminq_f32(a, b); }
    static Float max(Float a, Float b) { return vmaxq_f32(a, b); }
    static Float abs(Float v) { return vabsq_f32(v); }
    static Float with_sign_of(Float magnitude, Float v) {
        return vbslq_f32(vdupq_n_u32(0x80000000U), v, magnitude);
    }
    static Float sqrt(Float v) { return vsqrtq_f32(v); }
    static Float round(Float v) { return vrndnq_f32(v); }
    static Float square_remainder(Float v, Float square) {
        return vfmaq_f32(vnegq_f32(square), v, v);
    }
    /// In two steps, since 2^n itself may lie outside float32's range.
    static Float multiply_by_power_of_two(Float v, Float n) {
        const int32x4_t whole = vcvtnq_s32_f32(n);
        const int32x4_t half = vshrq_n_s32(whole, 1);
        return mul(mul(v, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
    }
    static Float power_of_two(int32x4_t n) {
        return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
    }

    static Mask not_less(Float a, Float b) { return vmvnq_u32(vcltq_f32(a, b)); }
    static Mask unordered(Float a, Float b) {
        return vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b)));
    }
    static Mask either(Mask a, Mask b) { return vorrq_u32(a, b); }
    static bool any(Mask m) { return vmaxvq_u32(m) != 0; }
    static Float zero_unless(Mask m, Float v) {
        return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(v)));
    }
    static Float select(Mask m, Float a, Float b) { return vbslq_f32(m, a, b); }

    static float sum(Float v) { return vaddvq_f32(v); }
    static float largest(Float v) { return vmaxvq_f32(v); }
};

}  // namespace

}  // namespace ablation
