// Keys and values of bfloat16 into the panels of flash_bf16.h. To be included by the file of AVX-512
// alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/flash_bf16.h"
#include "isa/vector_avx512.h"

namespace ablation {

namespace {

constexpr std::int64_t kHalf = 16;  ///< pairs of a vector

/// The first n > 0 elements, at most 32, and zeros.
__m512i load(const Bf16* from, std::int64_t n) {
    const auto lanes = n >= kBf16Panel ? ~__mmask32{0} : (__mmask32{1} << n) - 1;
    return _mm512_maskz_loadu_epi16(lanes, from);
}

/// 16 rows of 16 pairs, transposed: pairs of two rows side by side, then of four, eight, 16.
void transpose(__m512i (&rows)[16]) {
    __m512i next[16];
    for (int i = 0; i < 16; i += 2) {
        next[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        next[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(next[i], next[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(next[i], next[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(next[i + 1], next[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(next[i + 1], next[i + 3]);
    }
    // rows[4 g + c] has columns c, 4 + c, 8 + c, 12 + c of rows 4 g ... 4 g + 3.
    for (int c = 0; c < 4; ++c) {
        const __m512i low_even = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0x88);
        const __m512i low_odd = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0xdd);
        const __m512i high_even = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0x88);
        const __m512i high_odd = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0xdd);
        next[c] = _mm512_shuffle_i32x4(low_even, high_even, 0x88);
        next[8 + c] = _mm512_shuffle_i32x4(low_even, high_even, 0xdd);
        next[4 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        next[12 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
    }
    std::copy_n(next, 16, rows);
}

void pack_keys(const Bf16KeyRange& range, std::int64_t key) {
    const std::int64_t pairs = packed_pairs(range.d);
    Bf16* panel = range.keys + key * 2 * pairs;
    for (std::int64_t row = 0; row < kBf16Panel; row += kHalf) {
        for (std::int64_t pair = 0; pair < pairs; pair += kHalf) {
            __m512i rows[16];
            for (std::int64_t i = 0; i < kHalf; ++i) {
                const std::int64_t j = key + row + i;
                const Bf16* from = range.k + j * range.d + 2 * pair;
                rows[i] = j < range.sk ? load(from, range.d - 2 * pair) : _mm512_setzero_si512();
            }
            transpose(rows);
            for (std::int64_t i = 0; i < kHalf; ++i) {
                _mm512_storeu_si512(panel + ((pair + i) * kBf16Panel + row) * 2, rows[i]);
            }
        }
    }
}

/// Two rows of 32 elements, element by element side by side.
void interleave(Bf16* to, __m512i even, __m512i odd) {
    const __m512i low = _mm512_unpacklo_epi16(even, odd);
    const __m512i high = _mm512_unpackhi_epi16(even, odd);
    const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(to + kBf16Panel, _mm512_permutex2var_epi64(low, second, high));
}

void pack_values(const Bf16KeyRange& range, std::int64_t column) {
    Bf16* panel = range.values + column * 2 * packed_pairs(range.sk);
    const auto row = [&](std::int64_t key) {
        const Bf16* from = range.v + key * range.d + column;
        return key < range.sk ? load(from, range.d - column) : _mm512_setzero_si512();
    };
    const std::int64_t end = round_up(range.end, kBf16Panel);
    for (std::int64_t key = range.begin; key < end; key += 2) {
        interleave(panel + key * kBf16Panel, row(key), row(key + 1));
    }
}

}  // namespace

void pack_bf16_avx512(const Bf16KeyRange& range) {
    for (std::int64_t key = range.begin; key < range.end; key += kBf16Panel) pack_keys(range, key);
    for (std::int64_t column = 0; column < range.d; column += kBf16Panel) {
        pack_values(range, column);
    }
}

}  // namespace ablation
