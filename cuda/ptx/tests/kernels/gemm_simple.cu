// arch: sm_90a
// wgmma without warp specialisation: one warpgroup loads ahead of itself and multiplies.
#include "hopper.cuh"

// C += A B^T over a slice of K a CTA (blockIdx.z); the slices meet in C, which the host zeroed, through TMA's reduction.
// A is [M, K], B is [N, K] in bf16, C is [M, N] in f32. Tiles of 64 x 64, stages of 64.
KERNEL __launch_bounds__(128) gemm_split_k(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                                           const __grid_constant__ TensorMap map_c, int k) {
    constexpr int STAGES = 2;
    constexpr u32 BYTES = 64 * 128;
    extern __shared__ unsigned char memory[];
    const u32 tiles_a = align_1024(memory), tiles_b = tiles_a + STAGES * BYTES, tile_c = tiles_b + STAGES * BYTES;
    __shared__ u64 full_[STAGES];
    const u32 full = shared_address(full_);
    const int blocks = (k + 63) / 64, each = (blocks + gridDim.z - 1) / gridDim.z;
    const int first = blockIdx.z * each, last = min(blocks, first + each);
    const int row = blockIdx.y * 64, col = blockIdx.x * 64;

    if (threadIdx.x == 0) {
        prefetch_map(map_a);
        prefetch_map(map_b);
        for (int s = 0; s < STAGES; ++s) mbar_init(full + 8 * s, 1);
        fence_mbar_init();
    }
    __syncthreads();
    if (first >= last) return;

    auto load = [&](int block) {
        const u32 s = (block - first) % STAGES;
        mbar_expect_tx(full + 8 * s, 2 * BYTES);
        tma_load_2d(tiles_a + s * BYTES, map_a, full + 8 * s, block * 64, row);
        tma_load_2d(tiles_b + s * BYTES, map_b, full + 8 * s, block * 64, col);
    };
    if (threadIdx.x == 0)
#pragma unroll 1
        for (int block = first; block < min(last, first + STAGES); ++block) load(block);

    float d[32];
#pragma unroll 1
    for (int block = first; block < last; ++block) {
        const u32 s = (block - first) % STAGES, phase = (block - first) / STAGES & 1;
        mbar_wait(full + 8 * s, phase);
        const u64 a = descriptor_k_major(tiles_a + s * BYTES), b = descriptor_k_major(tiles_b + s * BYTES);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; ++i) wgmma(d, a + 2 * i, b + 2 * i, block > first || i > 0);
        wgmma_commit();
        // The group is the warpgroup's: once it is over, every warp is past its wait for this stage, and nothing reads it.
        wgmma_wait<0>();
        if (threadIdx.x == 0 && block + STAGES < last) load(block + STAGES);
    }

    // Two panels of 32 columns: 128 bytes a row is all that the swizzle allows.
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 32; i += 2) {
        const int r = 16 * warp + lane / 4 + 8 * (i >> 1 & 1), c = 8 * (i >> 2) + 2 * (lane % 4);
        const u32 at = tile_c + c / 32 * BYTES + r * 128 + (c % 32 * 4 ^ r % 8 * 16);
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(d[i]), "f"(d[i + 1]) : "memory");
    }
    fence_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        tma_reduce_add_2d(map_c, tile_c, col, row);
        tma_reduce_add_2d(map_c, tile_c + BYTES, col + 32, row);
        bulk_commit();
        bulk_wait<0>();
    }
}

// C = (A * scale_a) (B * scale_b)^T in e4m3 with f32 scales of each 128 of K, as the fp8 kernels of training have it: the tensor
// core's sum is taken into f32 registers every 128. A is [M, K], scale_a [K/128, M], B [N, K], scale_b [K/128], C [M, N] in f32.
KERNEL __launch_bounds__(128) gemm_fp8(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                                       const float* scale_a, const float* scale_b, float* out, int m, int n, int k) {
    constexpr int STAGES = 2;
    constexpr u32 BYTES = 64 * 128;
    extern __shared__ unsigned char memory[];
    const u32 tiles_a = align_1024(memory), tiles_b = tiles_a + STAGES * BYTES;
    __shared__ u64 full_[STAGES];
    const u32 full = shared_address(full_);
    const int blocks = k / 128, row = blockIdx.y * 64, col = blockIdx.x * 64;

    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) mbar_init(full + 8 * s, 1);
        fence_mbar_init();
    }
    __syncthreads();
    auto load = [&](int block) {
        const u32 s = block % STAGES;
        mbar_expect_tx(full + 8 * s, 2 * BYTES);
        tma_load_2d(tiles_a + s * BYTES, map_a, full + 8 * s, block * 128, row);
        tma_load_2d(tiles_b + s * BYTES, map_b, full + 8 * s, block * 128, col);
    };
    if (threadIdx.x == 0)
