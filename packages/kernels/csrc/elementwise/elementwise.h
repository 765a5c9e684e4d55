// Element-wise ops: one result for each element, float32.
//
//   add sub mul div   a op b
//   maximum minimum   the larger or lesser of a and b; NaN if either is
//   pow               a to the power of b, as C's pow
//   equal less        1 where a = b, a < b, a <= b, else 0: NaN is equal to and less than nothing
//   less_equal
//   exp log sqrt      each function of x, with NaN and infinity as in C
//   tanh erf abs
//   sin cos
//   sigmoid           1 / (1 + exp(-x))
//   where             x where condition is not zero (NaN is not zero), else y
//   relu              max(x, 0); NaN stays NaN
//   bias_relu         max(x + bias, 0), x (..., N), bias (N,)
//   gelu              x Phi(x) = 0.5 x (1 + erf(x / sqrt 2)), or with tanh
//                     0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), or with the sigmoid
//                     x / (1 + exp(-1.702 x)) (Hendrycks and Gimpel, Gaussian error linear units,
//                     2016). Infinity stays infinity, -infinity gives NaN, as in PyTorch (its
//                     oneDNN path makes both NaN).
//   silu              x / (1 + exp(-x)); infinity stays infinity, -infinity gives NaN, as in
//                     PyTorch
//   silu_mul          silu(a) b, the middle of SwiGLU (Shazeer, GLU variants improve transformer,
//                     2020), a and b of one shape
//   rsqrt             1 / sqrt(x): infinity for 0, NaN for x < 0
//
// Shapes    where and the ops of a and b, but for silu_mul, broadcast as in NumPy: axes align at
//           the last one, an axis of size 1 or an absent leading one repeats. Up to 8 axes, none of
//           size 0. The other ops keep x's shape.
// Aliasing  the output may be an input of the output's shape (in place); otherwise nothing may
//           overlap.
// Scratch   none.
// Accuracy  add sub mul div where relu bias_relu sqrt: each operation correctly rounded. maximum
//           minimum equal less less_equal abs: exact. gelu, simd: the exact form within 4 eps of
//           the result while that is a normal number, the tanh form within 1.5 eps |x|; scalar:
//           within 2 eps |x|, as 1 + erf cancels for x < 0. The form with the sigmoid: within
//           (5.5 + 2 |x|) eps of the result, as exp makes the rounding of 1.702 x a relative error.
//           silu, silu_mul, sigmoid: within 4.5 eps of the result while it is a normal number.
//           exp, tanh, erf, simd: within 2 eps of the result, tanh within 2.5 eps, down to the
//           smallest normal number. rsqrt: within 1.5 eps. scalar, and log sin cos pow: the C
//           library's.
// Cost      bound by memory: 4 bytes read per element of each input that isn't repeated, 4 written;
//           gelu and erf about 35 FLOPs per element besides, tanh 25, silu and sigmoid about 20.
//           silu_mul moves 12 bytes per element where silu and a product of their own move 20.
#pragma once

#include "core/table.h"
