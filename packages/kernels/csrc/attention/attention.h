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

#include "core/table.h"
