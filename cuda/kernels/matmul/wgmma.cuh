// Products by the copy engine (TMA) and a Hopper's tensor cores (wgmma): what the rungs from 4 on share.
//
// Either operand may lie with k running fastest (K-major) or with its other dimension (MN-major): TMA brings panels of 64
// elements through the 128-byte swizzle and wgmma reads both, without bank conflicts. Edges need no code: TMA fills with zeros
// and clips.
//
// An output is one chain over k in steps of 16, whatever the tile: its bits depend on its row, its column and k alone.
#pragma once
#include "common.cuh"
#include "fragment.cuh"
#include "hopper.cuh"

// Rows of a warpgroup's product and k per stage: 64 elements are the 128 bytes of a swizzle pattern. A CTA has BM rows.
constexpr int ROWS = 64, BK = 64, BM = 2 * ROWS, PANEL = 64 * 128;

struct Product {
    u32 m, n, k, batch;
    u32 a_batched, b_batched; // whether the operand has a batch of its own, or one matrix for all
    u32 store;                // whether C's rows allow TMA to store them: multiples of 16 bytes
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

// ---- Tiles ------------------------------------------------------------------------------------------------------------------

struct Tile {
    int row, col, batch;
};

// Tiles in the order in which they are computed: DEPTH rows of clusters deep, then on to the next column, so that what runs at
// the same time reads few rows and columns.
template <int BN, int CLUSTER, u32 DEPTH = 8>
struct Raster {
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

// A warpgroup's 64 x 2 N outputs out of its registers, `row` and `col` the first; edges are left out.
template <class T, int N>
DEVICE void store(T* c, const f32 (&d)[N], const Product& p, u32 row, u32 col, u32 batch) {
    const u32 thread = threadIdx.x % 128, y = row + thread / 32 * 16 + thread % 32 / 4, x = col + thread % 4 * 2;
    c += (u64)batch * p.m * p.n;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = half; i < N / 2; i += 2) store_pair(c, d[2 * i], d[2 * i + 1], y + half * 8, x + i / 2 * 8, p.m, p.n);
}
