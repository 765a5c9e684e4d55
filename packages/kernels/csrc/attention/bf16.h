// Attention of bfloat16 arrays: output = softmax(scale * q @ k^T) @ v for each batch item and head.
//
// Shapes
//   q (B, H, Sq, D); k and v (B, H, Sk, D); output (B, H, Sq, D); lse (B, H, Sq).
// Causal
//   Query i sees keys 0 ... i, aligned at the top left also where Sq and Sk differ.
// Dtype
//   bfloat16 in and out; products are summed, and the softmax is computed, in float32; lse is
//   float32. Output is rounded once, to nearest even. Two paths:
//   - native, by AMX or AVX512_BF16 (see bf16_instruction_set()): the softmax's weights are rounded to
//     bfloat16 before they meet v, and the row is divided by the sum of the rounded weights (lse
//     by the sum of those in float32). Denormals, |x| < 2^-126, are read and written as 0,
//     whatever the mode of the thread says: so the instructions are defined.
//   - widened, everywhere else: the float32 kernel flash_packed on arrays converted to float32.
// Values
//   As those of flash_packed in attention.h, the threshold of weight 0 included: 87 below the
//   row's maximum, in the native path between 126 ln 2 = 87.3 and 130 ln 2 = 90.1.
// Scratch
//   native: as flash_packed, with packed keys and values of two bytes, filled up to 32; widened:
//   float32 copies of q, k, v and the output, and flash_packed's own.
// Cost
//   4 B H Sq Sk D FLOPs in matrix products and B H Sq Sk exponentials, with causal about half of
//   both.
#pragma once

#include <cstdint>
#include <string_view>

#include "attention/tiles.h"

namespace ablation {

/// The bits of a bfloat16: the upper half of a float32.
using Bf16 = std::uint16_t;

/// One call. The arrays are C-contiguous; output overlaps none of the others.
struct AttentionBf16 {
    AttentionSizes sizes;
    const Bf16 *q, *k, *v;
    Bf16* output;
    float* lse;  ///< null: not asked for
    float scale;
    bool causal;
};

/// The sizes of a call; the views' data is not read. Throws ValueError naming the argument.
AttentionSizes attention_bf16_sizes(const TensorView& q, const TensorView& k, const TensorView& v);

/// Runs it on num_threads(); the result does not depend on them. Throws std::bad_alloc where the
/// scratch does not fit.
void attention_bf16(const AttentionBf16& problem);

/// Bytes of scratch of a call on that many threads.
std::int64_t attention_bf16_scratch(const AttentionSizes& sizes, bool causal, int threads);

/// Whose products attention_bf16 uses: bf16_instruction_set(), or where it widens those of
/// instruction_set().
std::string_view attention_bf16_instruction_set();

}  // namespace ablation
