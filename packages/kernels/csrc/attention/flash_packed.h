// The packed flash kernel: what the instruction sets provide and how packed keys and values lie.
//
// Packed keys are panels of `columns` keys, the last one filled up with zeros: a panel is
// (D, columns), d after d. Packed values are panels of `columns` of the Dv columns, the last one
// filled up likewise: a panel is (Sk, columns), key after key, so that any range of keys is one
// contiguous run. All query heads that share keys read one packed copy.
#pragma once

#include <cstdint>

namespace ablation {

/// A range of keys of one (batch, head) of k and v, to be packed. Its first key is a multiple of
/// `columns`.
struct KeyRange {
    const float *k, *v;  ///< of the item; element d of key j at [j * stride + d]
    std::int64_t k_stride, v_stride;
    std::int64_t begin, end, sk, d, dv;
    float *keys, *values;  ///< packed, of the item
};

/// Query rows of one (batch, head) item and what they attend to.
struct FlashQueries {
    const float* q;  ///< the first row
    std::int64_t q_stride;
    const float *keys, *values;  ///< packed, of the item
    const float* mask;           ///< null, or of the first row and key 0
    std::int64_t mask_query_stride, mask_key_stride;
    float* output;  ///< the first row
    std::int64_t output_stride;
    float* lse;                ///< null, or log(sum(exp(scores))) of each row, the first row's
    std::int64_t begin, rows;  ///< first row as a query of the item
    std::int64_t sk, d, dv, tile_k;
    float scale;
    float softcap;  ///< 0: none
    bool causal;
    std::int64_t window;  ///< keys that a query sees at most, where causal; 0: no limit
    bool mask_replaces;
    bool skips_hidden;  ///< keys that the mask hides from all rows of a block may be left out
    bool strict;
    float* scratch;  ///< flash_packed_floats() of them
};

/// The packed flash kernel of one instruction set.
struct FlashPackedProvider {
    std::int64_t rows;     ///< of a register tile, at most
    std::int64_t columns;  ///< of a panel
    void (*pack)(const KeyRange& range);
    void (*attend)(const FlashQueries& queries);
};

/// Floats from one row of a scratch array to the next: a multiple of 16, off one cache set.
constexpr std::int64_t padded_row(std::int64_t n) { return (n + 15) / 16 * 16 + 16; }

/// Floats of scratch that attend() needs: q, a maximum and a sum for each row, and the
/// scores of one block of rows. tile_k is a multiple of `columns`.
constexpr std::int64_t flash_packed_floats(const FlashPackedProvider& provider,
                                           std::int64_t query_rows, std::int64_t tile_k,
                                           std::int64_t d) {
    return query_rows * (padded_row(d) + 2) + provider.rows * padded_row(tile_k);
}

}  // namespace ablation
