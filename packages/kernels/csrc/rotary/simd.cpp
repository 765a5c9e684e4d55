// rotary a vector register at a time; the parallel kernel splits the rows over the pool. Of
// interleaved pairs: x times each cosine twice, plus x with the lanes of each pair exchanged times
// -sin and sin. Of halves: a register of each, with no exchange. Cost: see rotary.h.
#include "isa/simd.h"
#include "core/parallel_rows.h"
#include "rotary/rotary.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per element, and per row for its call; measured.
constexpr double kElementNs = 0.1;
constexpr double kRowNs = 4.0;

void rotary_rows(const Call& call, const RotaryRows& rows, std::int64_t begin, std::int64_t end) {
    const auto rotate = rows.halves ? simd().rotate_halves : simd().rotate_pairs;
    rows.for_rows(call, begin, end,
                  [=](float* y, const float* x, const float* cos, const float* sin) {
                      rotate(y, x, cos, sin, 2 * rows.half);
                  });
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
