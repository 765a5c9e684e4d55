// The flash backward kernel: what the instruction sets provide.
#pragma once

#include <cstdint>

#include "attention/flash_packed.h"

namespace ablation {

/// Rows of queries, before any block of keys.
struct BackwardRows {
    const float *output, *grad_output;  ///< (rows, d)
    const float* lse;                   ///< (rows)
    std::int64_t rows, d;
    float* delta;  ///< gets sum(grad_output * output) of each row
    float* shift;  ///< gets what is taken off each score: lse, or infinity for a row without keys
};

/// A block of keys of one (batch, head) item with all queries that may see it. Arrays are the
/// item's, rows of d elements.
struct BackwardKeys {
    const float *q, *k, *v, *grad_output;
    const float *delta, *shift;  ///< of each query
    float* grad_q;               ///< the block's part is written, or added if `adds`
    bool adds;
    float *grad_k, *grad_v;    ///< the block's rows are written
    std::int64_t begin, keys;  ///< the first key, and how many
    std::int64_t sq, d;
    std::int64_t tile_q, tile_k;  ///< queries taken at a time; keys of the largest block
    float scale;
    bool causal;
    float* scratch;  ///< flash_backward_floats() of them
};

/// The flash backward kernel of one instruction set.
struct FlashBackwardProvider {
    std::int64_t columns;  ///< of a panel of packed keys
    std::int64_t width;    ///< of a vector
    void (*prepare)(const BackwardRows& rows);
    void (*propagate)(const BackwardKeys& block);
};

/// The first query of the first tile that a block of keys from `begin` on has part in; sq if no
/// query sees the block.
constexpr std::int64_t first_query(std::int64_t begin, std::int64_t sq, std::int64_t tile_q,
                                   bool causal) {
    if (!causal) return 0;
    return begin < sq ? begin / tile_q * tile_q : sq;
}

/// Floats from one row of d elements to the next where vectors read beyond the row's end.
constexpr std::int64_t whole_vectors(const FlashBackwardProvider& provider, std::int64_t d) {
    return (d + provider.width - 1) / provider.width * provider.width;
}

/// Floats of scratch that propagate() needs: packed keys and values, two tiles of scores, and
/// padded rows of q, grad_output and k where d is no multiple of the vector width. tile_k is a
/// multiple of `columns`.
constexpr std::int64_t flash_backward_floats(const FlashBackwardProvider& provider,
                                             std::int64_t tile_q, std::int64_t tile_k,
                                             std::int64_t d) {
    const std::int64_t padded = whole_vectors(provider, d);
    const std::int64_t rows = padded == d ? 0 : 2 * tile_q + tile_k;
    return 2 * tile_k * d + 2 * tile_q * padded_row(tile_k) + rows * padded;
}

}  // namespace ablation
