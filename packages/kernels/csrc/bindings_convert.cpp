#include "bindings_convert.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "bindings_gil.h"
#include "core/check.h"

namespace ablation {

namespace {

std::string type_of(nb::handle object) {
    return nb::cast<std::string>(nb::str(object.type().attr("__name__")));
}

std::string dtype_of(nb::dlpack::dtype dtype) {
    using Code = nb::dlpack::dtype_code;
    std::string kind = "type code " + std::to_string(dtype.code) + " of ";
    if (dtype.code == static_cast<std::uint8_t>(Code::Int)) kind = "int";
    if (dtype.code == static_cast<std::uint8_t>(Code::UInt)) kind = "uint";
    if (dtype.code == static_cast<std::uint8_t>(Code::Float)) kind = "float";
    if (dtype.code == static_cast<std::uint8_t>(Code::Bfloat)) kind = "bfloat";
    if (dtype.code == static_cast<std::uint8_t>(Code::Complex)) kind = "complex";
    if (dtype.code == static_cast<std::uint8_t>(Code::Bool)) kind = "bool";
    return kind + std::to_string(dtype.bits);
}

std::string prefix(const char* function, const char* argument) {
    return std::string(function) + ": argument '" + argument + "' ";
}

/// How an element is told, found and laid.
struct ElementInfo {
    const char* accepted;
    std::string_view buffer_format;
    std::uintptr_t bytes;
};
const ElementInfo& info_of(Element element) {
    static constexpr ElementInfo kFloat32{"; accepted: a C-contiguous float32 array on the CPU",
                                          "f", sizeof(float)};
    static constexpr ElementInfo kBfloat16{
        "; accepted: a C-contiguous array on the CPU of bfloat16, or of uint16 that holds its bits",
        "H", sizeof(std::uint16_t)};
    return element == Element::float32 ? kFloat32 : kBfloat16;
}

bool is_of(nb::dlpack::dtype dtype, Element element) {
    if (element == Element::float32) return dtype == nb::dtype<float>();
    const bool is_bfloat =
        dtype.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat) &&
        dtype.bits == 16 && dtype.lanes == 1;
    return is_bfloat || dtype == nb::dtype<std::uint16_t>();
}

template <class NdArray>
Array checked(const char* function, const char* argument, nb::handle object, const NdArray& array,
              Element element) {
    const auto& [accepted, format, bytes] = info_of(element);
    if (array.device_type() != nb::device::cpu::value) {
        raise_type_error(prefix(function, argument) + "is on device type " +
                         std::to_string(array.device_type()) + accepted);
    }
    if (!is_of(array.dtype(), element)) {
        raise_type_error(prefix(function, argument) + "has dtype " + dtype_of(array.dtype()) +
                         accepted);
    }
    if (array.ndim() > static_cast<std::size_t>(kMaxRank)) {
        throw ValueError(prefix(function, argument) + "has " + std::to_string(array.ndim()) +
                         " axes; accepted: at most 8");
    }
    Array result;
    result.view.present = true;
    for (std::size_t axis = 0; axis < array.ndim(); ++axis) {
        result.view.shape.append(static_cast<std::int64_t>(array.shape(axis)));
    }
    if (result.view.shape.count() == 0) {
        throw ValueError(prefix(function, argument) + "has shape " + result.view.shape.str() +
                         "; accepted: no axis of size 0");
    }
    std::int64_t stride = 1;
    for (int axis = result.view.shape.rank - 1; axis >= 0; --axis) {
        if (result.view.shape[axis] != 1 &&
            array.stride(static_cast<std::size_t>(axis)) != stride) {
            throw ValueError(prefix(function, argument) + "is not C-contiguous: shape " +
                             result.view.shape.str() + ", stride of axis " + std::to_string(axis) +
                             " is " + std::to_string(array.stride(static_cast<std::size_t>(axis))) +
                             " elements" + accepted);
        }
        stride *= result.view.shape[axis];
    }
    result.view.data = const_cast<float*>(static_cast<const float*>(array.data()));
    if (reinterpret_cast<std::uintptr_t>(result.view.data) % bytes != 0) {
        throw ValueError(prefix(function, argument) + "is not aligned to " + std::to_string(bytes) +
                         " bytes" + accepted);
    }
    result.object = nb::borrow(object);
    result.memory = nb::ndarray<nb::ro>(array);
    return result;
}

// The quick way for what is right and has the buffer protocol (NumPy). False for everything else:
// the slow way takes it or explains what is wrong.
bool import_buffer(nb::handle object, bool writable, Element element, Array& result) {
    if (!PyObject_CheckBuffer(object.ptr())) return false;
    const int flags = PyBUF_ND | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    auto storage = std::make_unique<Py_buffer>();
    if (PyObject_GetBuffer(object.ptr(), storage.get(), flags) != 0) {
        PyErr_Clear();
        return false;
    }
    std::unique_ptr<Py_buffer, ReleaseBuffer> buffer(storage.release());
    if (buffer->format == nullptr ||
        std::string_view(buffer->format) != info_of(element).buffer_format ||
        buffer->ndim > kMaxRank || buffer->len == 0 ||
        reinterpret_cast<std::uintptr_t>(buffer->buf) % info_of(element).bytes != 0) {
        return false;
    }
    for (int axis = 0; axis < buffer->ndim; ++axis) result.view.shape.append(buffer->shape[axis]);
    result.view.present = true;
    result.view.data = static_cast<float*>(buffer->buf);
    result.object = nb::borrow(object);
    result.buffer = std::move(buffer);
    return true;
}

bool as_bool(std::string_view name, nb::handle value) {
    if (!nb::isinstance<nb::bool_>(value)) {
        raise_type_error("argument '" + std::string(name) + "' is " + type_of(value) +
                         "; accepted: a bool");
    }
    return nb::cast<bool>(value);
}

std::int64_t as_integer(std::string_view name, nb::handle value) {
    std::int64_t result = 0;
    if (nb::isinstance<nb::bool_>(value) || !nb::try_cast<std::int64_t>(value, result)) {
        raise_type_error("argument '" + std::string(name) + "' is " + type_of(value) +
                         "; accepted: a 64-bit integer");
    }
    return result;
}

float as_float(std::string_view name, nb::handle value) {
    double result = 0;
    if (nb::isinstance<nb::bool_>(value) || !nb::try_cast<double>(value, result)) {
        raise_type_error("argument '" + std::string(name) + "' is " + type_of(value) +
                         "; accepted: a number");
    }
    return static_cast<float>(result);
}

[[noreturn]] void reject_value(std::string_view op, std::string_view name, nb::handle value,
                               const char* accepted) {
    throw ValueError(std::string(op) + ": argument '" + std::string(name) + "' is " +
                     nb::cast<std::string>(nb::repr(value)) + "; accepted: " + accepted);
}

Activation as_activation(std::string_view op, nb::handle value) {
    if (value.is_none()) return Activation::none;
    std::string text;
    if (nb::try_cast<std::string>(value, text)) {
        if (text == "relu") return Activation::relu;
        if (text == "gelu") return Activation::gelu;
        if (text == "gelu_tanh") return Activation::gelu_tanh;
    }
    reject_value(op, "activation", value, "None, 'relu', 'gelu', 'gelu_tanh'");
}

AttentionLayout as_layout(std::string_view op, nb::handle value) {
    std::string text;
    if (nb::try_cast<std::string>(value, text)) {
        if (text == "bhsd") return AttentionLayout::bhsd;
        if (text == "bshd") return AttentionLayout::bshd;
        if (text == "qkv") return AttentionLayout::qkv;
    }
    reject_value(op, "layout", value, "'bhsd', 'bshd', 'qkv'");
}

float as_eps(std::string_view op, nb::handle value) {
    const float eps = as_float("eps", value);
    if (!(eps >= 0.0F)) reject_value(op, "eps", value, "a number >= 0");
    return eps;
}

PermuteAttributes as_permutation(nb::handle value, const Call& call) {
    const int rank = call.inputs[0].shape.rank;
    const std::string accepted =
        "a permutation of the " + std::to_string(rank) + " axes of 'x', for example (1, 0)";
    PermuteAttributes result;
    std::array<bool, kMaxRank> seen{};
    if (!nb::isinstance<nb::sequence>(value))
        reject_value("permute", "perm", value, accepted.c_str());
    for (nb::handle item : nb::borrow<nb::sequence>(value)) {
        std::int64_t axis = as_integer("perm", item);
        if (axis < 0) axis += rank;
        if (result.rank == rank || axis < 0 || axis >= rank ||
            seen[static_cast<std::size_t>(axis)]) {
            reject_value("permute", "perm", value, accepted.c_str());
        }
        seen[static_cast<std::size_t>(axis)] = true;
        result.perm[static_cast<std::size_t>(result.rank++)] = static_cast<int>(axis);
    }
    if (result.rank != rank) reject_value("permute", "perm", value, accepted.c_str());
    return result;
}

Attributes defaults_of(std::string_view op, const Call& call) {
    if (op == "matmul") return MatmulAttributes{};
    if (op == "permute") return PermuteAttributes{};
    if (op == "slice") return SliceAttributes{};
    if (op == "gelu") return GeluAttributes{};
    if (op == "layer_norm") return LayerNormAttributes{};
    if (op == "rms_norm") return RmsNormAttributes{};
    if (op == "rotary") return RotaryAttributes{};
    if (op.starts_with("attention")) {
        AttentionAttributes attributes;
        const Shape& q = call.inputs[0].shape;
        if (q.rank > 0) attributes.scale = 1.0F / std::sqrt(static_cast<float>(q[-1]));
        return attributes;
    }
    return NoAttributes{};
}

// True if the op has an attribute of this name.
bool set_attribute(std::string_view op, Attributes& all, std::string_view name, nb::handle value,
                   const Call& call) {
    if (auto* matmul = std::get_if<MatmulAttributes>(&all)) {
        if (name == "transpose_b") return matmul->transpose_b = as_bool(name, value), true;
        if (name == "alpha") return matmul->alpha = as_float(name, value), true;
        if (name == "activation") return matmul->activation = as_activation(op, value), true;
    } else if (auto* permute = std::get_if<PermuteAttributes>(&all)) {
        if (name == "perm") return *permute = as_permutation(value, call), true;
    } else if (auto* slice = std::get_if<SliceAttributes>(&all)) {
        if (name == "axis") {
            const std::int64_t axis = as_integer(name, value);
            const int rank = call.inputs[0].shape.rank;
            if (axis < -rank || axis >= rank) reject_value(op, name, value, "an axis of 'x'");
            return slice->axis = static_cast<int>(axis < 0 ? axis + rank : axis), true;
        }
        if (name == "start") return slice->start = as_integer(name, value), true;
        if (name == "stop") return slice->stop = as_integer(name, value), true;
    } else if (auto* gelu = std::get_if<GeluAttributes>(&all)) {
        if (name == "approximate") {
            std::string text;
            if (!nb::try_cast<std::string>(value, text) || (text != "none" && text != "tanh")) {
                reject_value(op, name, value, "'none', 'tanh'");
            }
            return gelu->tanh = text == "tanh", true;
        }
    } else if (auto* layer_norm = std::get_if<LayerNormAttributes>(&all)) {
        if (name == "eps") return layer_norm->eps = as_eps(op, value), true;
    } else if (auto* rms_norm = std::get_if<RmsNormAttributes>(&all)) {
        if (name == "eps") return rms_norm->eps = as_eps(op, value), true;
    } else if (auto* rotary = std::get_if<RotaryAttributes>(&all)) {
        if (name == "layout") {
            rotary->layout = as_layout(op, value);
            if (rotary->layout == AttentionLayout::qkv) {
                reject_value(op, name, value, "'bhsd', 'bshd'");
            }
            return true;
        }
    } else if (auto* attention = std::get_if<AttentionAttributes>(&all)) {
        if (name == "scale") {
            if (!value.is_none()) attention->scale = as_float(name, value);
            return true;
        }
        if (name == "causal") return attention->causal = as_bool(name, value), true;
        if (op != "attention") return false;
        if (name == "layout") return attention->layout = as_layout(op, value), true;
        if (name == "mask_replaces") return attention->mask_replaces = as_bool(name, value), true;
        if (name == "mask_is_causal") return attention->mask_is_causal = as_bool(name, value), true;
        if (name == "strict") return attention->strict = as_bool(name, value), true;
        if (name == "tile_q" || name == "tile_k") {
            const std::int64_t tile = as_integer(name, value);
            if (tile < 0 || tile > std::numeric_limits<std::int32_t>::max()) {
                reject_value(op, name, value, "0 (the kernel chooses) or a number of rows");
            }
            return (name == "tile_q" ? attention->tile_q : attention->tile_k) = tile, true;
        }
    }
    return false;
}

}  // namespace

