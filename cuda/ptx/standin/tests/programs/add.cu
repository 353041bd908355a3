// Memory, a kernel by <<<>>>, its printf between the program's own, its results.
#include "check.h"

template <typename T>
__global__ void add(const T *a, const T *b, T *c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
    if (i == 0) printf("thread 0 of %d\n", n);
}

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    float *host = new float[n], *a, *b, *c;
    for (int i = 0; i < n; i++) host[i] = i;
    CHECK(cudaMalloc(&a, n * sizeof(float)));
    CHECK(cudaMalloc(&b, n * sizeof(float)));
    CHECK(cudaMalloc(&c, n * sizeof(float)));
    CHECK(cudaMemcpy(a, host, n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(b, a, n * sizeof(float), cudaMemcpyDefault));
    printf("before\n");
    add<<<(n + 127) / 128, 128>>>(a, b, c, n);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    printf("after\n");
    CHECK(cudaMemcpy(host, c, n * sizeof(float), cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++) REQUIRE(host[i] == 2 * i);
    // A launch that cannot be is refused, reported once, and forgotten.
    add<<<1, 2048>>>(a, b, c, n);
    REQUIRE(cudaGetLastError() == cudaErrorInvalidConfiguration);
    REQUIRE(cudaGetLastError() == cudaSuccess);
    CHECK(cudaFree(a));
    REQUIRE(cudaFree(a) == cudaErrorInvalidValue);
    printf("ok\n");
    return argc > 2 ? atoi(argv[2]) : 0;
}
