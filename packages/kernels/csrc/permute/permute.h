// permute: output axis i is axis perm[i] of x, copied contiguously.
// slice: elements start ... stop - 1 of one axis, copied contiguously.
//
// Shapes
//   permute: x of any rank up to 8; output sizes x.shape[perm[i]].
//   slice: x with 0 <= start < stop <= size of the axis; output as x with stop - start along it.
//   An axis below 0 counts from the end.
// Dtype     float32.
// Aliasing  output must not overlap x.
// Scratch   none.
// Cost      reads and writes each element of the output once, no FLOPs.
#pragma once

#include "core/table.h"

namespace ablation {

/// A permutation as nested loops over the output with neighbouring axes joined where they stay
/// neighbours and axes of size 1 dropped; at least one loop.
struct PermuteLoops {
    std::array<std::int64_t, kMaxRank> sizes{};
    /// Elements of x from one step of the loop to the next.
    std::array<std::int64_t, kMaxRank> strides{};
    int rank = 0;
};
PermuteLoops permute_loops(const Call& call);

/// A slice as `runs` contiguous copies of `length` elements, from x + offset + run * stride.
struct SliceRuns {
    std::int64_t runs, length, offset, stride;
};
SliceRuns slice_runs(const Call& call);

}  // namespace ablation
