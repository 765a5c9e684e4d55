// matmul: output = activation(alpha * a @ op(b) + bias + addend).
//
// Shapes
//   a (..., M, K); b (K, N) or, with transpose_b, (N, K): op(b) is its transpose. The leading axes
//   of a are folded into M then. Or b (..., K, N) / (..., N, K) with the same leading axes as a:
//   one product for each. bias (N,); addend and output (..., M, N).
// Dtype
//   float32. K and N are at most 2^31 - 1 (32-bit BLAS interface); M and the batch are 64-bit.
// Aliasing
//   output may be addend (a residual added in place); it must not overlap a, b or bias.
// Scratch
//   packed and Strassen kernels: one copy of a block of a's rows, or sum of such blocks, per thread
//   at most, and packed b where b is not a program's constant; the others none of the project's own
//   (OpenBLAS keeps its packing buffers).
// Cost
//   2 M N K FLOPs a product (7/8 of them for each level of Strassen's); reads M K + K N (+ M N with
//   an addend), writes M N elements.
// Values
//   NaN and infinity in a, b, bias and addend propagate; in a and b they reach further rows and
//   columns in the Strassen kernels (strassen.cpp). With alpha = 0 the BLAS kernels read neither a
//   nor b.
#pragma once

#include <cstdint>

#include "core/table.h"

namespace ablation {

struct MatmulInputs {
    const TensorView &a, &b, &bias, &addend;
};
inline MatmulInputs matmul_inputs(const Call& call) {
    return {call.inputs[0], call.inputs[1], call.inputs[2], call.inputs[3]};
}

/// A matmul as `batch` products of (M, K) by (K, N).
struct MatmulSizes {
    std::int64_t batch = 1;
    std::int64_t m = 0;
    std::int64_t n = 0;
    std::int64_t k = 0;
};
/// Data pointers are not read.
MatmulSizes matmul_sizes(const Call& call);

/// Whether a program packs b ahead: a constant matrix.
bool has_packed_b(const Call& call);

}  // namespace ablation
