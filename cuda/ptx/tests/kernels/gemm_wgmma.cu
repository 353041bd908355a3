// arch: sm_90a
// C = A B^T in bf16 as the fastest public kernels have it: a producer warp feeds a ring of stages by TMA, two warpgroups
// multiply, B's tile is multicast in a cluster of two CTAs (one above the other), CTAs persist over tiles, C leaves by TMA.
// A is [M, K], B is [N, K], C is [M, N], row-major. Edges need no code: TMA fills with zeros and clips.
#include "hopper.cuh"

constexpr int BM = 128, BK = 64, CLUSTER = 2, CONSUMERS = 2;

template <int BN, int STAGES>
DEVICE void gemm(const TensorMap& map_a, const TensorMap& map_b, const TensorMap& map_c, int m, int n, int k) {
    constexpr u32 A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2, PANEL = 64 * 128;
    extern __shared__ unsigned char memory[];
    const u32 tiles_a = align_1024(memory);
    const u32 tiles_b = tiles_a + STAGES * A_BYTES;
    const u32 tile_c = tiles_b + STAGES * B_BYTES;
    __shared__ u64 full_[STAGES], empty_[STAGES];
    const u32 full = shared_address(full_), empty = shared_address(empty_);

    const u32 rank = cluster_rank();
    const int group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            mbar_init(full + 8 * s, 1);
            mbar_init(empty + 8 * s, CONSUMERS * CLUSTER);
        }
        fence_mbar_init();
    }
    cluster_sync();

    const int k_blocks = (k + BK - 1) / BK, n_tiles = (n + BN - 1) / BN;
    const int m_tiles = (m + BM * CLUSTER - 1) / (BM * CLUSTER);
    const int clusters = gridDim.x / CLUSTER;
    u32 stage = 0, phase = 0;

    if (group == 0) {
        fewer_registers<40>();
        if (threadIdx.x / 32 == 0 && elect_one()) {
#pragma unroll 1
            for (int tile = blockIdx.x / CLUSTER; tile < m_tiles * n_tiles; tile += clusters) {
                const int row = (tile / n_tiles * CLUSTER + rank) * BM, col = tile % n_tiles * BN;
#pragma unroll 1
                for (int kb = 0; kb < k_blocks; ++kb) {
                    mbar_wait_cluster(empty + 8 * stage, phase ^ 1);
                    mbar_expect_tx(full + 8 * stage, A_BYTES + B_BYTES);
                    tma_load_2d(tiles_a + stage * A_BYTES, map_a, full + 8 * stage, kb * BK, row);
                    // Each CTA brings its half of B's tile to both.
                    tma_load_2d_multicast(tiles_b + stage * B_BYTES + rank * (B_BYTES / CLUSTER), map_b, full + 8 * stage, kb * BK,
                                          col + rank * (BN / CLUSTER), (1 << CLUSTER) - 1);
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
            }
        }
    } else {
        more_registers<232>();
        const int consumer = group - 1, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
        const u32 panels = tile_c + consumer * (BN / 64) * PANEL;
#pragma unroll 1
        for (int tile = blockIdx.x / CLUSTER; tile < m_tiles * n_tiles; tile += clusters) {
            const int row = (tile / n_tiles * CLUSTER + rank) * BM + consumer * 64, col = tile % n_tiles * BN;
            float d[BN / 2];
#pragma unroll 1
            for (int kb = 0; kb < k_blocks; ++kb) {
                mbar_wait(full + 8 * stage, phase);
                const u64 a = descriptor_k_major(tiles_a + stage * A_BYTES + consumer * 64 * 128);
                const u64 b = descriptor_k_major(tiles_b + stage * B_BYTES);
                wgmma_fence();
#pragma unroll
                for (int i = 0; i < BK / 16; ++i) wgmma(d, a + 2 * i, b + 2 * i, kb + i > 0);
                wgmma_commit();
                wgmma_wait<0>();
                if (thread < CLUSTER) mbar_arrive_at(empty + 8 * stage, thread);
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
            // The last tile's store must have read the panels before they are written again.
            if (thread == 0) bulk_wait_read<0>();
            bar_sync(1 + consumer, 128);
            const int local = 16 * warp + lane % 16;
#pragma unroll
            for (int c = 0; c < BN / 16; ++c) {
                const u32 byte = (c % 4 * 32 + lane / 16 * 16) ^ (local % 8) * 16;
                stmatrix_x4(panels + c / 4 * PANEL + local * 128 + byte, pack_bf16(d[8 * c], d[8 * c + 1]),
                            pack_bf16(d[8 * c + 2], d[8 * c + 3]), pack_bf16(d[8 * c + 4], d[8 * c + 5]),
                            pack_bf16(d[8 * c + 6], d[8 * c + 7]));
            }
            fence_async();
            bar_sync(1 + consumer, 128);
            if (thread == 0) {
                for (int p = 0; p < BN / 64; ++p) tma_store_2d(map_c, panels + p * PANEL, col + 64 * p, row);
                bulk_commit();
            }
        }
        if (thread == 0) bulk_wait<0>();
    }
    // No CTA leaves while its neighbour may still write to its memory or arrive on its barriers.
    cluster_sync();
}

KERNEL __launch_bounds__(384, 1) __cluster_dims__(CLUSTER, 1, 1) gemm_n64(const __grid_constant__ TensorMap a,
                                                                         const __grid_constant__ TensorMap b,
                                                                         const __grid_constant__ TensorMap c, int m, int n, int k) {
    gemm<64, 2>(a, b, c, m, n, k);
}

KERNEL __launch_bounds__(384, 1) __cluster_dims__(CLUSTER, 1, 1) gemm_n128(const __grid_constant__ TensorMap a,
                                                                          const __grid_constant__ TensorMap b,
                                                                          const __grid_constant__ TensorMap c, int m, int n, int k) {
    gemm<128, 3>(a, b, c, m, n, k);
}

// ptxas: C7515: kept simple, not fast