void raise_type_error(const std::string& message) { throw nb::type_error(message.c_str()); }

Array import_array(const char* function, const char* argument, nb::handle object, bool writable,
                   Element element) {
    offer_gil();
    if (Array array; import_buffer(object, writable, element, array)) return array;
    if (writable) {
        nb::ndarray<> array;
        if (nb::try_cast(object, array, false)) {
            return checked(function, argument, object, array, element);
        }
        nb::ndarray<nb::ro> readable;
        if (nb::try_cast(object, readable, false)) {
            throw ValueError(prefix(function, argument) +
                             "is read-only; accepted: a writable array");
        }
    } else {
        nb::ndarray<nb::ro> array;
        if (nb::try_cast(object, array, false)) {
            return checked(function, argument, object, array, element);
        }
    }
    raise_type_error(
        prefix(function, argument) + "is " + type_of(object) +
        ", which shares no memory by DLPack or the buffer protocol (detach a tensor that "
        "requires grad)" +
        info_of(element).accepted);
}

Array new_array(const Shape& shape, Element element) {
    // Handles that are never given back: a destructor would run after the interpreter's end.
    static const nb::handle empty = nb::getattr(nb::module_::import_("numpy"), "empty").release();
    static const nb::handle float32 =
        nb::getattr(nb::module_::import_("numpy"), "float32").release();
    static const nb::handle uint16 = nb::getattr(nb::module_::import_("numpy"), "uint16").release();
    const nb::handle dtype = element == Element::float32 ? float32 : uint16;
    return import_array("empty", "out", empty(shape_to_tuple(shape), dtype), true, element);
}

