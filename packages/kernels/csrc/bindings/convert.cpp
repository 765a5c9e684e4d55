#include "bindings/convert.h"

#include <cmath>

#include "core/parallel.h"

namespace ablation {

namespace {

bool is_truth_value(nb::handle value) {
    return PyBool_Check(value.ptr()) || value.type().is(numpy_types().bool_);
}

[[noreturn]] void refuse_number(const Argument& where, nb::handle value, const char* accepted) {
    raise_type_error(where.prefix() + "is " + type_of(value) + "; accepted: " + accepted);
}

// After a conversion failed: TypeError says that the object is no number, OverflowError that it is
// too large, anything else is the object's own error.
[[noreturn]] void refuse_converted(const Argument& where, nb::handle value, const char* accepted) {
    nb::python_error error;
    if (error.matches(PyExc_OverflowError)) {
        raise_value_error(where, "is " + repr_of(value), accepted);
    }
    if (!error.matches(PyExc_TypeError)) throw error;
    raise_type_error_from(error,
                          where.prefix() + "is " + type_of(value) + "; accepted: " + accepted);
}

std::string ascii(nb::handle text) {
    const nb::object bytes =
        nb::steal(PyUnicode_AsEncodedString(text.ptr(), "ascii", "backslashreplace"));
    const char* data = bytes.is_valid() ? PyBytes_AsString(bytes.ptr()) : nullptr;
    if (data != nullptr) return data;
    PyErr_Clear();
    return "?";
}

}  // namespace

std::string Argument::prefix() const {
    std::string text = std::string(function) + ": argument '" + std::string(name) + "' ";
    if (index >= 0) text += "[" + std::to_string(index) + "] ";
    return text;
}

const NumpyTypes& numpy_types() {
    // Handles that are never given back: a destructor would run after the interpreter's end.
    static const NumpyTypes types = [] {
        const nb::object numpy = nb::module_::import_("numpy");
        const auto found = [&](const char* name) { return nb::getattr(numpy, name).release(); };
        return NumpyTypes{.ndarray = found("ndarray"),
                          .generic = found("generic"),
                          .bool_ = found("bool_"),
                          .empty = found("empty"),
                          .float32 = found("float32"),
                          .uint16 = found("uint16")};
    }();
    return types;
}

nb::object find_method(nb::handle object, const char* name) {
    nb::object method = nb::steal(PyObject_GetAttrString(object.type().ptr(), name));
    if (!method.is_valid()) {
        nb::python_error error;
        if (!error.matches(PyExc_AttributeError)) throw error;
    }
    return method;
}

std::string type_of(nb::handle object) {
    const nb::object name =
        nb::steal(PyType_GetName(reinterpret_cast<PyTypeObject*>(object.type().ptr())));
    if (name.is_valid()) return ascii(name);
    PyErr_Clear();
    return "?";
}

std::string repr_of(nb::handle object) {
    constexpr std::size_t kLongest = 100;
    const nb::object printed = nb::steal(PyObject_ASCII(object.ptr()));
    if (!printed.is_valid()) {
        const nb::python_error error;
        if (!error.matches(PyExc_Exception)) throw error;
        return "of type " + type_of(object);
    }
    std::string text = ascii(printed);
    if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
    return text;
}

void raise_type_error(const std::string& message) { throw nb::type_error(message.c_str()); }

void raise_type_error_from(nb::python_error& cause, const std::string& message) {
    nb::raise_from(cause, PyExc_TypeError, "%s", message.c_str());
    __builtin_unreachable();
}

void raise_value_error(const Argument& where, const std::string& given,
                       const std::string& accepted) {
    throw ValueError(where.prefix() + given + "; accepted: " + accepted);
}

nb::tuple items_of(const Argument& where, nb::handle object, const char* accepted) {
    if (PyTuple_CheckExact(object.ptr())) return nb::borrow<nb::tuple>(object);
    if (PyList_CheckExact(object.ptr())) {
        nb::object items = nb::steal(PyList_AsTuple(object.ptr()));
        if (!items.is_valid()) throw nb::python_error();
        return nb::borrow<nb::tuple>(items);
    }
    if (!PySequence_Check(object.ptr()) || PyUnicode_Check(object.ptr()) ||
        PyBytes_Check(object.ptr())) {
        raise_type_error(where.prefix() + "is " + type_of(object) + "; accepted: " + accepted);
    }
    const std::size_t length = nb::len(object);
    const nb::object iterator = nb::steal(PyObject_GetIter(object.ptr()));
    if (!iterator.is_valid()) throw nb::python_error();
    nb::list items;
    const auto refuse_length = [&](const char* difference) {
        raise_value_error(where,
                          "yields " + std::string(difference) + " items than its length " +
                              std::to_string(length),
                          accepted);
    };
    for (nb::object item = nb::steal(PyIter_Next(iterator.ptr())); item.is_valid();
         item = nb::steal(PyIter_Next(iterator.ptr()))) {
        if (nb::len(items) == length) refuse_length("more");
        items.append(item);
    }
    if (PyErr_Occurred() != nullptr) throw nb::python_error();
    if (nb::len(items) != length) refuse_length("fewer");
    return nb::tuple(items);
}

bool as_bool(const Argument& where, nb::handle value) {
    if (!is_truth_value(value)) refuse_number(where, value, "a bool");
    return PyObject_IsTrue(value.ptr()) == 1;
}

std::int64_t as_integer(const Argument& where, nb::handle value, const char* accepted) {
    if (is_truth_value(value)) refuse_number(where, value, accepted);
    const nb::object number = nb::steal(PyNumber_Index(value.ptr()));
    if (!number.is_valid()) refuse_converted(where, value, accepted);
    int overflow = 0;
    const long long result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0) raise_value_error(where, "is " + repr_of(number), accepted);
    return result;
}

int threads_from(const Argument& where, nb::handle value) {
    const std::string accepted = "1 to " + std::to_string(kMaxThreads);
    const std::int64_t n = as_integer(where, value, accepted.c_str());
    if (n < 1 || n > kMaxThreads) raise_value_error(where, "is " + std::to_string(n), accepted);
    return static_cast<int>(n);
}

double as_number(const Argument& where, nb::handle value) {
    constexpr const char* kAccepted = "a number";
    if (is_truth_value(value)) refuse_number(where, value, kAccepted);
    const double result = PyFloat_AsDouble(value.ptr());
    if (result == -1.0 && PyErr_Occurred() != nullptr) refuse_converted(where, value, kAccepted);
    return result;
}

float to_float32(const Argument& where, double value) {
    const auto result = static_cast<float>(value);
    if (std::isinf(result) && !std::isinf(value)) {
        raise_value_error(where, "is " + repr_of(nb::float_(value)),
                          "a number that float32 can hold");
    }
    return result;
}

Shape shape_from(const Argument& where, nb::handle object) {
    const nb::tuple sizes = items_of(where, object, "a tuple of sizes");
    if (sizes.size() > static_cast<std::size_t>(kMaxRank)) {
        raise_value_error(where, "has " + std::to_string(sizes.size()) + " axes", "at most 8");
    }
    Shape shape;
    for (nb::handle item : sizes) {
        const std::int64_t size = as_integer(where, item);
        if (size < 0) {
            raise_value_error(where, "has the size " + std::to_string(size), "sizes from 0");
        }
        shape.append(size);
    }
    return shape;
}

nb::tuple shape_to_tuple(const Shape& shape) {
    nb::list sizes;
    for (int axis = 0; axis < shape.rank; ++axis) sizes.append(shape[axis]);
    return nb::tuple(sizes);
}

}  // namespace ablation
