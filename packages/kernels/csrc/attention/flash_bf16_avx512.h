// Flash attention of bfloat16 by AVX512_BF16, two multiply-adds for each lane and instruction.
//
// The instruction vdpbf16ps adds two products of bfloat16 to a float32 lane. It rounds to nearest
// even and takes denormals for 0, in and out, whatever MXCSR says, and raises no flag.
//
// Cost of a score: 2 D / 32 products and the softmax of flash_bf16_body. On a Zen 4 core, which
// begins one vdpbf16ps and in all two vector instructions a cycle, that is D / 16 cycles and 0.42:
// a floor of 4.4 cycles at D = 64 and 8.4 at D = 128. Measured at D = 64, with all operands in the
// second-level cache: 4.9, of them 2.15 and 2.05 for the products and 0.6 for the softmax.
//
// Tried and of no help: one function call for each panel (2 % slower); one or four steps of a
// product for each jump (2 and 3 % slower); 320 keys a tile (2 % slower), 1024 (no faster).
#pragma once

#include <cstdint>
#include <utility>

#include "attention/flash_bf16_body.h"

namespace ablation {

namespace {

constexpr int kRows = 12;  ///< of a register tile, see TileShape
constexpr int kVectors = 2;

using ProductFunction = void (*)(const Product& product, std::int64_t panels);

template <int rows, int vectors>
using Sums = __m512[rows][vectors];

template <int rows, int vectors>
[[gnu::always_inline]] inline void multiply_accumulate(Sums<rows, vectors>& sums,
                                                       const Product& product, const Bf16* b) {
    // Two steps: 2 % faster than one, which costs a jump each; four are interleaved until the sums
    // no longer fit the registers.
#pragma GCC unroll 2
    for (std::int64_t k = 0; k < product.pairs; ++k) {
        __m512bh b_row[vectors];
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) {
            b_row[j] = (__m512bh)_mm512_loadu_si512(b + j * kBf16Panel);
        }
        b += 2 * kBf16Panel;
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            std::int32_t pair;
            __builtin_memcpy(&pair, product.a + i * product.a_stride + 2 * k, sizeof pair);
            const auto a_pair = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                sums[i][j] = _mm512_dpbf16_ps(sums[i][j], a_pair, b_row[j]);
            }
        }
    }
}

/// c = before * c + a @ b. A tile of keys is summed by itself, so that errors don't grow with the
/// number of keys.
template <int rows, int vectors>
void multiply(const Product& product, std::int64_t panels) {
    const Bf16* b = product.b;
    float* c = product.c;
    for (std::int64_t panel = 0; panel < panels; ++panel) {
        Sums<rows, vectors> sums;
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) sums[i][j] = _mm512_setzero_ps();
        }
        multiply_accumulate<rows, vectors>(sums, product, b);
        if (product.before != nullptr) {
#pragma GCC unroll 16
            for (int i = 0; i < rows; ++i) {
                const __m512 factor = _mm512_set1_ps(product.before[i]);
#pragma GCC unroll 8
                for (int j = 0; j < vectors; ++j) {
                    const float* from = c + i * product.c_stride + j * kWidth;
                    sums[i][j] = _mm512_fmadd_ps(_mm512_loadu_ps(from), factor, sums[i][j]);
                }
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                _mm512_storeu_ps(c + i * product.c_stride + j * kWidth, sums[i][j]);
            }
        }
        b += product.b_stride;
        c += kBf16Panel;
    }
}

/// Functions for each number of rows and of vectors, from 1 on.
struct Products {
    ProductFunction of[kRows + 1][kVectors + 1];
};
template <int... less>
constexpr Products table(std::integer_sequence<int, less...>) {
    Products products{};
    ((products.of[less + 1][1] = multiply<less + 1, 1>,
      products.of[less + 1][2] = multiply<less + 1, 2>),
     ...);
    return products;
}
constexpr Products kProducts = table(std::make_integer_sequence<int, kRows>{});

struct VectorProducts {
    static constexpr int rows = kRows;

    static void multiply(Product product) {
        const std::int64_t panels = product.columns / kBf16Panel;
        if (panels > 0) kProducts.of[product.rows][kVectors](product, panels);
        const std::int64_t rest = product.columns - panels * kBf16Panel;
        if (rest == 0) return;
        product.b += panels * product.b_stride;
        product.c += panels * kBf16Panel;
        kProducts.of[product.rows][rest > kWidth ? 2 : 1](product, 1);
    }
};

/// As SimdProvider::multiply_add, by vdpbf16ps.
std::int64_t multiply_add(std::int64_t rounds, float* sink) {
    constexpr int kRegisters = 12;
    __m512 sums[kRegisters];
    for (__m512& sum : sums) sum = _mm512_set1_ps(*sink);
    const auto ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, ones, ones);
    }
    for (const __m512& sum : sums) *sink += _mm512_reduce_add_ps(sum);
    return rounds * kRegisters * kWidth * 4;
}

constexpr FlashBf16Provider kFlashAvx512 = {
    .rows = VectorProducts::rows,
    .pack = pack_bf16_avx512,
    .attend = attend<VectorProducts>,
};

}  // namespace

}  // namespace ablation
