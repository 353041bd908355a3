// Indirect calls: each lane may name another function.
#include "hopper.cuh"

__device__ __noinline__ u32 twice(u32 x) { return 2 * x; }
__device__ __noinline__ u32 square(u32 x) { return x * x; }
__device__ __noinline__ u32 negate(u32 x) { return ~x + 1; }

using Function = u32 (*)(u32);
__device__ Function table[3] = {twice, square, negate};

KERNEL indirect(u32* out) { out[threadIdx.x] = table[threadIdx.x % 3](threadIdx.x + 1); }
