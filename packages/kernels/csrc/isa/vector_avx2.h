// The vector type of AVX2 with FMA: 8 lanes; tails by masked loads and stores.
// To be included by files compiled for this instruction set alone.
#pragma once

#include <immintrin.h>

#include "isa/vector_math.h"

namespace ablation {

namespace {

/// Eight lanes from element 8 - n on have their first n lanes set.
alignas(64) constexpr std::int32_t kLaneMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                     0,  0,  0,  0,  0,  0,  0,  0};

struct Avx2 {
    static constexpr const char* name = "avx2";
    using Float = __m256;
    using Mask = __m256;
    static constexpr std::int64_t width = 8;
    static constexpr int registers = 16;
    static constexpr int tile_vectors = 2;

    static __m256i mask(body::First lanes) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneMasks + 8 - lanes.n));
    }
    static Float set(float v) { return _mm256_set1_ps(v); }
    static Float load(const float* p, body::All, float = 0.0F) { return _mm256_loadu_ps(p); }
    static Float load(const float* p, body::First lanes, float fill = 0.0F) {
        const __m256i m = mask(lanes);
        return select(_mm256_castsi256_ps(m), _mm256_maskload_ps(p, m), set(fill));
    }
    static void store(float* p, Float v, body::All) { _mm256_storeu_ps(p, v); }
    static void store(float* p, Float v, body::First lanes) {
        _mm256_maskstore_ps(p, mask(lanes), v);
    }
    static Float load_twice(const float* p, body::All) { return twice(_mm_loadu_ps(p)); }
    static Float load_twice(const float* p, body::First lanes) {
        const __m128i half =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(kLaneMasks + 8 - lanes.n / 2));
        return twice(_mm_maskload_ps(p, half));
    }
    static Float twice(__m128 v) {
        const __m256i index = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
        return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(v), index);
    }
    static Float swap_pairs(Float v) { return _mm256_permute_ps(v, 0xB1); }
    static Float keep(Float v, body::First lanes) {
        return zero_unless(_mm256_castsi256_ps(mask(lanes)), v);
    }

    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
    static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
    static Float abs(Float v) { return _mm256_andnot_ps(set(-0.0F), v); }
    static Float with_sign_of(Float magnitude, Float v) {
        return _mm256_or_ps(magnitude, _mm256_and_ps(set(-0.0F), v));
    }
    static Float sqrt(Float v) { return _mm256_sqrt_ps(v); }
    static Float round(Float v) {
        return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    }
    static Float square_remainder(Float v, Float square) { return _mm256_fmsub_ps(v, v, square); }
    /// In two steps, since 2^n itself may lie outside float32's range.
    static Float multiply_by_power_of_two(Float v, Float n) {
        const __m256i whole = _mm256_cvtps_epi32(n);
        const __m256i half = _mm256_srai_epi32(whole, 1);
        return mul(mul(v, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
    }
    static Float power_of_two(__m256i n) {
        return _mm256_castsi256_ps(
            _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
    }

    static Mask not_less(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_NLT_UQ); }
    static Mask unordered(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
    static Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
    static bool any(Mask m) { return _mm256_movemask_ps(m) != 0; }
    static Float zero_unless(Mask m, Float v) { return _mm256_and_ps(m, v); }
    static Float select(Mask m, Float a, Float b) { return _mm256_blendv_ps(b, a, m); }

    static float sum(Float v) {
        __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
    static float largest(Float v) {
        __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        m = _mm_max_ps(m, _mm_movehl_ps(m, m));
        return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
    }
};

}  // namespace

}  // namespace ablation
