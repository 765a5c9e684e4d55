// Reductions of the last axis, float32.
//
//   sum     y = sum_j x[j]
//   amax    y = max_j x[j]
//   cumsum  y[i] = x[0] + ... + x[i]
//
// Shapes    x (..., D), at least one axis, none of size 0; the output of sum and amax is (..., 1),
//           that of cumsum has x's shape.
// Special   NaN makes the sum, the largest element and all later running sums NaN; so does an
//           infinity that meets one of the other sign. Finite numbers never overflow on the way to
//           a sum that float32 can hold.
// Aliasing  cumsum: the output may be x (in place). Otherwise nothing may overlap.
// Scratch   none.
// Accuracy  u = 2^-24. sum, scalar: the exact sum rounded once, up to 2^-53 D sum |x|. sum, simd:
//           within 22 u sum |x|: an error that doesn't grow with D (simd_body.h, sum_terms).
//           cumsum: each element as in the scalar sum. amax: exact.
//           Whole numbers whose magnitudes add up to at most 2^24 are summed exactly, in any
//           kernel and any order.
// Cost      reads x once; 1 FLOP per element.
#pragma once

#include "core/table.h"
