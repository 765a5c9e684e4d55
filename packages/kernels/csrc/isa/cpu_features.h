// What this CPU and operating system can run.
#pragma once

namespace ablation {

struct CpuFeatures {
    bool avx2_fma = false;
    /// F, DQ, BW, VL and CD: what the AVX-512 bodies and OpenBLAS's SkylakeX kernels use.
    bool avx512 = false;
    /// Multiplies pairs of bfloat16 in AVX-512 registers.
    bool avx512_bf16 = false;
    /// Multiplies tiles of bfloat16; may_use_amx() tells whether this process may.
    bool amx_bf16 = false;
    bool neon = false;
};

const CpuFeatures& cpu_features();

/// Whether this process can run AMX on bfloat16 beside AVX512_BF16. Its first call asks Linux for
/// the room that the tiles of each thread take: all threads have it then, and forked processes.
/// False elsewhere.
bool may_use_amx();

}  // namespace ablation
