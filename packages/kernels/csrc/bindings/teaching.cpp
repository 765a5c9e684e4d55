#include <nanobind/stl/optional.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "bindings/array.h"
#include "bindings/gil.h"
#include "core/check.h"
#include "core/parallel.h"
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

constexpr std::int64_t kLargestBlock = std::numeric_limits<std::int32_t>::max();

void require_range(const char* argument, std::int64_t value, std::int64_t largest) {
    if (value < 1 || value > largest) {
        reject("attention", argument, "is " + std::to_string(value),
               "1 to " + std::to_string(largest));
    }
}

nb::tuple teaching_attention(nb::handle q, nb::handle k, nb::handle v, const std::string& form,
                             std::int64_t block_q, std::int64_t block_k,
                             std::optional<double> scale, bool is_safe, int threads, bool spans,
                             nb::handle out) {
    const teaching::Form function = teaching::find_form(form);
    constexpr const char* kFunction = "attention";
    constexpr std::array kNames = {"q", "k", "v"};
    require_range("block_q", block_q, kLargestBlock);
    require_range("block_k", block_k, kLargestBlock);
    require_range("threads", threads, num_threads());
    const std::array given = {q, k, v};
    std::array<Array, kNames.size()> arrays;
    Array result;
    std::array<ArrayRequest, kNames.size() + 1> requests;
    for (std::size_t slot = 0; slot < kNames.size(); ++slot) {
        requests[slot] = {{kFunction, kNames[slot]}, given[slot], false, &arrays[slot]};
    }
    requests[kNames.size()] = {{kFunction, "out"}, out, true, &result};
    import_arrays({requests.data(), kNames.size() + (out.is_none() ? 0 : 1)});
    Call call;
    for (std::size_t slot = 0; slot < kNames.size(); ++slot) {
        call.inputs[slot] = arrays[slot].view;
    }
    const Shape shape = teaching::infer(call);
    if (out.is_none()) {
        result = new_array(shape);
    } else {
        const OpInfo& op = find_op(kFunction);
        call.output = result.view;
        require_shape(kFunction, "out", result.view, shape, "the output's shape");
        require_no_overlap(op, parse_slots(op), call);
    }
    const float factor = to_float32(
        {kFunction, "scale"}, scale ? *scale : 1.0 / std::sqrt(static_cast<double>(shape[3])));
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
        .scale = factor,
        .softmax = is_safe ? teaching::Softmax::safe : teaching::Softmax::unsafe,
        .threads = threads,
        .measure_spans = spans,
    };
    const teaching::Outcome outcome = [&] {
        const ReleasedGil released;
        return function(problem);
    }();
    const nb::object output =
        out.is_none() ? given_back(result, {requests.data(), kNames.size()}) : result.object;
    return nb::make_tuple(output, shape_to_tuple(shape), outcome.scratch_bytes,
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
