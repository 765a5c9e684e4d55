#include <nanobind/stl/optional.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <optional>

#include "bindings_convert.h"
#include "bindings_gil.h"
#include "core/check.h"
#include "teaching/teaching.h"

namespace ablation {

namespace {

/// (total_ns, [(span, time_ns, count) that occurred]), or None.
nb::object span_rows(const std::optional<teaching::SpanTimes>& spans) {
    if (!spans) return nb::none();
    nb::list rows;
    for (std::size_t span = 0; span < teaching::kSpanNames.size(); ++span) {
        if (spans->count[span] == 0) continue;
        rows.append(
            nb::make_tuple(teaching::kSpanNames[span], spans->time_ns[span], spans->count[span]));
    }
    return nb::make_tuple(spans->total_ns, rows);
}

nb::tuple teaching_attention(nb::handle q, nb::handle k, nb::handle v, const std::string& form,
                             std::int64_t block_q, std::int64_t block_k,
                             std::optional<double> scale, bool is_safe, int threads, bool spans,
                             nb::handle out) {
    const teaching::Form function = teaching::find_form(form);
    constexpr std::array kNames = {"q", "k", "v"};
    const std::array given = {q, k, v};
    std::array<Array, kNames.size()> arrays;
    Call call;
    call.attributes = AttentionAttributes{};
    for (std::size_t slot = 0; slot < kNames.size(); ++slot) {
        arrays[slot] = import_array("attention", kNames[slot], given[slot], false);
        call.inputs[slot] = arrays[slot].view;
    }
    const Shape shape = teaching::infer(call);

    Array result;
    if (out.is_none()) {
        result = new_array(shape);
    } else {
        const OpInfo& op = find_op("attention");
        result = import_array("attention", "out", out, true);
        call.output = result.view;
        require_shape("attention", "out", result.view, shape, "the output's shape");
        require_no_overlap(op, parse_slots(op), call);
    }
    const double factor = scale ? *scale : 1.0 / std::sqrt(static_cast<double>(shape[3]));
    const teaching::Problem problem{
        .q = arrays[0].view.data,
        .k = arrays[1].view.data,
        .v = arrays[2].view.data,
        .output = result.view.data,
        .heads = shape[0] * shape[1],
        .seq_len = shape[2],
        .head_dim = shape[3],
        .block_q = block_q,
        .block_k = block_k,
        .scale = static_cast<float>(factor),
        .softmax = is_safe ? teaching::Softmax::safe : teaching::Softmax::unsafe,
        .threads = threads,
        .measure_spans = spans,
    };
    const teaching::Outcome outcome = [&] {
        const ReleasedGil released;
        return function(problem);
    }();
    return nb::make_tuple(result.object, shape_to_tuple(shape), outcome.scratch_bytes,
                          span_rows(outcome.spans));
}

}  // namespace

void bind_teaching(nb::module_& module) {
    module.def("teaching_attention", &teaching_attention, nb::arg("q").none(), nb::arg("k").none(),
               nb::arg("v").none(), nb::arg("form"), nb::arg("block_q"), nb::arg("block_k"),
               nb::arg("scale").none(), nb::arg("is_safe"), nb::arg("threads"), nb::arg("spans"),
               nb::arg("out").none(),
               "Checks the arrays of one call and runs it; returns output, its shape, the arena's "
               "peak in bytes, and spans.");
}

}  // namespace ablation
