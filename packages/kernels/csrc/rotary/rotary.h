// rotary: each pair (a, b) of the first r elements of the last axis turned by the angle of its
// position and i, given as tables of cosines and sines; the other elements are copied, and so are
// the heads from n_heads on (0: none). Su et al., RoFormer, 2021; of a part of the head: Black et
// al., GPT-NeoX-20B, 2022.
//
//   a' = a cos[s, i] - b sin[s, i]
//   b' = a sin[s, i] + b cos[s, i]
//
// Pairs     interleaved: a = x[2i], b = x[2i + 1]; halves: a = x[i], b = x[i + r / 2].
// Shapes    layout bhsd: x (B, H, S, D); bshd: x (B, S, H, D); cos and sin (S, r / 2), r <= D, no
//           axis of size 0; the output has x's shape.
// Special   NaN and infinity spread within their pair.
// Aliasing  the output may be x (in place); otherwise nothing may overlap.
// Scratch   none.
// Accuracy  two products and a sum.
// Cost      bound by memory: 4 bytes read and 4 written per element, the tables once for each head
//           (bhsd) or sequence (bshd); 3 FLOPs per element that is turned.
#pragma once

#include <algorithm>

#include "core/table.h"

namespace ablation {

/// Rows of x along its last axis, and which row of the tables each of them takes.
struct RotaryRows {
    std::int64_t d, half, count, seq_len, heads, turned_heads;
    bool heads_last, halves;

    explicit RotaryRows(const Call& call) {
        const Shape& x = call.inputs[0].shape;
        heads_last = call.attributes.layout == Layout::bshd;
        d = x[3];
        half = call.inputs[1].shape[1];
        count = x[0] * x[1] * x[2];
        seq_len = heads_last ? x[1] : x[2];
        heads = heads_last ? x[2] : x[1];
        turned_heads = call.attributes.n_heads == 0 ? heads : call.attributes.n_heads;
        halves = call.attributes.pairs == Pairs::halves;
    }
    std::int64_t position(std::int64_t row) const {
        return (heads_last ? row / heads : row) % seq_len;
    }
    std::int64_t head(std::int64_t row) const { return (heads_last ? row : row / seq_len) % heads; }

    /// Calls turn(y, x, cos, sin) for the rows of [begin, end) that are turned, and copies what is
    /// left.
    template <class Turn>
    void for_rows(const Call& call, std::int64_t begin, std::int64_t end, Turn turn) const {
        for (std::int64_t row = begin; row < end; ++row) {
            const float* x = call.inputs[0].data + row * d;
            float* y = call.output.data + row * d;
            const bool is_turned = head(row) < turned_heads;
            if (is_turned) {
                const std::int64_t angles = position(row) * half;
                turn(y, x, call.inputs[1].data + angles, call.inputs[2].data + angles);
            }
            const std::int64_t rest = is_turned ? 2 * half : 0;
            if (y != x) std::copy(x + rest, x + d, y + rest);
        }
    }
};

}  // namespace ablation
