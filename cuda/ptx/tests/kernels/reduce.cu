// Sums, scans and transposes on the CUDA cores: shuffles, votes, shared memory, barriers, tickets.
#include "hopper.cuh"

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// The sum of a row a block, by shuffles and one exchange through shared memory; the last block adds the rows up.
KERNEL sum_rows(const float* in, float* rows, float* total, u32* ticket, int columns) {
    __shared__ float partial[32];
    __shared__ bool last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    float x = 0;
#pragma unroll 1
    for (int c = threadIdx.x; c < columns; c += blockDim.x) x += in[blockIdx.x * columns + c];
    x = warp_sum(x);
    if (lane == 0) partial[warp] = x;
    __syncthreads();
    if (warp == 0) {
        x = warp_sum(lane < warps ? partial[lane] : 0.0f);
        if (lane == 0) {
            rows[blockIdx.x] = x;
            __threadfence();
            last = atomicAdd(ticket, 1) == gridDim.x - 1;
            __threadfence();
        }
    }
    __syncthreads();
    if (last) {
        x = 0;
#pragma unroll 1
        for (int r = threadIdx.x; r < gridDim.x; r += blockDim.x) x += rows[r];
        x = warp_sum(x);
        if (lane == 0) partial[warp] = x;
        __syncthreads();
        if (threadIdx.x == 0) {
            x = 0;
            for (int w = 0; w < warps; ++w) x += partial[w];
            *total = x;
        }
    }
}

// A softmax a row, a block a row: two reductions through the same shared slots.
KERNEL softmax_rows(const float* in, float* out, int columns) {
    __shared__ float slots[4];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float* row = in + blockIdx.x * columns;
    float top = -3.0e38f;
#pragma unroll 1
    for (int c = threadIdx.x; c < columns; c += 128) top = fmaxf(top, row[c]);
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
    if (lane == 0) slots[warp] = top;
    __syncthreads();
    top = fmaxf(fmaxf(slots[0], slots[1]), fmaxf(slots[2], slots[3]));
    __syncthreads();
    float sum = 0;
#pragma unroll 1
    for (int c = threadIdx.x; c < columns; c += 128) sum += __expf(row[c] - top);
    sum = warp_sum(sum);
    if (lane == 0) slots[warp] = sum;
    __syncthreads();
    sum = slots[0] + slots[1] + slots[2] + slots[3];
#pragma unroll 1
    for (int c = threadIdx.x; c < columns; c += 128) out[blockIdx.x * columns + c] = __expf(row[c] - top) / sum;
}

// Counts bytes in shared memory, then adds to the grid's.
KERNEL histogram(const unsigned char* in, u32* out, int n) {
    __shared__ u32 bins[256];
    bins[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll 1
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&bins[in[i]], 1);
    __syncthreads();
    atomicAdd(&out[threadIdx.x], bins[threadIdx.x]);
}

// Within a warp lanes are ordered by __syncwarp alone: a transpose of 32 x 32 through shared memory.
KERNEL warp_transpose(const u32* in, u32* out, int tiles) {
    __shared__ u32 tile[4][32][33];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll 1
    for (int t = blockIdx.x * 4 + warp; t < tiles; t += gridDim.x * 4) {
#pragma unroll 1
        for (int r = 0; r < 32; ++r) tile[warp][r][lane] = in[(t * 32 + r) * 32 + lane];
        __syncwarp();
#pragma unroll 1
        for (int r = 0; r < 32; ++r) out[(t * 32 + r) * 32 + lane] = tile[warp][lane][r];
        __syncwarp();
    }
}

// Keeps what is positive, in order of blocks' arrival: ballot, match and a reservation a warp.
KERNEL compact(const int* in, int* out, u32* count, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
    const bool keep = i < n && in[i] > 0;
    const u32 mask = __ballot_sync(0xffffffffu, keep);
    u32 base = 0;
    if (lane == 0) base = atomicAdd(count, __popc(mask));
    base = __shfl_sync(0xffffffffu, base, 0);
    if (keep) out[base + __popc(mask & ((1u << lane) - 1))] = in[i];
}

// C = A B in f32, square tiles of 16, any shape.
KERNEL matmul_tiled(const float* a, const float* b, float* c, int m, int n, int k) {
    __shared__ float ta[16][16], tb[16][16];
    const int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 16 + y, col = blockIdx.x * 16 + x;
    float sum = 0;
#pragma unroll 1
    for (int k0 = 0; k0 < k; k0 += 16) {
        ta[y][x] = row < m && k0 + x < k ? a[row * k + k0 + x] : 0.0f;
        tb[y][x] = col < n && k0 + y < k ? b[(k0 + y) * n + col] : 0.0f;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; ++i) sum = fmaf(ta[y][i], tb[i][x], sum);
        __syncthreads();
    }
    if (row < m && col < n) c[row * n + col] = sum;
}

// Plain arithmetic for the speed of the interpreter: y = (((x a + b) a + b) ...) and an integer hash.
KERNEL arithmetic(float* y, u32* hash, int n, int rounds) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = y[i];
    u32 h = hash[i];
#pragma unroll 4
    for (int r = 0; r < rounds; ++r) {
        v = fmaf(v, 0.999f, 0.25f);
        h = h * 1664525u + 1013904223u;
        h ^= h >> 13;
    }
    y[i] = v;
    hash[i] = h;
}
