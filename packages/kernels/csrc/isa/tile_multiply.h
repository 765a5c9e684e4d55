// The register tile of a matrix product, written once over a vector type V (see vector_math.h): the
// inner loop of the packed matmul and of the packed attention.
//
// A tile of C is `rows` by `vectors * V::width` and stays in registers while k runs; each step
// loads a row of B's panel and multiplies it by one broadcast element of A per row.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "isa/vector_math.h"

namespace ablation::body {

/// The register tile of V: the rows that its registers hold beside one row of B and two broadcasts,
/// and whose addresses fit the 16 general registers of x86-64 with a few to spare. (14 rows of
/// AVX-512 fill the vector registers, but reload addresses in every step and are up to 3 % slower.)
template <class V>
struct TileShape {
    static constexpr int vectors = V::tile_vectors;
    static constexpr int rows = std::min((V::registers - vectors - 2) / vectors, 12);
    static constexpr int columns = vectors * static_cast<int>(V::width);
};

/// functions[rows][vectors] for every size of a register tile, from 1 on: make<rows, vectors>().
template <class V, class Function, class Make>
constexpr auto tile_functions(Make make) {
    using Tile = TileShape<V>;
    std::array<std::array<Function, Tile::vectors + 1>, Tile::rows + 1> functions{};
    [&]<int... index>(std::integer_sequence<int, index...>) {
        ((functions[index / Tile::vectors + 1][index % Tile::vectors + 1] =
              make.template operator()<index / Tile::vectors + 1, index % Tile::vectors + 1>()),
         ...);
    }(std::make_integer_sequence<int, Tile::rows * Tile::vectors>{});
    return functions;
}

/// A as it lies in memory: element (row, k) is at data[row * row_stride + k].
struct PlainA {
    const float* data;
    std::int64_t row_stride;
    float at(int row, std::int64_t k) const { return data[row * row_stride + k]; }
};

/// A as its transpose lies in memory: element (row, k) is at data[k * k_stride + row].
struct TransposedA {
    const float* data;
    std::int64_t k_stride;
    float at(int row, std::int64_t k) const { return data[k * k_stride + row]; }
};

/// Steps of k for each cache line that is asked for ahead: few enough that the eight and more tiles
/// of a block fetch a whole panel, many enough that the requests queue behind no demand load.
inline constexpr int kStepsPerLine = 4;
inline constexpr std::int64_t kLineFloats = 16;  ///< of a cache line

/// Memory that is asked for ahead, a step at a time; a stride of 0 asks for one line again and
/// again.
struct Stream {
    const float* next;
    std::int64_t stride;
    const float* advance() {
        const float* current = next;
        next += stride;
        return current;
    }
};

/// What is needed after a tile, or at its end, asked for while it is computed: all at once the
/// requests would hold up the loads of the tile itself.
struct Ahead {
    Stream panel;     ///< the panel that comes next, a line each kStepsPerLine
    Stream a;         ///< a row of A's next range of k
    Stream c;         ///< the tile of C, a row at a time
    Stream previous;  ///< what is added to it: C itself, or an addend
};

/// acc += A (rows, depth) * B (depth, vectors * width); row k of B is at b + k * b_stride.
template <class V, int rows, int vectors, class A>
[[gnu::always_inline]] inline void multiply_accumulate(typename V::Float (&acc)[rows][vectors], A a,
                                                       const float* b, std::int64_t b_stride,
                                                       std::int64_t depth, std::int64_t k = 0) {
    // Unrolled, the steps would be interleaved until the sums no longer fit the registers.
#pragma GCC unroll 1
    for (; k < depth; ++k) {
        typename V::Float b_row[vectors];
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) b_row[j] = V::load(b + j * V::width, All{});
        b += b_stride;
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const auto a_element = V::set(a.at(i, k));
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) acc[i][j] = V::fma(a_element, b_row[j], acc[i][j]);
        }
    }
}

/// The same, with C prefetched into the first-level cache and the next panel into the second.
template <class V, int rows, int vectors, class A>
[[gnu::always_inline]] inline void multiply_accumulate(typename V::Float (&acc)[rows][vectors], A a,
                                                       const float* b, std::int64_t b_stride,
                                                       std::int64_t depth, Ahead ahead) {
    std::int64_t k = 0;
    const auto advance = [&] {
        __builtin_prefetch(ahead.panel.advance(), 0, 2);
        __builtin_prefetch(ahead.a.advance(), 0, 2);
        multiply_accumulate<V>(acc, a, b, b_stride, k + kStepsPerLine, k);
        b += kStepsPerLine * b_stride;
        k += kStepsPerLine;
    };
    for (int i = 0; i < rows && k + kStepsPerLine <= depth; ++i) {
        const float* c = ahead.c.advance();
        const float* previous = ahead.previous.advance();
        for (std::int64_t j = 0; j < vectors * V::width; j += kLineFloats) {
            __builtin_prefetch(c + j, 1);
            __builtin_prefetch(previous + j);
        }
        advance();
    }
    while (k + kStepsPerLine <= depth) advance();
    multiply_accumulate<V>(acc, a, b, b_stride, depth, k);
}

}  // namespace ablation::body
