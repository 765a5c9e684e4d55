// The flash backward kernel: baseline; see vector_baseline.h.
#include "attention/flash_backward_body.h"
#include "core/vector_baseline.h"

namespace ablation {

extern const FlashBackwardProvider baseline_flash_backward_provider;
constinit const FlashBackwardProvider baseline_flash_backward_provider =
    body::FlashBackward<Baseline>::provider("baseline");

}  // namespace ablation
