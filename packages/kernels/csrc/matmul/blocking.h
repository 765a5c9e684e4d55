// How a packed product is cut into blocks.
//
// Ranges of k of about 512, and up to 768 where that saves one (longer ones are no faster, and
// their sums, added up one by one, less exact), rows of a such that their range takes a quarter of
// the second-level cache, and columns such that the block of c, which every range of k reads and
// writes, takes all of it. b may come from anywhere: a block of 128 rows reads it at a rate that
// memory gives easily, and asks for each panel while it computes the one before. Further cuts of
// the columns share out what has too few blocks, or blocks that do not divide among the threads.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "isa/simd.h"
#include "matmul/matmul.h"
#include "matmul/packed.h"

namespace ablation {

inline constexpr std::int64_t kFloatBytes = sizeof(float);
inline constexpr std::int64_t kLineFloats = 16;

inline const PackedProvider& packed_provider() { return *instruction_set().packed; }

struct Blocking {
    std::int64_t depth;    ///< of a range of k
    std::int64_t rows;     ///< of a block
    std::int64_t columns;  ///< of a block, a multiple of a panel
    bool copies_a;         ///< whether the rows of a would evict one another where they lie
    /// Floats from one row of the copy to the next: an odd number of cache lines.
    std::int64_t copy_stride() const { return round_up(depth, 2 * kLineFloats) + kLineFloats; }
    std::int64_t copy_bytes() const { return align_up(rows * copy_stride() * kFloatBytes); }
};
/// `depth`: about how long a range of k is; half as much again where that saves one.
Blocking choose_blocking(const MatmulSizes& sizes, int threads, std::int64_t depth = 512);

/// Nanoseconds of a product on one core at the speed of the multiply-adds that were measured.
double product_ns(const MatmulSizes& sizes);

}  // namespace ablation
