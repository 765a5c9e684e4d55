// attention_lse and attention_backward: what training needs of attention.
//
// attention_lse: output = softmax(scale * q @ k^T) @ v, and lse = log(sum(exp(scale * q @ k^T))) of
// each row, natural.
// attention_backward: the gradients of a loss by q, k and v from that by the output. With
// P = exp(scale * q @ k^T - lse) and delta = sum(grad_output * output) of each row:
//   grad_v = P^T @ grad_output
//   grad_S = P * (grad_output @ v^T - delta)
//   grad_q = scale * grad_S @ k
//   grad_k = scale * grad_S^T @ q
//
// Shapes
//   q, output, grad_output (B, H, Sq, D); k and v (B, H, Sk, D); lse (B, H, Sq). The result is
//   flat, one part after another: output and lse of attention_lse; the gradients of q, k and v,
//   each of its shape, of attention_backward.
// Causal
//   Query i sees keys 0 ... i, aligned at the top left also where Sq and Sk differ. A key that no
//   query sees has gradients of 0.
// Dtype
//   float32. Sq and D are at most 2^31 - 1, Sk at most 2^31 - 32, as in attention.
// Aliasing
//   The result overlaps no input.
// Values
//   lse is -infinity where every score of a row is, and attention_backward takes such a row for one
//   without keys: it adds nothing to any gradient. A score more than 87 below lse has the weight 0.
//   lse and output must be those of q, k and v: they are not checked. NaN and infinity propagate;
//   one in q, k or grad_output may also reach pairs that causal hides in the same register tile
//   (0 * NaN), one in v does not.
// Threads
//   The result is the same, bit by bit, for any number of threads. The gradient of q is summed over
//   groups of keys in an order that depends on the shape, the caches and the cores of the process.
// Scratch
//   attention_lse: as attention's flash_packed.
//   attention_backward: 2 B H Sq floats; B H Sq D floats for each group of keys but the first (one
//   group where B H is at least four times the cores; else as many as make 4 pieces of work for
//   each core, at most 32, of at least a block of keys); and for each thread the packed keys and
//   values of a block, two tiles of scores, and, where D is not a multiple of the vector width, a
//   padded copy of what the block and a tile of queries hold of q, k and grad_output.
// Cost
//   attention_backward: 10 B H Sq Sk D FLOPs and B H Sq Sk exponentials, with causal about half of
//   both. A block of keys reads q, grad_output and grad_q once and writes grad_q once: with blocks
//   of Bk keys 16 B H Sq D Sk / Bk bytes, from L3 or main memory where they do not fit into L2.
#pragma once

#include "core/table.h"
