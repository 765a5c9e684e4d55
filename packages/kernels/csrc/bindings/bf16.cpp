#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "attention/bf16.h"
#include "bindings/array.h"
#include "bindings/gil.h"
#include "core/check.h"

namespace ablation {

namespace {

constexpr const char* kFunction = "attention_bf16";
constexpr std::array kNames = {"q", "k", "v"};

const Bf16* elements(const Array& array) { return reinterpret_cast<const Bf16*>(array.view.data); }

void require_apart(const Array& out, const Array& input, const char* name) {
    const Bf16* begin = elements(out);
    const Bf16* other = elements(input);
    if (begin + out.view.shape.count() <= other || other + input.view.shape.count() <= begin) {
        return;
    }
    reject(kFunction, "out", std::string("overlaps '") + name + "'", "memory of its own");
}

// (output, lse or None).
nb::tuple call_attention_bf16(nb::handle q, nb::handle k, nb::handle v, bool causal,
                              nb::handle scale, bool with_lse, nb::handle out) {
    std::optional<float> factor;
    if (!scale.is_none()) {
        const Argument where{kFunction, "scale"};
        factor = to_float32(where, as_number(where, scale));
    }
    const std::array given = {q, k, v};
    std::array<Array, kNames.size()> arrays;
    Array result;
    std::array<ArrayRequest, kNames.size() + 1> requests;
    for (std::size_t slot = 0; slot < kNames.size(); ++slot) {
        requests[slot] = {
            {kFunction, kNames[slot]}, given[slot], false, &arrays[slot], Element::bfloat16};
    }
    requests[kNames.size()] = {{kFunction, "out"}, out, true, &result, Element::bfloat16};
    import_arrays({requests.data(), kNames.size() + (out.is_none() ? 0 : 1)});
    const Shape& shape = arrays[0].view.shape;
    const AttentionSizes sizes =
        attention_bf16_sizes(arrays[0].view, arrays[1].view, arrays[2].view);

    if (out.is_none()) {
        result = new_array(shape, Element::bfloat16);
    } else {
        require_shape(kFunction, "out", result.view, shape, "the output's shape");
        for (std::size_t slot = 0; slot < kNames.size(); ++slot) {
            require_apart(result, arrays[slot], kNames[slot]);
        }
    }
    Array lse;
    if (with_lse) lse = new_array({sizes.batch, sizes.heads, sizes.sq});
    {
        const ReleasedGil released;
        attention_bf16({.sizes = sizes,
                        .q = elements(arrays[0]),
                        .k = elements(arrays[1]),
                        .v = elements(arrays[2]),
                        .output = reinterpret_cast<Bf16*>(result.view.data),
                        .lse = lse.view.data,
                        .scale = factor.value_or(
                            static_cast<float>(1.0 / std::sqrt(static_cast<double>(sizes.d)))),
                        .causal = causal});
    }
    const std::span<const ArrayRequest> inputs(requests.data(), kNames.size());
    const nb::object output =
        out.is_none() ? given_back(result, inputs, Element::bfloat16) : result.object;
    return nb::make_tuple(output, with_lse ? given_back(lse, inputs) : nb::none());
}

std::int64_t scratch_bytes(nb::handle q, nb::handle k, bool causal, nb::handle threads) {
    const int n = threads_from({kFunction, "threads"}, threads);
    const TensorView queries{.shape = shape_from({kFunction, "q"}, q), .present = true};
    const TensorView keys{.shape = shape_from({kFunction, "k"}, k), .present = true};
    return attention_bf16_scratch(attention_bf16_sizes(queries, keys, keys), causal, n);
}

}  // namespace

void bind_bf16(nb::module_& module) {
    module.def("attention_bf16", &call_attention_bf16, nb::arg("q").none(), nb::arg("k").none(),
               nb::arg("v").none(), nb::arg("causal"), nb::arg("scale").none(), nb::arg("with_lse"),
               nb::arg("out").none(),
               "Checks one call and runs it; returns out, or a new NumPy array of uint16 or a "
               "tensor, and lse or None.");
    module.def("attention_bf16_scratch_bytes", &scratch_bytes, nb::arg("q"), nb::arg("k"),
               nb::arg("causal"), nb::arg("threads"));
}

}  // namespace ablation
