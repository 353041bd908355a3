// Rung 2 of the products: tiles in shared memory, for any dtype, shape and layout, [batch, m, k] × [batch, k, n]. What no later
// rung takes comes here.
//
// What it adds: a block loads a square of A and of B once and all its threads use them, so that an element that came from L2 is
// used SIZE times; each thread keeps 4 × 4 sums in registers, so that one read of shared memory serves 4 multiply-adds. Half
// types go to the tensor cores, a warp 32 × 32 outputs. What it should gain over a thread per output: a factor of 8 in f32, where
// 2 loads per multiply-add become 1 per 2; more in half types.
//
// What limits it: a load is of one element, and all wait for it before anybody multiplies.
//
// Elements loaded: m n k / SIZE of A and as many of B, edges apart.
//
// Each output element is one chain of multiply-adds in ascending k (of blocks of 16 for the half types, on the tensor cores),
// so that it depends on its row, its column and k alone, whatever the tile.
//
// sass: registers <= 168, spills = 0
#include "fragment.cuh"
#include "strided.cuh"

__device__ inline f32 multiply_add(f32 a, f32 b, f32 c) { return fmaf(a, b, c); }
__device__ inline f64 multiply_add(f64 a, f64 b, f64 c) { return fma(a, b, c); }
__device__ inline u64 multiply_add(u64 a, u64 b, u64 c) { return a * b + c; }
__device__ inline u32 multiply_add(u32 a, u32 b, u32 c) { return a * b + c; }
__device__ inline u8 multiply_add(u8 a, u8 b, u8 c) { return a * b + c; }

