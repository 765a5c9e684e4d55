// Apple's Accelerate framework.
#if defined(ABLATION_APPLE)

#if !defined(ACCELERATE_NEW_LAPACK)
#define ACCELERATE_NEW_LAPACK  // the maintained CBLAS interface (macOS 13.3)
#endif
#include <Accelerate/Accelerate.h>

#include <algorithm>
#include <string>

#include "blas.h"

// BLASSetThreading needs the macOS 15 SDK to compile and macOS 15 to run.
#if defined(__MAC_15_0)
#define ABLATION_BLAS_THREADING 1
#if defined(__clang__)
#define ABLATION_BLAS_THREADING_AVAILABLE __builtin_available(macOS 15.0, *)
#else
#define ABLATION_BLAS_THREADING_AVAILABLE true
#endif
#endif

namespace ablation {

namespace {

// The interface takes 32-bit sizes: longer products are done this many rows at a time.
constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;

#if defined(ABLATION_BLAS_THREADING)
/// Keeps Accelerate to the calling thread until the end of the scope. The setting belongs to the
/// thread, and the caller's own is restored: the thread may be the application's.
class SingleThreaded {
  public:
    SingleThreaded() {
        if (ABLATION_BLAS_THREADING_AVAILABLE) {
            previous_ = static_cast<int>(BLASGetThreading());
            changed_ = previous_ != static_cast<int>(BLAS_THREADING_SINGLE_THREADED);
            if (changed_) BLASSetThreading(BLAS_THREADING_SINGLE_THREADED);
        }
    }
    ~SingleThreaded() {
        if (ABLATION_BLAS_THREADING_AVAILABLE) {
            if (changed_) BLASSetThreading(static_cast<BLAS_THREADING>(previous_));
        }
    }
    SingleThreaded(const SingleThreaded&) = delete;
    SingleThreaded& operator=(const SingleThreaded&) = delete;

  private:
    int previous_ = 0;
    bool changed_ = false;
};
#else
/// Before macOS 15 there is no call for it: Accelerate decides, or the user through
/// VECLIB_MAXIMUM_THREADS.
struct SingleThreaded {
    SingleThreaded() {}
    ~SingleThreaded() {}
};
#endif

}  // namespace

void blas_initialize(const std::string&) {}

const BlasInfo& blas_info() {
    static const BlasInfo info{"accelerate", "", "Accelerate.framework"};
    return info;
}

void sgemm(bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
           const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc) {
    const SingleThreaded single_threaded;
    for (std::int64_t row = 0; row < m; row += kMaxRows) {
        const std::int64_t rows = std::min(kMaxRows, m - row);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
                    static_cast<int>(rows), static_cast<int>(n), static_cast<int>(k), alpha,
                    a + row * lda, static_cast<int>(lda), b, static_cast<int>(ldb), beta,
                    c + row * ldc, static_cast<int>(ldc));
    }
}

}  // namespace ablation

#endif
