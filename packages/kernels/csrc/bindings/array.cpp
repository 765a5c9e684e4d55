#include "bindings/array.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/dlpack.h"
#include "bindings/gil.h"
#include "bindings/tensor.h"
#include "core/check.h"

namespace ablation {

namespace {

/// How an element is told, found and laid.
struct ElementInfo {
    const char* accepted;
    std::string_view buffer_format;
    std::int64_t bytes;
};
const ElementInfo& info_of(Element element) {
    static constexpr ElementInfo kFloat32{"a C-contiguous float32 array on the CPU", "f",
                                          sizeof(float)};
    static constexpr ElementInfo kBfloat16{
        "a C-contiguous array on the CPU of bfloat16, or of uint16 that holds its bits", "H",
        sizeof(std::uint16_t)};
    return element == Element::float32 ? kFloat32 : kBfloat16;
}

bool is_of(dlpack::DataType dtype, Element element) {
    if (dtype.lanes != 1) return false;
    if (element == Element::float32) return dtype.code == dlpack::kFloat && dtype.bits == 32;
    return dtype.bits == 16 && (dtype.code == dlpack::kBfloat || dtype.code == dlpack::kUInt);
}

std::string dtype_of(dlpack::DataType dtype) {
    const char* const kinds[] = {"int", "uint", "float", nullptr, "bfloat", "complex", "bool"};
    const char* kind = dtype.code < std::size(kinds) ? kinds[dtype.code] : nullptr;
    std::string name = kind != nullptr ? kind : "type code " + std::to_string(dtype.code) + " of ";
    name += std::to_string(dtype.bits);
    if (dtype.lanes != 1) name += " in lanes of " + std::to_string(dtype.lanes);
    return name;
}

bool is_instance(nb::handle object, nb::handle type) {
    return PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(object.type().ptr()),
                            reinterpret_cast<PyTypeObject*>(type.ptr())) != 0;
}
bool is_ndarray(nb::handle object) { return is_instance(object, numpy_types().ndarray); }
// NumPy's arrays and scalars.
bool has_dtype(nb::handle object) {
    return is_ndarray(object) || is_instance(object, numpy_types().generic);
}

/// One array on its way in.
class Importer {
  public:
    explicit Importer(const ArrayRequest& request)
        : request_(request),
          info_(info_of(request.element)),
          object_(request.object),
          result_(*request.result) {}

    void run() {
        result_.view.present = true;
        result_.object = nb::borrow(object_);
        if (PyCapsule_CheckExact(object_.ptr())) {
            take_capsule(object_);
        } else if (PyObject_CheckBuffer(object_.ptr()) == 0 || !take_buffer()) {
            take_exported();
        }
    }

  private:
    [[noreturn]] void refuse_type(const std::string& given) const {
        raise_type_error(request_.where.prefix() + given + "; accepted: " + info_.accepted);
    }
    [[noreturn]] void refuse_value(const std::string& given) const {
        raise_value_error(request_.where, given, info_.accepted);
    }
    [[noreturn]] void refuse_read_only() const {
        raise_value_error(request_.where, "is read-only", "a writable array");
    }

    // The errors by which exporters refuse become the cause of ours; others are the object's own.
    [[noreturn]] void refuse_because(nb::python_error& error) const {
        for (PyObject* kind : {PyExc_BufferError, PyExc_TypeError, PyExc_ValueError,
                               PyExc_RuntimeError, PyExc_AttributeError}) {
            if (!error.matches(kind)) continue;
            std::string given = "is " + type_of(object_) + ", which shares no memory";
            if (has_dtype(object_)) given = "has dtype " + dtype_name();
            raise_type_error_from(error, request_.where.prefix() + given + ": " +
                                             message_of(error) + "; accepted: " + info_.accepted);
        }
        throw error;
    }
    static std::string message_of(const nb::python_error& error) {
        const nb::object text = nb::steal(PyObject_Str(error.value().ptr()));
        const char* data = text.is_valid() ? PyUnicode_AsUTF8AndSize(text.ptr(), nullptr) : nullptr;
        if (data != nullptr) return data;
        PyErr_Clear();
        return type_of(error.value());
    }
    std::string dtype_name() const {
        const nb::object name = nb::steal(PyObject_Str(nb::getattr(object_, "dtype").ptr()));
        const char* data = name.is_valid() ? PyUnicode_AsUTF8AndSize(name.ptr(), nullptr) : nullptr;
        if (data == nullptr) throw nb::python_error();
        return data;
    }

