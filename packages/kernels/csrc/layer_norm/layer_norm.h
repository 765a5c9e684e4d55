// layer_norm over the last axis: y[i] = (x[i] - mean) / sqrt(variance + eps) weight[i] + bias[i],
// variance = sum_j (x[j] - mean)^2 / D.
//
// Shapes    x (..., D), weight (D,), bias (D,), no axis of size 0; the output has x's shape.
// Special   a row that contains NaN or infinity becomes NaN.
// Aliasing  the output may be x (in place); otherwise nothing may overlap.
// Scratch   none.
// Accuracy  two passes, so no cancellation of squares; sums whose error doesn't grow with D. The
//           mean is rounded to float32, which shifts a row by up to 2^-12 before weight and bias: a
//           row with a larger mean beside its deviation, or whose squares or sum float32 cannot
//           hold, is done in double (layer_norm_in_double).
// Cost      per element: 3 reads of x, all but the first in cache, 1 write, weight and bias once
//           per row; 8 FLOPs.
#pragma once

#include <cstdint>
#include <limits>

#include "core/table.h"

namespace ablation {

/// Whether float32 holds what a row needs: no square overflowed or, where that counts, lost digits
/// below the normal range, and the rounded mean is near enough beside the deviation. False for NaN.
inline bool float_holds(float mean, float variance_and_eps) {
    return variance_and_eps >= 0x1p-100F && variance_and_eps <= std::numeric_limits<float>::max() &&
           variance_and_eps >= mean * mean * 0x1p-24F;
}

/// One row in double, whose range holds the square of every float32; y may be x.
void layer_norm_in_double(float* y, const float* x, float eps, const float* weight,
                          const float* bias, std::int64_t d);

}  // namespace ablation
