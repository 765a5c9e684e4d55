#include "teaching/teaching.h"

#include <string>

#include "core/check.h"
#include "core/table.h"

namespace ablation::teaching {

namespace {

struct NamedForm {
    std::string_view name;
    Form function;
};
constexpr NamedForm kForms[] = {
    {"naive", naive}, {"blocked", blocked}, {"fused_row", fused_row}, {"flash", flash}};

/// 4 N N bytes for each of kMaxThreads workers stay below 2^63.
constexpr std::int64_t kMaxSequence = std::int64_t{1} << 24;

}  // namespace

Form find_form(std::string_view name) {
    std::string accepted;
    for (const NamedForm& form : kForms) {
        if (form.name == name) return form.function;
        accepted += (accepted.empty() ? "'" : ", '") + std::string(form.name) + "'";
    }
    reject("attention", "form", "is '" + std::string(name) + "'", accepted);
}

Shape infer(const Call& call) {
    Shape shape = infer_attention(call);
    const TensorView &q = call.inputs[0], &k = call.inputs[1];
    require_shape("attention", "k", k, q.shape, "the teaching set has as many keys as queries");
    require_shape("attention", "v", call.inputs[2], q.shape, "the shape of k");
    if (shape[2] > kMaxSequence) {
        reject("attention", "q", "has shape " + q.shape.str(), "a seq_len of at most 16777216");
    }
    return shape;
}

}  // namespace ablation::teaching
