// Element types, layouts, sums across a block, and faults: what the kernel families share.
//
// Kernels are named FAMILY_DTYPE with the dtypes' names of the tensor crate; those that move elements without looking at
// them are named by the elements' bits, FAMILY_b8 to FAMILY_b64. Operation codes follow the enums here and are given by
// `code` functions in cuda/src/backend.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;
using f32 = float;
using f64 = double;

struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};
struct f8e4m3 {
    u8 bits;
};
// A boolean: one byte, 0 or 1.
struct b8 {
    u8 bits;
};

template <class A, class B>
constexpr bool same = false;
template <class A>
constexpr bool same<A, A> = true;
template <class T>
constexpr bool is_integer = same<T, i64> || same<T, i32> || same<T, u8> || same<T, b8>;

// ---- Conversions ----------------------------------------------------------------------------------------------------------

__device__ inline f32 widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ inline f32 widen(f16 x) {
    f32 y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ inline f32 widen(f8e4m3 x) {
    u32 e = (x.bits >> 3) & 15, m = x.bits & 7;
    f32 y = e == 0 ? m * 0x1p-9f : (8 + m) * __uint_as_float((e + 117) << 23); // 2^(e − 10)
    if ((x.bits & 0x7f) == 0x7f) y = __uint_as_float(0x7fc00000);
    return x.bits & 0x80 ? -y : y;
}
__device__ inline f32 widen(f32 x) { return x; }
__device__ inline f64 widen(f64 x) { return x; }
__device__ inline i64 widen(i64 x) { return x; }
__device__ inline i64 widen(i32 x) { return x; }
__device__ inline i64 widen(u8 x) { return x; }
__device__ inline i64 widen(b8 x) { return x.bits; }

// What a type is computed in: f32 for the half types, i64 for integers.
template <class T>
using Wide = decltype(widen(T()));

// Rounds to nearest, ties to even; beyond 448 (after rounding: 464 is the tie) and NaN give NaN.
__device__ inline f8e4m3 to_f8(f32 x) {
    u32 bits = __float_as_uint(x), sign = bits >> 24 & 0x80;
    f32 a = fabsf(x);
    if (!(a <= 464.0f)) return {(u8)(sign | 0x7f)};
    // Below 2^-6 the spacing is that of the subnormals, 2^-9; above, it is 2^(exponent - 3).
    i32 exponent = max((i32)(bits >> 23 & 255) - 127, -6);
    u32 steps = (u32)rintf(a * __uint_as_float((u32)(130 - exponent) << 23)); // 0 to 16
    return {(u8)(sign | ((u32)(exponent + 6) * 8 + steps))};
}

// f64 is rounded once: to odd in f32, whose extra bits then decide right.
__device__ inline f32 to_odd(f64 x) {
    f32 y = __double2float_rz(x);
    bool inexact = (f64)y != x && x == x;
    return inexact ? __uint_as_float(__float_as_uint(y) | 1) : y;
}

template <class T, class S>
__device__ inline T narrow(S x) {
    if constexpr (same<T, S>) {
        return x;
    } else if constexpr (same<T, bf16>) {
        u16 bits;
        f32 y;
        if constexpr (same<S, f64>) {
            y = to_odd(x);
        } else {
            y = (f32)x;
        }
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(y));
        return {bits};
    } else if constexpr (same<T, f16>) {
        u16 bits;
        if constexpr (same<S, f64>) {
            asm("cvt.rn.f16.f64 %0, %1;" : "=h"(bits) : "d"(x));
        } else {
            asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"((f32)x));
        }
        return {bits};
    } else if constexpr (same<T, f8e4m3>) {
        return to_f8(same<S, f64> ? to_odd(x) : (f32)x);
    } else if constexpr (same<T, b8>) {
        return {(u8)(x != 0)};
    } else if constexpr (is_integer<T> && same<S, f64>) {
        return (T)(x == x ? __double2ll_rz(x) : 0); // out of range saturates, as the instruction does
    } else if constexpr (is_integer<T> && same<S, f32>) {
        return (T)(x == x ? __float2ll_rz(x) : 0);
    } else {
        return (T)x;
    }
}

// ---- Layouts --------------------------------------------------------------------------------------------------------------

constexpr int MAX_RANK = 8;

// How N operands of one shape lie in memory: sizes from the slowest dimension to the fastest, strides in elements. Dimensions
// are merged on the host where all operands allow it, so the usual rank is 1. `Layouts` in cuda/src/backend/layouts.rs.
template <int N>
struct Layout {
    u64 rank;
    u64 size[MAX_RANK];
    u64 stride[N][MAX_RANK];
};

// Where element `index`, counted in row-major order, lies in each operand.
template <int N>
struct Offsets {
    u64 at[N];
    __device__ inline Offsets(const Layout<N>& layout, u64 index) {
#pragma unroll
        for (int k = 0; k < N; k++) at[k] = 0;
        u64 d = layout.rank - 1;
#pragma unroll 1
        while (d > 0) {
            u64 rest = index / layout.size[d], i = index - rest * layout.size[d];
#pragma unroll
            for (int k = 0; k < N; k++) at[k] += i * layout.stride[k][d];
            index = rest;
            asm("sub.u64 %0, %0, 1;" : "+l"(d)); // `d--`, which the compiler would unroll, four divisions at a time
        }
#pragma unroll
        for (int k = 0; k < N; k++) at[k] += index * layout.stride[k][0];
    }
    __device__ inline u64 operator[](int k) const { return at[k]; }
};

__device__ inline u64 thread_index() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// ---- Across a block -------------------------------------------------------------------------------------------------------

// `join` over the values of all threads, the same for each of them; `join` commutes. The order depends on the block's size
// alone, which a row's length decides.
template <class A, class F>
__device__ inline A across_block(A value, F join) {
    __shared__ A warps[32];
#pragma unroll 1
    for (int offset = 16; offset > 0; offset /= 2) value = join(value, __shfl_xor_sync(~0u, value, offset));
    if (blockDim.x > 32) {
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
        __syncthreads();
        value = warps[0];
#pragma unroll 1
        for (int w = 1; w < blockDim.x / 32; w++) value = join(value, warps[w]);
        __syncthreads(); // the next call writes `warps` again
    }
    return value;
}

template <class A>
__device__ inline A block_sum(A value) {
    return across_block(value, [](A a, A b) { return a + b; });
}

// The larger that is not NaN.
template <class A>
__device__ inline A block_max(A value) {
    return across_block(value, [](A a, A b) { return b > a ? b : a; });
}

// ---- Faults ---------------------------------------------------------------------------------------------------------------

// What a kernel reports of bad input; the host reads it at the next synchronisation. The first one stays. `code` says which
// operation it was, from 1 on, as the host numbers them.
struct Fault {
    u64 code;
    i64 position;
    u64 size;
};

// `position` does not exist in a dimension of `size`.
__device__ inline bool in_range(i64 position, u64 size, Fault* fault, u64 code) {
    if ((u64)position < size) return true;
    if (atomicCAS(&fault->code, 0ull, code) == 0) {
        fault->position = position;
        fault->size = size;
    }
    return false;
}
