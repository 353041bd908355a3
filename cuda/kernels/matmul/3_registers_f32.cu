// Rung 3 of the products in f32, which stay on the CUDA cores: f32 means f32. [batch, m, k] x [batch, k, n].
//
// What it adds to tiles in shared memory: a thread keeps 8 x 8 sums, so that four reads of 16 bytes serve 64 multiply-adds instead of
// 8 single reads 16; cp.async brings 16 bytes at a time from global to shared memory without a register between, into a ring of
// stages two steps ahead. What it should gain: rung 2 issues a read of shared memory for 2 multiply-adds, this one for 16, so that
// the multiply-adds themselves set the time: 4 schedulers x 32 of them a clock.
//
// What it takes: operands that start on 16 bytes and have one dimension without gaps, the other strides multiples of 16 bytes.
//
// Shared memory: a stage has 16 of k, as the operand lies. Where k runs fastest a row is 64 bytes, whose chunks of 16 are exchanged by
// half the row's number, and a thread's rows are SIDE apart; elsewhere a row has the tile's width, and a thread's columns are two
// runs of four. Either way the eight threads that read at the same time find all 32 banks: 0 conflicts.
//
// Bytes loaded: 4 m n k / SIZE of A and as many of B, edges apart. An output is one chain of multiply-adds in ascending k, the same
// as on rung 2, bit for bit.
//
// sass: spills = 0, ldgsts > 0, loop.bar = 1
// sass matmul_registers_128: registers <= 255, loop.ffma >= 1024, loop.lds <= 64
#include "hopper.cuh"
#include "strided.cuh"

constexpr u32 BK = 16, CHUNK = 4; // elements of 16 bytes

// Where element (x, k) of a stage lies, in bytes; SIZE rows or columns.
template <int MN, int SIZE>
DEVICE u32 at(u32 x, u32 k) {
    return MN ? (k * SIZE + x) * 4 : x * BK * 4 + (k / CHUNK ^ x / 2 % 4) * 16 + k % CHUNK * 4;
}

// The j-th row or column of thread `t` of SIDE.
template <int MN, int SIDE>
DEVICE u32 place(u32 t, u32 j) {
    return MN ? 4 * t + j % 4 + j / 4 * 4 * SIDE : t + j * SIDE;
}

// One operand of a step: SIZE rows (or columns) from `x0` on and 16 of k from `k0` on, in the order in which they lie.
template <int MN, int SIZE, int THREADS>
DEVICE void load(u32 stage, const f32* from, u64 stride, u32 x0, u32 size, u32 k0, u32 k) {
    constexpr u32 CHUNKS = (MN ? SIZE : BK) / CHUNK;
    const u32 rows = MN ? k : size, cols = MN ? size : k;
#pragma unroll
    for (u32 i = threadIdx.x; i < SIZE * BK / CHUNK; i += THREADS) {
        const u32 row = i / CHUNKS, col = i % CHUNKS * CHUNK, y = (MN ? k0 : x0) + row, z = (MN ? x0 : k0) + col;
        const u32 bytes = y < rows && z < cols ? 4 * min(cols - z, CHUNK) : 0;
        cp_async_16(stage + (MN ? at<MN, SIZE>(col, row) : at<MN, SIZE>(row, col)), bytes ? from + y * stride + z : from, bytes);
    }
}

// A thread's PER rows or columns, 4 of k each.
template <int MN, int SIZE, int SIDE, int PER>
DEVICE void read(f32 (&f)[PER][4], const unsigned char* stage, u32 t, u32 k) {
#pragma unroll
    for (int i = 0; i < PER; i++) {
        // Along k, all rows exchanged alike, as they are a multiple of 8 apart; or of four columns at k + i % 4.
        const u32 where = MN ? at<MN, SIZE>(place<MN, SIDE>(t, i / 4 * 4), k + i % 4) : at<MN, SIZE>(t, k) + i * SIDE * BK * 4;
        const float4 v = *(const float4*)(stage + where);
        const f32 four[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int j = 0; j < 4; j++) (MN ? f[i / 4 * 4 + j][i % 4] : f[i][j]) = four[j];
    }
}

