// arch: sm_90a
// Products of half types at the speed of a Hopper's tensor cores: [batch, m, k] x [batch, k, n], sums in f32, rounded once.
//
// A cluster of CTAs stands one above the other and shares the columns of B: each loads its part and multicasts it. In a CTA one
// warpgroup gives its registers away and feeds a ring of stages by TMA; two others multiply 64 rows each by wgmma, one group
// always in flight, and hand a stage back when its products are done. CTAs persist over tiles in an order that keeps rows and
// columns in L2, and C leaves by TMA from its own shared memory while the next tile is being multiplied.
//
// Either operand may lie with k running fastest (K-major) or with its other dimension (MN-major): TMA brings panels of 64
// elements and wgmma reads both. Edges need no code: TMA fills with zeros and clips.
//
// An output is one chain over k in steps of 16, whatever the tile: its bits depend on its row, its column and k alone.
//
// Bytes loaded per CTA and step of k: BM x 128 of A, BN x 128 / CLUSTER of B. Shared memory has no bank conflicts: panels are
// written and read through the 128-byte swizzle.
#include "common.cuh"
#include "hopper.cuh"

// Rows per consumer and k per stage: 64 elements are the 128 bytes of a swizzle pattern.
constexpr int ROWS = 64, BK = 64, CONSUMERS = 2, BM = ROWS * CONSUMERS, PANEL = 64 * 128;

struct Product {
    u32 m, n, k, batch;
    u32 a_batched, b_batched; // whether the operand has a batch of its own, or one matrix for all
    u32 store;                // whether C's rows allow TMA: multiples of 16 bytes
};

// ---- wgmma ------------------------------------------------------------------------------------------------------------------

#define D64(d, i) D16(d, i), D16(d, i + 16), D16(d, i + 32), D16(d, i + 48)
#define R128                                                                                                                  \
    R64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79,"                                   \
        " %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95,"                                    \
        " %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111,"                        \
        " %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// D (64 x N) += A (64 x 16) B (16 x N); an operand is MN-major where its flag is 1. D starts as zeros: a first product that
// ignores it would leave it undefined before, and ptxas then waits for each product.
template <class T, int A_MN, int B_MN>
DEVICE void multiply(f32 (&d)[128], u64 a, u64 b) {
#define WGMMA_N256(TYPE)                                                                                                      \
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " " R128                                        \
                 "}, %128, %129, p, 1, 1, %130, %131;\n}"                                                                     \
                 : D64(d, 0), D64(d, 64)                                                                                      \
                 : "l"(a), "l"(b), "n"(A_MN), "n"(B_MN))
    if constexpr (same<T, bf16>) {
        WGMMA_N256("bf16");
    } else {
        WGMMA_N256("f16");
    }
}
template <class T, int A_MN, int B_MN>
DEVICE void multiply(f32 (&d)[64], u64 a, u64 b) {
#define WGMMA_N128(TYPE)                                                                                                      \
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " " R64 "}, %64, %65, p, 1, 1, %66, %67;\n}"    \
                 : D64(d, 0)                                                                                                  \
                 : "l"(a), "l"(b), "n"(A_MN), "n"(B_MN))
    if constexpr (same<T, bf16>) {
        WGMMA_N128("bf16");
    } else {
        WGMMA_N128("f16");
    }
}

// Where 16 of k begin in a stage: a step within a pattern's rows, or two patterns of 8 further down.
template <int MN>
constexpr u64 K16 = (MN ? 2048 : 32) >> 4;

// Panels of 64 columns lie behind each other; the leading offset is read of an MN-major matrix alone.
DEVICE u64 panels_at(u32 address) { return descriptor_128B(address, PANEL, 1024); }

// Two floats as a pair of halves, the first in the low one.
DEVICE u32 pack(f32 low, f32 high, bf16) { return pack_bf16(low, high); }
DEVICE u32 pack(f32 low, f32 high, f16) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// ---- Tiles ------------------------------------------------------------------------------------------------------------------

struct Tile {
    int row, col, batch;
};

// Tiles in the order in which they are computed: eight rows of clusters deep, then on to the next column, so that what runs at
// the same time reads few rows and columns.
template <int BN, int CLUSTER>
struct Raster {
    static constexpr u32 DEPTH = 8;
    u32 down, across, all;
    DEVICE Raster(const Product& p)
        : down((p.m + BM * CLUSTER - 1) / (BM * CLUSTER)), across((p.n + BN - 1) / BN), all(down * across * p.batch) {}
    DEVICE Tile at(u32 i, u32 rank) const {
        u32 in_batch = i % (down * across), band = in_batch / (DEPTH * across), in_band = in_batch % (DEPTH * across);
        u32 depth = min(down - band * DEPTH, DEPTH);
        u32 row = band * DEPTH + in_band % depth, col = in_band / depth;
        return {(int)((row * CLUSTER + rank) * BM), (int)(col * BN), (int)(i / (down * across))};
    }
};

// A place in the ring of stages, and the parity of its turn.
template <int STAGES>
struct Turn {
    u32 stage = 0, parity = 0;
    DEVICE void next() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

// `COUNT` rows (or columns) of an operand from `x` on and 64 of k: one box where k runs fastest, else a box a panel.
template <int MN, int COUNT, bool MULTICAST>
DEVICE void load(u32 dst, const TensorMap& map, u32 bar, int x, int k, int batch, u16 mask) {
#pragma unroll
    for (int i = 0; i < (MN ? COUNT / 64 : 1); i++) {
        int inner = MN ? x + 64 * i : k, outer = MN ? k : x;
        if constexpr (MULTICAST) {
            tma_load_3d_multicast(dst + i * PANEL, map, bar, inner, outer, batch, mask);
        } else {
            tma_load_3d(dst + i * PANEL, map, bar, inner, outer, batch);
        }
    }
}

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
        hopper_##BN##_##CLUSTER##_##LAYOUT##_##T(T* c, const __grid_constant__ TensorMap map_a,                               \
                                                 const __grid_constant__ TensorMap map_b,                                     \
                                                 const __grid_constant__ TensorMap map_c, const __grid_constant__ Product p) {\
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
