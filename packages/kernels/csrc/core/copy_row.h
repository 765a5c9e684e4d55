// Contiguous runs of floats, copied: what the ops that only move elements share.
#pragma once

#include <cstdint>
#include <cstring>

namespace ablation {

/// Floats of a cache line.
inline constexpr std::int64_t kCopyLine = 16;
/// Nanoseconds of one core per element, from the second-level cache or beyond; decides whether a
/// split pays.
inline constexpr double kCopyNs = 0.25;

/// Short rows go cache line by cache line: a call of memcpy would cost as much as the copy.
inline void copy_row(float* output, const float* x, std::int64_t n) {
    constexpr std::int64_t kShort = 16 * kCopyLine;
    if (n <= kShort) {
        for (; n >= kCopyLine; n -= kCopyLine, output += kCopyLine, x += kCopyLine) {
            std::memcpy(output, x, kCopyLine * sizeof(float));
        }
    }
    std::memcpy(output, x, static_cast<std::size_t>(n) * sizeof(float));
}

}  // namespace ablation
