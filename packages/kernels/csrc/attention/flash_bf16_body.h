// Flash attention of bfloat16, flash_packed_body.h's blocks, over the products of an instruction
// set: scores of a block of rows, their softmax by AVX512_BF16, and the weights times the values.
//
// The weights of the softmax become bfloat16 for the second product, in place of their scores. A
// row's sum is that of the rounded weights, by a product with ones: the output is then a true mean
// of values, in which the roundings of the weights cancel in part, and the sum costs one
// instruction for 32 weights instead of two. lse needs the sum before rounding, which is gathered
// besides where it is asked for.
//
// Products has `rows` of a block, at most, and multiply(product), which may fill what it
// writes up to whole panels; an object of it lives as long as a call of attend().
//
// Cost of a score beside the products: 11 vector instructions / 16 for the exponential, 1 / 16 for
// the maximum, 1 / 32 each for rounding and sum.
// Not taken: vscalefps and vreduceps, which would save three instructions but are two cycles each
// on a Zen 4. To be included by files compiled for AVX512_BF16 and above alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/flash_bf16.h"
#include "isa/vector_avx512.h"

namespace ablation {

namespace {

constexpr std::int64_t kWidth = Avx512::width;

/// A product of one block of rows with packed panels one after another: c = before * c + a @ b.
struct Product {
    std::int64_t rows, columns;
    const Bf16* a;
    std::int64_t a_stride;
    const Bf16* b;
    std::int64_t b_stride;  ///< from one panel to the next
    std::int64_t pairs;     ///< of a row of a; zeros fill it up to 32 elements
    float* c;
    std::int64_t c_stride;
    const float* before;  ///< null where c holds nothing yet; else each row's factor of it
};

__mmask16 first_lanes(std::int64_t n) {
    return n >= kWidth ? __mmask16{0xffff} : Avx512::mask({std::max<std::int64_t>(n, 0)});
}

constexpr float kNoMaximum = -std::numeric_limits<float>::infinity();
/// By how much the exponent of a weight may pass 0 before a row's shift follows its maximum:
/// weights up to 16 are as exact as those up to 1, and what a row has gathered shrinks seldom, so
/// that the branch is foreseen.
constexpr float kSlack = 4.0F;

/// One block of rows: part of a tile of query rows.
struct Block {
    const Bf16Queries& queries;
    std::int64_t row, rows;  ///< first row within the tile
    const Bf16* q;
    float factor;                                ///< of a score, to an exponent of 2; not negative
    float *output, *shifts, *sums, *exact_sums;  ///< running, of each row
    float* scores;
    std::int64_t score_stride;
};

std::int64_t row_stride(const Block& block) { return padded_pairs(block.queries.d); }

template <class Products>
void score(Products& products, const Block& block, std::int64_t key, std::int64_t keys) {
    const std::int64_t d = block.queries.d;
    products.multiply({.rows = block.rows,
                       .columns = keys,
                       .a = block.q,
                       .a_stride = row_stride(block),
                       .b = block.queries.keys + key * 2 * packed_pairs(d),
                       .b_stride = kBf16Panel * 2 * packed_pairs(d),
                       .pairs = pairs_of(d),
                       .c = block.scores,
                       .c_stride = block.score_stride,
                       .before = nullptr});
}

/// Largest of n > 0 scores; a NaN may be left out.
float largest(const float* scores, std::int64_t n) {
    __m512 even = _mm512_set1_ps(kNoMaximum);
    __m512 odd = even;
    std::int64_t j = 0;
    for (; j + kBf16Panel <= n; j += kBf16Panel) {
        even = _mm512_max_ps(_mm512_loadu_ps(scores + j), even);
        odd = _mm512_max_ps(_mm512_loadu_ps(scores + j + kWidth), odd);
    }
    if (j < n) {
        even = _mm512_mask_max_ps(even, first_lanes(n - j), _mm512_loadu_ps(scores + j), even);
        odd = _mm512_mask_max_ps(odd, first_lanes(n - j - kWidth),
                                 _mm512_loadu_ps(scores + j + kWidth), odd);
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(odd, even));
}

/// 2^t for t up to kSlack, or slightly above: 2^n 2^r with n = round(t), |r| <= 1/2 and 2^r a
/// minimax polynomial that is 1 at 0 (relative error 2.8e-6, a bfloat16's rounding is 3.9e-3). n
/// comes from the addition of a number that leaves no room for a fraction, and goes into the
/// exponent by an integer addition, which for n = -127 gives 0 or a denormal, which is rounded
/// to 0. NaN stays NaN: its low nine bits, which are added, are those of a bfloat16, 0.
__m512 power_of_two(__m512 t) {
    const __m512 magic = _mm512_set1_ps(0x1.8p23F);
    t = _mm512_max_ps(_mm512_set1_ps(-127.0F), t);
    const __m512 rounded = _mm512_add_ps(t, magic);
    const __m512 r = _mm512_sub_ps(t, _mm512_sub_ps(rounded, magic));
    const __m512 p = body::polynomial<Avx512>(r, 1.0F, 0x1.62e12cp-1F, 0x1.ec0378p-3F,
                                              0x1.c9fc46p-5F, 0x1.3a02ccp-7F);
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(rounded), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), n));
}

