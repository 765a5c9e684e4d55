#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "bindings/array.h"
#include "bindings/gil.h"
#include "core/aligned_bytes.h"
#include "core/check.h"
#include "core/parallel.h"

namespace ablation {

namespace {

const KernelInfo& chosen_kernel(const OpInfo& op, nb::handle name, const Call& call) {
    if (name.is_none()) return best_kernel(op, call);
    std::string text;
    if (!nb::try_cast<std::string>(name, text)) {
        raise_type_error(Argument{op.name, "kernel"}.prefix() + "is " + type_of(name) +
                         "; accepted: None or a name from op_table()");
    }
    return find_kernel(text, op.name);
}

struct Outcome {
    nb::object result;
    Call call;
};

// Imports the arguments, checks the call, runs the kernel with the GIL released.
Outcome run_op(const std::string& op_name, const nb::tuple& arguments, const nb::dict& attributes,
               nb::handle kernel_name, nb::handle out) {
    const OpInfo& op = find_op(op_name);
    const Slots slots = parse_slots(op);
    if (arguments.size() != static_cast<std::size_t>(slots.count)) {
        throw ValueError(op_name + ": takes the inputs " + op.slots);
    }
    Call call;
    call.attributes = attributes_from(op, attributes);
    std::array<Array, kMaxInputs> arrays;
    Array result;
    std::array<ArrayRequest, kMaxInputs + 1> requests;
    std::size_t n_requests = 0;
    for (std::size_t slot = 0; slot < arguments.size(); ++slot) {
        const nb::handle argument = arguments[slot];
        if (slots.optional[slot] && argument.is_none()) continue;
        requests[n_requests++] = {{op.name, slots.names[slot]}, argument, false, &arrays[slot]};
    }
    const std::span<const ArrayRequest> inputs(requests.data(), n_requests);
    if (!out.is_none()) requests[n_requests++] = {{op.name, "out"}, out, true, &result};
    import_arrays({requests.data(), n_requests});

    for (std::size_t slot = 0; slot < arguments.size(); ++slot) {
        call.inputs[slot] = arrays[slot].view;
    }
    const Shape shape = op.infer(call);
    const KernelInfo& kernel = chosen_kernel(op, kernel_name, call);
    if (out.is_none()) {
        result = new_array(shape);
        call.output = result.view;
    } else {
        call.output = result.view;
        require_shape(op.name, "out", result.view, shape, "the output's shape");
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
    return {out.is_none() ? given_back(result, inputs) : std::move(result.object), call};
}

nb::object call_op(const std::string& op, const nb::tuple& arguments, const nb::dict& attributes,
                   nb::handle kernel, nb::handle out) {
    return run_op(op, arguments, attributes, kernel, out).result;
}

nb::tuple call_with_shapes(const std::string& op, const nb::tuple& arguments,
                           const nb::dict& attributes, nb::handle kernel, nb::handle out) {
    if (PyCapsule_CheckExact(out.ptr())) {
        raise_type_error(Argument{op, "out"}.prefix() +
                         "is a capsule; accepted: an array, of which views are returned");
    }
    const Outcome outcome = run_op(op, arguments, attributes, kernel, out);
    nb::list shapes;
    for (std::size_t slot = 0; slot < arguments.size(); ++slot) {
        shapes.append(shape_to_tuple(outcome.call.inputs[slot].shape));
    }
    return nb::make_tuple(outcome.result, nb::tuple(shapes));
}

void require_addressable(const OpInfo& op, const char* argument, const Shape& shape) {
    if (shape.count() > kMaxElements) {
        reject(op.name, argument, "has shape " + shape.str(), "at most 2^46 elements");
    }
}

void mark_constants(const OpInfo& op, const Slots& slots, nb::handle constants, Call& call) {
    const Argument where{op.name, "constants"};
    for (nb::handle item : items_of(where, constants, "a sequence of slot names")) {
        std::string name;
        if (!nb::try_cast<std::string>(item, name)) {
            raise_type_error(where.prefix() + "has a " + type_of(item) + "; accepted: a str");
        }
        const auto* found = std::ranges::find(slots.names, name);
        if (name.empty() || found == slots.names.end()) {
            reject(op.name, "constants", "has '" + name + "'", op.slots);
        }
        call.inputs[static_cast<std::size_t>(found - slots.names.begin())].is_constant = true;
    }
}

// A call with shapes only, for questions about scratch and choice of kernel.
Call call_of_shapes(const OpInfo& op, nb::handle shapes, const nb::dict& attributes,
                    nb::handle constants) {
    const Slots slots = parse_slots(op);
    const Argument where{op.name, "shapes"};
    Call call;
    call.attributes = attributes_from(op, attributes);
    std::size_t slot = 0;
    for (nb::handle shape :
         items_of(where, shapes, "a sequence of shapes, None for an absent slot")) {
        if (slot == static_cast<std::size_t>(slots.count)) {
            reject(op.name, "shapes", "has too many shapes", op.slots);
        }
        if (!shape.is_none()) {
            call.inputs[slot].shape = shape_from(where, shape);
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
    mark_constants(op, slots, constants, call);
    call.output.shape = op.infer(call);
    require_addressable(op, "output", call.output.shape);
    return call;
}

std::int64_t scratch_bytes(const std::string& kernel_name, nb::handle shapes,
                           const nb::dict& attributes, nb::handle threads, nb::handle constants) {
    const KernelInfo& kernel = find_kernel(kernel_name);
    const int n = threads_from({kernel.name, "threads"}, threads);
    return kernel.scratch(call_of_shapes(find_op(kernel.op), shapes, attributes, constants), n);
}

std::int64_t packed_bytes(const std::string& kernel_name, nb::handle shapes,
                          const nb::dict& attributes, nb::handle constants) {
    const KernelInfo& kernel = find_kernel(kernel_name);
    const PackInfo* info = find_pack(kernel);
    const Call call = call_of_shapes(find_op(kernel.op), shapes, attributes, constants);
    return info == nullptr ? 0 : info->bytes(call);
}

nb::tuple infer_shape(const std::string& op, nb::handle shapes, const nb::dict& attributes) {
    return shape_to_tuple(
        call_of_shapes(find_op(op), shapes, attributes, nb::tuple()).output.shape);
}

std::string best_kernel_name(const std::string& op_name, nb::handle shapes,
                             const nb::dict& attributes, nb::handle constants) {
    const OpInfo& op = find_op(op_name);
    return best_kernel(op, call_of_shapes(op, shapes, attributes, constants)).name;
}

}  // namespace

void bind_functions(nb::module_& module) {
    module.def("call", &call_op, nb::arg("op"), nb::arg("inputs"), nb::arg("attributes"),
               nb::arg("kernel").none(), nb::arg("out").none(),
               "Checks one call and runs it; returns out, or a new NumPy array or tensor.");
    module.def("call_with_shapes", &call_with_shapes, nb::arg("op"), nb::arg("inputs"),
               nb::arg("attributes"), nb::arg("kernel").none(), nb::arg("out").none(),
               "Like call; returns the result and the shape of each input, () for an absent one.");
    module.def("scratch_bytes", &scratch_bytes, nb::arg("kernel"), nb::arg("shapes"),
               nb::arg("attributes"), nb::arg("threads"), nb::arg("constants") = nb::tuple());
    module.def("packed_bytes", &packed_bytes, nb::arg("kernel"), nb::arg("shapes"),
               nb::arg("attributes"), nb::arg("constants") = nb::tuple());
    module.def("infer_shape", &infer_shape, nb::arg("op"), nb::arg("shapes"),
               nb::arg("attributes"));
    module.def("best_kernel", &best_kernel_name, nb::arg("op"), nb::arg("shapes"),
               nb::arg("attributes"), nb::arg("constants") = nb::tuple());
}

}  // namespace ablation