// Four neighbours in one store, which the compiler would take apart.
DEVICE void store_4(f32* to, f32 a, f32 b, f32 c, f32 d) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

// SIDE x SIDE threads, each PER x PER outputs.
template <int SIDE, int PER, int STAGES, int A_MN, int B_MN>
DEVICE void product(f32* c, const f32* a, const f32* b, const Product& p, const Layout<2>& batch) {
    constexpr int SIZE = SIDE * PER, THREADS = SIDE * SIDE;
    constexpr u32 HALF = SIZE * BK * 4, BYTES = 2 * HALF;
    extern __shared__ __align__(16) unsigned char memory[];
    const u32 ring = shared_address(memory);
    const Tile tile(p, SIZE, SIZE);
    const Offsets o(batch, tile.batch);
    a += o[0];
    b += o[1];
    const u64 a_stride = A_MN ? p.a_col : p.a_row, b_stride = B_MN ? p.b_row : p.b_col;
    const u32 steps = (p.k + BK - 1) / BK;
    // Loads step `s`, if there is one; a group each all the same, so that their number says which has come.
    auto fetch = [&](u32 s) {
        if (s < steps) {
            const u32 stage = ring + s % STAGES * BYTES;
            load<A_MN, SIZE, THREADS>(stage, a, a_stride, tile.row, p.m, s * BK, p.k);
            load<B_MN, SIZE, THREADS>(stage + HALF, b, b_stride, tile.col, p.n, s * BK, p.k);
        }
        cp_async_commit();
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) fetch(s);

    const u32 ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    f32 sum[PER][PER] = {};
#pragma unroll 1
    for (u32 s = 0; s < steps; s++) {
        cp_async_wait<STAGES - 2>();
        // This step's stage has come for all, and all are done with the one before, which is filled anew.
        __syncthreads();
        fetch(s + STAGES - 1);
        const unsigned char* stage = memory + s % STAGES * BYTES;
#pragma unroll
        for (u32 k = 0; k < BK; k += 4) {
            f32 l[PER][4], r[PER][4];
            read<A_MN, SIZE, SIDE, PER>(l, stage, ty, k);
            read<B_MN, SIZE, SIDE, PER>(r, stage + HALF, tx, k);
#pragma unroll
            for (int kk = 0; kk < 4; kk++)
#pragma unroll
                for (int i = 0; i < PER; i++)
#pragma unroll
                    for (int j = 0; j < PER; j++) sum[i][j] = fmaf(l[i][kk], r[j][kk], sum[i][j]);
        }
    }

    c += tile.batch * p.m * p.n;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        const u64 row = tile.row + place<A_MN, SIDE>(ty, i);
        if (row >= p.m) continue;
#pragma unroll
        for (int j = 0; j < PER; j++) {
            const u64 col = tile.col + place<B_MN, SIDE>(tx, j);
            if (B_MN && p.n % 4 == 0) {
                if (j % 4 == 0 && col < p.n) store_4(&c[row * p.n + col], sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
            } else if (col < p.n) {
                c[row * p.n + col] = sum[i][j];
            }
        }
    }
}

// Named by the side of a tile, and how A and B lie (k for K-major, m or n for MN-major).
#define PRODUCT(LAYOUT, A_MN, B_MN)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                                         \
        matmul_registers_128_##LAYOUT##_f32(f32* c, const f32* a, const f32* b, const __grid_constant__ Product p,            \
                                            const __grid_constant__ Layout<2> batch) {                                        \
        product<16, 8, 3, A_MN, B_MN>(c, a, b, p, batch);                                                                     \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(64)                                                                          \
        matmul_registers_32_##LAYOUT##_f32(f32* c, const f32* a, const f32* b, const __grid_constant__ Product p,             \
                                           const __grid_constant__ Layout<2> batch) {                                         \
        product<8, 4, 3, A_MN, B_MN>(c, a, b, p, batch);                                                                      \
    }
PRODUCT(kk, 0, 0)
PRODUCT(kn, 0, 1)
PRODUCT(mk, 1, 0)
PRODUCT(mn, 1, 1)
