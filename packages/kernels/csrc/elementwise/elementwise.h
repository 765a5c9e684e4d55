// Element-wise ops: one result for each element, float32.
//
//   add sub mul div   a op b
//   where             x where condition is not zero (NaN is not zero), else y
//   relu              max(x, 0); NaN stays NaN
//   bias_relu         max(x + bias, 0), x (..., N), bias (N,)
//   gelu              x Phi(x) = 0.5 x (1 + erf(x / sqrt 2)), or with tanh
//                     0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Infinity stays infinity,
//                     -infinity gives NaN, as in PyTorch (its oneDNN path makes both NaN).
//   silu              x / (1 + exp(-x)); infinity stays infinity, -infinity gives NaN, as in
//                     PyTorch
//   silu_mul          silu(a) b, the middle of SwiGLU (Shazeer, GLU variants improve transformer,
//                     2020), a and b of one shape
//   rsqrt             1 / sqrt(x): infinity for 0, NaN for x < 0
//
// Shapes    add sub mul div where broadcast as in NumPy: axes align at the last one, an axis of
//           size 1 or an absent leading one repeats. Up to 8 axes, none of size 0. The other ops
//           keep x's shape.
// Aliasing  the output may be an input of the output's shape (in place); otherwise nothing may
//           overlap.
// Scratch   none.
// Accuracy  add sub mul div where relu bias_relu: each operation correctly rounded. gelu, simd: the
//           exact form within 4 eps of the result while that is a normal number, the tanh form
//           within 1.5 eps |x|; scalar: within 2 eps |x|, as 1 + erf cancels for x < 0.
//           silu, silu_mul: within 4.5 eps of the result while silu is a normal number. rsqrt:
//           within 1.5 eps.
// Cost      bound by memory: 4 bytes read per element of each input that isn't repeated, 4 written;
//           gelu about 35 FLOPs per element besides, silu about 20. silu_mul moves 12 bytes per
//           element where silu and a product of their own move 20.
#pragma once

#include "core/table.h"
