// arch: sm_90a
// Rung 7 of the products: mbarriers by their parity. bf16, [batch, m, k] x [batch, k, n], sums in f32, rounded once.
//
// What it adds: who waits at an mbarrier names the parity of the phase that it waits for, which it counts itself, and need not
// arrive. `full` has one arrival, the producer's, and `empty` one from each consumer, by a thread that knows from its own
// wgmma.wait_group that the warpgroup's products are done. A consumer leaves one group of products in flight and hands back
// the stage before. What it should gain: 2 arrivals a step at `empty` instead of 257 and 1 at `full` instead of 257, none of which
// a warp has to wait for; the tensor cores have the next group when the last ends. In the published ladder of fast.cu: 658 to 778
// TFLOP/s at 8192 x 8192 x 8192, the largest step after wgmma itself.
//
// What limits it: L2. Every CTA loads all of its columns of B, which its neighbour above loads, too.
//
// Bytes loaded by a CTA per step of 64 of k: 16 KiB of A, 32 KiB of B. FLOP on the tensor cores: 2 * 128 * 256 * 64 a step.
// No bank conflicts: shared memory is touched by TMA and wgmma alone.
//
// sass: registers <= 168, spills = 0, utmaldg > 0, loop.hgmma = 4, loop.bar = 0, ldsm = 0, lds = 0
#include "wgmma.cuh"

constexpr int STAGES = 4, CONSUMERS = 2, BN = 256;

template <class T, int A_MN, int B_MN>
DEVICE void product(T* c, const TensorMap& map_a, const TensorMap& map_b, const Product& p) {
    constexpr u32 A_BYTES = BM * 128, B_BYTES = BN * 128;
    extern __shared__ unsigned char memory[];
    const u32 tiles_a = align_1024(memory), tiles_b = tiles_a + STAGES * A_BYTES;
    __shared__ u64 full_[STAGES], empty_[STAGES];
    const u32 full = shared_address(full_), empty = shared_address(empty_);
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            mbar_init(full + 8 * s, 1);
            mbar_init(empty + 8 * s, CONSUMERS);
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
                    mbar_wait(empty + 8 * turn.stage, turn.parity ^ 1);
                    mbar_expect_tx(bar, A_BYTES + B_BYTES);
                    load<A_MN, BM, false>(tiles_a + turn.stage * A_BYTES, map_a, bar, tile.row, s * BK, batch_a, 0);
                    load<B_MN, BN, false>(tiles_b + turn.stage * B_BYTES, map_b, bar, tile.col, s * BK, batch_b, 0);
                }
            }
        }
    } else {
        more_registers<240>();
        const int consumer = threadIdx.x / 128 - 1;
#pragma unroll 1
        for (u32 i = blockIdx.x; i < raster.all; i += gridDim.x) {
            f32 d[BN / 2] = {};
            u32 before = 0;
#pragma unroll 1
            for (u32 s = 0; s < steps; ++s, turn.next()) {
                mbar_wait(full + 8 * turn.stage, turn.parity);
                const u64 a = panels_at(tiles_a + turn.stage * A_BYTES + consumer * PANEL);
                const u64 b = panels_at(tiles_b + turn.stage * B_BYTES);
                wgmma_fence();
#pragma unroll
                for (int j = 0; j < BK / 16; ++j) multiply<T, A_MN, B_MN>(d, a + j * K16<A_MN>, b + j * K16<B_MN>);
                wgmma_commit();
                wgmma_wait<1>();
                // The products of the stage before are done.
                if (s > 0 && threadIdx.x % 128 == 0) mbar_arrive(empty + 8 * before);
                before = turn.stage;
            }
            wgmma_wait<0>();
            if (threadIdx.x % 128 == 0) mbar_arrive(empty + 8 * before);
            const Tile tile = raster.at(i, 0);
            store(c, d, p, tile.row + consumer * ROWS, tile.col, tile.batch);
        }
    }
}

// Named by the columns of a tile, how A and B lie (k for K-major, m or n for MN-major), and T.
#define PRODUCT(T, LAYOUT, A_MN, B_MN)                                                                                        \
    extern "C" __global__ void __launch_bounds__(384, 1)                                                                      \
        matmul_parity_256_1_##LAYOUT##_##T(T* c, const __grid_constant__ TensorMap map_a,                                     \
                                           const __grid_constant__ TensorMap map_b, const __grid_constant__ Product p) {      \
        product<T, A_MN, B_MN>(c, map_a, map_b, p);                                                                           \
    }
PRODUCT(bf16, kk, 0, 0)
PRODUCT(bf16, kn, 0, 1)
