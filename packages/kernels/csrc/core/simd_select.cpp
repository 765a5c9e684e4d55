// Which SIMD provider is used: the best that the CPU can run, unless ABLATION_SIMD names another.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "clock.h"
#include "cpu_features.h"
#include "simd.h"

namespace ablation {

#if defined(ABLATION_APPLE)
extern const SimdProvider vdsp_provider;
#endif
#if defined(__x86_64__)
extern const SimdProvider avx512_provider;
extern const SimdProvider avx2_provider;
std::int64_t multiply_add_avx512_bf16(std::int64_t rounds, float* sink);
#endif
#if defined(__aarch64__)
extern const SimdProvider neon_provider;
#endif
extern const SimdProvider baseline_provider;

namespace {

struct Candidate {
    const SimdProvider* provider;
    bool (*runs_here)();
};

/// Best first.
constexpr std::array kCandidates = {
#if defined(ABLATION_APPLE)
    Candidate{&vdsp_provider, [] { return true; }},
#endif
#if defined(__x86_64__)
    Candidate{&avx512_provider, [] { return cpu_features().avx512; }},
    Candidate{&avx2_provider, [] { return cpu_features().avx2_fma; }},
#endif
#if defined(__aarch64__)
    Candidate{&neon_provider, [] { return cpu_features().neon; }},
#endif
    Candidate{&baseline_provider, [] { return true; }},
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

/// Sets above avx512 that only the kernels of bfloat16 know.
struct Bf16Candidate {
    const char* name;
    bool (*runs_here)();
    bool (*is_faster)();  ///< than float32 by the best set
};

/// Best first.
constexpr std::array kBf16Candidates = {
    Bf16Candidate{"amx_bf16", may_use_amx, [] { return true; }},
#if defined(__x86_64__)
    // Measured: an Emerald Rapids begins a vdpbf16ps every two cycles and two vfmadd in each.
    Bf16Candidate{"avx512_bf16", [] { return cpu_features().avx512_bf16; },
                  [] {
                      return flops_per_ns(multiply_add_avx512_bf16) >
                             flops_per_ns(avx512_provider.multiply_add);
                  }},
#endif
};

std::string forced_name() {
    const char* forced = std::getenv("ABLATION_SIMD");
    return forced == nullptr ? "" : forced;
}

const SimdProvider& choose() {
    const std::string name = forced_name();
    const std::vector<std::string> of_bf16 = simd_bf16_available();
    const bool is_of_bf16 = std::find(of_bf16.begin(), of_bf16.end(), name) != of_bf16.end();
    const std::string wanted = is_of_bf16 ? "avx512" : name;
    for (const Candidate& candidate : kCandidates) {
        if (!candidate.runs_here()) continue;
        if (wanted.empty() || wanted == candidate.provider->name) return *candidate.provider;
    }
    std::string valid;
    for (const auto& names : {of_bf16, simd_available()}) {
        for (const std::string& available : names) valid += (valid.empty() ? "" : ", ") + available;
    }
    throw std::runtime_error("ABLATION_SIMD is '" + name + "'; this machine can run: " + valid);
}

}  // namespace

const SimdProvider& simd() {
    static const SimdProvider& chosen = choose();
    return chosen;
}

std::string_view simd_bf16() {
    static const std::string_view chosen = [] {
        const std::string name = forced_name();
        for (const Bf16Candidate& candidate : kBf16Candidates) {
            const bool is_forced = name == candidate.name;
            if (!is_forced && !name.empty()) continue;
            if (candidate.runs_here() && (is_forced || candidate.is_faster())) {
                return std::string_view(candidate.name);
            }
        }
        return std::string_view();
    }();
    return chosen;
}

double multiply_add_flops_per_ns(const std::string& provider) {
    for (const Candidate& candidate : kCandidates) {
        if (provider != candidate.provider->name || !candidate.runs_here()) continue;
        const auto multiply_add = candidate.provider->multiply_add;
        return multiply_add == nullptr ? 0.0 : flops_per_ns(multiply_add);
    }
    return 0.0;
}

const SimdProvider& simd_with_multiply_add() {
    bool below = false;
    for (const Candidate& candidate : kCandidates) {
        below = below || candidate.provider == &simd();
        if (below && candidate.runs_here() && candidate.provider->multiply_add != nullptr) {
            return *candidate.provider;
        }
    }
    return baseline_provider;
}

std::string_view vector_instruction_set() { return simd_with_multiply_add().name; }

std::vector<std::string> simd_available() {
    std::vector<std::string> names;
    for (const Candidate& candidate : kCandidates) {
        if (candidate.runs_here()) names.emplace_back(candidate.provider->name);
    }
    return names;
}

std::vector<std::string> simd_bf16_available() {
    std::vector<std::string> names;
    for (const Bf16Candidate& candidate : kBf16Candidates) {
        if (candidate.runs_here()) names.emplace_back(candidate.name);
    }
    return names;
}

std::vector<std::string> simd_built() {
    std::vector<std::string> names;
    for (const Candidate& candidate : kCandidates) names.emplace_back(candidate.provider->name);
    return names;
}

}  // namespace ablation
