// arch: sm_90a
// Rung 6 of the products: CTAs that stay. bf16, [batch, m, k] x [batch, k, n], sums in f32, rounded once.
//
// What it adds: as many CTAs as the card has multiprocessors, each of which takes every gridDim.x-th tile, in an order that keeps
// rows and columns in L2: eight rows of tiles deep, then on to the next column. What it should gain: barriers are set up once, the
// producer fetches the next tile's stages while the consumers still write C, and of what runs at the same time (16 x 8 tiles)
// each row of A is read by 16 CTAs and each column of B by 8, so that L2 serves what HBM would have to. In the published ladder of
// fast.cu: 635 to 658 TFLOP/s at 8192 x 8192 x 8192.
//
// What limits it: the tokens of rung 5.
//
// Bytes loaded by a CTA per step of 64 of k: 16 KiB of A, 32 KiB of B. FLOP on the tensor cores: 2 * 128 * 256 * 64 a step.
// No bank conflicts: shared memory is touched by TMA and wgmma alone.
//
// sass: registers <= 168, spills = 0, utmaldg > 0, loop.hgmma = 4, loop.bar = 0, ldsm = 0, lds = 0
#include "wgmma.cuh"

constexpr int STAGES = 4, CONSUMERS = 2, BN = 256;
// Everybody who waits at a barrier arrives there, too.
constexpr u32 ARRIVALS = 1 + 128 * CONSUMERS;

template <class T, int A_MN, int B_MN>
DEVICE void product(T* c, const TensorMap& map_a, const TensorMap& map_b, const Product& p) {
    constexpr u32 A_BYTES = BM * 128, B_BYTES = BN * 128;
    extern __shared__ unsigned char memory[];
    const u32 tiles_a = align_1024(memory), tiles_b = tiles_a + STAGES * A_BYTES;
    __shared__ u64 full_[STAGES], empty_[STAGES];
    const u32 full = shared_address(full_), empty = shared_address(empty_);
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            mbar_init(full + 8 * s, ARRIVALS);
            mbar_init(empty + 8 * s, ARRIVALS);
        }
        fence_mbar_init();
    }
    __syncthreads();

    const Raster<BN, 1> raster(p);
    const u32 steps = (p.k + BK - 1) / BK;
    Turn<STAGES> turn;
    if (threadIdx.x / 128 == 0) {
        fewer_registers<24>();
        if (threadIdx.x == 0) {
#pragma unroll 1
            for (u32 i = blockIdx.x; i < raster.all; i += gridDim.x) {
                const Tile tile = raster.at(i, 0);
                const int batch_a = p.a_batched ? tile.batch : 0, batch_b = p.b_batched ? tile.batch : 0;
#pragma unroll 1
                for (u32 s = 0; s < steps; ++s, turn.next()) {
                    const u32 bar = full + 8 * turn.stage;
                    mbar_wait_token(empty + 8 * turn.stage, mbar_arrive_token(empty + 8 * turn.stage));
                    mbar_expect_tx(bar, A_BYTES + B_BYTES);
                    load<A_MN, BM, false>(tiles_a + turn.stage * A_BYTES, map_a, bar, tile.row, s * BK, batch_a, 0);
                    load<B_MN, BN, false>(tiles_b + turn.stage * B_BYTES, map_b, bar, tile.col, s * BK, batch_b, 0);
                }
            }
            // The consumers have emptied each stage once more than it was filled: that phase ends, too.
            for (int s = 0; s < STAGES; ++s) mbar_arrive(empty + 8 * s);
        }
    } else {
        more_registers<240>();
        const int consumer = threadIdx.x / 128 - 1;
        // All stages are empty at first.
        for (int s = 0; s < STAGES; ++s) mbar_arrive(empty + 8 * s);
#pragma unroll 1
        for (u32 i = blockIdx.x; i < raster.all; i += gridDim.x) {
            f32 d[BN / 2] = {};
#pragma unroll 1
            for (u32 s = 0; s < steps; ++s, turn.next()) {
                mbar_wait_token(full + 8 * turn.stage, mbar_arrive_token(full + 8 * turn.stage));
                const u64 a = panels_at(tiles_a + turn.stage * A_BYTES + consumer * PANEL);
                const u64 b = panels_at(tiles_b + turn.stage * B_BYTES);
                wgmma_fence();
#pragma unroll
                for (int j = 0; j < BK / 16; ++j) multiply<T, A_MN, B_MN>(d, a + j * K16<A_MN>, b + j * K16<B_MN>);
                wgmma_commit();
                wgmma_wait<0>();
                mbar_arrive(empty + 8 * turn.stage);
            }
            const Tile tile = raster.at(i, 0);
            store(c, d, p, tile.row + consumer * ROWS, tile.col, tile.batch);
        }
    }
}

// Named by the columns of a tile, how A and B lie (k for K-major, m or n for MN-major), and T.
#define PRODUCT(T, LAYOUT, A_MN, B_MN)                                                                                        \
    extern "C" __global__ void __launch_bounds__(384, 1)                                                                      \
        matmul_persistent_256_1_##LAYOUT##_##T(T* c, const __grid_constant__ TensorMap map_a,                                 \
                                               const __grid_constant__ TensorMap map_b, const __grid_constant__ Product p) {  \
        product<T, A_MN, B_MN>(c, map_a, map_b, p);                                                                           \
    }
PRODUCT(bf16, kk, 0, 0)
PRODUCT(bf16, kn, 0, 1)
