// One spin-wait step.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ablation {

inline void cpu_pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

}  // namespace ablation
