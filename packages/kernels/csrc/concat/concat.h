// concat: two to eight arrays one after another along one axis, copied contiguously.
//
// Shapes    a, b and up to six more, of one shape but for the axis, which counts from the end where
//           it is below 0; no axis of size 0. The output has the sum of their sizes there.
// Values    copied bit for bit.
// Aliasing  the output must not overlap an input; inputs may be one array.
// Scratch   none.
// Cost      reads and writes each element of the output once, no FLOPs.
#pragma once

#include "core/table.h"

namespace ablation {

/// The output as `rows` rows, one for each index before the axis; each holds one run of every
/// input.
struct ConcatRuns {
    struct Run {
        const float* data;
        std::int64_t length;  ///< elements of each row
    };
    std::array<Run, kMaxInputs> runs{};
    std::size_t count = 0;
    std::int64_t rows = 1;
    std::int64_t row_length = 0;

    explicit ConcatRuns(const Call& call);
};

}  // namespace ablation