#pragma unroll 1
        for (int block = 0; block < min(blocks, STAGES); ++block) load(block);

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int r0 = row + 16 * warp + lane / 4, r1 = r0 + 8;
    float sum[32] = {}, d[32];
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        const u32 s = block % STAGES;
        mbar_wait(full + 8 * s, block / STAGES & 1);
        const u64 a = descriptor_k_major(tiles_a + s * BYTES), b = descriptor_k_major(tiles_b + s * BYTES);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; ++i) wgmma_n64_e4m3(d, a + 2 * i, b + 2 * i, i > 0);
        wgmma_commit();
        const float sb = scale_b[block];
        const float s0 = r0 < m ? sb * scale_a[block * m + r0] : 0.0f, s1 = r1 < m ? sb * scale_a[block * m + r1] : 0.0f;
        wgmma_wait<0>();
        if (threadIdx.x == 0 && block + STAGES < blocks) load(block + STAGES);
#pragma unroll
        for (int i = 0; i < 32; ++i) sum[i] += (i >> 1 & 1 ? s1 : s0) * d[i];
    }
#pragma unroll
    for (int i = 0; i < 32; ++i) {
        const int r = i >> 1 & 1 ? r1 : r0, c = col + 8 * (i >> 2) + 2 * (lane % 4) + (i & 1);
        if (r < m && c < n) out[r * n + c] = sum[i];
    }
}

// C = A B with A from registers and B as it lies, [K, N] row-major (MN-major for wgmma), brought by plain stores. M = 64 a CTA,
// N = 128, K a multiple of 64; two wgmma groups stay in flight.
KERNEL __launch_bounds__(128) gemm_registers(const u16* a, const u16* b, float* c, int k) {
    constexpr u32 PANEL = 64 * 128, BYTES = 2 * PANEL;
    extern __shared__ unsigned char memory[];
    const u32 tiles = align_1024(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row = blockIdx.x * 64 + 16 * warp + lane / 4;
    float d[64];
    u32 fragments[2][4][4];
    auto step = [&](u32 (&fragment)[4][4], int block) {
        const u32 tile = tiles + block % 2 * BYTES;
        for (int i = threadIdx.x; i < 64 * 128 / 8; i += 128) {
            const int kk = i / 16, chunk = i % 16;
            const uint4 v = *reinterpret_cast<const uint4*>(b + (block * 64 + kk) * 128 + chunk * 8);
            const u32 at = tile + chunk / 8 * PANEL + kk * 128 + (chunk % 8 ^ kk % 8) * 16;
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
                fragment[i][j] = *reinterpret_cast<const u32*>(a + (row + 8 * (j & 1)) * k + block * 64 + i * 16 + 8 * (j >> 1) + 2 * (lane % 4));
        fence_async();
        __syncthreads();
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; ++i)
            wgmma_n128_ra_tb(d, fragment[i], descriptor_128B(tile + i * 2048, PANEL, 1024), block > 0 || i > 0);
        wgmma_commit();
    };
#pragma unroll 1
    for (int block = 0; block < k / 64; block += 2) {
        step(fragments[0], block);
        // The group before is over for the whole warpgroup: the other tile is free.
        wgmma_wait<1>();
        if (block + 1 < k / 64) {
            step(fragments[1], block + 1);
            wgmma_wait<1>();
        }
    }
    wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < 64; ++i) {
        const int r = row + 8 * (i >> 1 & 1), col = 8 * (i >> 2) + 2 * (lane % 4) + (i & 1);
        c[r * 128 + col] = d[i];
    }
}

// ptxas: C7515: kept simple, not fast
