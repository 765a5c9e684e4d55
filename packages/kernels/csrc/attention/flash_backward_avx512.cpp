// The flash backward kernel: avx512; see vector_avx512.h.
#if defined(__x86_64__)

#include "attention/flash_backward_body.h"
#include "core/vector_avx512.h"

namespace ablation {

extern const FlashBackwardProvider avx512_flash_backward_provider;
constinit const FlashBackwardProvider avx512_flash_backward_provider =
    body::FlashBackward<Avx512>::provider("avx512");

}  // namespace ablation

#endif
