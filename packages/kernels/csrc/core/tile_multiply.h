// The register tile of a matrix product, written once over a vector type V (see vector_math.h): the
// inner loop of the packed matmul and of the packed attention.
//
// A tile of C is `rows` by `vectors * V::width` and stays in registers while k runs; each step
// loads a row of B's panel and multiplies it by one broadcast element of A per row.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vector_math.h"

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

/// A as it lies in memory: element (row, k) is at data[row * row_stride + k].
struct PlainA {
    const float* data;
    std::int64_t row_stride;
    float at(int row, std::int64_t k) const { return data[row * row_stride + k]; }
};

/// acc += A (rows, depth) * B (depth, vectors * width); row k of B is at b + k * b_stride.
template <class V, int rows, int vectors, class A>
[[gnu::always_inline]] inline void multiply_accumulate(typename V::Float (&acc)[rows][vectors], A a,
                                                       const float* b, std::int64_t b_stride,
                                                       std::int64_t depth) {
    for (std::int64_t k = 0; k < depth; ++k) {
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

}  // namespace ablation::body
