// What the stand-in headers declare, in plain loops: the Apple providers run on any machine in the
// tests. Speed means nothing here; argument order, strides and in-place use follow Apple's
// documentation.
#include <Accelerate/Accelerate.h>
#include <dispatch/dispatch.h>
#include <mach/mach_time.h>

#include <cmath>
#include <cstdint>
#include <ctime>
#include <thread>
#include <vector>

namespace {

/// A setting of the thread, as on macOS.
thread_local BLAS_THREADING blas_threading = BLAS_THREADING_MULTI_THREADED;

/// C[i] = function(A[i], B[i]); a scalar operand has stride 0.
template <class Function>
void zip(const float* a, vDSP_Stride ia, const float* b, vDSP_Stride ib, float* c, vDSP_Stride ic,
         vDSP_Length n, Function function) {
    for (long i = 0; i < static_cast<long>(n); ++i) c[i * ic] = function(a[i * ia], b[i * ib]);
}

float plus(float a, float b) { return a + b; }
float minus(float a, float b) { return a - b; }
float times(float a, float b) { return a * b; }
float over(float a, float b) { return a / b; }

}  // namespace

extern "C" {

void vDSP_vadd(const float* A, vDSP_Stride IA, const float* B, vDSP_Stride IB, float* C,
               vDSP_Stride IC, vDSP_Length N) {
    zip(A, IA, B, IB, C, IC, N, plus);
}

void vDSP_vsub(const float* B, vDSP_Stride IB, const float* A, vDSP_Stride IA, float* C,
               vDSP_Stride IC, vDSP_Length N) {
    zip(A, IA, B, IB, C, IC, N, minus);
}

void vDSP_vmul(const float* A, vDSP_Stride IA, const float* B, vDSP_Stride IB, float* C,
               vDSP_Stride IC, vDSP_Length N) {
    zip(A, IA, B, IB, C, IC, N, times);
}

void vDSP_vdiv(const float* B, vDSP_Stride IB, const float* A, vDSP_Stride IA, float* C,
               vDSP_Stride IC, vDSP_Length N) {
    zip(A, IA, B, IB, C, IC, N, over);
}

void vDSP_vsadd(const float* A, vDSP_Stride IA, const float* B, float* C, vDSP_Stride IC,
                vDSP_Length N) {
    zip(A, IA, B, 0, C, IC, N, plus);
}

void vDSP_vsmul(const float* A, vDSP_Stride IA, const float* B, float* C, vDSP_Stride IC,
                vDSP_Length N) {
    zip(A, IA, B, 0, C, IC, N, times);
}

void vDSP_vsdiv(const float* A, vDSP_Stride IA, const float* B, float* C, vDSP_Stride IC,
                vDSP_Length N) {
    zip(A, IA, B, 0, C, IC, N, over);
}

void vDSP_svdiv(const float* A, const float* B, vDSP_Stride IB, float* C, vDSP_Stride IC,
                vDSP_Length N) {
    zip(A, 0, B, IB, C, IC, N, over);
}

void vDSP_vsmsa(const float* A, vDSP_Stride IA, const float* B, const float* C, float* D,
                vDSP_Stride ID, vDSP_Length N) {
    for (long i = 0; i < static_cast<long>(N); ++i) D[i * ID] = A[i * IA] * *B + *C;
}

void vDSP_vsma(const float* A, vDSP_Stride IA, const float* B, const float* C, vDSP_Stride IC,
               float* D, vDSP_Stride ID, vDSP_Length N) {
    for (long i = 0; i < static_cast<long>(N); ++i) D[i * ID] = A[i * IA] * *B + C[i * IC];
}

void vDSP_vma(const float* A, vDSP_Stride IA, const float* B, vDSP_Stride IB, const float* C,
              vDSP_Stride IC, float* D, vDSP_Stride ID, vDSP_Length N) {
    for (long i = 0; i < static_cast<long>(N); ++i) D[i * ID] = A[i * IA] * B[i * IB] + C[i * IC];
}

void vDSP_vsq(const float* A, vDSP_Stride IA, float* C, vDSP_Stride IC, vDSP_Length N) {
    zip(A, IA, A, IA, C, IC, N, times);
}

void vDSP_vfill(const float* A, float* C, vDSP_Stride IC, vDSP_Length N) {
    for (long i = 0; i < static_cast<long>(N); ++i) C[i * IC] = *A;
}

void vDSP_sve(const float* A, vDSP_Stride IA, float* C, vDSP_Length N) {
    // Four partial sums, as any vector unit makes at least.
    float parts[4] = {};
    for (long i = 0; i < static_cast<long>(N); ++i) parts[i % 4] += A[i * IA];
    *C = (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

void vDSP_svesq(const float* A, vDSP_Stride IA, float* C, vDSP_Length N) {
    float parts[4] = {};
    for (long i = 0; i < static_cast<long>(N); ++i) parts[i % 4] += A[i * IA] * A[i * IA];
    *C = (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

void vDSP_maxv(const float* A, vDSP_Stride IA, float* C, vDSP_Length N) {
    // Steps over NaN, the worst that a caller may meet: Apple documents nothing about it.
    float largest = -INFINITY;
    for (long i = 0; i < static_cast<long>(N); ++i) {
        if (A[i * IA] > largest) largest = A[i * IA];
    }
    *C = largest;
}

void vvexpf(float* y, const float* x, const int* n) {
    for (int i = 0; i < *n; ++i) y[i] = std::exp(x[i]);
}

void vvtanhf(float* y, const float* x, const int* n) {
    for (int i = 0; i < *n; ++i) y[i] = std::tanh(x[i]);
}

void cblas_sgemm(enum CBLAS_ORDER ORDER, enum CBLAS_TRANSPOSE TRANSA, enum CBLAS_TRANSPOSE TRANSB,
                 int M, int N, int K, float ALPHA, const float* A, int LDA, const float* B, int LDB,
                 float BETA, float* C, int LDC) {
    if (ORDER == CblasColMajor) {
        // A column-major product is the row-major product of the operands exchanged.
        cblas_sgemm(CblasRowMajor, TRANSB, TRANSA, N, M, K, ALPHA, B, LDB, A, LDA, BETA, C, LDC);
        return;
    }
    const long lda = LDA, ldb = LDB, ldc = LDC;
    const long a_row = TRANSA == CblasNoTrans ? lda : 1,
               a_column = TRANSA == CblasNoTrans ? 1 : lda;
    const long b_row = TRANSB == CblasNoTrans ? ldb : 1,
               b_column = TRANSB == CblasNoTrans ? 1 : ldb;
    std::vector<float> row(static_cast<std::size_t>(N));
    for (long m = 0; m < M; ++m) {
        row.assign(row.size(), 0.0F);
        for (long k = 0; k < K; ++k) {
            const float a = A[m * a_row + k * a_column];
            for (long n = 0; n < N; ++n) {
                row[static_cast<std::size_t>(n)] += a * B[k * b_row + n * b_column];
            }
        }
        for (long n = 0; n < N; ++n) {
            const float product = ALPHA * row[static_cast<std::size_t>(n)];
            // beta = 0 overwrites, whatever C holds.
            C[m * ldc + n] = BETA == 0.0F ? product : product + BETA * C[m * ldc + n];
        }
    }
}

int BLASSetThreading(BLAS_THREADING threading) {
    if (threading >= BLAS_THREADING_MAX_OPTIONS) return -1;
    blas_threading = threading;
    return 0;
}

BLAS_THREADING BLASGetThreading(void) { return blas_threading; }

dispatch_queue_global_t dispatch_get_global_queue(std::intptr_t, std::uintptr_t) { return nullptr; }

void dispatch_apply_f(std::size_t iterations, dispatch_queue_t, void* context,
                      dispatch_apply_function_t work) {
    // One thread an iteration, the calling thread among them; returns when all are done.
    std::vector<std::thread> threads;
    for (std::size_t iteration = 1; iteration < iterations; ++iteration) {
        threads.emplace_back(work, context, iteration);
    }
    if (iterations > 0) work(context, 0);
    for (std::thread& thread : threads) thread.join();
}

kern_return_t mach_timebase_info(mach_timebase_info_t info) {
    // The timebase of Apple silicon: one tick is 125 / 3 nanoseconds.
    *info = {125, 3};
    return 0;
}

std::uint64_t mach_absolute_time(void) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const auto nanoseconds = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
                             static_cast<std::uint64_t>(now.tv_nsec);
    return nanoseconds / 125 * 3 + nanoseconds % 125 * 3 / 125;
}
}
