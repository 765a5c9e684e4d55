// Stand-in for Apple's <mach/mach_time.h>: the two functions that the kernels use.
#pragma once

#include <cstdint>

extern "C" {

struct mach_timebase_info {
    std::uint32_t numer;
    std::uint32_t denom;
};
typedef struct mach_timebase_info mach_timebase_info_data_t;
typedef struct mach_timebase_info* mach_timebase_info_t;
typedef int kern_return_t;

kern_return_t mach_timebase_info(mach_timebase_info_t info);
std::uint64_t mach_absolute_time(void);
}
