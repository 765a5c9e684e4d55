// layer_norm over the last axis: y[i] = (x[i] - mean) / sqrt(variance + eps) weight[i] + bias[i],
// variance = sum_j (x[j] - mean)^2 / D.
//
// Shapes    x (..., D), weight (D,), bias (D,), no axis of size 0; the output has x's shape.
// Special   a row that contains NaN or infinity becomes NaN.
// Aliasing  the output may be x (in place); otherwise nothing may overlap.
// Scratch   none.
// Accuracy  two passes, so no cancellation of squares; sums whose error doesn't grow with D. The
//           mean is rounded to float32, which shifts a row by up to eps |mean| / deviation before
//           weight and bias.
// Cost      per element: 3 reads of x, all but the first in cache, 1 write, weight and bias once
//           per row; 8 FLOPs.
#pragma once

#include "core/table.h"
