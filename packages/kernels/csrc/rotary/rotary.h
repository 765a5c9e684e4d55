// rotary: each pair (x[2i], x[2i + 1]) of the last axis turned by the angle of its position and i,
// given as tables of cosines and sines. Su et al., RoFormer, 2021.
//
//   y[2i]     = x[2i] cos[s, i] - x[2i + 1] sin[s, i]
//   y[2i + 1] = x[2i] sin[s, i] + x[2i + 1] cos[s, i]
//
// Shapes    layout bhsd: x (B, H, S, D); bshd: x (B, S, H, D); cos and sin (S, D / 2), D even, no
//           axis of size 0; the output has x's shape.
// Special   NaN and infinity spread within their pair.
// Aliasing  the output may be x (in place); otherwise nothing may overlap.
// Scratch   none.
// Accuracy  two products and a sum.
// Cost      bound by memory: 4 bytes read and 4 written per element, the tables once for each head
//           (bhsd) or sequence (bshd); 3 FLOPs per element.
#pragma once

#include "core/table.h"

namespace ablation {

/// Rows of x along its last axis, and which row of the tables each of them takes.
struct RotaryRows {
    std::int64_t d, count, seq_len, repeats;

    explicit RotaryRows(const Call& call) {
        const Shape& x = call.inputs[0].shape;
        const bool heads_last = call.attributes.layout == Layout::bshd;
        d = x[3];
        count = x[0] * x[1] * x[2];
        seq_len = heads_last ? x[1] : x[2];
        repeats = heads_last ? x[2] : 1;
    }
    std::int64_t position(std::int64_t row) const { return row / repeats % seq_len; }
};

}  // namespace ablation
