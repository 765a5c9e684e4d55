// Products of a block of rows with packed panels of bfloat16, by AVX512_BF16, and the lanes of a
// vector that n elements take.
//
// The instruction vdpbf16ps adds two products of bfloat16 to a float32 lane. It rounds to nearest
// even and takes denormals for 0, in and out, whatever MXCSR says, and raises no flag.
// To be included by files compiled for this instruction set alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "attention/flash_bf16_packing_avx512_bf16.h"
#include "core/vector_avx512.h"

namespace ablation {

namespace {

constexpr int kRows = 12;  ///< of a register tile, see TileShape
constexpr int kVectors = 2;
constexpr std::int64_t kColumns = FlashBf16Packing::columns;
constexpr std::int64_t kWidth = Avx512::width;

/// A product of one block of rows with panels one after another.
struct Product {
    const Bf16* a;
    std::int64_t a_stride;
    const Bf16* b;
    std::int64_t b_stride;  ///< from one panel to the next
    std::int64_t pairs, panels;
    float* c;
    std::int64_t c_stride;
    const float* before;  ///< null where c holds nothing yet; else each row's factor of it
};
using ProductFunction = void (*)(const Product& product);

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
            b_row[j] = (__m512bh)_mm512_loadu_si512(b + j * kColumns);
        }
        b += 2 * kColumns;
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
void multiply(const Product& product) {
    const Bf16* b = product.b;
    float* c = product.c;
    for (std::int64_t panel = 0; panel < product.panels; ++panel) {
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
        c += kColumns;
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

/// The product for `columns` columns of b and c.
void multiply_columns(std::int64_t rows, std::int64_t columns, Product product) {
    product.panels = columns / kColumns;
    if (product.panels > 0) kProducts.of[rows][kVectors](product);
    const std::int64_t rest = columns - product.panels * kColumns;
    if (rest == 0) return;
    product.b += product.panels * product.b_stride;
    product.c += product.panels * kColumns;
    product.panels = 1;
    kProducts.of[rows][rest > kWidth ? 2 : 1](product);
}

__mmask16 first_lanes(std::int64_t n) {
    return n >= kWidth ? __mmask16{0xffff} : Avx512::mask({std::max<std::int64_t>(n, 0)});
}

}  // namespace

}  // namespace ablation
