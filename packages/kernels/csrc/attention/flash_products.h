// The two products of packed flash, of one block of rows with one panel, written once over a vector
// type V (see vector_math.h): scores of rows and keys, and weighted values, whose one read and write
// of the output also applies the factors of the softmax.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "isa/tile_multiply.h"

namespace ablation::body {

template <class V>
struct FlashProducts {
    using Float = typename V::Float;
    using Tile = TileShape<V>;

    /// A product of one block of rows with one panel.
    struct Product {
        const float* a;
        std::int64_t a_stride;
        const float* b;
        std::int64_t depth;
        float* c;
        std::int64_t c_stride;
        float scale;  ///< of the first product
        // Of the second product only:
        const float* before;  ///< null where c holds nothing yet; else each row's factor of it
        const float* after;   ///< null, or each row's factor of the sum
        std::int64_t columns;
    };
    using ProductFunction = void (*)(const Product& product);

    template <int rows, int vectors>
    static void clear(Float (&sums)[rows][vectors]) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) sums[i][j] = V::set(0.0F);
        }
    }

    template <int rows, int vectors>
    static void score_panel(const Product& product) {
        Float sums[rows][vectors];
        clear(sums);
        multiply_accumulate<V>(sums, PlainA{product.a, product.a_stride}, product.b, Tile::columns,
                               product.depth);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                V::store(product.c + i * product.c_stride + j * V::width,
                         V::mul(sums[i][j], V::set(product.scale)), All{});
            }
        }
    }

    template <int rows, int vectors>
    static void add_values(const Product& product) {
        const std::int64_t tail = product.columns % V::width;
        const auto at = [&](int i, int j) {
            return product.c + i * product.c_stride + j * V::width;
        };
        Float sums[rows][vectors];
        clear(sums);
        if (product.before != nullptr) {
            for (int i = 0; i < rows; ++i) __builtin_prefetch(at(i, 0), 1);
        }
        multiply_accumulate<V>(sums, PlainA{product.a, product.a_stride}, product.b, Tile::columns,
                               product.depth);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const Float factor = V::set(product.after == nullptr ? 1.0F : product.after[i]);
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                const bool whole = j + 1 < vectors || tail == 0;
                Float sum = sums[i][j];
                // A tile is summed by itself: one sum over all keys would round as often, but at
                // the size of the whole, which is an error that grows with their number.
                if (product.before != nullptr) {
                    const Float before =
                        whole ? V::load(at(i, j), All{}) : V::load(at(i, j), First{tail});
                    sum = V::fma(before, V::set(product.before[i]), sum);
                }
                const Float value = V::mul(sum, factor);
                if (whole) {
                    V::store(at(i, j), value, All{});
                } else {
                    V::store(at(i, j), value, First{tail});
                }
            }
        }
    }

    static constexpr auto kScorePanel = tile_functions<V, ProductFunction>(
        []<int rows, int vectors>() { return score_panel<rows, vectors>; });
    static constexpr auto kAddValues = tile_functions<V, ProductFunction>(
        []<int rows, int vectors>() { return add_values<rows, vectors>; });

    static int vectors_of(std::int64_t columns) {
        return static_cast<int>((columns + V::width - 1) / V::width);
    }
};

}  // namespace ablation::body
