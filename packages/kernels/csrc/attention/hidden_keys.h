// What attention leaves out of the keys that causal, a window or a mask hides, where the result
// stays the same, and what the values of hidden keys do all the same.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/tiles.h"
#include "core/types.h"

namespace ablation {

/// The call that computes the same with less work: where the mask is causal and the queries and
/// keys are so moderate that no score is beyond 1e30, a causal one without a mask. Reads q and k
/// once if the mask is causal.
Call without_hidden_keys(const Call& call);

/// The larger of a rule's bytes for the call as it is and for what without_hidden_keys makes of it.
template <class Rule>
std::int64_t larger_of_both(const Call& call, Rule&& rule) {
    const std::int64_t bytes = rule(call);
    if (!call.attributes.mask_is_causal) return bytes;
    Call causal = call;
    causal.attributes.causal = true;
    return std::max(bytes, rule(causal));
}

/// Whether keys that the mask hides (-infinity) from all queries of a tile may be left out: it
/// hides some tile, no score could turn -infinity into NaN, and if strict all values are finite, so
/// that the weight 0 makes 0 of each. Reads q, k and v once where it hides one.
bool may_skip_hidden_tiles(const Call& call, const AttentionSizes& sizes, const MaskView& mask);

/// Of a strict causal call: adds 0 * v of the keys that are hidden from a query to its output, NaN
/// where v is NaN or infinite. Reads the last queries' output alone, or with a window v, where all
/// values are finite.
void add_hidden_values(const Call& call);

}  // namespace ablation
