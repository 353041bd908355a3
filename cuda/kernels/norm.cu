// Root-mean-square norm of the rows of a matrix, forward and backward.
#include "common.cuh"

// y = x·rstd·weight with rstd = 1/√(mean(x²) + eps), which is kept for the gradient: one block a row.
template <class T>
__device__ inline void rms_norm(T* y, Wide<T>* rstd, const T* x, const T* weight, f64 eps, u64 n, u64 row_stride, u64 stride,
                                u64 weight_stride) {
    using A = Wide<T>;
    const T* row = x + blockIdx.x * row_stride;
    A sum = 0;
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
        A v = widen(row[i * stride]);
        sum = fma(v, v, sum);
    }
    A r = 1 / sqrt(block_sum(sum) / (A)n + (A)eps);
    if (threadIdx.x == 0) rstd[blockIdx.x] = r;
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
        A v = (A)widen(row[i * stride]) * r;
        y[blockIdx.x * n + i] = narrow<T>(weight ? v * (A)widen(weight[i * weight_stride]) : v);
    }
}

// With x̂ = x·rstd and g = grad·weight: dx = rstd·(g − x̂·mean(g·x̂)).
template <class T>
__device__ inline void rms_norm_backward(T* dx, const T* grad, const T* x, const T* weight, const Wide<T>* rstd, u64 n,
                                         u64 grad_row, u64 grad_stride, u64 x_row, u64 x_stride, u64 weight_stride) {
    using A = Wide<T>;
    grad += blockIdx.x * grad_row;
    x += blockIdx.x * x_row;
    A r = rstd[blockIdx.x], sum = 0;
    auto scaled = [&](u64 i) {
        A g = widen(grad[i * grad_stride]);
        return weight ? g * (A)widen(weight[i * weight_stride]) : g;
    };
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) sum = fma(scaled(i), (A)widen(x[i * x_stride]) * r, sum);
    A mean = block_sum(sum) / (A)n;
#pragma unroll 1
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
        A normed = (A)widen(x[i * x_stride]) * r;
        dx[blockIdx.x * n + i] = narrow<T>(r * fma(-normed, mean, scaled(i)));
    }
}

// Σ grad·x̂ over rows part·length to part·length + length, for the weight: blocks of 32 columns × 8 lines, as reduce.cu's.
template <class T>
__device__ inline void rms_norm_weight(Wide<T>* partial, const T* grad, const T* x, const Wide<T>* rstd, u64 rows, u64 n,
                                       u64 length, u64 parts, u64 grad_row, u64 grad_stride, u64 x_row, u64 x_stride) {
    using A = Wide<T>;
    __shared__ A lines[8][32];
    u64 part = blockIdx.x % parts, begin = part * length, end = min(begin + length, rows);
    u64 column = blockIdx.x / parts * 32 + threadIdx.x;
    A sum = 0;
    if (column < n) {
#pragma unroll 1
        for (u64 row = begin + threadIdx.y; row < end; row += 8) {
            A g = widen(grad[row * grad_row + column * grad_stride]);
            sum = fma(g, (A)widen(x[row * x_row + column * x_stride]) * rstd[row], sum);
        }
    }
    lines[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < n) {
#pragma unroll 1
        for (int line = 1; line < 8; line++) sum += lines[line][threadIdx.x];
        partial[column * parts + part] = sum;
    }
}

#define RMS_NORM(T)                                                                                                           \
    extern "C" __global__ void rms_norm_##T(T* y, Wide<T>* rstd, const T* x, const T* weight, f64 eps, u64 n,                 \
                                            u64 row_stride, u64 stride, u64 weight_stride) {                                  \
        rms_norm(y, rstd, x, weight, eps, n, row_stride, stride, weight_stride);                                              \
    }                                                                                                                         \
    extern "C" __global__ void rms_norm_backward_##T(T* dx, const T* grad, const T* x, const T* weight, const Wide<T>* rstd,  \
                                                     u64 n, u64 grad_row, u64 grad_stride, u64 x_row, u64 x_stride,           \
                                                     u64 weight_stride) {                                                     \
        rms_norm_backward(dx, grad, x, weight, rstd, n, grad_row, grad_stride, x_row, x_stride, weight_stride);               \
    }                                                                                                                         \
    extern "C" __global__ void rms_norm_weight_##T(Wide<T>* partial, const T* grad, const T* x, const Wide<T>* rstd,          \
                                                   u64 rows, u64 n, u64 length, u64 parts, u64 grad_row, u64 grad_stride,     \
                                                   u64 x_row, u64 x_stride) {                                                 \
        rms_norm_weight(partial, grad, x, rstd, rows, n, length, parts, grad_row, grad_stride, x_row, x_stride);              \
    }
RMS_NORM(f64)
RMS_NORM(f32)
RMS_NORM(bf16)
RMS_NORM(f16)
