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

/// A set above avx512 that only the kernels of bfloat16 know.
constexpr std::string_view kBf16 = "avx512_bf16";

std::string forced_name() {
    const char* forced = std::getenv("ABLATION_SIMD");
    return forced == nullptr ? "" : forced;
}

const SimdProvider& choose() {
    const std::string name = forced_name();
    const bool has_bf16 = cpu_features().avx512_bf16;
    const std::string wanted = has_bf16 && name == kBf16 ? "avx512" : name;
    for (const Candidate& candidate : kCandidates) {
        if (!candidate.runs_here()) continue;
        if (wanted.empty() || wanted == candidate.provider->name) return *candidate.provider;
    }
    std::string valid = has_bf16 ? std::string(kBf16) : "";
    for (const std::string& available : simd_available()) {
        valid += (valid.empty() ? "" : ", ") + available;
    }
    throw std::runtime_error("ABLATION_SIMD is '" + name + "'; this machine can run: " + valid);
}

}  // namespace

const SimdProvider& simd() {
    static const SimdProvider& chosen = choose();
    return chosen;
}

bool simd_multiplies_bf16() {
    static const bool multiplies = [] {
        const std::string name = forced_name();
        return cpu_features().avx512_bf16 && (name.empty() || name == kBf16);
    }();
    return multiplies;
}

double multiply_add_flops_per_ns(const std::string& provider) {
    constexpr int kRepeats = 9;
    constexpr std::int64_t kRounds = 8000;
    double best = 0.0;
    for (const Candidate& candidate : kCandidates) {
        const auto multiply_add = candidate.provider->multiply_add;
        if (provider != candidate.provider->name || !candidate.runs_here()) continue;
        if (multiply_add == nullptr) return 0.0;
        for (int repeat = 0; repeat < kRepeats; ++repeat) {
            float sink = 0.0F;
            const std::int64_t start = clock_ns();
            const auto flops = static_cast<double>(multiply_add(kRounds, &sink));
            best = std::max(best, flops / static_cast<double>(clock_ns() - start));
        }
    }
    return best;
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

std::vector<std::string> simd_built() {
    std::vector<std::string> names;
    for (const Candidate& candidate : kCandidates) names.emplace_back(candidate.provider->name);
    return names;
}

}  // namespace ablation
