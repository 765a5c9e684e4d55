// Which instruction set is used: the best that the CPU can run, unless ABLATION_SIMD names another.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "isa/cpu_features.h"
#include "isa/simd.h"

namespace ablation {

namespace {

struct Candidate {
    const InstructionSet* set;
    bool (*runs_here)();
};

/// Best first.
constexpr std::array kCandidates = {
#if defined(ABLATION_APPLE)
    Candidate{&vdsp_set, [] { return true; }},
#endif
#if defined(__x86_64__)
    Candidate{&avx512_set, [] { return cpu_features().avx512; }},
    Candidate{&avx2_set, [] { return cpu_features().avx2_fma; }},
#endif
#if defined(__aarch64__)
    Candidate{&neon_set, [] { return cpu_features().neon; }},
#endif
    Candidate{&baseline_set, [] { return true; }},
};

/// FLOPs per nanosecond of a SimdProvider::multiply_add, the best of several runs.
double flops_per_ns(std::int64_t (*multiply_add)(std::int64_t, float*)) {
    constexpr int kRepeats = 9;
    constexpr std::int64_t kRounds = 8000;
    double best = 0.0;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        float sink = 0.0F;
        const std::int64_t start = clock_ns();
        const auto flops = static_cast<double>(multiply_add(kRounds, &sink));
        best = std::max(best, flops / static_cast<double>(clock_ns() - start));
    }
    return best;
}

/// The sets of bfloat16 that this process can run, best first.
std::vector<const Bf16InstructionSet*> bf16_sets() {
    std::vector<const Bf16InstructionSet*> sets;
#if defined(__x86_64__)
    if (may_use_amx()) sets.push_back(&amx_bf16_set);
    if (cpu_features().avx512_bf16) sets.push_back(&avx512_bf16_set);
#endif
    return sets;
}

/// Measured: an Emerald Rapids begins a vdpbf16ps every two cycles and two vfmadd in each.
bool beats_float32(const Bf16InstructionSet& set) {
    return set.multiply_add == nullptr ||
           flops_per_ns(set.multiply_add) > multiply_add_flops_per_ns("avx512");
}

std::string forced_name() {
    const char* forced = std::getenv("ABLATION_SIMD");
    return forced == nullptr ? "" : forced;
}

/// Where the set in use stands in kCandidates.
std::size_t choose() {
    const std::string name = forced_name();
    const std::vector<std::string> of_bf16 = simd_bf16_available();
    const bool is_of_bf16 = std::find(of_bf16.begin(), of_bf16.end(), name) != of_bf16.end();
    const std::string wanted = is_of_bf16 ? "avx512" : name;
    for (std::size_t index = 0; index < kCandidates.size(); ++index) {
        if (!kCandidates[index].runs_here()) continue;
        if (wanted.empty() || wanted == kCandidates[index].set->name()) return index;
    }
    std::string valid;
    for (const auto& names : {of_bf16, simd_available()}) {
        for (const std::string& available : names) valid += (valid.empty() ? "" : ", ") + available;
    }
    throw std::runtime_error("ABLATION_SIMD is '" + name + "'; this machine can run: " + valid);
}

std::size_t chosen_index() {
    static const std::size_t chosen = choose();
    return chosen;
}

const InstructionSet& choose_with_registers() {
    for (const Candidate& candidate : std::span(kCandidates).subspan(chosen_index())) {
        if (candidate.runs_here() && candidate.set->packed != nullptr) return *candidate.set;
    }
    return baseline_set;
}

}  // namespace

const SimdProvider& simd() {
    static const SimdProvider& chosen = *kCandidates[chosen_index()].set->simd;
    return chosen;
}

const InstructionSet& instruction_set() {
    static const InstructionSet& chosen = choose_with_registers();
    return chosen;
}

const Bf16InstructionSet* bf16_instruction_set() {
    static const Bf16InstructionSet* const chosen = []() -> const Bf16InstructionSet* {
        const std::string name = forced_name();
        for (const Bf16InstructionSet* set : bf16_sets()) {
            if (name.empty() ? beats_float32(*set) : name == set->name) return set;
        }
        return nullptr;
    }();
    return chosen;
}

double multiply_add_flops_per_ns(std::string_view name) {
    for (const Candidate& candidate : kCandidates) {
        if (name != candidate.set->name() || !candidate.runs_here()) continue;
        const auto multiply_add = candidate.set->simd->multiply_add;
        return multiply_add == nullptr ? 0.0 : flops_per_ns(multiply_add);
    }
    return 0.0;
}

std::vector<std::string> simd_built() {
    std::vector<std::string> names;
    for (const Candidate& candidate : kCandidates) names.emplace_back(candidate.set->name());
    return names;
}

std::vector<std::string> simd_available() {
    std::vector<std::string> names;
    for (const Candidate& candidate : kCandidates) {
        if (candidate.runs_here()) names.emplace_back(candidate.set->name());
    }
    return names;
}

std::vector<std::string> simd_bf16_available() {
    std::vector<std::string> names;
    for (const Bf16InstructionSet* set : bf16_sets()) names.emplace_back(set->name);
    return names;
}

}  // namespace ablation