struct WeightSums {
    float rounded, exact;
};

/// Scores of n keys to weights 2^(factor * score - shift) in place, as bfloat16 and with zeros
/// up to `keys`. Returns their sums; the exact one only if asked for.
template <bool exact>
WeightSums weigh(float* scores, float factor, float shift, std::int64_t n, std::int64_t keys) {
    const __m512 factors = _mm512_set1_ps(factor);
    const __m512 shifts = _mm512_set1_ps(shift);
    const auto ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    const auto exponent = [&](std::int64_t j) {
        return _mm512_fmsub_ps(_mm512_loadu_ps(scores + j), factors, shifts);
    };
    auto* weights = reinterpret_cast<std::byte*>(scores);
    __m512 sum = _mm512_setzero_ps();
    __m512 exact_sum = _mm512_setzero_ps();
    const auto add = [&](std::int64_t j, __m512 low, __m512 high) {
        const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
        _mm512_storeu_si512(weights + j * static_cast<std::int64_t>(sizeof(Bf16)),
                            (__m512i)rounded);
        sum = _mm512_dpbf16_ps(sum, rounded, ones);
        if constexpr (exact) exact_sum = _mm512_add_ps(exact_sum, _mm512_add_ps(low, high));
    };
    std::int64_t j = 0;
    for (; j + kBf16Panel <= n; j += kBf16Panel) {
        add(j, power_of_two(exponent(j)), power_of_two(exponent(j + kWidth)));
    }
    for (; j < keys; j += kBf16Panel) {
        const __m512 low = power_of_two(exponent(j));
        const __m512 high = power_of_two(exponent(j + kWidth));
        add(j, _mm512_maskz_mov_ps(first_lanes(n - j), low),
            _mm512_maskz_mov_ps(first_lanes(n - j - kWidth), high));
    }
    return {_mm512_reduce_add_ps(sum), exact ? _mm512_reduce_add_ps(exact_sum) : 0.0F};
}

/// Scores of a row, n of `keys` visible, to weights; brings shift and sums up to date and
/// returns the factor by which what the row has gathered shrinks.
float update_row(const Block& block, std::int64_t row, std::int64_t n, std::int64_t keys) {
    float* scores = block.scores + row * block.score_stride;
    float& shift = block.shifts[row];
    float shrink = 1.0F;
    if (n > 0) {
        const float maximum = largest(scores, n);
        if (const float of_tile = maximum * block.factor;
            maximum != kNoMaximum && !(of_tile <= shift + kSlack)) {
            if (shift != kNoMaximum) shrink = std::exp2(shift - of_tile);
            shift = of_tile;
        }
    }
    // Without a maximum the scores are -infinity or NaN: weights of 0 and NaN for any shift.
    const float finite = shift == kNoMaximum ? 0.0F : shift;
    const bool exact = block.queries.lse != nullptr;
    const auto [sum, exact_sum] =
        (exact ? weigh<true> : weigh<false>)(scores, block.factor, finite, n, keys);
    block.sums[row] = block.sums[row] * shrink + sum;
    if (exact) block.exact_sums[row] = block.exact_sums[row] * shrink + exact_sum;
    return shrink;
}

