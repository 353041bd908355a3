// arch: sm_90a
// What a launch can say: parameters of every type, structs with addresses and tensor maps in them, module variables, a grid
// whose CTAs wait for each other.
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "hopper.cuh"

// out[0] = the sum of all.
KERNEL add_all(double* out, unsigned char a, signed char b, unsigned short c, short d, u32 e, int f, u64 g, long long h, __half i,
               __nv_bfloat16 j, float k, double l, bool m) {
    *out = a + b + c + d + double(e) + f + double(g) + double(h) + double(__half2float(i)) + double(__bfloat162float(j)) + k + l +
           (m ? 1000.0 : 0.0);
}

// A struct as a parameter: numbers, addresses, and a tensor map.
struct Scale {
    float by;
    const float* x;
    float* out;
    int n;
    TensorMap map;
};

// out[i] = by * (x[i] + map's tile at (0, 0)[i]), for a box of 64 x 1 floats.
KERNEL scale(const __grid_constant__ Scale p) {
    __shared__ alignas(128) float tile[64];
    __shared__ u64 full_;
    const u32 full = shared_address(&full_);
    if (threadIdx.x == 0) {
        mbar_init(full, 1);
        fence_mbar_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbar_expect_tx(full, sizeof(tile));
        tma_load_2d(shared_address(tile), p.map, full, 0, 0);
    }
    mbar_wait(full, 0);
    if (threadIdx.x < p.n) p.out[threadIdx.x] = p.by * (p.x[threadIdx.x] + tile[threadIdx.x]);
}

// Rows of a matrix that lie anywhere: rows[i] points to row i.
KERNEL sum_rows(const float* const* rows, float* out, int count, int length) {
    float sum = 0;
    for (int i = 0; i < count; ++i)
        for (int j = threadIdx.x; j < length; j += blockDim.x) sum += rows[i][j];
    out[threadIdx.x] = sum;
}

__constant__ float coefficients[4];
__constant__ const float* table;
__device__ u32 calls = 40;

// The polynomial with these coefficients, plus what the table has; counts its calls.
KERNEL polynomial(const float* x, float* out) {
    const float v = x[threadIdx.x];
    out[threadIdx.x] =
        coefficients[0] + v * (coefficients[1] + v * (coefficients[2] + v * coefficients[3])) + table[threadIdx.x];
    if (threadIdx.x == 0) ++calls;
}

KERNEL read_calls(u32* out) { *out = calls; }

KERNEL through_pointer(const u32* variable, u32* out) { *out = *variable; }

// out[i] = the sum of x; partial has a place for each CTA.
KERNEL grid_sum(const int* x, int* partial, int* out, int n) {
    auto grid = cooperative_groups::this_grid();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    __shared__ int sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (i < n) atomicAdd(&sum, x[i]);
    __syncthreads();
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
    grid.sync();
    int total = 0;
    for (int b = 0; b < gridDim.x; ++b) total += partial[b];
    grid.sync();
    if (i < n) out[i] = total;
}

// The same without the grid's barrier.
KERNEL grid_sum_without_barrier(const int* x, int* partial, int* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x == 0) partial[blockIdx.x] = x[blockIdx.x];
    __syncthreads();
    int total = 0;
    for (int b = 0; b < gridDim.x; ++b) total += partial[b];
    if (i < n) out[i] = total;
}

// Leaves the second half of y as it is.
KERNEL half_of(const float* x, float* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n / 2) y[i] = 2 * x[i];
}
