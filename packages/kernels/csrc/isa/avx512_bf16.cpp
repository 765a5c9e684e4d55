// The instruction set avx512_bf16: pairs of bfloat16 in AVX-512 registers.
#if defined(__x86_64__)

#include "attention/flash_bf16_avx512.h"
#include "isa/simd.h"

namespace ablation {

constinit const Bf16InstructionSet avx512_bf16_set = {
    .name = "avx512_bf16", .flash = &kFlashAvx512, .multiply_add = multiply_add};

}  // namespace ablation

#endif
