// attention: output = softmax(scale * q @ k^T + mask) @ v for each batch item and head.
//
// Shapes
//   q (B, H, Sq, D); k and v (B, H, Sk, D); mask of rank at most 4, added to the scores, that
//   broadcasts to (B, H, Sq, Sk) as in NumPy: axes are aligned at the end and may be 1. output
//   (B, H, Sq, D).
// Causal
//   Query i sees keys 0 ... i, aligned at the top left also where Sq and Sk differ. A mask holds
//   besides.
// Dtype
//   float32. Sq and D are at most 2^31 - 1, Sk at most 2^31 - 32, as the stride of a row of scores
//   counts too (32-bit BLAS interface).
// Aliasing
//   output overlaps no input.
// Values
//   A query that sees no key (mask of -infinity throughout) gives 0. NaN and infinity propagate as
//   in PyTorch; a NaN in v may also reach queries that give its key the weight 0 (0 * NaN).
// Scratch
//   fused: tile_q * (Sk + pad) floats; fused parallel: as much for each thread; flash: for each
//   thread tile_q * (tile_k + pad + 2) floats, whatever Sk. pad is 16 to 31.
// Cost
//   4 B H Sq Sk D FLOPs in matrix products and B H Sq Sk exponentials, with causal about half of
//   both; reads and writes B H (2 Sq + 2 Sk) D elements of main memory.
#pragma once

#include <cstdint>

#include "core/table.h"

namespace ablation {

std::int64_t attention_fused_scratch(const Call& call, int threads);
std::int64_t attention_fused_parallel_scratch(const Call& call, int threads);
std::int64_t attention_flash_scratch(const Call& call, int threads);
std::int64_t attention_flash_packed_scratch(const Call& call, int threads);

/// Name of the kernel that is expected to be the fastest for this call.
const char* best_attention(const Call& call);

}  // namespace ablation
