// The clock of Apple systems: mach_absolute_time counts ticks, its timebase turns them into
// nanoseconds.
#if defined(ABLATION_APPLE)

#include <mach/mach_time.h>

#include <cstdint>

#include "clock.h"

namespace ablation {

namespace {

mach_timebase_info_data_t read_timebase() {
    mach_timebase_info_data_t timebase{};
    mach_timebase_info(&timebase);
    return timebase;
}

}  // namespace

std::int64_t clock_ns() {
    static const mach_timebase_info_data_t timebase = read_timebase();
    const std::uint64_t ticks = mach_absolute_time();
    // Whole and remaining ticks apart, so that no product passes 64 bits (125 / 3 on Apple
    // silicon).
    const std::uint64_t whole = ticks / timebase.denom * timebase.numer;
    const std::uint64_t rest = ticks % timebase.denom * timebase.numer / timebase.denom;
    return static_cast<std::int64_t>(whole + rest);
}

const char* clock_name() { return "mach_absolute_time"; }

}  // namespace ablation

#endif  // ABLATION_APPLE
