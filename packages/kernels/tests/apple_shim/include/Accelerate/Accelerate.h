// Stand-in for Apple's <Accelerate/Accelerate.h>: the functions that the kernels use, with their C
// signatures.
#pragma once

extern "C" {

// vDSP: A, B, C inputs with strides I*, the output last, then the count.
typedef unsigned long vDSP_Length;
typedef long vDSP_Stride;

void vDSP_vadd(const float* A, vDSP_Stride IA, const float* B, vDSP_Stride IB, float* C,
               vDSP_Stride IC, vDSP_Length N);
/// C = A - B; note that B comes first.
void vDSP_vsub(const float* B, vDSP_Stride IB, const float* A, vDSP_Stride IA, float* C,
               vDSP_Stride IC, vDSP_Length N);
void vDSP_vmul(const float* A, vDSP_Stride IA, const float* B, vDSP_Stride IB, float* C,
               vDSP_Stride IC, vDSP_Length N);
/// C = A / B; note that B comes first.
void vDSP_vdiv(const float* B, vDSP_Stride IB, const float* A, vDSP_Stride IA, float* C,
               vDSP_Stride IC, vDSP_Length N);
/// C = A + *B.
void vDSP_vsadd(const float* A, vDSP_Stride IA, const float* B, float* C, vDSP_Stride IC,
                vDSP_Length N);
/// C = A * *B.
void vDSP_vsmul(const float* A, vDSP_Stride IA, const float* B, float* C, vDSP_Stride IC,
                vDSP_Length N);
/// C = A / *B.
void vDSP_vsdiv(const float* A, vDSP_Stride IA, const float* B, float* C, vDSP_Stride IC,
                vDSP_Length N);
/// C = *A / B.
void vDSP_svdiv(const float* A, const float* B, vDSP_Stride IB, float* C, vDSP_Stride IC,
                vDSP_Length N);
/// D = A * *B + *C.
void vDSP_vsmsa(const float* A, vDSP_Stride IA, const float* B, const float* C, float* D,
                vDSP_Stride ID, vDSP_Length N);
/// D = A * *B + C.
void vDSP_vsma(const float* A, vDSP_Stride IA, const float* B, const float* C, vDSP_Stride IC,
               float* D, vDSP_Stride ID, vDSP_Length N);
/// D = A * B + C.
void vDSP_vma(const float* A, vDSP_Stride IA, const float* B, vDSP_Stride IB, const float* C,
              vDSP_Stride IC, float* D, vDSP_Stride ID, vDSP_Length N);
void vDSP_vsq(const float* A, vDSP_Stride IA, float* C, vDSP_Stride IC, vDSP_Length N);
void vDSP_vfill(const float* A, float* C, vDSP_Stride IC, vDSP_Length N);
void vDSP_sve(const float* A, vDSP_Stride IA, float* C, vDSP_Length N);
void vDSP_svesq(const float* A, vDSP_Stride IA, float* C, vDSP_Length N);
void vDSP_maxv(const float* A, vDSP_Stride IA, float* C, vDSP_Length N);

// vForce: output, input, count.
void vvexpf(float* y, const float* x, const int* n);
void vvtanhf(float* y, const float* x, const int* n);

// CBLAS.
enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112, CblasConjTrans = 113 };
void cblas_sgemm(enum CBLAS_ORDER ORDER, enum CBLAS_TRANSPOSE TRANSA, enum CBLAS_TRANSPOSE TRANSB,
                 int M, int N, int K, float ALPHA, const float* A, int LDA, const float* B, int LDB,
                 float BETA, float* C, int LDC);

// Threading of CBLAS: the macro says that the SDK has macOS 15's functions.
#define __MAC_15_0 150000
typedef enum BLAS_THREADING {
    BLAS_THREADING_MULTI_THREADED,
    BLAS_THREADING_SINGLE_THREADED,
    BLAS_THREADING_MAX_OPTIONS
} BLAS_THREADING;
int BLASSetThreading(BLAS_THREADING threading);
BLAS_THREADING BLASGetThreading(void);
}
