// The kernels of pranjalssh/fast.cu on small matrices, checked against a product computed on the host.
// usage: fast_cu FIRST LAST [M N K]
#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda/barrier>
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>
#include <iostream>
typedef __nv_bfloat16 bf16;
#define CEIL_DIV(M, N) (((M) + (N)-1) / (N))
static void check(cudaError_t e, const char *f, int l) { if (e) { printf("%s:%d: %s\n", f, l, cudaGetErrorString(e)); exit(1); } }
#define cudaCheck(e) check(e, __FILE__, __LINE__)
#include "examples/matmul/matmul_1.cuh"
#include "examples/matmul/matmul_2.cuh"
#include "examples/matmul/matmul_3.cuh"
#include "examples/matmul/matmul_4.cuh"
#include "examples/matmul/matmul_5.cuh"
#include "examples/matmul/matmul_6.cuh"
#include "examples/matmul/matmul_7.cuh"
#include "examples/matmul/matmul_8.cuh"
#include "examples/matmul/matmul_9.cuh"
#include "examples/matmul/matmul_10.cuh"
#include "examples/matmul/matmul_11.cuh"
#include "examples/matmul/matmul_12.cuh"

static void run(int i, int M, int N, int K, bf16 *A, bf16 *B, bf16 *C, int *DB) {
    switch (i) {
    case 1: return runKernel1(M, N, K, A, B, C);
    case 2: return runKernel2(M, N, K, A, B, C);
    case 3: return runKernel3(M, N, K, A, B, C, DB);
    case 4: return runKernel4(M, N, K, A, B, C, DB);
    case 5: return runKernel5(M, N, K, A, B, C, DB);
    case 6: return runKernel6(M, N, K, A, B, C, DB);
    case 7: return runKernel7(M, N, K, A, B, C, DB);
    case 8: return runKernel8(M, N, K, A, B, C, DB);
    case 9: return runKernel9(M, N, K, A, B, C, DB);
    case 10: return runKernel10(M, N, K, A, B, C, DB);
    case 11: return runKernel11(M, N, K, A, B, C, DB);
    case 12: return runKernel12(M, N, K, A, B, C, DB);
    }
}

int main(int argc, char **argv) {
    int first = atoi(argv[1]), last = atoi(argv[2]);
    int M = argc > 3 ? atoi(argv[3]) : 512, N = argc > 4 ? atoi(argv[4]) : M, K = argc > 5 ? atoi(argv[5]) : M;
    std::mt19937 g(1);
    std::normal_distribution<float> d;
    std::vector<bf16> A(M * K), B(K * N), C(M * N);
    for (auto &x : A) x = d(g);
    for (auto &x : B) x = d(g);
    // A row-major, B column-major, C column-major.
    std::vector<float> want(M * N), fa(M * K), fb(K * N);
    for (size_t i = 0; i < A.size(); i++) fa[i] = A[i];
    for (size_t i = 0; i < B.size(); i++) fb[i] = B[i];
    for (int n = 0; n < N; n++)
        for (int m = 0; m < M; m++) {
            float s = 0;
            for (int k = 0; k < K; k++) s += fa[m * K + k] * fb[n * K + k];
            want[n * M + m] = s;
        }
    bf16 *dA, *dB, *dC;
    int *DB;
    cudaCheck(cudaMalloc(&dA, A.size() * 2));
    cudaCheck(cudaMalloc(&dB, B.size() * 2));
    cudaCheck(cudaMalloc(&dC, C.size() * 2));
    cudaCheck(cudaMalloc(&DB, 8192 * 128 * 4));
    cudaCheck(cudaMemset(DB, 0xff, 8192 * 128 * 4));
    cudaCheck(cudaMemcpy(dA, A.data(), A.size() * 2, cudaMemcpyHostToDevice));
    cudaCheck(cudaMemcpy(dB, B.data(), B.size() * 2, cudaMemcpyHostToDevice));
    int bad = 0;
    for (int i = first; i <= last; i++) {
        cudaCheck(cudaMemset(dC, 0xff, C.size() * 2));
        run(i, M, N, K, dA, dB, dC, DB);
        cudaCheck(cudaDeviceSynchronize());
        cudaCheck(cudaMemcpy(C.data(), dC, C.size() * 2, cudaMemcpyDeviceToHost));
        double worst = 0;
        for (size_t j = 0; j < C.size(); j++) {
            double e = fabs((float)C[j] - want[j]) / (1 + fabs(want[j]));
            if (!(e <= worst)) worst = e != e ? 1e30 : e;
        }
        bool ok = worst < 0.01;
        bad += !ok;
        printf("kernel %d: %s, worst %.4g\n", i, ok ? "PASS" : "FAIL", worst);
        fflush(stdout);
    }
    return bad;
}