    // False where the object refuses its buffer but speaks DLPack as well.
    bool take_buffer() {
        const bool is_plain = object_.type().is(numpy_types().ndarray);
        if (!is_plain && is_ndarray(object_) && find_method(object_, "mask").is_valid()) {
            refuse_type("is " + type_of(object_) + ", whose mask would be lost");
        }
        const int flags = PyBUF_STRIDES | PyBUF_FORMAT;
        auto storage = std::make_unique<Py_buffer>();
        Py_buffer& buffer = *storage;
        if (PyObject_GetBuffer(object_.ptr(), &buffer,
                               flags | (request_.is_writable ? PyBUF_WRITABLE : 0)) != 0) {
            nb::python_error error;
            if (request_.is_writable && PyObject_GetBuffer(object_.ptr(), &buffer, flags) == 0) {
                PyBuffer_Release(&buffer);
                refuse_read_only();
            }
            PyErr_Clear();
            if (find_method(object_, "__dlpack__").is_valid()) return false;
            refuse_because(error);
        }
        result_.buffer.reset(storage.release());
        require_format(buffer);
        if (buffer.ndim > 0 && buffer.shape == nullptr) refuse_type("has a buffer without a shape");
        if (buffer.suboffsets != nullptr) refuse_type("has a buffer with suboffsets");
        set_view(buffer.ndim, buffer.shape, buffer.strides, 1, buffer.buf, 0);
        if (buffer.len != result_.view.shape.count() * info_.bytes) {
            refuse_value("has shape " + result_.view.shape.str() + " in a buffer of " +
                         std::to_string(buffer.len) + " bytes");
        }
        return true;
    }

    void require_format(const Py_buffer& buffer) const {
        const std::string_view given = buffer.format == nullptr ? "B" : buffer.format;
        std::string_view format = given;
        if (!format.empty() && std::string_view("@=<").find(format[0]) != std::string_view::npos) {
            format.remove_prefix(1);  // the order of all machines that this wheel runs on
        }
        if (format == info_.buffer_format && buffer.itemsize == info_.bytes) return;
        if (has_dtype(object_)) refuse_type("has dtype " + dtype_name());
        refuse_type("has a buffer of format '" + std::string(given) + "' with " +
                    std::to_string(buffer.itemsize) + " bytes per element");
    }

    void take_exported() {
        const nb::object method = find_method(object_, "__dlpack__");
        if (!method.is_valid()) {
            refuse_type("is " + type_of(object_) +
                        ", which shares no memory by DLPack or the buffer protocol");
        }
        const bool is_torch = is_tensor(object_);
        try {
            if (is_torch) require_plain_tensor(request_.where, object_, info_.accepted);
            const nb::object capsule = exported(method);
            if (!PyCapsule_CheckExact(capsule.ptr())) {
                refuse_type("is " + type_of(object_) + ", whose __dlpack__ returned " +
                            type_of(capsule));
            }
            take_capsule(capsule);
            if (is_torch) {
                require_storage(request_.where, object_, result_.view.shape, info_.bytes);
            }
        } catch (nb::python_error& error) {
            refuse_because(error);
        }
    }

    nb::object exported(nb::handle method) const {
        try {
            return method(object_, nb::arg("max_version") = nb::make_tuple(1, 1));
        } catch (const nb::python_error& error) {
            // An exporter older than DLPack 1.0 does not know the keyword
            if (!error.matches(PyExc_TypeError)) throw;
        }
        return method(object_);
    }

    void take_capsule(nb::handle capsule) {
        const char* given = PyCapsule_GetName(capsule.ptr());
        if (given == nullptr) PyErr_Clear();
        const std::string_view name = given == nullptr ? "" : given;
        if (name == dlpack::Managed::kName) {
            take_managed<dlpack::Managed>(capsule);
        } else if (name == dlpack::ManagedVersioned::kName) {
            take_managed<dlpack::ManagedVersioned>(capsule);
        } else {
            refuse_type("is a capsule named '" + std::string(name) +
                        "' instead of 'dltensor' or 'dltensor_versioned'");
        }
    }

