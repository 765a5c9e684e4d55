// take: rows of x along one axis, chosen by number and copied: an embedding, a reversal, a repeat.
//
//   y[before, i, after] = x[before, ids[i], after]
//
// Shapes    x with the axis, which counts from the end where it is below 0; ids of any shape, down
//           to a single number, which takes the axis away; no axis of size 0. The output has ids'
//           axes in the place of the axis: at most 8 in all.
// Numbers   an id is a whole number in [0, n), n the size of the axis, carried in float32; every n
//           up to 2^24 can be reached. Any other id throws IndexError, which names it and n; the
//           output is then partly written.
// Values    copied bit for bit.
// Aliasing  the output must not overlap x or ids.
// Scratch   none.
// Cost      reads and writes each element of the output once, reads ids once for each index before
//           the axis; no FLOPs.
#pragma once

#include "core/table.h"

namespace ablation {

/// Row `row` of the output, `length` elements, is row ids[row % count] of the n rows of
/// x[row / count].
struct TakeRows {
    std::int64_t rows, count, n, length;

    explicit TakeRows(const Call& call);
};

/// An id as an index; throws IndexError unless it is a whole number in [0, n). `place`: where it
/// stands in ids.
std::int64_t row_of_id(const TakeRows& take, float id, std::int64_t place);

}  // namespace ablation
