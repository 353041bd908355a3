// Rung 3 of the products: copies that run while the tensor cores multiply, for every card from sm_80 on. Half types, [batch, m, k]
// x [batch, k, n], sums in f32, rounded once.
//
// What it adds: cp.async brings 16 bytes at a time from global to shared memory without a register between, into a ring of stages
// two steps ahead of the products; ldmatrix reads a fragment of 16 x 16 in one instruction, transposing it where the operand lies
// the other way. What it should gain: loads are hidden behind products, and a warp spends 8 ldmatrix on 16 mma instead of 24
// loads on 8. On an A100 such kernels reach most of the tensor cores' peak; on a Hopper mma.sync itself gets about 60 % of what
// wgmma does.
//
// What it takes: operands that start on 16 bytes and have one dimension without gaps, the other strides multiples of 16 bytes.
// The other dimension may run fastest in either: no copy is made.
//
// Shared memory: a stage has 64 of k; rows of 128 bytes or more, whose chunks of 16 bytes are exchanged by the row's number
// modulo 8. Eight rows of a fragment then lie in all 32 banks: 0 conflicts. Edges are zero-filled by cp.async.
//
// Bytes loaded: 2 m n k / BN of A and 2 m n k / BM of B, edges apart. An output is one chain over k in steps of 16.
//
// sass: spills = 0, hmma > 0, ldgsts > 0, ldsm > 0, loop.hmma >= 32, loop.bar = 1, loop.lds = 0
// sass matmul_mma_128: registers <= 128
#include "fragment.cuh"
#include "hopper.cuh"
#include "strided.cuh"

constexpr u32 BK = 64, CHUNK = 8; // elements of 16 bytes

// Where a chunk of a row lies in a stage; rows have WIDTH elements.
template <int WIDTH>
DEVICE u32 chunk_at(u32 row, u32 chunk) {
    return row * WIDTH * 2 + (chunk ^ row % 8) * 16;
}

// One operand of a step: SIZE rows (or columns) from `x` on and 64 of k from `k0` on, in the order in which they lie.
template <int MN, int SIZE, int THREADS>
DEVICE void load(u32 stage, const u16* from, u64 stride, u32 x0, u32 size, u32 k0, u32 k) {
    constexpr int WIDTH = MN ? SIZE : BK, CHUNKS = WIDTH / CHUNK;
    const u32 row0 = MN ? k0 : x0, rows = MN ? k : size, col0 = MN ? x0 : k0, cols = MN ? size : k;
#pragma unroll 1
    for (int i = threadIdx.x; i < SIZE * BK / CHUNK; i += THREADS) {
        const u32 row = i / CHUNKS, chunk = i % CHUNKS;
        const u32 y = row0 + row, z = col0 + chunk * CHUNK;
        const u32 bytes = y < rows && z < cols ? 2 * min(cols - z, CHUNK) : 0;
        cp_async_16(stage + chunk_at<WIDTH>(row, chunk), bytes ? from + y * stride + z : from, bytes);
    }
}

