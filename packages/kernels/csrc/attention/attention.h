// attention: output = softmax(cap(scale * q @ k^T) + mask) @ v for each batch item and head.
//
// Shapes
//   layout bhsd: q (B, H, Sq, D); k (B, Hk, Sk, D); v (B, Hk, Sk, Dv); output (B, H, Sq, Dv).
//   layout bshd: q (B, Sq, H, D); k (B, Sk, Hk, D); v (B, Sk, Hk, Dv); output (B, Sq, H, Dv).
//   layout qkv: q (B, S, 3, H, D) holds q, k and v, whose own slots stay absent; or
//   q (B, S, H + 2 Hk, D) does, with n_heads = H: the heads of q, those of k, those of v. Output
//   (B, S, H, D). n_heads is 0 everywhere else.
//   Hk divides H: query head h reads head h / (H / Hk) of k and v, where it lies. With H = Hk every
//   head has its own, with Hk = 1 all read one (Shazeer, 2019; Ainslie et al., GQA, 2023).
//   mask of rank at most 4, added to the scores, that broadcasts to (B, H, Sq, Sk) in every layout
//   as in NumPy: axes are aligned at the end and may be 1. With mask_replaces a score whose mask is
//   not 0 becomes the mask instead, whatever the score was; NaN is not 0.
// Soft cap
//   softcap c > 0: a score s becomes c tanh(s / c) before causal and the mask (Gemma 2, 2024); 0
//   leaves it. c is between 2^-126 and 2^126. An infinite score becomes c or -c, NaN stays NaN.
// Causal
//   Query i sees keys 0 ... i, aligned at the top left also where Sq and Sk differ. A mask holds
//   besides. window w > 0: of these the keys j with i - j < w alone, at most w. It needs causal, or
//   a mask with mask_is_causal. mask_is_causal: the caller vouches that the mask is 0 at the keys
//   that causal and window show and at most -1e31 at the others. Where q and k are so moderate that
//   no score is beyond 1e30, the kernel then leaves hidden keys out as with causal, which gives the
//   same; else it reads the mask. It also reads it where a query is beyond the window of every key.
// Dtype
//   float32. Sq and the elements between two rows of q and of the output (D and Dv, H D and H Dv,
//   or (H + 2 Hk) D by layout) are at most 2^31 - 1, Sk at most 2^31 - 32, as the stride of a row of
//   scores counts too (32-bit BLAS interface).
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
//   causal and window hide it from too. The score is q k times scale, in this order. Weights are
//   divided by their sum last, so |v| Sk must not be beyond float32.
//   flash_packed gives a key whose score lies more than 87 below the row's maximum the weight 0.
//   The flash kernels leave tiles of keys out that a mask hides by -infinity from all queries of
//   the tile, where this gives the same: with mask_replaces, or where no score is beyond 1e30; and if
//   strict where v is finite. With fewer than 8 queries they look at neither k nor v for it.
// Scratch
//   fused: tile_q * (Sk + pad) floats; fused parallel: as much for each thread; flash: for each
//   thread tile_q * (tile_k + pad + 2) floats, whatever Sk. pad is 16 to 31. flash_packed: the
//   packed keys and values of a group of heads of k and v, Sk (D + Dv) floats and the filling of
//   the last panels for each, without the keys that no query sees (one head on one thread; else
//   what four L2 caches per thread hold, at least one), and for each thread
//   tile_q * (D + pad + 2) + rows * (tile_k + pad), with the rows of a register tile.
//   Heads that share keys and have few queries may count as one head of more queries, for tile_q
//   too: those that lie one behind another (all in layout bhsd, those of a single query in bshd)
//   without causal, where the mask allows it.
// Cost
//   2 B H Sq Sk (D + Dv) FLOPs in matrix products and B H Sq Sk exponentials, with causal about
//   half of both, with a window about w / Sk of them; reads and writes B (H Sq + Hk Sk) (D + Dv)
//   elements of main memory.
#pragma once

#include "core/table.h"
