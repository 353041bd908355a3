// arch: sm_90a
// The sum of each block of 256 numbers, twice: as it should be, and with an assumption that has not held since Volta.

extern "C" __global__ void block_sum(const int* x, int* sums, int n) {
    __shared__ int part[256];
    const int t = threadIdx.x, i = blockIdx.x * 256 + t;
    part[t] = i < n ? x[i] : 0;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0) sums[blockIdx.x] = part[0];
}

// "The last warp runs in lockstep and needs no barrier": its lanes may run one after the other.
extern "C" __global__ void block_sum_lockstep(const int* x, int* sums, int n) {
    __shared__ int part[256];
    const int t = threadIdx.x, i = blockIdx.x * 256 + t;
    part[t] = i < n ? x[i] : 0;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        if (half > 32) __syncthreads();
    }
    if (t == 0) sums[blockIdx.x] = part[0];
}
