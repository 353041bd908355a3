// Clusters, TMA and mbarriers: the tensor map comes from the driver, found by name, and is passed inside a struct.
#include <cuda.h>

#include "check.h"

constexpr int ROWS = 64, COLUMNS = 32, BOX = 16;

struct Params {
    int scale;
    CUtensorMap map;
    float *out;
};

__device__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

__global__ __cluster_dims__(2, 1, 1) void scale(const __grid_constant__ Params params) {
    __shared__ alignas(128) float tile[BOX * COLUMNS];
    __shared__ alignas(8) uint64_t full;
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full)) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&full)), "r"(BOX * COLUMNS * 4)
                     : "memory");
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                         shared_address(tile)),
                     "l"(&params.map), "r"(0), "r"((int)blockIdx.x * BOX), "r"(shared_address(&full))
                     : "memory");
    }
    asm volatile("{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n@!p bra again;\n}" ::"r"(
                     shared_address(&full))
                 : "memory");
    for (int i = threadIdx.x; i < BOX * COLUMNS; i += blockDim.x)
        params.out[blockIdx.x * BOX * COLUMNS + i] = tile[i] * params.scale + rank;
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

int main() {
    static float host[ROWS * COLUMNS], got[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) host[i] = i;
    float *in;
    Params params;
    CHECK(cudaMalloc(&in, sizeof(host)));
    CHECK(cudaMalloc(&params.out, sizeof(host)));
    CHECK(cudaMemcpy(in, host, sizeof(host), cudaMemcpyHostToDevice));
    void *entry;
    cudaDriverEntryPointQueryResult found;
    CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
    REQUIRE(found == cudaDriverEntryPointSuccess);
    auto encode = (decltype(&cuTensorMapEncodeTiled))entry;
    cuuint64_t dims[] = {COLUMNS, ROWS}, strides[] = {COLUMNS * sizeof(float)};
    cuuint32_t box[] = {COLUMNS, BOX}, steps[] = {1, 1};
    auto map = [&](CUtensorMapSwizzle swizzle) {
        return encode(&params.map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, in, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                      swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    };
    // Rows of 128 bytes are more than the span of this swizzle.
    REQUIRE(map(CU_TENSOR_MAP_SWIZZLE_64B) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE(map(CU_TENSOR_MAP_SWIZZLE_NONE) == CUDA_SUCCESS);
    params.scale = 3;
    scale<<<ROWS / BOX, 128>>>(params);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(got, params.out, sizeof(got), cudaMemcpyDeviceToHost));
    for (int i = 0; i < ROWS * COLUMNS; i++) REQUIRE(got[i] == 3 * i + i / (BOX * COLUMNS) % 2);
    printf("ok\n");
}
