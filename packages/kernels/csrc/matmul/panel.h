// How a panel of packed b is filled from b as it lies.
#pragma once

#include <algorithm>
#include <cstdint>

#include "matmul/blocking.h"

namespace ablation {

/// Some columns of b, which lies (K, N), or (N, K) if transposed.
struct PanelSource {
    const float* b;  ///< the first column's first k
    bool transposed;
    std::int64_t stride;   ///< of b's rows: N, or K
    std::int64_t columns;  ///< at most a panel's
    std::int64_t depth;
};

/// Calls put(element, value of b) for each element of a panel of `width` columns that has a value.
template <class Put>
void fill_panel(const PanelSource& source, std::int64_t width, float* to, Put put) {
    const auto& [b, transposed, stride, columns, depth] = source;
    if (!transposed) {
        for (std::int64_t k = 0; k < depth; ++k) {
            for (std::int64_t j = 0; j < columns; ++j) put(to[k * width + j], b[k * stride + j]);
        }
        return;
    }
    // A cache line of each column at a time.
    for (std::int64_t first = 0; first < depth; first += kLineFloats) {
        const std::int64_t last = std::min(depth, first + kLineFloats);
        for (std::int64_t j = 0; j < columns; ++j) {
            const float* from = b + j * stride;
            for (std::int64_t k = first; k < last; ++k) put(to[k * width + j], from[k]);
        }
    }
}

}  // namespace ablation
