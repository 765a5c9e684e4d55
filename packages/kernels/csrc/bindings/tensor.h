// What torch exports by DLPack as if it were a tensor's values. torch is never imported here: its
// tensors are told by their methods.
#pragma once

#include "bindings/convert.h"

namespace ablation {

/// Whether the object's class has torch's way to its storage.
bool is_tensor(nb::handle object);

/// Torch itself where the object is one of its tensors, or else an invalid object.
nb::object tensor_module(nb::handle object);

/// Before the export. Throws TypeError for a tensor whose memory lacks its gradient, its tangent or
/// its sign.
void require_plain_tensor(const Argument& where, nb::handle tensor, const char* accepted);

/// After the export. Throws ValueError where the storage has been made smaller than the tensor.
void require_storage(const Argument& where, nb::handle tensor, const Shape& shape,
                     std::int64_t element_bytes);

}  // namespace ablation
