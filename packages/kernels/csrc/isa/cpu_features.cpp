#include "isa/cpu_features.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ablation {

namespace {

CpuFeatures detect() {
    CpuFeatures features;
#if defined(__x86_64__)
    __builtin_cpu_init();
    features.avx2_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    features.avx512 = features.avx2_fma && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
    // CPUID leaf 7, EDX bit 22.
    unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    features.amx_bf16 = features.avx512 && ((edx >> 22U) & 1U) != 0;
    features.avx512_bf16 = features.avx512 && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
    features.neon = true;  // part of the architecture
#endif
    return features;
}

bool request_amx() {
#if defined(__x86_64__) && defined(__linux__)
    // arch_prctl(2) and the kernel's documentation of "XFD": the number of the tiles' state, which
    // a kernel or hypervisor without AMX refuses.
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    const CpuFeatures& features = cpu_features();
    return features.amx_bf16 && features.avx512_bf16 &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

}  // namespace

bool may_use_amx() {
    static const bool may = request_amx();
    return may;
}

const CpuFeatures& cpu_features() {
    static const CpuFeatures features = detect();
    return features;
}

}  // namespace ablation
