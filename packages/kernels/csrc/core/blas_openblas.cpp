// OpenBLAS, loaded at run time from the library that the scipy-openblas32 wheel ships.
#if !defined(ABLATION_APPLE)

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>

#include "blas.h"
#include "blas_lanes.h"
#include "isa/cpu_features.h"
#include "isa/simd.h"

namespace ablation {

namespace {

constexpr int kRowMajor = 101;
constexpr int kNoTranspose = 111;
constexpr int kTranspose = 112;

// The interface takes 32-bit sizes: longer products are done this many rows at a time.
constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;

using CblasSgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                            float alpha, const float* a, int lda, const float* b, int ldb,
                            float beta, float* c, int ldc);

CblasSgemm cblas_sgemm = nullptr;
BlasInfo info;

/// Sets a variable of the process environment until the end of the scope.
class ScopedVariable {
  public:
    ScopedVariable(const char* name, const char* value) : name_(name) {
        if (const char* old = std::getenv(name)) previous_ = old;
        setenv(name, value, 1);
    }
    ~ScopedVariable() {
        if (previous_) {
            setenv(name_, previous_->c_str(), 1);
        } else {
            unsetenv(name_);
        }
    }
    ScopedVariable(const ScopedVariable&) = delete;
    ScopedVariable& operator=(const ScopedVariable&) = delete;

  private:
    const char* name_;
    std::optional<std::string> previous_;
};

/// Whether this CPU multiplies faster in 512-bit registers, which not every AVX-512 CPU does: some
/// pass them through 256-bit units, or have one 512-bit unit beside two of 256. Measured, in a
/// fraction of a millisecond. Where it is no faster, the AVX2 kernels are better: by 4 % on a
/// Zen 4 (docs/performance.md).
bool wide_registers_are_faster() {
    return multiply_add_flops_per_ns("avx512") > 1.25 * multiply_add_flops_per_ns("avx2");
}

/// The core whose kernels OpenBLAS should use, or null where its own detection is right. Detection
/// goes by CPU model, so that a virtual machine or a newer CPU may get a core far below what it can
/// run; and an instruction set forced on the row primitives has to hold for the products as well.
const char* wanted_core() {
    const CpuFeatures& cpu = cpu_features();
    const std::string simd_in_use = simd().name;
    if (simd_in_use == "avx512" && !cpu.amx_bf16) {
        return wide_registers_are_faster() ? "SkylakeX" : "Haswell";
    }
    if (simd_in_use == "avx2" && cpu.avx512) return "Haswell";
    if (simd_in_use == "baseline" && cpu.avx2_fma) return "Nehalem";
    return nullptr;
}

template <class Function>
Function find_symbol(void* library, const char* name, const std::string& path) {
    void* symbol = dlsym(library, name);
    if (symbol == nullptr) {
        throw std::runtime_error("blas: '" + path + "' has no symbol " + name +
                                 "; expected the OpenBLAS of the scipy-openblas32 package");
    }
    return reinterpret_cast<Function>(symbol);
}

void* open_library(const std::string& path) {
    // OpenBLAS reads both when it is loaded; with one thread it starts none.
    const ScopedVariable threads("OPENBLAS_NUM_THREADS", "1");
    std::optional<ScopedVariable> core;
    const char* user_core = std::getenv("OPENBLAS_CORETYPE");
    const char* own_core = wanted_core();
    if ((user_core == nullptr || *user_core == '\0') && own_core != nullptr) {
        core.emplace("OPENBLAS_CORETYPE", own_core);
        info.wanted_core = own_core;
    }
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* reason = dlerror();
        throw std::runtime_error("blas: cannot load '" + path +
                                 "': " + (reason != nullptr ? reason : "unknown error"));
    }
    return library;
}

}  // namespace

void blas_initialize(const std::string& path) {
    if (cblas_sgemm != nullptr) return;
    require_memory_to_load_blas();
    void* library = open_library(path);
    const auto product = find_symbol<CblasSgemm>(library, "scipy_cblas_sgemm", path);
    const auto core = find_symbol<char* (*)()>(library, "scipy_openblas_get_corename", path);
    const auto config = find_symbol<char* (*)()>(library, "scipy_openblas_get_config", path);
    // The environment comes too late where another package has already loaded this very file.
    find_symbol<void (*)(int)>(library, "scipy_openblas_set_num_threads", path)(1);
    open_blas_lanes(library);
    info.provider = "openblas";
    info.core = core();
    info.library = config();
    cblas_sgemm = product;
}

const BlasInfo& blas_info() { return info; }

void sgemm(bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
           const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc) {
    const BlasLane lane;
    for (std::int64_t row = 0; row < m; row += kMaxRows) {
        const std::int64_t rows = std::min(kMaxRows, m - row);
        cblas_sgemm(kRowMajor, kNoTranspose, transpose_b ? kTranspose : kNoTranspose,
                    static_cast<int>(rows), static_cast<int>(n), static_cast<int>(k), alpha,
                    a + row * lda, static_cast<int>(lda), b, static_cast<int>(ldb), beta,
                    c + row * ldc, static_cast<int>(ldc));
    }
}

}  // namespace ablation

#endif
