// Kernels that end early: the failure is the kernel's, and stays.
#include <cassert>
#include <cstring>

#include "check.h"

__global__ void outside(int *data) { data[1 << 20] = 1; }
__global__ void claim(int *data) { assert(data == nullptr); }

int main(int argc, char **argv) {
    int *data;
    CHECK(cudaMalloc(&data, 64));
    bool asserts = argc > 1 && strcmp(argv[1], "assert") == 0;
    if (asserts) claim<<<1, 1>>>(data);
    else outside<<<1, 1>>>(data);
    cudaError_t want = asserts ? cudaErrorAssert : cudaErrorIllegalAddress;
    REQUIRE(cudaDeviceSynchronize() == want);
    REQUIRE(cudaGetLastError() == want);
    REQUIRE(cudaMalloc(&data, 64) == want);
    printf("ok\n");
}
