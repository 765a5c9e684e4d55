// rms_norm over the last axis: y[i] = x[i] / sqrt(sum_j x[j]^2 / D + eps) weight[i]. Zhang and
// Sennrich, Root mean square layer normalization, 2019. With a weight for each head, of queries
// and keys: Henry et al., Query-key normalization for transformers, 2020.
//
// Shapes    x (..., D), weight (D,), no axis of size 0; the output has x's shape. Or x (..., H, D),
//           weight (n, D) with n <= H: head h < n has weight[h], the heads from n on are copied.
//           addend, of x's shape: added to the result.
// Special   a row that contains NaN becomes NaN. A row that contains infinity, or whose mean of
//           squares is beyond float32, becomes 0, NaN where x is infinite: as x * rsqrt(...) in
//           PyTorch.
// Aliasing  the output may be x (in place), not the addend; otherwise nothing may overlap.
// Scratch   none.
// Accuracy  a sum whose error doesn't grow with D.
// Cost      per element: 2 reads of x, the second in cache, 1 write, weight once per row; 4 FLOPs.
//           With an addend a read more, and a read and write in cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/table.h"

namespace ablation {

/// Which weight each row of x along its last axis takes.
struct RmsNormRows {
    std::int64_t d, count, heads, weights;
    const float* weight;

    explicit RmsNormRows(const Call& call) {
        const TensorView &x = call.inputs[0], &given = call.inputs[1];
        const bool is_one = given.shape.rank == 1;
        d = x.shape[-1];
        count = x.shape.count() / d;
        heads = is_one ? 1 : x.shape[-2];
        weights = is_one ? 1 : given.shape[0];
        weight = given.data;
    }

    /// Calls norm(y, x, weight) for the rows of [begin, end) that have one, copies the others, and
    /// calls add(y, addend) where there is one.
    template <class Norm, class Add>
    void for_rows(const Call& call, std::int64_t begin, std::int64_t end, Norm norm,
                  Add add) const {
        const TensorView& addend = call.inputs[2];
        std::int64_t head = begin % heads;
        for (std::int64_t row = begin; row < end; ++row) {
            const float* x = call.inputs[0].data + row * d;
            float* y = call.output.data + row * d;
            if (head < weights) {
                norm(y, x, weight + head * d);
            } else if (y != x) {
                std::copy_n(x, d, y);
            }
            if (addend.present) add(y, addend.data + row * d);
            if (++head == heads) head = 0;
        }
    }
};

}  // namespace ablation
