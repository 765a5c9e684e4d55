// What Python says about a program, to the specs of core/program.h.
#pragma once

#include <vector>

#include "bindings/array.h"
#include "core/program.h"

namespace ablation {

struct Description {
    std::vector<ValueSpec> values;
    std::vector<Array> constants;  ///< of the constant values, in their order
    std::vector<CallSpec> calls;
    std::vector<StageSpec> stages;
};

/// Reads everything once, and the constants last: no code that runs on the way can free them. An
/// item of the wrong type becomes a TypeError that says where it stands.
Description describe(nb::handle values, nb::handle calls, nb::handle stages);

}  // namespace ablation
