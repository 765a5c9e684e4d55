// The flash backward kernel: avx2; see vector_avx2.h.
#if defined(__x86_64__)

#include "attention/flash_backward_body.h"
#include "core/vector_avx2.h"

namespace ablation {

extern const FlashBackwardProvider avx2_flash_backward_provider;
constinit const FlashBackwardProvider avx2_flash_backward_provider =
    body::FlashBackward<Avx2>::provider("avx2");

}  // namespace ablation

#endif
