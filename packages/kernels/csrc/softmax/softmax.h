// softmax over the last axis: y[i] = exp(x[i] - m) / sum_j exp(x[j] - m), m = max_j x[j].
//
// Shapes    x (..., N), at least one axis, none of size 0; the output has x's shape.
// Special   a row that contains NaN or +infinity, or only -infinity, becomes NaN, as in
//           torch.softmax; a -infinity beside finite values becomes 0.
// Aliasing  the output may be x (in place); otherwise the two must not overlap.
// Scratch   none.
// Accuracy  exp within 2 ulp; the sum's error doesn't grow with N: an element is within about 6 eps
//           of the softmax of the float32 differences x - m. Results below 1.2e-38 are denormal,
//           not flushed to 0.
// Cost      per element: 3 reads and 2 writes, all but the first read and the last write of a row
//           in cache; 1 exp, about 5 FLOPs besides. vdsp reads the row once more to look for NaN.
#pragma once

#include "core/table.h"
