// Flash attention of bfloat16 arrays: what the instruction sets that multiply bfloat16 provide and
// how packed keys and values lie.
//
// A multiplication takes pairs of bfloat16 that lie side by side. Packed keys are panels of 32
// keys: a panel is (pairs, 32, 2), two consecutive elements of every key beside each other. Packed
// values are panels of 32 of the D columns: a panel is (pairs, 32, 2), two consecutive keys beside
// each other, so that any range of keys from an even one on is one contiguous run. Pairs, of D and
// Sk, and keys and columns of the last panels are filled up with zeros to 32 elements, which a tile
// of AMX takes at a time; who takes one pair at a time stops at the last one.
#pragma once

#include <cstdint>

#include "attention/bf16.h"
#include "attention/flash_packed.h"
#include "core/types.h"

namespace ablation {

/// Keys and columns of a panel, and elements that pairs are filled up to.
inline constexpr std::int64_t kBf16Panel = 32;

/// A range of keys of one (batch, head) item, to be packed. Its first key is a multiple of
/// kBf16Panel.
struct Bf16KeyRange {
    const Bf16 *k, *v;  ///< of the item, (Sk, D)
    std::int64_t begin, end, sk, d;
    Bf16 *keys, *values;  ///< packed, of the item
};

/// Query rows of one (batch, head) item and what they attend to.
struct Bf16Queries {
    const Bf16* q;              ///< the first row, (rows, D)
    const Bf16 *keys, *values;  ///< packed, of the item
    Bf16* output;               ///< the first row, (rows, D)
    float* lse;                 ///< null, or log(sum(exp(scores))) of each row, the first row's
    std::int64_t begin, rows;   ///< first row as a query of the item
    std::int64_t sk, d, tile_k;
    float scale;
    bool causal;
    std::byte* scratch;  ///< flash_bf16_bytes() of them
};

/// Flash attention of one instruction set.
struct FlashBf16Provider {
    std::int64_t rows;  ///< of a register tile, at most
    void (*pack)(const Bf16KeyRange& range);
    void (*attend)(const Bf16Queries& queries);
};

/// Pairs that n elements take.
constexpr std::int64_t pairs_of(std::int64_t n) { return (n + 1) / 2; }

/// Pairs of a packed panel.
constexpr std::int64_t packed_pairs(std::int64_t n) { return round_up(n, kBf16Panel) / 2; }

/// Elements of the packed keys of an item, and of its packed values.
constexpr std::int64_t packed_elements(std::int64_t sk, std::int64_t d) {
    return round_up(sk, kBf16Panel) * round_up(d, kBf16Panel);
}

/// The `pack` of those who have AVX-512.
void pack_bf16_avx512(const Bf16KeyRange& range);

/// Elements of bfloat16 from one row of q to the next in scratch: off one cache set, as padded_row.
constexpr std::int64_t padded_pairs(std::int64_t d) { return round_up(d, kBf16Panel) + kBf16Panel; }

/// Bytes of scratch that attend() needs: of each row its q, its output in float32, a shift and two
/// sums; and the scores of one block of rows. tile_k is a multiple of kBf16Panel.
inline std::int64_t flash_bf16_bytes(const FlashBf16Provider& provider, std::int64_t query_rows,
                                     std::int64_t tile_k, std::int64_t d) {
    const std::int64_t floats =
        query_rows * (padded_pairs(d) + 3) + provider.rows * padded_row(tile_k);
    return align_up(query_rows * padded_pairs(d) * static_cast<std::int64_t>(sizeof(Bf16))) +
           align_up(floats * static_cast<std::int64_t>(sizeof(float)));
}

}  // namespace ablation
