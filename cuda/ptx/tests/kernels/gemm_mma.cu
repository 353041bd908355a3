// The tensor cores of sm_80: cp.async in several stages, ldmatrix, mma.sync.
#include "hopper.cuh"

// C = A B^T, A [M, K] and B [N, K] in bf16, C [M, N] in f32; K a multiple of 8. Tiles of 64 x 64 x 32, four warps in 2 x 2.
KERNEL __launch_bounds__(128) gemm_mma(const u16* a, const u16* b, float* c, int m, int n, int k) {
    constexpr int STAGES = 3, BK = 32;
    __shared__ __align__(128) u16 tiles_a[STAGES][64 * BK], tiles_b[STAGES][64 * BK];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row = blockIdx.y * 64, col = blockIdx.x * 64, blocks = (k + BK - 1) / BK;

    // A row is four chunks of 16 bytes, permuted so that eight rows of one chunk lie in eight bank groups.
    auto place = [](int r, int chunk) { return (r * 4 + (chunk ^ r / 2 % 4)) * 16; };
    auto load = [&](int block) {
        if (block < blocks)
            for (int i = threadIdx.x; i < 64 * 4; i += 128) {
                const int r = i / 4, chunk = i % 4, kk = block * BK + chunk * 8;
                const int stage = block % STAGES;
                const bool in_a = row + r < m && kk < k, in_b = col + r < n && kk < k;
                cp_async_16(shared_address(tiles_a[stage]) + place(r, chunk), in_a ? a + (row + r) * k + kk : a, in_a ? 16 : 0);
                cp_async_16(shared_address(tiles_b[stage]) + place(r, chunk), in_b ? b + (col + r) * k + kk : b, in_b ? 16 : 0);
            }
        // An empty group keeps the count of groups the count of blocks.
        cp_async_commit();
    };
#pragma unroll 1
    for (int block = 0; block < STAGES - 1; ++block) load(block);

    float d[2][4][4] = {};
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        load(block + STAGES - 1);
        const u32 ta = shared_address(tiles_a[block % STAGES]), tb = shared_address(tiles_b[block % STAGES]);
#pragma unroll
        for (int kk = 0; kk < 2; ++kk) {
            u32 fa[2][4], fb[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                ldmatrix_x4(fa[i], ta + place(warp / 2 * 32 + i * 16 + lane % 16, kk * 2 + lane / 16));
                ldmatrix_x4(fb[i], tb + place(warp % 2 * 32 + i * 16 + lane % 16, kk * 2 + lane / 16));
            }
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) mma_bf16(d[i][j], fa[i], fb[j / 2][j % 2], fb[j / 2][j % 2 + 2]);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int r = row + warp / 2 * 32 + i * 16 + lane / 4 + 8 * (e / 2);
                const int cc = col + warp % 2 * 32 + j * 8 + 2 * (lane % 4) + e % 2;
                if (r < m && cc < n) c[r * n + cc] = d[i][j][e];
            }
}
