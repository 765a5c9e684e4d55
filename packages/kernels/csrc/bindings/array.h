// The one place through which arrays from outside enter.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <span>

#include "bindings/convert.h"
#include "core/types.h"

namespace ablation {

struct ReleaseBuffer {
    void operator()(Py_buffer* buffer) const {
        PyBuffer_Release(buffer);
        delete buffer;
    }
};

struct ReleaseDlpack {
    bool is_versioned = false;
    void operator()(void* managed) const;
};

/// An array that a call reads or writes. Destroyed with the GIL held.
struct Array {
    TensorView view;
    nb::object object;  ///< what Python gave
    // What keeps the memory alive: the one by which it came.
    std::unique_ptr<Py_buffer, ReleaseBuffer> buffer;
    std::unique_ptr<void, ReleaseDlpack> managed;
};

/// What an array may hold. bfloat16 comes as such by DLPack, or as uint16 that holds the bits.
enum class Element : std::uint8_t { float32, bfloat16 };

/// One array to import. The caller keeps the object alive.
struct ArrayRequest {
    Argument where;
    nb::handle object;
    bool is_writable;
    Array* result;
    Element element = Element::float32;
};

/// Imports C-contiguous CPU arrays that have memory of their elements. Throws TypeError (not an
/// array, no memory to share, wrong dtype or device) or ValueError (layout, rank, size 0). A view's
/// data points to what the elements are, whatever its type says.
///
/// Objects whose export may run Python code come first, NumPy arrays last: no such code can free
/// memory whose address is known already.
void import_arrays(std::span<const ArrayRequest> requests);

/// A new uninitialized NumPy array, float32, or uint16 for the bits of bfloat16.
Array new_array(const Shape& shape, Element element = Element::float32);

/// What a caller gets for an array of `new_array(shape, element)`: a tensor over its memory where
/// one of the inputs is a tensor of torch, or else the array.
nb::object given_back(const Array& made, std::span<const ArrayRequest> inputs,
                      Element element = Element::float32);

}  // namespace ablation
