// The packed flash kernel: baseline; see vector_baseline.h.
#include "attention/flash_packed_body.h"
#include "core/vector_baseline.h"

namespace ablation {

extern const FlashPackedProvider baseline_flash_packed_provider;
constinit const FlashPackedProvider baseline_flash_packed_provider =
    body::FlashPacked<Baseline>::provider("baseline");

}  // namespace ablation
