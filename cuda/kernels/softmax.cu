// Softmax and its logarithm: one block a row.
#include "common.cuh"

// Zero in the place of an f32 subnormal.
__device__ inline f32 flush(f32 x) { return fabsf(x) < 0x1p-126f ? 0.0f : x; }
__device__ inline f64 flush(f64 x) { return x; }

// A NaN, a +∞, or nothing but −∞ in a row makes all of it NaN.
template <class T>
__device__ inline void softmax(T* y, const T* x, u32 log_of_it, u64 n, u64 stride, const Layout<1>& kept) {
    using A = Wide<T>;
    const T* row = x + Offsets(kept, blockIdx.x)[0];
    T* out = y + blockIdx.x * n;
    A top = -(A)__longlong_as_double(0x7ff0000000000000), sum = 0;
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
        A v = widen(row[i * stride]);
        top = v > top ? v : top;
    }
    top = block_max(top);
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) sum += exp((A)widen(row[i * stride]) - top);
    sum = block_sum(sum);
    A log_sum = log(sum);
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
        A shifted = (A)widen(row[i * stride]) - top;
        out[i] = narrow<T>(log_of_it ? shifted - log_sum : flush(exp(shifted) / sum));
    }
}

#define SOFTMAX(T)                                                                                                            \
    extern "C" __global__ void softmax_##T(T* y, const T* x, u32 log_of_it, u64 n, u64 stride,                                \
                                           const __grid_constant__ Layout<1> kept) {                                          \
        softmax(y, x, log_of_it, n, stride, kept);                                                                            \
    }
SOFTMAX(f64)
SOFTMAX(f32)
SOFTMAX(bf16)
SOFTMAX(f16)
