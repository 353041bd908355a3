// Reductions, positions of extremes, running sums.
//
// The order of a sum depends on the number of its terms, and on whether they lie closest together, alone: thread t adds the
// terms t, t + threads, … in turn, a fixed tree adds the threads' sums, and long sums are cut into parts of fixed length whose
// results are reduced once more.
#include "common.cuh"

enum Op : u32 { SUM, MAX, MIN };

template <class A>
__device__ inline A join(u32 op, A a, A b) {
    switch (op) {
        case SUM: return a + b;
        case MAX: return a > b || a != a ? a : b;
        default: return a < b || a != a ? a : b;
    }
}

template <class A>
__device__ inline A neutral(u32 op) {
    if (op == SUM) return 0;
    if constexpr (same<A, i64>) {
        return op == MAX ? (i64)1 << 63 : ~((i64)1 << 63);
    } else {
        A infinity = __longlong_as_double(0x7ff0000000000000);
        return op == MAX ? -infinity : infinity;
    }
}

// One block an output element and part: terms part·length to part·length + length of row `blockIdx.x / parts`.
template <class T, class Y>
__device__ inline void rows(Y* y, const T* x, u32 op, u64 terms, u64 length, u64 parts, const Layout<1>& kept,
                            const Layout<1>& reduced) {
    using A = Wide<T>;
    u64 part = blockIdx.x % parts, begin = part * length, end = min(begin + length, terms);
    const T* row = x + Offsets(kept, blockIdx.x / parts)[0];
    A value = neutral<A>(op);
#pragma unroll 1
    for (u64 i = begin + threadIdx.x; i < end; i += blockDim.x) value = join(op, value, (A)widen(row[Offsets(reduced, i)[0]]));
    value = across_block(value, [=](A a, A b) { return join(op, a, b); });
    if (threadIdx.x == 0) y[blockIdx.x] = narrow<Y>(value);
}

// Neighbouring threads take neighbouring output elements: for terms that lie far apart. Blocks of 32 × 8 threads; line t of a
// block adds terms t, t + 8, …, then the first line adds up the lines.
template <class T, class Y>
__device__ inline void columns(Y* y, const T* x, u32 op, u64 outputs, u64 terms, u64 length, u64 parts, const Layout<1>& kept,
                               const Layout<1>& reduced) {
    using A = Wide<T>;
    __shared__ A lines[8][32];
    u64 part = blockIdx.x % parts, begin = part * length, end = min(begin + length, terms);
    u64 output = blockIdx.x / parts * 32 + threadIdx.x;
    A value = neutral<A>(op);
    if (output < outputs) {
        const T* column = x + Offsets(kept, output)[0];
#pragma unroll 1
        for (u64 i = begin + threadIdx.y; i < end; i += 8) value = join(op, value, (A)widen(column[Offsets(reduced, i)[0]]));
    }
    lines[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.y == 0 && output < outputs) {
#pragma unroll 1
        for (int line = 1; line < 8; line++) value = join(op, value, lines[line][threadIdx.x]);
        y[output * parts + part] = narrow<Y>(value);
    }
}

#define REDUCE(T, Y)                                                                                                          \
    extern "C" __global__ void reduce_rows_##T##_##Y(Y* y, const T* x, u32 op, u64 terms, u64 length, u64 parts,              \
                                                     const __grid_constant__ Layout<1> kept,                                  \
                                                     const __grid_constant__ Layout<1> reduced) {                             \
        rows(y, x, op, terms, length, parts, kept, reduced);                                                                  \
    }                                                                                                                         \
    extern "C" __global__ void reduce_columns_##T##_##Y(Y* y, const T* x, u32 op, u64 outputs, u64 terms, u64 length,         \
                                                        u64 parts, const __grid_constant__ Layout<1> kept,                    \
                                                        const __grid_constant__ Layout<1> reduced) {                          \
        columns(y, x, op, outputs, terms, length, parts, kept, reduced);                                                      \
    }
REDUCE(f64, f64)
REDUCE(f32, f32)
REDUCE(bf16, bf16)
REDUCE(f16, f16)
REDUCE(i64, i64)
REDUCE(i32, i32)
REDUCE(u8, u8)
// Sums of integers, and of half types in parts.
REDUCE(i32, i64)
REDUCE(u8, i64)
REDUCE(bf16, f32)
REDUCE(f16, f32)
REDUCE(f32, bf16)
REDUCE(f32, f16)

