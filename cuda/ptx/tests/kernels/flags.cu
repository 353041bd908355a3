// CTAs that wait for each other through flags in global memory: what the memory model promises and no more.
#include "hopper.cuh"

// An inclusive scan in one pass: a tile publishes its sum, then looks back over what the tiles before it have published.
// status: 0 nothing, 1 the tile's own sum, 2 the sum of everything up to it.
KERNEL scan_look_back(const u32* in, u32* out, u32* next_tile, u32* status, u32* own, u32* upto, int n) {
    __shared__ u32 sums[8], tile_, before_;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (threadIdx.x == 0) tile_ = atomicAdd(next_tile, 1);
    __syncthreads();
    const int tile = tile_, i = tile * 256 + threadIdx.x;
    u32 x = i < n ? in[i] : 0;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        const u32 y = __shfl_up_sync(0xffffffffu, x, offset);
        if (lane >= offset) x += y;
    }
    if (lane == 31) sums[warp] = x;
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 sum = 0, before = 0;
        for (int w = 0; w < 8; ++w) {
            const u32 s = sums[w];
            sums[w] = sum;
            sum += s;
        }
        if (tile > 0) {
            own[tile] = sum;
            store_release(&status[tile], 1);
#pragma unroll 1
            for (int t = tile - 1;; --t) {
                u32 s;
                while ((s = load_acquire(&status[t])) == 0) {}
                if (s == 2) {
                    before += upto[t];
                    break;
                }
                before += own[t];
            }
        }
        upto[tile] = before + sum;
        store_release(&status[tile], 2);
        before_ = before;
    }
    __syncthreads();
    if (i < n) out[i] = before_ + sums[warp] + x;
}

// CTAs add to a cell in the order of their numbers, by a turn that each passes on: a deterministic atomic.
KERNEL in_turn(const float* in, float* out, u32* turn, int columns) {
    if (threadIdx.x == 0)
        while (load_acquire(turn) != blockIdx.x) __nanosleep(20);
    __syncthreads();
#pragma unroll 1
    for (int c = threadIdx.x; c < columns; c += blockDim.x) out[c] = out[c] * 0.5f + in[blockIdx.x * columns + c];
    __syncthreads();
    if (threadIdx.x == 0) store_release(turn, blockIdx.x + 1);
}

// A message from one CTA to the next, with fences and a relaxed flag as older code has it.
KERNEL pass_on(u32* cells, u32* flags, int n) {
    const u32 b = blockIdx.x;
    if (b > 0) {
        if (threadIdx.x == 0) {
            while (*reinterpret_cast<volatile u32*>(&flags[b - 1]) == 0) {}
            __threadfence();
        }
        __syncthreads();
#pragma unroll 1
        for (int i = threadIdx.x; i < n; i += blockDim.x) cells[b * n + i] = cells[(b - 1) * n + (i + 1) % n] + 1;
    } else {
#pragma unroll 1
        for (int i = threadIdx.x; i < n; i += blockDim.x) cells[i] = i;
    }
    __syncthreads();
    // The fence comes after the barrier, from the thread that raises the flag: it then covers what all have written.
    if (threadIdx.x == 0) {
        __threadfence();
        *reinterpret_cast<volatile u32*>(&flags[b]) = 1;
    }
}

// Mutual exclusion between CTAs.
KERNEL lock_cell(u32* lock, u32* cell, int rounds) {
    if (threadIdx.x != 0) return;
#pragma unroll 1
    for (int r = 0; r < rounds; ++r) {
        u32 old;
        do {
            asm volatile("atom.acquire.gpu.global.cas.b32 %0, [%1], 0, 1;" : "=r"(old) : "l"(__cvta_generic_to_global(lock)) : "memory");
        } while (old != 0);
        cell[0] = cell[0] * 3 + 1;
        cell[1] += 1;
        asm volatile("st.release.gpu.global.u32 [%0], 0;" ::"l"(__cvta_generic_to_global(lock)) : "memory");
    }
}

// The whole grid waits for itself: legal only while every CTA is resident.
KERNEL grid_barrier(u32* arrived, u32* cells) {
    cells[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x + 1;
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(__cvta_generic_to_global(arrived)) : "memory");
        while (load_acquire(arrived) < gridDim.x) {}
    }
    __syncthreads();
    const u32 next = (blockIdx.x + 1) % gridDim.x * blockDim.x + threadIdx.x;
    cells[gridDim.x * blockDim.x + blockIdx.x * blockDim.x + threadIdx.x] = cells[next];
}
