// Control flow as a compiler makes it: what a SIMT machine has to get right before anything else.

extern "C" __device__ int printf(const char*, ...);

// Collatz steps: each lane leaves the loop on its own.
extern "C" __global__ void collatz(const unsigned* in, unsigned* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned x = in[i], steps = 0;
    while (x > 1) {
        x = x % 2 ? 3 * x + 1 : x / 2;
        ++steps;
    }
    out[i] = steps;
}
