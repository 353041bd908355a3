// A kernel with a race, whose result comes out right all the same: the program itself sees nothing.
#include "check.h"

__global__ void reverse(int *data) {
    __shared__ int tile[64];
    tile[threadIdx.x] = data[threadIdx.x];
    // Here a __syncthreads() is missing.
    data[threadIdx.x] = tile[63 - threadIdx.x];
}

int main() {
    int *data;
    CHECK(cudaMalloc(&data, 64 * sizeof(int)));
    CHECK(cudaMemset(data, 0, 64 * sizeof(int)));
    reverse<<<1, 64>>>(data);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    printf("ok\n");
}
