// Fragments of the tensor cores: pairs of neighbouring columns in a thread's registers.
#pragma once
#include "common.cuh"

// D (16 x 8) += A (16 x 16) B (16 x 8), by a warp.
__device__ inline void mma(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, bf16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void mma(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, f16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two floats as a pair of halves, the first in the low one.
__device__ inline u32 pack(f32 low, f32 high, bf16) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
__device__ inline u32 pack(f32 low, f32 high, f16) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// Two neighbouring outputs of C (m x n), rounded: one store where rows are whole words. What lies over the edge is left out.
template <class T>
__device__ inline void store_pair(T* c, f32 first, f32 second, u32 row, u32 col, u32 m, u32 n) {
    if (row >= m || col >= n) return;
    const u32 pair = pack(first, second, T());
    u16* at = (u16*)c + (u64)row * n + col;
    if (n % 2 == 0) {
        *(u32*)at = pair;
    } else {
        at[0] = pair;
        if (col + 1 < n) at[1] = pair >> 16;
    }
}
