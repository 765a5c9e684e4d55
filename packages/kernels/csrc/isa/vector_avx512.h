// The vector type of AVX-512 (F, DQ, BW, VL): 16 lanes; tails by masked loads and stores.
// To be included by files compiled for this instruction set alone.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 warns about _mm512_undefined_ps inside its own header (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "isa/vector_math.h"

namespace ablation {

namespace {

struct Avx512 {
    static constexpr const char* name = "avx512";
    using Float = __m512;
    using Mask = __mmask16;
    static constexpr std::int64_t width = 16;
    static constexpr int registers = 32;
    static constexpr int tile_vectors = 2;

    static Mask mask(body::First lanes) { return static_cast<Mask>((1U << lanes.n) - 1U); }
    static Float set(float v) { return _mm512_set1_ps(v); }
    static Float load(const float* p, body::All, float = 0.0F) { return _mm512_loadu_ps(p); }
    static Float load(const float* p, body::First lanes, float fill = 0.0F) {
        return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask(lanes), p);
    }
    static void store(float* p, Float v, body::All) { _mm512_storeu_ps(p, v); }
    static void store(float* p, Float v, body::First lanes) {
        _mm512_mask_storeu_ps(p, mask(lanes), v);
    }
    static Float load_twice(const float* p, body::All) { return twice(_mm256_loadu_ps(p)); }
    static Float load_twice(const float* p, body::First lanes) {
        const auto half = static_cast<__mmask8>((1U << (lanes.n / 2)) - 1U);
        return twice(_mm256_maskz_loadu_ps(half, p));
    }
    static Float twice(__m256 v) {
        const __m512i index = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
        return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(v));
    }
    static Float swap_pairs(Float v) { return _mm512_permute_ps(v, 0xB1); }
    static Float keep(Float v, body::First lanes) { return zero_unless(mask(lanes), v); }

    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
    static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float abs(Float v) { return _mm512_abs_ps(v); }
    static Float with_sign_of(Float magnitude, Float v) {
        return _mm512_or_ps(magnitude, _mm512_and_ps(set(-0.0F), v));
    }
    static Float sqrt(Float v) { return _mm512_sqrt_ps(v); }
    static Float round(Float v) {
        return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    }
    static Float square_remainder(Float v, Float square) { return _mm512_fmsub_ps(v, v, square); }
    static Float multiply_by_power_of_two(Float v, Float n) { return _mm512_scalef_ps(v, n); }

    static Mask not_less(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
    static Mask unordered(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
    static Mask either(Mask a, Mask b) { return static_cast<Mask>(a | b); }
    static bool any(Mask m) { return m != 0; }
    static Float zero_unless(Mask m, Float v) { return _mm512_maskz_mov_ps(m, v); }
    static Float select(Mask m, Float a, Float b) { return _mm512_mask_blend_ps(m, b, a); }

    static float sum(Float v) { return _mm512_reduce_add_ps(v); }
    static float largest(Float v) { return _mm512_reduce_max_ps(v); }
};

}  // namespace

}  // namespace ablation
