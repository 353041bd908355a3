// Recursion needs a stack of unknown depth: refused before anything runs.
// spills: _Z9fibonaccij: it exists only to be refused
#include "hopper.cuh"

__device__ __noinline__ u32 fibonacci(u32 n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

KERNEL recursive(u32* out) { out[threadIdx.x] = fibonacci(threadIdx.x); }

// ptxas: Stack size for entry function: recursion is what is tested
