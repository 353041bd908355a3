// Control flow as a compiler makes it: what a SIMT machine has to get right before anything else.
#include "hopper.cuh"

// Collatz steps: each lane leaves the loop on its own.
KERNEL collatz(const u32* in, u32* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    u32 x = in[i], steps = 0;
    while (x > 1) {
        x = x % 2 ? 3 * x + 1 : x / 2;
        ++steps;
    }
    out[i] = steps;
}

// A machine of four instructions: a switch in a loop (brx.idx), each lane with its own program.
KERNEL interpret(const u32* program, u32* out, int length) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    u32 acc = i;
    for (int pc = 0; pc < length; ++pc) {
        switch ((program[pc] >> i % 8 * 3) & 7) {
            case 0: acc += 3; break;
            case 1: acc *= 5; break;
            case 2: acc ^= acc >> 3; break;
            case 3: acc = __brev(acc); break;
            case 4: if (acc & 1) continue; acc -= 7; break;
            case 5: acc = acc << 9 | acc >> 23;  // falls through
            case 6: acc += __popc(acc); break;
            default: goto done;
        }
        acc += pc;
    }
done:
    out[i] = acc;
}

// A table of branch targets, written by hand: NVRTC makes none.
KERNEL jump_table(const u32* in, u32* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    u32 x = in[i], y = i;
#pragma unroll 1
    for (int round = 0; round < 5; ++round) {
        asm volatile(
            "{\n"
            "targets: .branchtargets plus, times, flip, keep;\n"
            "brx.idx %1, targets;\n"
            "plus: add.u32 %0, %0, 7;\n"
            "bra keep;\n"
            "times: mul.lo.u32 %0, %0, 3;\n"
            "flip: xor.b32 %0, %0, 85;\n"
            "keep:\n"
            "}"
            : "+r"(y)
            : "r"(x % 4));
        x = x / 4 + y % 5;
    }
    out[i] = y;
}

// Two loops that jump into each other: no loop header dominates, reconvergence has no structure to lean on.
KERNEL irreducible(const u32* in, u32* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    u32 x = in[i], steps = 0;
    if (x & 1) goto second;
first:
    x = x * 3 + 1;
    ++steps;
    asm volatile("// first" ::);
    if (x % 7 == 0 || steps > 40) goto out;
second:
    x = x / 2 + 5;
    ++steps;
    asm volatile("// second" ::);
    if (x % 3 == 0 && steps < 50) goto second;
    if (steps < 60) goto first;
out:
    out[i] = x * 64 + steps;
}

// Nested loops with break, continue and a trip count of the lane's own; a sum that is folded over the lanes still there.
KERNEL nested(u32* out) {
    const u32 i = threadIdx.x;
    u32 sum = 0;
    for (u32 a = 0; a < i % 9 + 1; ++a) {
        for (u32 b = a; b < 12; ++b) {
            if ((a * b + i) % 5 == 0) continue;
            if ((a + b * i) % 11 == 7) break;
            sum += a * 100 + b;
        }
        if (sum > 5000) break;
    }
    out[i] = sum + 1000000 * __popc(__activemask());
}

// Half of the threads leave before the barrier, which waits only for those that are left.
KERNEL early_exit(u32* out) {
    __shared__ u32 slots[128];
    const u32 i = threadIdx.x;
    if (i >= 64) return;
    slots[i] = i * i;
    __syncthreads();
    out[i] = slots[63 - i];
}

// A lock that the lanes of one warp take in turn: needs progress of each lane on its own.
KERNEL spin_lock(u32* lock, u32* counter) {
    for (bool done = false; !done;) {
        if (atomicCAS(lock, 0, 1) == 0) {
            __threadfence();
            *reinterpret_cast<volatile u32*>(counter) += 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}

__device__ __noinline__ u32 ackermann_like(u32 m, u32 n) {
    u32 r = n + 1;
    for (u32 j = 0; j < m; ++j) r = r * 2 + n % (j + 1);
    return r;
}
__device__ __noinline__ u32 outer(u32 x) { return ackermann_like(x % 5, x) ^ ackermann_like(x % 3, x + 1); }

// Calls from divergent code, two deep.
KERNEL calls(u32* out) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = i % 3 ? outer(i) : i;
}

// A struct in local memory, indexed by what is known only at run time.
KERNEL local_memory(u32* out) {
    u32 table[16];
    const u32 i = threadIdx.x;
    for (u32 j = 0; j < 16; ++j) table[(j * 5 + i) % 16] = j * i;
    u32 sum = 0;
    for (u32 j = 0; j < 16; ++j) sum = sum * 3 + table[(j + out[i]) % 16];
    out[i] = sum;
}

__constant__ u32 primes[8] = {2, 3, 5, 7, 11, 13, 17, 19};
__device__ u32 launches = 0;

// Variables with initialisers, in constant and global memory.
KERNEL variables(u32* out) {
    out[threadIdx.x] = primes[threadIdx.x % 8];
    if (threadIdx.x == 0) out[blockDim.x] = atomicAdd(&launches, 1);
}
