#include "table.h"

#include <algorithm>
#include <string>
#include <vector>

namespace ablation {

namespace {

constexpr OpInfo kOps[] = {
#define OP(op, slots, in_place, attributes) {#op, slots, in_place, attributes, infer_##op},
#include "kernels.def"
};

constexpr KernelInfo kKernels[] = {
#define KERNEL(op, name, form, simd, parallel, gemm, scratch, idea) \
    {#op, #name, form, simd != 0, parallel != 0, Gemm::gemm, idea, name, scratch},
#include "kernels.def"
};

constexpr PackInfo kPacks[] = {
#define PACK(kernel, slot, bytes, function, shared) {#kernel, #slot, bytes, function, shared},
#include "kernels.def"
};

struct UnpackRule {
    PackFunction pack;
    UnpackFunction unpack;
};
constexpr UnpackRule kUnpacks[] = {
#define UNPACK(function, unpack) {function, unpack},
#include "kernels.def"
};

constexpr RowInfo kRows[] = {
#define ROWS(op, slots, condition) {#op, slots, condition},
#include "kernels.def"
};

struct BestRule {
    const char* op;
    const char* (*function)(const Call&);
};
constexpr BestRule kBest[] = {
#define BEST(op, function) {#op, function},
#include "kernels.def"
};

// Levenshtein distance: insertions, deletions and substitutions.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row[b.size()];
}

[[noreturn]] void reject_name(const char* what, std::string_view given,
                              const std::vector<std::string_view>& valid) {
    std::string message = std::string("unknown ") + what + " '" + std::string(given) + "'";
    if (!valid.empty()) {
        const auto nearest = std::min_element(
            valid.begin(), valid.end(), [given](std::string_view a, std::string_view b) {
                return edit_distance(given, a) < edit_distance(given, b);
            });
        message += "; did you mean '" + std::string(*nearest) + "'? valid: ";
        for (std::size_t index = 0; index < valid.size(); ++index) {
            message += (index == 0 ? "" : ", ") + std::string(valid[index]);
        }
    }
    throw ValueError(message);
}

}  // namespace

bool always(const Call&) { return true; }
std::int64_t no_scratch(const Call&, int) { return 0; }

bool has_word(std::string_view list, std::string_view word) {
    while (!list.empty()) {
        const std::size_t end = std::min(list.find(' '), list.size());
        if (list.substr(0, end) == word) return true;
        list.remove_prefix(std::min(end + 1, list.size()));
    }
    return false;
}

std::span<const OpInfo> ops() { return kOps; }
std::span<const KernelInfo> kernels() { return kKernels; }

const OpInfo& find_op(std::string_view name) {
    for (const OpInfo& op : kOps) {
        if (name == op.name) return op;
    }
    std::vector<std::string_view> valid;
    for (const OpInfo& op : kOps) valid.emplace_back(op.name);
    reject_name("op", name, valid);
}

const KernelInfo& find_kernel(std::string_view name, std::string_view op) {
    const auto of_op = [op](const KernelInfo& kernel) { return op.empty() || op == kernel.op; };
    for (const KernelInfo& kernel : kKernels) {
        const std::string_view full = kernel.name;
        if (of_op(kernel) &&
            (name == full || (!op.empty() && name == full.substr(op.size() + 1)))) {
            return kernel;
        }
    }
    std::vector<std::string_view> valid;
    for (const KernelInfo& kernel : kKernels) {
        if (of_op(kernel)) valid.emplace_back(kernel.name);
    }
    reject_name("kernel", name, valid);
}

const RowInfo* find_rows(const OpInfo& op) {
    const auto* found = std::ranges::find_if(
        kRows, [&op](const RowInfo& rows) { return std::string_view(rows.op) == op.name; });
    return found == std::end(kRows) ? nullptr : found;
}

const PackInfo* find_pack(const KernelInfo& kernel) {
    const auto* found = std::ranges::find_if(kPacks, [&kernel](const PackInfo& pack) {
        return std::string_view(pack.kernel) == kernel.name;
    });
    return found == std::end(kPacks) ? nullptr : found;
}

UnpackFunction find_unpack(PackFunction pack) {
    for (const UnpackRule& rule : kUnpacks) {
        if (rule.pack == pack) return rule.unpack;
    }
    return nullptr;
}

const KernelInfo& best_kernel(const OpInfo& op, const Call& call) {
    for (const BestRule& rule : kBest) {
        if (std::string_view(rule.op) == op.name) return find_kernel(rule.function(call));
    }
    const KernelInfo* best = nullptr;
    for (const KernelInfo& kernel : kKernels) {
        if (std::string_view(kernel.op) == op.name) best = &kernel;
    }
    return *best;
}

Slots parse_slots(const OpInfo& op) {
    Slots slots;
    std::string_view rest = op.slots;
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(' '), rest.size());
        std::string_view name = rest.substr(0, end);
        const auto index = static_cast<std::size_t>(slots.count++);
        if (name.back() == '?') {
            slots.optional[index] = true;
            name.remove_suffix(1);
        }
        slots.names[index] = name;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return slots;
}

}  // namespace ablation
