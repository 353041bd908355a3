// Elementwise operations of two operands, comparisons, and the choice between two by a third.
#include "common.cuh"

enum Op : u32 { ADD, SUB, MUL, DIV, POW, MAXIMUM, MINIMUM };
enum Comparison : u32 { EQ, NE, LT, LE, GT, GE, LOGICAL_AND, LOGICAL_OR };

template <class A>
__device__ inline A real(u32 op, A a, A b) {
    switch (op) {
        case ADD: return a + b;
        case SUB: return a - b;
        case MUL: return a * b;
        case DIV: return a / b;
        case POW: return pow(a, b);
        case MAXIMUM: return a > b || a != a ? a : b;
        default: return a < b || a != a ? a : b;
    }
}

// A negative power is 0, except of ±1.
__device__ inline i64 power(i64 a, i64 b) {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
    u64 base = a, result = 1;
    for (u64 e = b; e > 0; e /= 2) {
        if (e % 2) result *= base;
        base *= base;
    }
    return result;
}

// In 64 unsigned bits, which wrap; the low bits of narrower types come out right.
__device__ inline i64 whole(u32 op, i64 a, i64 b) {
    switch (op) {
        case ADD: return (u64)a + (u64)b;
        case SUB: return (u64)a - (u64)b;
        case MUL: return (u64)a * (u64)b;
        case POW: return power(a, b);
        case MAXIMUM: return a > b ? a : b;
        default: return a < b ? a : b;
    }
}

template <class T>
__device__ inline void binary(T* y, const T* a, const T* b, u32 op, u64 n, const Layout<2>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    auto va = widen(a[o[0]]), vb = widen(b[o[1]]);
    if constexpr (is_integer<T>) {
        y[i] = narrow<T>(whole(op, va, vb));
    } else {
        y[i] = narrow<T>(real(op, va, vb));
    }
}

template <class A>
__device__ inline bool holds(u32 op, A a, A b) {
    switch (op) {
        case EQ: return a == b;
        case NE: return a != b;
        case LT: return a < b;
        case LE: return a <= b;
        case GT: return a > b;
        case GE: return a >= b;
        case LOGICAL_AND: return a != 0 && b != 0;
        default: return a != 0 || b != 0;
    }
}

template <class T>
__device__ inline void compare(u8* y, const T* a, const T* b, u32 op, u64 n, const Layout<2>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    y[i] = holds(op, widen(a[o[0]]), widen(b[o[1]]));
}

#define BINARY(T)                                                                                                             \
    extern "C" __global__ void binary_##T(T* y, const T* a, const T* b, u32 op, u64 n,                                        \
                                          const __grid_constant__ Layout<2> layout) {                                         \
        binary(y, a, b, op, n, layout);                                                                                       \
    }                                                                                                                         \
    extern "C" __global__ void compare_##T(u8* y, const T* a, const T* b, u32 op, u64 n,                                      \
                                           const __grid_constant__ Layout<2> layout) {                                        \
        compare(y, a, b, op, n, layout);                                                                                      \
    }
BINARY(f64)
BINARY(f32)
BINARY(bf16)
BINARY(f16)
BINARY(i64)
BINARY(i32)
BINARY(u8)

template <class T>
__device__ inline void choose(T* y, const u8* condition, const T* a, const T* b, u64 n, const Layout<3>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    y[i] = condition[o[0]] ? a[o[1]] : b[o[2]];
}

#define WHERE(NAME, T)                                                                                                        \
    extern "C" __global__ void where_##NAME(T* y, const u8* condition, const T* a, const T* b, u64 n,                         \
                                            const __grid_constant__ Layout<3> layout) {                                       \
        choose(y, condition, a, b, n, layout);                                                                                \
    }
WHERE(b8, u8)
WHERE(b16, u16)
WHERE(b32, u32)
WHERE(b64, u64)
