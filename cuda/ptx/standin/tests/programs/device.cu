// What the device says of itself and of kernels.
#include <cstring>

#include "check.h"

__global__ void __launch_bounds__(128) small(float *x) {
    __shared__ float y[256];
    y[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = y[127 - threadIdx.x];
}

int main() {
    cudaDeviceProp p;
    CHECK(cudaGetDeviceProperties(&p, 0));
    REQUIRE(strncmp(p.name, "NVIDIA H100", 11) == 0);
    REQUIRE(p.major == 9 && p.minor == 0 && p.multiProcessorCount == 132 && p.warpSize == 32);
    REQUIRE(p.totalGlobalMem == 80ull << 30 && p.sharedMemPerBlock == 48 << 10 && p.sharedMemPerBlockOptin == 227 << 10);
    REQUIRE(p.sharedMemPerMultiprocessor == 228 << 10 && p.maxThreadsPerMultiProcessor == 2048 && p.regsPerMultiprocessor == 65536);
    REQUIRE(p.maxGridSize[0] == 0x7fffffff && p.maxThreadsDim[2] == 64 && p.cooperativeLaunch && p.clusterLaunch && p.managedMemory);
    REQUIRE(p.reservedSharedMemPerBlock == 1024 && p.maxBlocksPerMultiProcessor == 32 && p.memoryPoolsSupported);
    REQUIRE(p.l2CacheSize == 50 << 20 && p.memoryBusWidth == 5120 && p.unifiedAddressing && p.asyncEngineCount == 3);
    int value;
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    REQUIRE(value == 227 << 10);
    REQUIRE(cudaSetDevice(1) == cudaErrorInvalidDevice);
    cudaFuncAttributes a;
    CHECK(cudaFuncGetAttributes(&a, small));
    REQUIRE(a.sharedSizeBytes == 1024 && a.maxThreadsPerBlock == 128 && a.binaryVersion == 90);
    int held;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&held, small, 128, 0));
    REQUIRE(held == 16);
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&held, small, 128, 100 << 10));
    REQUIRE(held == 2);
    size_t free, total;
    void *block;
    CHECK(cudaMalloc(&block, 1 << 20));
    CHECK(cudaMemGetInfo(&free, &total));
    REQUIRE(total == 80ull << 30 && free == total - (1 << 20));
    REQUIRE(cudaMalloc(&block, 1ull << 40) == cudaErrorMemoryAllocation);
    printf("ok\n");
}
