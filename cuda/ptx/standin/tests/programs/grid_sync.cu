// A cooperative launch: CTAs that wait for each other, with dynamic shared memory beyond 48 KiB.
#include <cooperative_groups.h>

#include "check.h"

namespace cg = cooperative_groups;

__global__ void sum(const int *in, int *partial, int *out) {
    extern __shared__ int values[];
    cg::grid_group grid = cg::this_grid();
    values[threadIdx.x] = in[grid.thread_rank()];
    __syncthreads();
    if (threadIdx.x == 0) {
        int total = 0;
        for (int i = 0; i < blockDim.x; i++) total += values[i];
        partial[blockIdx.x] = total;
    }
    grid.sync();
    if (grid.thread_rank() == 0) {
        int total = 0;
        for (int i = 0; i < gridDim.x; i++) total += partial[i];
        *out = total;
    }
}

int main() {
    const int blocks = 8, threads = 64, n = blocks * threads, bytes = 64 << 10;
    int host[n], *in, *partial, *out, total;
    for (int i = 0; i < n; i++) host[i] = i;
    CHECK(cudaMalloc(&in, sizeof(host)));
    CHECK(cudaMalloc(&partial, blocks * sizeof(int)));
    CHECK(cudaMalloc(&out, sizeof(int)));
    CHECK(cudaMemcpy(in, host, sizeof(host), cudaMemcpyHostToDevice));
    void *args[] = {&in, &partial, &out};
    REQUIRE(cudaLaunchCooperativeKernel((void *)sum, blocks, threads, args, bytes) == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(sum, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    int held;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&held, sum, threads, bytes));
    REQUIRE(held == 3);
    REQUIRE(cudaLaunchCooperativeKernel((void *)sum, 132 * held + 1, threads, args, bytes) == cudaErrorCooperativeLaunchTooLarge);
    CHECK(cudaLaunchCooperativeKernel((void *)sum, blocks, threads, args, bytes));
    CHECK(cudaMemcpy(&total, out, sizeof(total), cudaMemcpyDeviceToHost));
    REQUIRE(total == n * (n - 1) / 2);
    printf("ok\n");
}
