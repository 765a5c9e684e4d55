// rms_norm over the last axis: y[i] = x[i] / sqrt(sum_j x[j]^2 / D + eps) weight[i]. Zhang and
// Sennrich, Root mean square layer normalization, 2019.
//
// Shapes    x (..., D), weight (D,), no axis of size 0; the output has x's shape.
// Special   a row that contains NaN becomes NaN. A row that contains infinity, or whose mean of
//           squares is beyond float32, becomes 0, NaN where x is infinite: as x * rsqrt(...) in
//           PyTorch.
// Aliasing  the output may be x (in place); otherwise nothing may overlap.
// Scratch   none.
// Accuracy  a sum whose error doesn't grow with D.
// Cost      per element: 2 reads of x, the second in cache, 1 write, weight once per row; 4 FLOPs.
#pragma once

#include "core/table.h"
