// Python objects to numbers, shapes and attributes, with errors that name the argument. What runs
// Python code of others (__index__, __float__, __len__, __iter__) runs before any address is known.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/table.h"
#include "core/types.h"

namespace nb = nanobind;

namespace ablation {

/// Whose argument it is; an index says which item of it.
struct Argument {
    std::string_view function;
    std::string_view name;
    std::int64_t index = -1;

    /// "softmax: argument 'x' "
    std::string prefix() const;
};

/// NumPy's own types, looked up once.
struct NumpyTypes {
    nb::handle ndarray, generic, bool_, empty, float32, uint16;
};
const NumpyTypes& numpy_types();

/// An attribute of the object's type, which is where the interpreter looks for special methods;
/// invalid where there is none.
nb::object find_method(nb::handle object, const char* name);

/// The name of an object's type.
std::string type_of(nb::handle object);
/// What an object prints, in ASCII and short; its type where it cannot be printed.
std::string repr_of(nb::handle object);

[[noreturn]] void raise_type_error(const std::string& message);
/// A TypeError whose cause is an error of Python that was caught.
[[noreturn]] void raise_type_error_from(nb::python_error& cause, const std::string& message);
[[noreturn]] void raise_value_error(const Argument& where, const std::string& given,
                                    const std::string& accepted);

/// The items of a sequence, read once. Throws ValueError for one that yields more or fewer items
/// than its length says; errors of its own __len__ and __iter__ come through.
nb::tuple items_of(const Argument& where, nb::handle object, const char* accepted);

/// NumPy's scalars count as the numbers and truth values that they are. Errors of an object's own
/// __index__ and __float__ come through, but for TypeError, which becomes the cause of ours.
bool as_bool(const Argument& where, nb::handle value);
std::int64_t as_integer(const Argument& where, nb::handle value,
                        const char* accepted = "a 64-bit integer");
/// A number of threads that the pool can have.
int threads_from(const Argument& where, nb::handle value);
double as_number(const Argument& where, nb::handle value);
/// Throws ValueError for a finite number that float32 cannot hold.
float to_float32(const Argument& where, double value);

Shape shape_from(const Argument& where, nb::handle object);
nb::tuple shape_to_tuple(const Shape& shape);

/// Keywords to the attributes of an op. Throws ValueError for an unknown, a missing or a wrong one,
/// TypeError for one of the wrong type. What depends on shapes is left to the op's shape rule.
Attributes attributes_from(const OpInfo& op, const nb::dict& given);
/// Of each attribute of an op: (name, type, default, whether it is required, choices).
nb::list attribute_rows(const OpInfo& op);

void bind_bf16(nb::module_& module);
void bind_functions(nb::module_& module);
void bind_program(nb::module_& module);
void bind_teaching(nb::module_& module);

}  // namespace ablation