// SIZE × SIZE outputs a block, PER × PER a thread, k in steps of 16.
template <class T, int SIZE, int PER>
__device__ inline void tiles(T* c, const T* a, const T* b, const Product& p, const Layout<2>& batch) {
    constexpr int K = 16, SIDE = SIZE / PER, THREADS = SIDE * SIDE;
    __shared__ T left[K][SIZE + 1], right[K][SIZE + 1]; // one more, so that a column lies over all banks
    Tile tile(p, SIZE, SIZE);
    Offsets o(batch, tile.batch);
    a += o[0];
    b += o[1];
    c += tile.batch * p.m * p.n;
    int ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    // Neighbouring threads read neighbouring addresses, whichever way the operand lies.
    bool a_by_k = p.a_col == 1, b_by_k = p.b_row == 1;
    T sum[PER][PER] = {};
    for (u64 k0 = 0; k0 < p.k; k0 += K) {
#pragma unroll 1
        for (int i = threadIdx.x; i < K * SIZE; i += THREADS) {
            int k = a_by_k ? i % K : i / SIZE, x = a_by_k ? i / K : i % SIZE;
            u64 row = tile.row + x;
            left[k][x] = row < p.m && k0 + k < p.k ? a[row * p.a_row + (k0 + k) * p.a_col] : T(0);
        }
#pragma unroll 1
        for (int i = threadIdx.x; i < K * SIZE; i += THREADS) {
            int k = b_by_k ? i % K : i / SIZE, x = b_by_k ? i / K : i % SIZE;
            u64 col = tile.col + x;
            right[k][x] = col < p.n && k0 + k < p.k ? b[(k0 + k) * p.b_row + col * p.b_col] : T(0);
        }
        __syncthreads();
        int steps = min((u64)K, p.k - k0);
#pragma unroll 4
        for (int k = 0; k < steps; k++) {
            T l[PER], r[PER];
#pragma unroll
            for (int i = 0; i < PER; i++) l[i] = left[k][ty + i * SIDE], r[i] = right[k][tx + i * SIDE];
#pragma unroll
            for (int i = 0; i < PER; i++)
#pragma unroll
                for (int j = 0; j < PER; j++) sum[i][j] = multiply_add(l[i], r[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
#pragma unroll
        for (int j = 0; j < PER; j++) {
            u64 row = tile.row + ty + i * SIDE, col = tile.col + tx + j * SIDE;
            if (row < p.m && col < p.n) c[row * p.n + col] = sum[i][j];
        }
}

// Tiles of 64 for large products; of 8, a thread an output, where little would fill them.
#define TILES(NAME, T)                                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                                         \
        matmul_64_##NAME(T* c, const T* a, const T* b, const __grid_constant__ Product product,                               \
                         const __grid_constant__ Layout<2> batch) {                                                           \
        tiles<T, 64, 4>(c, a, b, product, batch);                                                                             \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(64)                                                                          \
        matmul_8_##NAME(T* c, const T* a, const T* b, const __grid_constant__ Product product,                                \
                        const __grid_constant__ Layout<2> batch) {                                                            \
        tiles<T, 8, 1>(c, a, b, product, batch);                                                                              \
    }
TILES(f64, f64)
TILES(f32, f32)
TILES(i64, u64)
TILES(i32, u32)
TILES(u8, u8)

// Half types on the tensor cores: WARPS × WARPS warps, each 16·M × 8·N outputs, k in steps of 32, sums in f32, rounded once.
// Both operands lie in shared memory with k running fastest, rows of 40 elements: the 32 words of a fragment then lie in 32
// banks.
template <class T, int WARPS, int M, int N>
__device__ inline void tensor_core_tiles(T* c, const T* a, const T* b, const Product& p, const Layout<2>& batch) {
    constexpr int K = 32, PITCH = 40, SIZE = WARPS * 16 * M, THREADS = WARPS * WARPS * 32;
    static_assert(16 * M == 8 * N, "tiles are square");
    __shared__ __align__(4) u16 left[SIZE * PITCH], right[SIZE * PITCH];
    Tile tile(p, SIZE, SIZE);
    Offsets o(batch, tile.batch);
    const u16 *from_a = (const u16*)a + o[0], *from_b = (const u16*)b + o[1];
    c += tile.batch * p.m * p.n;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, in_group = lane % 4;
    int row0 = warp / WARPS * 16 * M, col0 = warp % WARPS * 8 * N;
    bool a_by_k = p.a_col == 1, b_by_k = p.b_row == 1;
    f32 sum[M][N][4] = {};
    for (u64 k0 = 0; k0 < p.k; k0 += K) {
#pragma unroll 1
        for (int i = threadIdx.x; i < K * SIZE; i += THREADS) {
            int k = a_by_k ? i % K : i / SIZE, x = a_by_k ? i / K : i % SIZE;
            u64 row = tile.row + x;
            left[x * PITCH + k] = row < p.m && k0 + k < p.k ? from_a[row * p.a_row + (k0 + k) * p.a_col] : 0;
        }
#pragma unroll 1
        for (int i = threadIdx.x; i < K * SIZE; i += THREADS) {
            int k = b_by_k ? i % K : i / SIZE, x = b_by_k ? i / K : i % SIZE;
            u64 col = tile.col + x;
            right[x * PITCH + k] = col < p.n && k0 + k < p.k ? from_b[(k0 + k) * p.b_row + col * p.b_col] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < K; k += 16) {
            u32 fa[M][4], fb[N][2];
            auto word = [&](const u16* from, int x, int at) { return *(const u32*)&from[x * PITCH + at]; };
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int r = 0; r < 4; r++) fa[i][r] = word(left, row0 + 16 * i + group + r % 2 * 8, k + 2 * in_group + r / 2 * 8);
#pragma unroll
            for (int j = 0; j < N; j++)
#pragma unroll
                for (int r = 0; r < 2; r++) fb[j][r] = word(right, col0 + 8 * j + group, k + 2 * in_group + r * 8);
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int j = 0; j < N; j++) mma(sum[i][j], fa[i], fb[j][0], fb[j][1], T());
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                u64 row = tile.row + row0 + 16 * i + group + r / 2 * 8, col = tile.col + col0 + 8 * j + 2 * in_group + r % 2;
                if (row < p.m && col < p.n) c[row * p.n + col] = narrow<T>(sum[i][j][r]);
            }
}

#define TENSOR_CORE_TILES(T)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128)                                                                         \
        matmul_64_##T(T* c, const T* a, const T* b, const __grid_constant__ Product product,                                  \
                      const __grid_constant__ Layout<2> batch) {                                                              \
        tensor_core_tiles<T, 2, 2, 4>(c, a, b, product, batch);                                                               \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(32)                                                                          \
        matmul_16_##T(T* c, const T* a, const T* b, const __grid_constant__ Product product,                                  \
                      const __grid_constant__ Layout<2> batch) {                                                              \
        tensor_core_tiles<T, 1, 1, 2>(c, a, b, product, batch);                                                               \
    }
TENSOR_CORE_TILES(bf16)
TENSOR_CORE_TILES(f16)