    // From here the memory is ours to give back, accepted or not.
    template <class Managed>
    void take_managed(nb::handle capsule) {
        auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::kName));
        if (managed == nullptr) throw nb::python_error();
        if (PyCapsule_SetName(capsule.ptr(), Managed::kUsedName) != 0) throw nb::python_error();
        constexpr bool kIsVersioned = std::is_same_v<Managed, dlpack::ManagedVersioned>;
        result_.managed = {managed, ReleaseDlpack{kIsVersioned}};
        if constexpr (kIsVersioned) {
            if (managed->major != dlpack::kMajorVersion) {
                refuse_type("is of DLPack " + std::to_string(managed->major) + "." +
                            std::to_string(managed->minor) + " instead of 1");
            }
            if (request_.is_writable && (managed->flags & dlpack::kFlagReadOnly) != 0) {
                refuse_read_only();
            }
            if (request_.is_writable && (managed->flags & dlpack::kFlagIsCopied) != 0) {
                refuse_value("was copied by its __dlpack__");
            }
        }
        take_tensor(managed->tensor);
    }

    void take_tensor(const dlpack::Tensor& tensor) {
        if (tensor.device.type != dlpack::kCpu) {
            refuse_type("is on device type " + std::to_string(tensor.device.type));
        }
        if (!is_of(tensor.dtype, request_.element)) {
            refuse_type("has dtype " + dtype_of(tensor.dtype));
        }
        if (tensor.rank > 0 && tensor.shape == nullptr) refuse_type("has no shape");
        set_view(tensor.rank, tensor.shape, tensor.strides, info_.bytes, tensor.data,
                 tensor.byte_offset);
    }

    template <class Size>
    void set_view(int rank, const Size* sizes, const Size* strides, std::int64_t stride_bytes,
                  void* data, std::uint64_t byte_offset) {
        if (rank < 0 || rank > kMaxRank) {
            raise_value_error(request_.where, "has " + std::to_string(rank) + " axes", "at most 8");
        }
        Shape& shape = result_.view.shape;
        for (int axis = 0; axis < rank; ++axis) shape.append(sizes[axis]);
        for (int axis = 0; axis < rank; ++axis) {
            if (shape[axis] < 1) {
                raise_value_error(request_.where, "has shape " + shape.str(), "sizes from 1");
            }
        }
        if (shape.count() > kMaxElements) {
            raise_value_error(request_.where, "has shape " + shape.str(), "at most 2^46 elements");
        }
        if (strides != nullptr) require_contiguous(strides, stride_bytes);
        const auto begin = reinterpret_cast<std::uintptr_t>(data);
        const std::uintptr_t address = begin + byte_offset;
        const std::uintptr_t end =
            address + static_cast<std::uintptr_t>(shape.count() * info_.bytes);
        if (data == nullptr) refuse_value("has shape " + shape.str() + " but no memory");
        if (address < begin || end < address) refuse_value("ends beyond the address space");
        if (address % static_cast<std::uintptr_t>(info_.bytes) != 0) {
            refuse_value("is not aligned to " + std::to_string(info_.bytes) + " bytes");
        }
        result_.view.data = reinterpret_cast<float*>(address);
    }

    template <class Size>
    void require_contiguous(const Size* strides, std::int64_t stride_bytes) const {
        const Shape& shape = result_.view.shape;
        std::int64_t expected = info_.bytes / stride_bytes;
        for (int axis = shape.rank - 1; axis >= 0; --axis) {
            if (shape[axis] != 1 && strides[axis] != expected) {
                refuse_value("is not C-contiguous: shape " + shape.str() + ", stride of axis " +
                             std::to_string(axis) + " is " + std::to_string(strides[axis]) +
                             (stride_bytes == 1 ? " bytes" : " elements"));
            }
            expected *= shape[axis];
        }
    }

    const ArrayRequest& request_;
    const ElementInfo& info_;
    nb::handle object_;
    Array& result_;
};

bool is_plain_numpy(const ArrayRequest& request) {
    return request.object.type().is(numpy_types().ndarray);
}

// When an array comes in: the later, the less code of others can its export run, and the easier can
// such code free its memory. NumPy's arrays are last: resize() does not ask who holds a buffer.
int turn_of(nb::handle object) {
    if (object.type().is(numpy_types().ndarray)) return 3;
    if (PyObject_CheckBuffer(object.ptr()) != 0) return 2;
    return is_tensor(object) ? 1 : 0;
}

}  // namespace

void ReleaseDlpack::operator()(void* managed) const {
    const auto release = [](auto* tensor) {
        if (tensor->deleter != nullptr) tensor->deleter(tensor);
    };
    if (is_versioned) {
        release(static_cast<dlpack::ManagedVersioned*>(managed));
    } else {
        release(static_cast<dlpack::Managed*>(managed));
    }
}

void import_arrays(std::span<const ArrayRequest> requests) {
    offer_gil();
    if (std::ranges::all_of(requests, is_plain_numpy)) {
        for (const ArrayRequest& request : requests) Importer(request).run();
        return;
    }
    std::vector<int> turns;
    turns.reserve(requests.size());
    for (const ArrayRequest& request : requests) turns.push_back(turn_of(request.object));
    for (int turn = 0; turn <= 3; ++turn) {
        for (std::size_t index = 0; index < requests.size(); ++index) {
            if (turns[index] != turn) continue;
            Importer(requests[index]).run();
        }
    }
}

Array new_array(const Shape& shape, Element element) {
    const NumpyTypes& numpy = numpy_types();
    const nb::handle dtype = element == Element::float32 ? numpy.float32 : numpy.uint16;
    const nb::object array = numpy.empty(shape_to_tuple(shape), dtype);
    Array result;
    import_arrays({{{{"empty", "out"}, array, true, &result, element}}});
    return result;
}

nb::object given_back(const Array& made, std::span<const ArrayRequest> inputs, Element element) {
    for (const ArrayRequest& input : inputs) {
        if (is_plain_numpy(input)) continue;
        const nb::object module = tensor_module(input.object);
        if (!module.is_valid()) continue;
        if (element == Element::float32) return module.attr("from_numpy")(made.object);
        // NumPy has no bfloat16, and torch before 2.3 takes no uint16
        const nb::object bits = made.object.attr("view")("int16");
        return module.attr("from_numpy")(bits).attr("view")(input.object.attr("dtype"));
    }
    return made.object;
}

}  // namespace ablation