Shape shape_from(const char* function, const char* argument, nb::handle object) {
    if (!nb::isinstance<nb::sequence>(object)) {
        raise_type_error(prefix(function, argument) + "is " + type_of(object) +
                         "; accepted: a tuple of sizes");
    }
    Shape shape;
    for (nb::handle item : nb::borrow<nb::sequence>(object)) {
        const std::int64_t size = as_integer(argument, item);
        if (size < 0) throw ValueError(prefix(function, argument) + "has a negative size");
        shape.append(size);
    }
    return shape;
}

nb::tuple shape_to_tuple(const Shape& shape) {
    nb::list sizes;
    for (int axis = 0; axis < shape.rank; ++axis) sizes.append(shape[axis]);
    return nb::tuple(sizes);
}

Attributes attributes_from(std::string_view op, const nb::dict& given, const Call& call) {
    Attributes attributes = defaults_of(op, call);
    for (auto [key, value] : given) {
        std::string name;
        if (!nb::try_cast<std::string>(key, name)) {
            raise_type_error(std::string(op) + ": the name of an attribute is " + type_of(key) +
                             "; accepted: a str");
        }
        if (!set_attribute(op, attributes, name, value, call)) {
            throw ValueError(std::string(op) + ": has no attribute '" + name + "'");
        }
    }
    return attributes;
}

}  // namespace ablation