template <class Products>
void add_key_tile(Products& products, const Block& block, std::int64_t key, std::int64_t keys) {
    const Bf16Queries& queries = block.queries;
    score(products, block, key, keys);
    float before[Products::rows];
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const std::int64_t seen = queries.begin + block.row + row + 1 - key;
        const std::int64_t n = queries.causal ? std::clamp<std::int64_t>(seen, 0, keys) : keys;
        before[row] = update_row(block, row, n, keys);
    }
    products.multiply({.rows = block.rows,
                       .columns = queries.d,
                       .a = reinterpret_cast<const Bf16*>(block.scores),
                       .a_stride = 2 * block.score_stride,
                       .b = queries.values + key * kBf16Panel,
                       .b_stride = kBf16Panel * 2 * packed_pairs(queries.sk),
                       .pairs = pairs_of(keys),
                       .c = block.output,
                       .c_stride = row_stride(block),
                       .before = key == 0 ? nullptr : before});
}

/// Queries as they are multiplied: each row filled up with zeros, its sign that of the scale.
void copy_queries(const Bf16Queries& queries, Bf16* q) {
    const __m512i sign = _mm512_set1_epi16(std::signbit(queries.scale) ? -0x8000 : 0);
    const std::int64_t stride = padded_pairs(queries.d);
    for (std::int64_t row = 0; row < queries.rows; ++row) {
        const Bf16* from = queries.q + row * queries.d;
        for (std::int64_t j = 0; j < queries.d; j += kBf16Panel) {
            const std::int64_t n = queries.d - j;
            const auto lanes = n >= kBf16Panel ? ~__mmask32{0} : (__mmask32{1} << n) - 1;
            const __m512i elements = _mm512_maskz_loadu_epi16(lanes, from + j);
            _mm512_storeu_si512(q + row * stride + j, _mm512_xor_si512(elements, sign));
        }
    }
}

void write(const Bf16Queries& queries, const float* output, const float* shifts, const float* sums,
           const float* exact_sums) {
    constexpr float kLn2 = 0x1.62e430p-1F;
    for (std::int64_t row = 0; row < queries.rows; ++row) {
        const bool unseen = sums[row] == 0.0F;
        const __m512 factor = _mm512_set1_ps(unseen ? 0.0F : 1.0F / sums[row]);
        const float* from = output + row * padded_pairs(queries.d);
        Bf16* to = queries.output + row * queries.d;
        for (std::int64_t j = 0; j < queries.d; j += kWidth) {
            const __m512 value = _mm512_mul_ps(_mm512_loadu_ps(from + j), factor);
            _mm256_mask_storeu_epi16(to + j, first_lanes(queries.d - j),
                                     (__m256i)_mm512_cvtneps_pbh(value));
        }
        if (queries.lse != nullptr) {
            queries.lse[row] = unseen ? kNoMaximum : shifts[row] * kLn2 + std::log(exact_sums[row]);
        }
    }
}

template <class Products>
void attend(const Bf16Queries& queries) {
    Products products;
    const std::int64_t stride = padded_pairs(queries.d);
    const std::int64_t score_stride = padded_row(queries.tile_k);
    auto* q = reinterpret_cast<Bf16*>(queries.scratch);
    auto* scores = reinterpret_cast<float*>(
        queries.scratch +
        align_up(queries.rows * stride * static_cast<std::int64_t>(sizeof(Bf16))));
    float* output = scores + Products::rows * score_stride;
    float* shifts = output + queries.rows * stride;
    float* sums = shifts + queries.rows;
    float* exact_sums = sums + queries.rows;
    copy_queries(queries, q);
    std::fill_n(shifts, queries.rows, kNoMaximum);
    std::fill_n(sums, 2 * queries.rows, 0.0F);

    const std::int64_t blocks = divide_up(queries.rows, Products::rows);
    const auto visible_to = [&](std::int64_t end) {
        return queries.causal ? std::min(queries.sk, queries.begin + end) : queries.sk;
    };
    constexpr float kLog2E = 0x1.715476p+0F;
    const float factor = std::fabs(queries.scale) * kLog2E;
    for (std::int64_t key = 0; key < visible_to(queries.rows); key += queries.tile_k) {
        for (std::int64_t index = 0; index < blocks; ++index) {
            const std::int64_t row = queries.rows * index / blocks;
            const std::int64_t end = queries.rows * (index + 1) / blocks;
            const std::int64_t keys = std::min(queries.tile_k, visible_to(end) - key);
            if (keys <= 0) continue;
            const Block block{queries,          row,         end - row,
                              q + row * stride, factor,      output + row * stride,
                              shifts + row,     sums + row,  exact_sums + row,
                              scores,           score_stride};
            add_key_tile(products, block, key, keys);
        }
    }
    write(queries, output, shifts, sums, exact_sums);
}

}  // namespace

}  // namespace ablation
