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
//   packed kernels: one copy of a block of a's rows per thread at most, and packed b where b is not
//   a program's constant; the others none of the project's own (OpenBLAS keeps its packing
//   buffers).
// Cost
//   2 M N K FLOPs a product; reads M K + K N (+ M N with an addend), writes M N elements.
// Values
//   NaN and infinity in a, b, bias and addend propagate. With alpha = 0 the BLAS kernels read
//   neither a nor b.
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

/// Whether all rows of a meet the same b.
bool has_one_b(const Call& call);
/// Whether a program packs b ahead: a constant matrix.
bool has_packed_b(const Call& call);
/// Bytes of b in the layout of the packed kernels (matmul/packed.h); 0 where it is not packed
/// ahead.
std::int64_t packed_b_bytes(const Call& call);
/// Writes them, on the pool's threads.
void pack_b(const Call& call, float* packed);
/// Whether pack_b writes the same for both: one matrix, read in one direction.
bool has_same_packed_b(const Call& one, const Call& other);

/// Name of the kernel that is expected to be fastest: the packed one where b is packed ahead and
/// the BLAS is not Accelerate, whose matrix units no vector code reaches. Packing in the call
/// instead takes 1.0 to 1.9 times BLAS's time below 128 rows (K = 768, N = 768 and 3072, two
/// threads).
const char* best_matmul(const Call& call);

std::int64_t matmul_packed_scratch(const Call& call, int threads);
std::int64_t matmul_packed_parallel_scratch(const Call& call, int threads);

}  // namespace ablation
