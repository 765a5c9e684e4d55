// Python objects to views, shapes and attributes, with errors that name the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/table.h"
#include "core/types.h"

namespace nb = nanobind;

namespace ablation {

struct ReleaseBuffer {
    void operator()(Py_buffer* buffer) const {
        PyBuffer_Release(buffer);
        delete buffer;
    }
};

/// An array that a call reads or writes. Destroyed with the GIL held.
struct Array {
    TensorView view;
    nb::object object;  ///< what Python gave
    // What keeps the memory alive: the one by which it came.
    std::unique_ptr<Py_buffer, ReleaseBuffer> buffer;
    nb::ndarray<nb::ro> memory;
};

/// What an array may hold. bfloat16 comes as such by DLPack, or as uint16 that holds the bits.
enum class Element : std::uint8_t { float32, bfloat16 };

/// A C-contiguous CPU array. Throws TypeError (not an array, wrong dtype or device) or ValueError
/// (layout, rank, size 0). `function` and `argument` are named in the message. The view's data
/// points to what the elements are, whatever its type says.
Array import_array(const char* function, const char* argument, nb::handle object, bool writable,
                   Element element = Element::float32);

/// A new uninitialized NumPy array, float32, or uint16 for the bits of bfloat16.
Array new_array(const Shape& shape, Element element = Element::float32);

Shape shape_from(const char* function, const char* argument, nb::handle object);
nb::tuple shape_to_tuple(const Shape& shape);

/// Attributes of an op from Python keywords. Throws ValueError for an unknown name or value.
Attributes attributes_from(std::string_view op, const nb::dict& given, const Call& call);

[[noreturn]] void raise_type_error(const std::string& message);

void bind_bf16(nb::module_& module);
void bind_functions(nb::module_& module);
void bind_program(nb::module_& module);
void bind_teaching(nb::module_& module);

}  // namespace ablation