DEVICE void ldmatrix_x4_trans(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// Four 8 x 8 matrices of an operand in a stage: from `x` and `k` on, those of lanes 8 to 15 further by `down` in x and `right` in k,
// those of lanes 16 to 23 the other way, and the rest by both.
template <int MN, int SIZE>
DEVICE void fragment(u32 (&r)[4], u32 stage, u32 x, u32 k, bool x_first) {
    const u32 lane = threadIdx.x % 32, first = lane / 8 % 2 * 8, second = lane / 16 * 8;
    x += x_first ? first : second;
    k += x_first ? second : first;
    if constexpr (MN) {
        ldmatrix_x4_trans(r, stage + chunk_at<SIZE>(k + lane % 8, x / CHUNK));
    } else {
        ldmatrix_x4(r, stage + chunk_at<BK>(x + lane % 8, k / CHUNK));
    }
}

// DOWN x ACROSS warps, each 16 M x 8 N outputs.
template <class T, int DOWN, int ACROSS, int M, int N, int STAGES, int A_MN, int B_MN>
DEVICE void product(T* c, const T* a, const T* b, const Product& p, const Layout<2>& batch) {
    constexpr int BM = DOWN * 16 * M, BN = ACROSS * 8 * N, THREADS = DOWN * ACROSS * 32;
    constexpr u32 A_BYTES = BM * BK * 2, BYTES = A_BYTES + BN * BK * 2;
    extern __shared__ __align__(16) unsigned char memory[];
    const u32 ring = shared_address(memory);
    const Tile tile(p, BM, BN);
    const Offsets o(batch, tile.batch);
    const u16 *from_a = (const u16*)a + o[0], *from_b = (const u16*)b + o[1];
    const u64 a_stride = A_MN ? p.a_col : p.a_row, b_stride = B_MN ? p.b_row : p.b_col;
    const u32 steps = (p.k + BK - 1) / BK;
    // Loads step `s`, if there is one; a group each all the same, so that their number says which has come.
    auto fetch = [&](u32 s) {
        if (s < steps) {
            const u32 stage = ring + s % STAGES * BYTES;
            load<A_MN, BM, THREADS>(stage, from_a, a_stride, tile.row, p.m, s * BK, p.k);
            load<B_MN, BN, THREADS>(stage + A_BYTES, from_b, b_stride, tile.col, p.n, s * BK, p.k);
        }
        cp_async_commit();
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) fetch(s);

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 row0 = warp / ACROSS * 16 * M, col0 = warp % ACROSS * 8 * N;
    f32 sum[M][N][4] = {};
#pragma unroll 1
    for (u32 s = 0; s < steps; s++) {
        cp_async_wait<STAGES - 2>();
        // This step's stage has come for all, and all are done with the one before, which is filled anew.
        __syncthreads();
        fetch(s + STAGES - 1);
        const u32 at_a = ring + s % STAGES * BYTES, at_b = at_a + A_BYTES;
#pragma unroll
        for (int k = 0; k < BK; k += 16) {
            u32 fa[M][4], fb[N / 2][4];
#pragma unroll
            for (int i = 0; i < M; i++) fragment<A_MN, BM>(fa[i], at_a, row0 + 16 * i, k, true);
#pragma unroll
            for (int j = 0; j < N / 2; j++) fragment<B_MN, BN>(fb[j], at_b, col0 + 16 * j, k, false);
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int j = 0; j < N; j++) mma(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1], T());
        }
    }

    c += tile.batch * p.m * p.n;
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const u32 row = tile.row + row0 + 16 * i + lane / 4 + half * 8, col = tile.col + col0 + 8 * j + lane % 4 * 2;
                store_pair(c, sum[i][j][2 * half], sum[i][j][2 * half + 1], row, col, p.m, p.n);
            }
}

// Named by the side of a tile, how A and B lie (k for K-major, m or n for MN-major), and T.
#define PRODUCT(T, LAYOUT, A_MN, B_MN)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                                      \
        matmul_mma_128_##LAYOUT##_##T(T* c, const T* a, const T* b, const __grid_constant__ Product p,                        \
                                      const __grid_constant__ Layout<2> batch) {                                              \
        product<T, 2, 4, 4, 4, 3, A_MN, B_MN>(c, a, b, p, batch);                                                             \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(128)                                                                         \
        matmul_mma_64_##LAYOUT##_##T(T* c, const T* a, const T* b, const __grid_constant__ Product p,                         \
                                     const __grid_constant__ Layout<2> batch) {                                               \
        product<T, 2, 2, 2, 4, 3, A_MN, B_MN>(c, a, b, p, batch);                                                             \
    }
#define LAYOUTS(T)                                                                                                            \
    PRODUCT(T, kk, 0, 0)                                                                                                      \
    PRODUCT(T, kn, 0, 1)                                                                                                      \
    PRODUCT(T, mk, 1, 0)                                                                                                      \
    PRODUCT(T, mn, 1, 1)
LAYOUTS(bf16)
LAYOUTS(f16)
