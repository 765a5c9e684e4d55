#include "bindings/tensor.h"

namespace ablation {

namespace {

bool is_true(const nb::object& value) {
    const int truth = PyObject_IsTrue(value.ptr());
    if (truth < 0) throw nb::python_error();
    return truth == 1;
}

// A module that somebody has imported, or an invalid object.
nb::object imported(const char* name) {
    nb::object module = nb::steal(PyImport_GetModule(nb::str(name).ptr()));
    if (!module.is_valid()) PyErr_Clear();
    return module;
}

bool has_tangent(const Argument& where, nb::handle tensor) {
    const nb::object forward = imported("torch.autograd.forward_ad");
    if (!forward.is_valid()) return false;
    const nb::object level = nb::getattr(forward, "_current_level", nb::int_(-1));
    if (as_integer(where, level) < 0) return false;
    return !nb::object(forward.attr("unpack_dual")(tensor)[1]).is_none();
}

}  // namespace

bool is_tensor(nb::handle object) { return find_method(object, "untyped_storage").is_valid(); }

nb::object tensor_module(nb::handle object) {
    if (!is_tensor(object)) return {};
    nb::object torch = imported("torch");
    if (!torch.is_valid()) return {};
    const nb::object tensor = nb::getattr(torch, "Tensor", nb::none());
    if (PyType_Check(tensor.ptr()) == 0) return {};
    auto* const type = reinterpret_cast<PyTypeObject*>(object.type().ptr());
    const bool is_one = PyType_IsSubtype(type, reinterpret_cast<PyTypeObject*>(tensor.ptr())) != 0;
    return is_one ? torch : nb::object();
}

void require_plain_tensor(const Argument& where, nb::handle tensor, const char* accepted) {
    const auto refuse = [&](const char* why) {
        raise_type_error(where.prefix() + "is " + type_of(tensor) + ", which " + why +
                         "; accepted: " + accepted);
    };
    if (is_true(tensor.attr("requires_grad"))) {
        const bool has_operator = where.function.starts_with("attention");
        refuse(has_operator ? "requires grad, which this kernel does not compute: give x.detach(), "
                              "or use ablation_executor.torch_ops.flash_attention"
                            : "requires grad, which this kernel does not compute: give x.detach()");
    }
    if (is_true(tensor.attr("is_neg")())) refuse("is negated lazily: give x.resolve_neg()");
    if (has_tangent(where, tensor)) {
        refuse("has a forward-mode tangent, which would be lost: give its primal");
    }
}

void require_storage(const Argument& where, nb::handle tensor, const Shape& shape,
                     std::int64_t element_bytes) {
    const nb::object storage = tensor.attr("untyped_storage")();
    const std::int64_t bytes = as_integer(where, storage.attr("nbytes")());
    const std::int64_t offset = as_integer(where, tensor.attr("storage_offset")());
    if (offset + shape.count() > bytes / element_bytes) {
        raise_value_error(where,
                          "has shape " + shape.str() + " from element " + std::to_string(offset) +
                              " of a storage of " + std::to_string(bytes) + " bytes",
                          "a storage that holds the tensor");
    }
}

}  // namespace ablation
