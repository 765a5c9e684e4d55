#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings_convert.h"
#include "bindings_gil.h"
#include "core/aligned_bytes.h"
#include "core/check.h"
#include "core/parallel.h"

namespace ablation {

namespace {

// Imports the arguments in slot order, checks the call, runs the kernel with the GIL released.
nb::object call_op(const char* op_name, const nb::tuple& arguments, const nb::dict& attributes,
                   nb::handle kernel_name, nb::handle out) {
    const OpInfo& op = find_op(op_name);
    const Slots slots = parse_slots(op);
    if (arguments.size() != static_cast<std::size_t>(slots.count)) {
        throw ValueError(std::string(op_name) + ": takes the inputs " + op.slots);
    }
    Call call;
    std::array<Array, kMaxInputs> arrays;
    std::size_t slot = 0;
    for (nb::handle argument : arguments) {
        if (!(slots.optional[slot] && argument.is_none())) {
            const std::string name(slots.names[slot]);
            arrays[slot] = import_array(op_name, name.c_str(), argument, false);
            call.inputs[slot] = arrays[slot].view;
        }
        ++slot;
    }
    call.attributes = attributes_from(op_name, attributes, call);
    const Shape shape = op.infer(call);
    const KernelInfo& kernel = [&]() -> const KernelInfo& {
        if (kernel_name.is_none()) return best_kernel(op, call);
        std::string name;
        if (!nb::try_cast<std::string>(kernel_name, name)) {
            raise_type_error(std::string(op_name) +
                             ": argument 'kernel' is not a string; accepted: None or a name "
                             "from op_table()");
        }
        return find_kernel(name, op_name);
    }();

    Array result;
    if (out.is_none()) {
        result = new_array(shape);
        call.output = result.view;
    } else {
        result = import_array(op_name, "out", out, true);
        call.output = result.view;
        require_shape(op_name, "out", result.view, shape, "the output's shape");
        require_no_overlap(op, slots, call);
    }
    {
        const ReleasedGil released;
        call.threads = num_threads();
        const std::int64_t scratch = kernel.scratch(call, call.threads);
        const auto memory = aligned_bytes(scratch);
        call.scratch = memory.get();
        kernel.function(call);
    }
    return result.object;
}

void require_addressable(const OpInfo& op, const char* argument, const Shape& shape) {
    if (shape.count() > kMaxElements) {
        reject(op.name, argument, "has shape " + shape.str(), "at most 2^46 elements");
    }
}

// A call with shapes only, for questions about scratch and choice of kernel.
Call call_of_shapes(const OpInfo& op, const nb::sequence& shapes, const nb::dict& attributes,
                    const std::vector<std::string>& constants) {
    const Slots slots = parse_slots(op);
    Call call;
    std::size_t slot = 0;
    for (nb::handle shape : shapes) {
        if (slot == static_cast<std::size_t>(slots.count)) {
            reject(op.name, "shapes", "has too many shapes", op.slots);
        }
        if (!shape.is_none()) {
            call.inputs[slot].shape = shape_from(op.name, "shapes", shape);
            call.inputs[slot].present = true;
            require_addressable(op, "shapes", call.inputs[slot].shape);
        }
        ++slot;
    }
    for (std::size_t index = 0; index < static_cast<std::size_t>(slots.count); ++index) {
        if (!call.inputs[index].present && !slots.optional[index]) {
            reject(op.name, "shapes", "lacks input '" + std::string(slots.names[index]) + "'",
                   op.slots);
        }
    }
    for (const std::string& name : constants) {
        const auto* found = std::ranges::find(slots.names, name);
        if (found == slots.names.end()) {
            reject(op.name, "constants", "has '" + name + "'", op.slots);
        }
        call.inputs[static_cast<std::size_t>(found - slots.names.begin())].is_constant = true;
    }
    call.attributes = attributes_from(op.name, attributes, call);
    call.output.shape = op.infer(call);
    require_addressable(op, "output", call.output.shape);
    return call;
}

std::int64_t scratch_bytes(const char* kernel_name, const nb::sequence& shapes,
                           const nb::dict& attributes, int threads,
                           const std::vector<std::string>& constants) {
    const KernelInfo& kernel = find_kernel(kernel_name);
    if (threads < 1 || threads > kMaxThreads) {
        reject(kernel.name, "threads", "is " + std::to_string(threads),
               "1 to " + std::to_string(kMaxThreads));
    }
    return kernel.scratch(call_of_shapes(find_op(kernel.op), shapes, attributes, constants),
                          threads);
}

nb::tuple infer_shape(const char* op, const nb::sequence& shapes, const nb::dict& attributes) {
    return shape_to_tuple(call_of_shapes(find_op(op), shapes, attributes, {}).output.shape);
}

const char* best_kernel_name(const char* op_name, const nb::sequence& shapes,
                             const nb::dict& attributes,
                             const std::vector<std::string>& constants) {
    const OpInfo& op = find_op(op_name);
    return best_kernel(op, call_of_shapes(op, shapes, attributes, constants)).name;
}

}  // namespace

void bind_functions(nb::module_& module) {
    module.def("call", &call_op, nb::arg("op"), nb::arg("inputs"), nb::arg("attributes"),
               nb::arg("kernel").none(), nb::arg("out").none(),
               "Checks one call and runs it; returns out, or a new NumPy array.");
    module.def("scratch_bytes", &scratch_bytes, nb::arg("kernel"), nb::arg("shapes"),
               nb::arg("attributes"), nb::arg("threads"),
               nb::arg("constants") = std::vector<std::string>());
    module.def("infer_shape", &infer_shape, nb::arg("op"), nb::arg("shapes"),
               nb::arg("attributes"));
    module.def("best_kernel", &best_kernel_name, nb::arg("op"), nb::arg("shapes"),
               nb::arg("attributes"), nb::arg("constants") = std::vector<std::string>());
}

}  // namespace ablation
