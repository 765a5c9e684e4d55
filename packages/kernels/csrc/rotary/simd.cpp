// rotary a vector register at a time: x times each cosine twice, plus x with the lanes of each pair
// exchanged times -sin and sin; the parallel kernel splits the rows over the pool. Cost: see
// rotary.h.
#include "isa/simd.h"
#include "core/parallel_rows.h"
#include "rotary/rotary.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per element, and per row for its call; measured.
constexpr double kElementNs = 0.1;
constexpr double kRowNs = 4.0;

void rotary_rows(const Call& call, const RotaryRows& rows, std::int64_t begin, std::int64_t end) {
    const SimdProvider& provider = simd();
    const std::int64_t half = rows.d / 2;
    for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t angles = rows.position(row) * half;
        provider.rotate_pairs(call.output.data + row * rows.d, call.inputs[0].data + row * rows.d,
                              call.inputs[1].data + angles, call.inputs[2].data + angles, rows.d);
    }
}

}  // namespace

void rotary_simd(const Call& call) {
    const RotaryRows rows(call);
    rotary_rows(call, rows, 0, rows.count);
}

void rotary_simd_parallel(const Call& call) {
    const RotaryRows rows(call);
    parallel_rows(
        rows.count, kRowNs + kElementNs * static_cast<double>(rows.d),
        [&](std::int64_t begin, std::int64_t end) { rotary_rows(call, rows, begin, end); });
}

}  // namespace ablation
