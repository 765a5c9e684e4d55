// Monotonic clock in nanoseconds (clock_gettime, or mach_absolute_time on Apple).
#pragma once

#include <cstdint>

namespace ablation {

std::int64_t clock_ns();
/// Name of the clock: "CLOCK_MONOTONIC" or "mach_absolute_time".
const char* clock_name();
/// Median cost of one clock_ns() call in nanoseconds, measured when called.
double clock_overhead_ns();

}  // namespace ablation
