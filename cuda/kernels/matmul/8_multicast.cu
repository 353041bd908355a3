// arch: sm_90a
// Rung 8 of the products: pairs of CTAs that share what they load. bf16, [batch, m, k] x [batch, k, n], sums in f32, rounded once.
//
// What it adds: a cluster of two CTAs, one above the other, needs the same columns of B; each loads half of them and multicasts
// it into both. A stage is empty when the consumers of both are done with it, so that each consumer arrives in both; `full` counts
// the bytes of both halves. What it should gain: L2 reads 16 + 16 KiB a CTA and step instead of 16 + 32. In the published ladder
// of fast.cu: 778 to 799 TFLOP/s at 8192 x 8192 x 8192; clusters of more than two lost there.
//
// What limits it: C is written out of registers, 4 bytes a thread and 8 rows a warp, while the tensor cores wait.
//
// Bytes loaded by a CTA per 64 of k: 16 KiB of A, 16 of B, 16 more of B by its neighbour. FLOP on the tensor cores: 2 * 128 * 256 * 64.
// No bank conflicts: shared memory is touched by TMA and wgmma alone.
//
// sass: registers <= 168, spills = 0, utmaldg > 0, loop.hgmma = 4, loop.bar = 0, ldsm = 0, lds = 0
#include "wgmma.cuh"

constexpr int STAGES = 4, CONSUMERS = 2, BN = 256, CLUSTER = 2, B_PART = BN / CLUSTER;

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
            mbar_init(empty + 8 * s, CONSUMERS * CLUSTER);
        }
        fence_mbar_init();
    }
    cluster_sync();

    const Raster<BN, CLUSTER> raster(p);
    const u32 steps = (p.k + BK - 1) / BK;
    Turn<STAGES> turn;
    if (threadIdx.x / 128 == 0) {
        fewer_registers<24>();
        if (threadIdx.x == 0) {
            const u32 rank = cluster_rank();
#pragma unroll 1
            for (u32 i = blockIdx.x / CLUSTER; i < raster.all; i += gridDim.x / CLUSTER) {
                const Tile tile = raster.at(i, rank);
                const int batch_a = p.a_batched ? tile.batch : 0, batch_b = p.b_batched ? tile.batch : 0;
#pragma unroll 1
                for (u32 s = 0; s < steps; ++s, turn.next()) {
                    const u32 bar = full + 8 * turn.stage;
                    mbar_wait_cluster(empty + 8 * turn.stage, turn.parity ^ 1);
                    mbar_expect_tx(bar, A_BYTES + B_BYTES);
                    load<A_MN, BM, false>(tiles_a + turn.stage * A_BYTES, map_a, bar, tile.row, s * BK, batch_a, 0);
                    load<B_MN, B_PART, true>(tiles_b + turn.stage * B_BYTES + rank * B_PART * 128, map_b, bar,
                                             tile.col + rank * B_PART, s * BK, batch_b, (1 << CLUSTER) - 1);
                }
            }
        }
    } else {
        more_registers<240>();
        const int consumer = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
#pragma unroll 1
        for (u32 i = blockIdx.x / CLUSTER; i < raster.all; i += gridDim.x / CLUSTER) {
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
                if (s > 0 && thread < CLUSTER) mbar_arrive_at(empty + 8 * before, thread);
                before = turn.stage;
            }
            wgmma_wait<0>();
            if (thread < CLUSTER) mbar_arrive_at(empty + 8 * before, thread);
            const Tile tile = raster.at(i, cluster_rank());
            store(c, d, p, tile.row + consumer * ROWS, tile.col, tile.batch);
        }
    }
    // No CTA leaves while its neighbour may still arrive on its barriers.
    cluster_sync();
}

// Named by the columns of a tile, the CTAs of a cluster, how A and B lie (k for K-major, m or n for MN-major), and T.
#define PRODUCT(T, LAYOUT, A_MN, B_MN)                                                                                        \
    extern "C" __global__ void __launch_bounds__(384, 1) __cluster_dims__(CLUSTER, 1, 1)                                      \
        matmul_multicast_256_2_##LAYOUT##_##T(T* c, const __grid_constant__ TensorMap map_a,                                  \
                                              const __grid_constant__ TensorMap map_b, const __grid_constant__ Product p) {   \
        product<T, A_MN, B_MN>(c, map_a, map_b, p);                                                                           \
    }
PRODUCT(bf16, kk, 0, 0)
PRODUCT(bf16, kn, 0, 1)
