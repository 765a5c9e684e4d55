// What this CPU and operating system can run.
#pragma once

namespace ablation {

struct CpuFeatures {
    bool avx2_fma = false;
    /// F, DQ, BW, VL and CD: what the AVX-512 bodies and OpenBLAS's SkylakeX kernels use.
    bool avx512 = false;
    /// Multiplies pairs of bfloat16 in AVX-512 registers.
    bool avx512_bf16 = false;
    bool amx_bf16 = false;
    bool neon = false;
};

const CpuFeatures& cpu_features();

}  // namespace ablation
