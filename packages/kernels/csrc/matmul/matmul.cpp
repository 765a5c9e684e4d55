#include "matmul/matmul.h"

#include <limits>
#include <string>

#include "core/blas.h"
#include "core/check.h"
#include "core/table.h"

namespace ablation {

namespace {

Shape leading_axes(const Shape& shape) {
    Shape leading = shape;
    leading.rank -= 2;
    return leading;
}

void require_blas_size(const char* argument, const TensorView& view, int axis) {
    if (view.shape[axis] > std::numeric_limits<std::int32_t>::max()) {
        reject("matmul", argument, "has shape " + view.shape.str(),
               "K and N of at most 2147483647");
    }
}

}  // namespace

Shape infer_matmul(const Call& call) {
    const auto [a, b, bias, addend] = matmul_inputs(call);
    const auto& attributes = call.attributes;
    require_rank("matmul", "a", a, 2);
    require_rank("matmul", "b", b, 2);

    const std::int64_t k = a.shape[-1];
    const std::int64_t b_k = b.shape[attributes.transpose_b ? -1 : -2];
    const std::int64_t n = b.shape[attributes.transpose_b ? -2 : -1];
    const std::string accepted_b =
        attributes.transpose_b ? "(N, K) or (..., N, K)" : "(K, N) or (..., K, N)";
    if (b_k != k) {
        reject("matmul", "b", "has shape " + b.shape.str(),
               accepted_b + " with K = " + std::to_string(k) + ", the last axis of a");
    }
    if (b.shape.rank > 2 && !(leading_axes(a.shape) == leading_axes(b.shape))) {
        reject("matmul", "b", "has shape " + b.shape.str(),
               accepted_b + " with the leading axes of a, " + leading_axes(a.shape).str());
    }
    require_blas_size("a", a, -1);
    require_blas_size("b", b, attributes.transpose_b ? -2 : -1);

    Shape output = a.shape;
    output[-1] = n;
    if (bias.present)
        require_shape("matmul", "bias", bias, Shape{n}, "one for each column of the result");
    if (addend.present) {
        require_shape("matmul", "addend", addend, output, "the shape of the result");
    }
    return output;
}

MatmulSizes matmul_sizes(const Call& call) {
    const Shape& a = call.inputs[0].shape;
    const Shape& b = call.inputs[1].shape;
    MatmulSizes sizes;
    sizes.k = a[-1];
    sizes.n = call.attributes.transpose_b ? b[-2] : b[-1];
    const std::int64_t rows = a.count() / sizes.k;
    sizes.m = b.rank == 2 ? rows : a[-2];
    sizes.batch = rows / sizes.m;
    return sizes;
}

// The packed kernel where b is packed ahead and the BLAS is not Accelerate, whose matrix units no
// vector code reaches. Packing in the call instead takes 1.0 to 1.9 times BLAS's time below 128 rows
// (K = 768, N = 768 and 3072, two threads).
const char* best_matmul(const Call& call) {
    const bool packs = has_packed_b(call) && blas_info().provider != "accelerate";
    return packs ? "matmul_packed_simd_parallel" : "matmul_blas_parallel";
}

/// Whether all rows of a meet the same b.
bool has_one_b(const Call& call) { return call.inputs[1].shape.rank == 2; }

}  // namespace ablation
