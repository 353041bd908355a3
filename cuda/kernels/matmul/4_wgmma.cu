// arch: sm_90a
// Rung 4 of the products: one warpgroup, the copy engine and wgmma. bf16, [batch, m, k] x [batch, k, n], sums in f32, rounded
// once.
//
// What it adds: one thread asks for a tile of 128 x 64 of A and of 64 x 128 of B, and TMA computes all addresses, swizzles and
// fills edges; wgmma multiplies 64 x 128 x 16 at a time straight out of shared memory, so that no register and no ldmatrix feeds
// the tensor cores. What it should gain: wgmma alone reaches a Hopper's full rate, mma.sync about 60 % of it. The first rung of
// this kind in the published ladder of fast.cu has 61 % of cuBLAS at 8192 x 8192 x 8192.
//
// What limits it: the tile is asked for when the one before has been multiplied, so that copies and products of a CTA take turns;
// only its neighbours on the multiprocessor fill the gaps.
//
// Bytes loaded by a CTA per step of 64 of k: 16 KiB of A, 16 KiB of B. FLOP on the tensor cores: 2 * 128 * 128 * 64 a step.
// No bank conflicts: shared memory is touched by TMA and wgmma alone.
//
// sass: registers <= 192, spills = 0, utmaldg > 0, loop.hgmma = 8, loop.bar = 0, ldsm = 0, lds = 0
#include "wgmma.cuh"

template <class T, int A_MN, int B_MN>
DEVICE void product(T* c, const TensorMap& map_a, const TensorMap& map_b, const Product& p) {
    constexpr int BN = 128;
    constexpr u32 A_BYTES = BM * 128, B_BYTES = BN * 128;
    extern __shared__ unsigned char memory[];
    const u32 tile_a = align_1024(memory), tile_b = tile_a + A_BYTES;
    __shared__ u64 full_;
    const u32 full = shared_address(&full_);
    if (threadIdx.x == 0) {
        mbar_init(full, 1);
        fence_mbar_init();
    }
    __syncthreads();

    const Tile tile = Raster<BN, 1, 1>(p).at(blockIdx.x, 0);
    const u32 steps = (p.k + BK - 1) / BK;
    f32 d[2][BN / 2] = {};
#pragma unroll 1
    for (u32 s = 0; s < steps; ++s) {
        if (threadIdx.x == 0) {
            mbar_expect_tx(full, A_BYTES + B_BYTES);
            load<A_MN, BM, false>(tile_a, map_a, full, tile.row, s * BK, p.a_batched ? tile.batch : 0, 0);
            load<B_MN, BN, false>(tile_b, map_b, full, tile.col, s * BK, p.b_batched ? tile.batch : 0, 0);
        }
        mbar_wait(full, s & 1);
        const u64 a = panels_at(tile_a), b = panels_at(tile_b);
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < BK / 16; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i) multiply<T, A_MN, B_MN>(d[i], a + i * (PANEL >> 4) + j * K16<A_MN>, b + j * K16<B_MN>);
        wgmma_commit();
        // Of the whole warpgroup's products: nobody reads the tiles any more.
        wgmma_wait<0>();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) store(c, d[i], p, tile.row + i * ROWS, tile.col, tile.batch);
}

// Named by the columns of a tile, how A and B lie (k for K-major, m or n for MN-major), and T.
#define PRODUCT(T, LAYOUT, A_MN, B_MN)                                                                                        \
    extern "C" __global__ void __launch_bounds__(128)                                                                         \
        matmul_wgmma_128_1_##LAYOUT##_##T(T* c, const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, \
                                        const __grid_constant__ Product p) {                                                  \
        product<T, A_MN, B_MN>(c, map_a, map_b, p);                                                                           \
    }
PRODUCT(bf16, kk, 0, 0)
PRODUCT(bf16, kn, 0, 1)
