// The flash backward kernel: neon; see vector_neon.h.
#if defined(__aarch64__)

#include "attention/flash_backward_body.h"
#include "core/vector_neon.h"

namespace ablation {

extern const FlashBackwardProvider neon_flash_backward_provider;
constinit const FlashBackwardProvider neon_flash_backward_provider =
    body::FlashBackward<Neon>::provider("neon");

}  // namespace ablation

#endif
