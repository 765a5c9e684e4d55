// The instruction set amx_bf16: tiles of bfloat16.
#if defined(__x86_64__)

#include "attention/flash_bf16_amx.h"
#include "isa/simd.h"

namespace ablation {

constinit const Bf16InstructionSet amx_bf16_set = {.name = "amx_bf16", .flash = &kFlashAmx};

}  // namespace ablation

#endif