template <class A>
struct Place {
    A value;
    i64 at;
};

// NaN beats everything, the first of equals wins.
template <class A>
__device__ inline Place<A> better(Place<A> a, Place<A> b, u32 largest) {
    bool nan_a = a.value != a.value, nan_b = b.value != b.value;
    bool equal = a.value == b.value || (nan_a && nan_b);
    bool take_b = equal ? b.at < a.at : nan_b || (!nan_a && (largest ? b.value > a.value : b.value < a.value));
    return take_b ? b : a;
}

// The position of the largest (or smallest) term: one block a row.
template <class T>
__device__ inline void arg_reduce(i64* y, const T* x, u32 largest, u64 terms, u64 stride, const Layout<1>& kept) {
    using A = Wide<T>;
    __shared__ Place<A> warps[32];
    const T* row = x + Offsets(kept, blockIdx.x)[0];
    Place<A> best = {widen(row[0]), 0};
#pragma unroll 1
    for (u64 i = threadIdx.x; i < terms; i += blockDim.x) best = better(best, {widen(row[i * stride]), (i64)i}, largest);
#pragma unroll 1
    for (int offset = 16; offset > 0; offset /= 2) {
        Place<A> other = {__shfl_xor_sync(~0u, best.value, offset), __shfl_xor_sync(~0u, best.at, offset)};
        best = better(best, other, largest);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 1
        for (int w = 1; w < blockDim.x / 32; w++) best = better(best, warps[w], largest);
        y[blockIdx.x] = best.at;
    }
}

#define ARG_REDUCE(T)                                                                                                         \
    extern "C" __global__ void arg_reduce_##T(i64* y, const T* x, u32 largest, u64 terms, u64 stride,                         \
                                              const __grid_constant__ Layout<1> kept) {                                       \
        arg_reduce(y, x, largest, terms, stride, kept);                                                                       \
    }
ARG_REDUCE(f64)
ARG_REDUCE(f32)
ARG_REDUCE(bf16)
ARG_REDUCE(f16)
ARG_REDUCE(i64)
ARG_REDUCE(i32)
ARG_REDUCE(u8)

// What a running sum is carried in.
__device__ inline f64 carried(f64 x) { return x; }
__device__ inline i64 carried(i64 x) { return x; }

// Running sums: one warp a row, 32 terms at a time. What the carry's additions round off is kept beside it (Knuth's two-sum), so
// that the error does not grow with the number of terms.
template <class T>
__device__ inline void cumsum(T* y, const T* x, u64 terms, u64 stride_y, u64 stride_x, const Layout<2>& kept) {
    using A = decltype(carried(Wide<T>()));
    Offsets o(kept, blockIdx.x);
    A carry = 0, lost = 0;
    for (u64 base = 0; base < terms; base += 32) {
        u64 i = base + threadIdx.x;
        A sum = i < terms ? (A)widen(x[o[1] + i * stride_x]) : A(0);
#pragma unroll
        for (int offset = 1; offset < 32; offset *= 2) {
            A before = __shfl_up_sync(~0u, sum, offset);
            if (threadIdx.x >= offset) sum += before;
        }
        if (i < terms) y[o[0] + i * stride_y] = narrow<T>(carry + (sum + lost));
        A all = __shfl_sync(~0u, sum, 31), next = carry + all;
        if constexpr (!same<A, i64>) {
            A added = next - carry;
            if (isfinite(next)) lost += (carry - (next - added)) + (all - added);
        }
        carry = next;
    }
}

#define CUMSUM(T)                                                                                                             \
    extern "C" __global__ void cumsum_##T(T* y, const T* x, u64 terms, u64 stride_y, u64 stride_x,                            \
                                          const __grid_constant__ Layout<2> kept) {                                           \
        cumsum(y, x, terms, stride_y, stride_x, kept);                                                                        \
    }
CUMSUM(f64)
CUMSUM(f32)
CUMSUM(bf16)
CUMSUM(f16)
CUMSUM(i64)
