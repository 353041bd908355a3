// Reading and writing at positions. A position that does not exist is reported, and skipped.
#include "common.cuh"

// out[.., i, ..] = x[.., index[.., i, ..], ..]; x has stride 0 in the layout where `stride` is its own.
template <class T>
__device__ inline void gather(T* y, const T* x, const i64* index, u64 size, u64 stride, Fault* fault, u64 code, u64 n,
                              const Layout<2>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    i64 position = index[o[0]];
    y[i] = in_range(position, size, fault, code) ? x[o[1] + position * stride] : T(0);
}

// One thread a line along the indexed dimension, so that a later value wins.
template <class T>
__device__ inline void scatter(T* y, const i64* index, const T* src, u64 length, u64 size, u64 stride_y, u64 stride_index,
                               u64 stride_src, Fault* fault, u64 code, u64 lines, const Layout<3>& layout) {
    u64 line = thread_index();
    if (line >= lines) return;
    Offsets o(layout, line);
#pragma unroll 1
    for (u64 i = 0; i < length; i++) {
        i64 position = index[o[1] + i * stride_index];
        if (in_range(position, size, fault, code)) y[o[0] + position * stride_y] = src[o[2] + i * stride_src];
    }
}

// As `scatter`, adding in ascending order; floats into f64, so that the error does not grow with the number of terms.
template <class T, class A>
__device__ inline void scatter_add(A* y, const i64* index, const T* src, u64 length, u64 size, u64 stride_y, u64 stride_index,
                                   u64 stride_src, Fault* fault, u64 code, u64 lines, const Layout<3>& layout) {
    u64 line = thread_index();
    if (line >= lines) return;
    Offsets o(layout, line);
#pragma unroll 1
    for (u64 i = 0; i < length; i++) {
        i64 position = index[o[1] + i * stride_index];
        if (!in_range(position, size, fault, code)) continue;
        A* to = y + o[0] + position * stride_y;
        *to = narrow<A>(widen(*to) + (Wide<A>)widen(src[o[2] + i * stride_src]));
    }
}

// How many sequences one launch can serve: their positions travel as a parameter, which must fit 4 KiB.
constexpr int SEQUENCES = 256;
struct Positions {
    u64 of[SEQUENCES];
};

// src [batch, heads, len, dim], in any layout, into a contiguous cache [batch, heads, capacity, dim] from each sequence's
// position on.
template <class T>
__device__ inline void write_rows(T* cache, const T* src, u64 heads, u64 len, u64 dim, u64 capacity, u64 n,
                                  const Positions& positions, const Layout<1>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    u64 column = i % dim, row = i / dim % len, head = i / (dim * len);
    u64 to = positions.of[head / heads] + row;
    cache[(head * capacity + to) * dim + column] = src[Offsets(layout, i)[0]];
}

#define MOVES(NAME, T)                                                                                                        \
    extern "C" __global__ void gather_##NAME(T* y, const T* x, const i64* index, u64 size, u64 stride, Fault* fault,          \
                                             u64 code, u64 n,                                                                 \
                                             const __grid_constant__ Layout<2> layout) {                                      \
        gather(y, x, index, size, stride, fault, code, n, layout);                                                                  \
    }                                                                                                                         \
    extern "C" __global__ void scatter_##NAME(T* y, const i64* index, const T* src, u64 length, u64 size, u64 stride_y,       \
                                              u64 stride_index, u64 stride_src, Fault* fault, u64 code, u64 lines,            \
                                              const __grid_constant__ Layout<3> layout) {                                     \
        scatter(y, index, src, length, size, stride_y, stride_index, stride_src, fault, code, lines, layout);                       \
    }                                                                                                                         \
    extern "C" __global__ void write_rows_##NAME(T* cache, const T* src, u64 heads, u64 len, u64 dim, u64 capacity, u64 n,    \
                                                 const __grid_constant__ Positions positions,                                 \
                                                 const __grid_constant__ Layout<1> layout) {                                  \
        write_rows(cache, src, heads, len, dim, capacity, n, positions, layout);                                              \
    }
MOVES(b8, u8)
MOVES(b16, u16)
MOVES(b32, u32)
MOVES(b64, u64)

#define SCATTER_ADD(T, A)                                                                                                     \
    extern "C" __global__ void scatter_add_##T(A* y, const i64* index, const T* src, u64 length, u64 size, u64 stride_y,      \
                                               u64 stride_index, u64 stride_src, Fault* fault, u64 code, u64 lines,           \
                                               const __grid_constant__ Layout<3> layout) {                                    \
        scatter_add(y, index, src, length, size, stride_y, stride_index, stride_src, fault, code, lines, layout);                   \
    }
SCATTER_ADD(f64, f64)
SCATTER_ADD(f32, f64)
SCATTER_ADD(bf16, f64)
SCATTER_ADD(f16, f64)
SCATTER_ADD(i64, i64)
SCATTER_ADD(i32, i32)
SCATTER_ADD(u8, u8)
