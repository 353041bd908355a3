// arch: sm_90a
// Rung 9 of the products, the last: C leaves by the copy engine. bf16 and f16, [batch, m, k] x [batch, k, n], sums in f32, rounded
// once.
//
// What it adds: a consumer rounds its sums, writes them by stmatrix into swizzled panels of shared memory, and TMA takes them to C
// while the next tile is being multiplied. What it should gain: 16 stmatrix of 16 bytes a thread instead of 64 stores of 4 to 8 rows
// each, whole lines for L2, and no wait for them. In the published ladder of fast.cu: 799 to 808 TFLOP/s at 8192 x 8192 x 8192,
// together with another order of tiles. A second tile of 128 columns without a cluster serves products with few tiles.
//
// What limits it: a stage less than rung 8, as the tile of C takes 64 KiB.
//
// Bytes loaded by a CTA per step of 64 of k: 16 KiB of A, and BN * 128 / CLUSTER of B and as many by its neighbour. FLOP on the
// tensor cores: 2 * 128 * BN * 64 a step. No bank conflicts: panels are written and read through the 128-byte swizzle.
//
// sass: registers <= 168, spills = 0, utmaldg > 0, utmastg > 0, stsm > 0, loop.hgmma = 4, loop.bar = 0, loop.lds = 0, ldsm = 0
#include "wgmma.cuh"

constexpr int CONSUMERS = 2;

template <int CLUSTER>
DEVICE void meet() {
    if constexpr (CLUSTER > 1) {
        cluster_sync();
    } else {
        __syncthreads();
    }
}

template <class T, int BN, int STAGES, int CLUSTER, int A_MN, int B_MN>
DEVICE void product(T* c, const TensorMap& map_a, const TensorMap& map_b, const TensorMap& map_c, const Product& p) {
    constexpr u32 A_BYTES = BM * 128, B_BYTES = BN * 128, B_PART = BN / CLUSTER;
    constexpr u16 ALL = (1 << CLUSTER) - 1;
    extern __shared__ unsigned char memory[];
    const u32 tiles_a = align_1024(memory), tiles_b = tiles_a + STAGES * A_BYTES, tile_c = tiles_b + STAGES * B_BYTES;
    __shared__ u64 full_[STAGES], empty_[STAGES];
    const u32 full = shared_address(full_), empty = shared_address(empty_);

    const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
    const int group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            mbar_init(full + 8 * s, 1);
            mbar_init(empty + 8 * s, CONSUMERS * CLUSTER);
        }
        fence_mbar_init();
    }
    meet<CLUSTER>();

    const Raster<BN, CLUSTER> raster(p);
    const u32 first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER, steps = (p.k + BK - 1) / BK;
    Turn<STAGES> turn;

    if (group == 0) {
        fewer_registers<24>();
        if (threadIdx.x / 32 == 0 && elect_one()) {
            prefetch_map(map_a);
            prefetch_map(map_b);
#pragma unroll 1
            for (u32 i = first; i < raster.all; i += step) {
                const Tile tile = raster.at(i, rank);
                const int batch_a = p.a_batched ? tile.batch : 0, batch_b = p.b_batched ? tile.batch : 0;
#pragma unroll 1
                for (u32 s = 0; s < steps; ++s, turn.next()) {
                    const u32 bar = full + 8 * turn.stage;
                    mbar_wait_cluster(empty + 8 * turn.stage, turn.parity ^ 1);
                    mbar_expect_tx(bar, A_BYTES + B_BYTES);
                    load<A_MN, BM, false>(tiles_a + turn.stage * A_BYTES, map_a, bar, tile.row, s * BK, batch_a, 0);
                    load<B_MN, B_PART, (CLUSTER > 1)>(tiles_b + turn.stage * B_BYTES + rank * B_PART * 128, map_b, bar,
                                                      tile.col + rank * B_PART, s * BK, batch_b, ALL);
                }
            }
        }
    } else {
        more_registers<240>();
        const int consumer = group - 1, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
        const u32 panels = tile_c + consumer * (BN / 64) * PANEL;
#pragma unroll 1
        for (u32 i = first; i < raster.all; i += step) {
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

            // Rounded into panels of shared memory, from which the copy engine, or where C's rows do not suit it this warpgroup, takes
            // them to C.
            const Tile tile = raster.at(i, rank);
            const int row = tile.row + consumer * ROWS;
            if (thread == 0) bulk_wait_read<0>();
            bar_sync(1 + consumer, 128);
            const u32 local = 16 * warp + lane % 16;
#pragma unroll
            for (int j = 0; j < BN / 16; ++j) {
                const u32 byte = (j % 4 * 32 + lane / 16 * 16) ^ lane % 8 * 16;
                stmatrix_x4(panels + j / 4 * PANEL + local * 128 + byte, pack(d[8 * j], d[8 * j + 1], T()),
                            pack(d[8 * j + 2], d[8 * j + 3], T()), pack(d[8 * j + 4], d[8 * j + 5], T()),
                            pack(d[8 * j + 6], d[8 * j + 7], T()));
            }
            if (p.store) fence_async();
            bar_sync(1 + consumer, 128);
            if (p.store) {
                if (thread == 0) {
                    for (int j = 0; j < BN / 64; ++j) tma_store_3d(map_c, panels + j * PANEL, tile.col + 64 * j, row, tile.batch);
                    bulk_commit();
                }
            } else {
                u16* to = (u16*)c + (u64)tile.batch * p.m * p.n;
                const u16* from = (const u16*)__cvta_shared_to_generic(panels);
#pragma unroll 1
                for (u32 e = thread; e < ROWS * BN; e += 128) {
                    const u32 y = e / BN, x = e % BN, at = x / 64 * (PANEL / 2) + y * 64 + (x % 64 ^ y % 8 * 8);
                    if (row + y < p.m && tile.col + x < p.n) to[(u64)(row + y) * p.n + tile.col + x] = from[at];
                }
            }
        }
        if (thread == 0) bulk_wait<0>();
    }
    // No CTA leaves while its neighbour may still arrive on its barriers.
    if constexpr (CLUSTER > 1) cluster_sync();
}

// Named by T, the columns of a tile, the CTAs of a cluster, and how A and B lie: k for K-major, m or n for MN-major.
#define PRODUCT(T, BN, STAGES, CLUSTER, LAYOUT, A_MN, B_MN)                                                                   \
    extern "C" __global__ void __launch_bounds__(384, 1) __cluster_dims__(CLUSTER, 1, 1)                                      \
        matmul_store_##BN##_##CLUSTER##_##LAYOUT##_##T(T* c, const __grid_constant__ TensorMap map_a,                         \
                                                       const __grid_constant__ TensorMap map_b,                               \
                                                       const __grid_constant__ TensorMap map_c, const __grid_constant__ Product p) { \
        product<T, BN, STAGES, CLUSTER, A_MN, B_MN>(c, map_a, map_b, map_c, p);                                               \
    }
#define LAYOUTS(T, BN, STAGES, CLUSTER)                                                                                       \
    PRODUCT(T, BN, STAGES, CLUSTER, kk, 0, 0)                                                                                 \
    PRODUCT(T, BN, STAGES, CLUSTER, kn, 0, 1)                                                                                 \
    PRODUCT(T, BN, STAGES, CLUSTER, mk, 1, 0)                                                                                 \
    PRODUCT(T, BN, STAGES, CLUSTER, mn, 1, 1)
LAYOUTS(bf16, 256, 3, 2)
LAYOUTS(f16, 256, 3, 2)
LAYOUTS(bf16, 128, 5, 1)
LAYOUTS(f16, 128, 5, 1)
