// Single-precision matrix products (providers: openblas, accelerate). Always on the calling thread
// alone.
#pragma once

#include <cstdint>
#include <string>

namespace ablation {

struct BlasInfo {
    /// "openblas" or "accelerate".
    std::string provider;
    /// Kernels in use, as the library names them ("SkylakeX"); empty if it does not tell.
    std::string core;
    /// Version or configuration string of the library.
    std::string library;
    /// Core asked of the library when it was loaded; empty where its own choice or the user's
    /// stands. A library that another package has loaded before keeps the core it has.
    std::string wanted_core;
};

/// Loads the library on first use. `path` is the shared library for providers that need one; called
/// once from the package's __init__ before any kernel runs. Throws std::runtime_error if it can't
/// be loaded, std::bad_alloc where memory is short.
void blas_initialize(const std::string& path);
const BlasInfo& blas_info();

/// C = alpha * A @ op(B) + beta * C, row-major: A (M, K) with row stride lda; B (K, N), or (N, K)
/// if transpose_b, row stride ldb; C (M, N), row stride ldc. beta == 0 overwrites C whatever it
/// holds. Runs on the calling thread only; safe to call from several threads at once. Throws
/// std::bad_alloc where the library finds no memory to work in.
void sgemm(bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
           const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc);

}  // namespace ablation
