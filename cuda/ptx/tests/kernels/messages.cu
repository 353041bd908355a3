// Kernels that speak: printf, assert and trap.
#include "hopper.cuh"

KERNEL print(int n) {
    if (threadIdx.x < n) printf("thread %d of %u: %5.2f %s %c %llx%%\n", threadIdx.x, blockDim.x, threadIdx.x * 0.5, "text", 'c', 1ull << 40);
}

KERNEL check(const int* in) { assert(in[threadIdx.x] >= 0); }

KERNEL stop(const int* in) {
    if (in[threadIdx.x] < 0) __trap();
}
