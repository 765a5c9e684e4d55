// attention: output = softmax(scale * q @ k^T + mask) @ v for each batch item and head.
//
// Shapes
//   layout bhsd: q (B, H, Sq, D); k and v (B, H, Sk, D); output (B, H, Sq, D).
//   layout bshd: q (B, Sq, H, D); k and v (B, Sk, H, D); output (B, Sq, H, D).
//   layout qkv: q (B, S, 3, H, D) holds q, k and v, whose own slots stay absent; output
//   (B, S, H, D).
//   mask of rank at most 4, added to the scores, that broadcasts to (B, H, Sq, Sk) in every layout
//   as in NumPy: axes are aligned at the end and may be 1. With mask_replaces a score whose mask is
//   not 0 becomes the mask instead, whatever the score was; NaN is not 0.
// Causal
//   Query i sees keys 0 ... i, aligned at the top left also where Sq and Sk differ. A mask holds
//   besides. mask_is_causal: the caller vouches that the mask is 0 at these keys and at most -1e31
//   at the others. Where q and k are so moderate that no score is beyond 1e30, the kernel then
//   leaves hidden keys out as with causal, which gives the same; else it reads the mask.
// Dtype
//   float32. Sq and the elements between two rows of q (D, H D or 3 H D by layout) are at most
//   2^31 - 1, Sk at most 2^31 - 32, as the stride of a row of scores counts too (32-bit BLAS
//   interface).
// Tiles
//   tile_q and tile_k as given, cut to Sq and Sk; flash_packed rounds tile_k up to whole panels of
//   keys (twice the vector width).
// Aliasing
//   output overlaps no input.
// Values
//   A query that sees no key (scores of -infinity throughout) gives 0, as in PyTorch's
//   scaled_dot_product_attention. NaN and infinity propagate as in PyTorch; a NaN in v may also
//   reach queries that give its key the weight 0 (0 * NaN).
//   strict: as in softmax(scores) @ v written out. A query that sees no key gives NaN, and NaN and
//   infinity in a value reach, as NaN, every query that gives its key the weight 0, those that
//   causal hides it from too. The score is q k times scale, in this order. Weights are divided by
//   their sum last, so |v| Sk must not be beyond float32.
//   flash_packed gives a key whose score lies more than 87 below the row's maximum the weight 0.
// Scratch
//   fused: tile_q * (Sk + pad) floats; fused parallel: as much for each thread; flash: for each
//   thread tile_q * (tile_k + pad + 2) floats, whatever Sk. pad is 16 to 31. flash_packed: the
//   packed keys and values of a group of heads, 2 Sk D floats and the filling of the last panels
//   for each, without the keys that no query sees (one head on one thread; else what four L2 caches
//   per thread hold, at least one), and for each thread tile_q * (D + pad + 2) + rows * (tile_k +
//   pad), with the rows of a register tile.
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

/// Name of the kernel that is expected to be the fastest for this call: flash_packed, but where the
/// BLAS is Accelerate or there are fewer than 8 queries (a decoder's step: on an Emerald Rapids
/// flash_simd_parallel is 1.5 to 3.8 times as fast with 1 to 4 on 512 keys and more). Measured on
/// one thread of a Zen 4 server with AVX-512, the fastest of many calls in turns, its speed over
/// that of the better of fused_simd_parallel and flash_simd_parallel (full, causal): 1.28, 1.36 at
/// (B, H, S, D) = (1, 4, 32, 16); 1.09, 1.33 at (1, 4, 128, 64); 1.06, 1.28 at (1, 12, 256,
/// 64); 1.11, 1.22 at (1, 1, 1024, 64); 1.13, 1.16 at (1, 1, 4096, 64); 1.05, 1.17 at (1, 1, 1024,
/// 128); 1.08, 1.14 at (1, 1, 2048, 128).
const char* best_attention(const Call& call);

}  // namespace ablation
