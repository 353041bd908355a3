// Filling, drawing, copying, converting: operations that move or make elements without arithmetic on them.
#include "common.cuh"

// ---- Moving ---------------------------------------------------------------------------------------------------------------

template <class T>
__device__ inline void fill(T* y, u64 bits, u64 n) {
    u64 i = thread_index();
    if (i < n) y[i] = (T)bits;
}

// From any layout to any layout.
template <class T>
__device__ inline void move(T* y, const T* x, u64 n, const Layout<2>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    y[o[0]] = x[o[1]];
}

// Zeroes what lies above (or below) the k-th diagonal of `rows` × `cols` matrices.
template <class T>
__device__ inline void tri(T* y, const T* x, u64 rows, u64 cols, i64 k, u32 upper, u64 n, const Layout<1>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    i64 col = i % cols, diagonal = (i64)(i / cols % rows) + k;
    bool keep = upper ? col >= diagonal : col <= diagonal;
    y[i] = keep ? x[Offsets(layout, i)[0]] : T(0);
}

#define MOVES(NAME, T)                                                                                                        \
    extern "C" __global__ void fill_##NAME(T* y, u64 bits, u64 n) { fill(y, bits, n); }                                       \
    extern "C" __global__ void move_##NAME(T* y, const T* x, u64 n, const __grid_constant__ Layout<2> layout) {               \
        move(y, x, n, layout);                                                                                                \
    }                                                                                                                         \
    extern "C" __global__ void tri_##NAME(T* y, const T* x, u64 rows, u64 cols, i64 k, u32 upper, u64 n,                      \
                                          const __grid_constant__ Layout<1> layout) {                                         \
        tri(y, x, rows, cols, k, upper, n, layout);                                                                           \
    }
MOVES(b8, u8)
MOVES(b16, u16)
MOVES(b32, u32)
MOVES(b64, u64)

// ---- Converting -----------------------------------------------------------------------------------------------------------

enum DType : u32 { F64, F32, BF16, F16, F8E4M3, I64, I32, U8 };

template <class T>
__device__ inline void cast(T* y, const void* x, u32 from, u64 n, const Layout<1>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    u64 o = Offsets(layout, i)[0];
    switch (from) {
        case F64: y[i] = narrow<T>(((const f64*)x)[o]); break;
        case F32: y[i] = narrow<T>(((const f32*)x)[o]); break;
        case BF16: y[i] = narrow<T>(widen(((const bf16*)x)[o])); break;
        case F16: y[i] = narrow<T>(widen(((const f16*)x)[o])); break;
        case F8E4M3: y[i] = narrow<T>(widen(((const f8e4m3*)x)[o])); break;
        case I64: y[i] = narrow<T>(((const i64*)x)[o]); break;
        case I32: y[i] = narrow<T>(widen(((const i32*)x)[o])); break;
        default: y[i] = narrow<T>(widen(((const u8*)x)[o])); break;
    }
}

#define CAST(NAME, T)                                                                                                         \
    extern "C" __global__ void cast_##NAME(T* y, const void* x, u32 from, u64 n,                                              \
                                           const __grid_constant__ Layout<1> layout) {                                        \
        cast(y, x, from, n, layout);                                                                                          \
    }
CAST(f64, f64)
CAST(f32, f32)
CAST(bf16, bf16)
CAST(f16, f16)
CAST(f8e4m3, f8e4m3)
CAST(i64, i64)
CAST(i32, i32)
CAST(u8, u8)
CAST(bool, b8)

// ---- Making ---------------------------------------------------------------------------------------------------------------

extern "C" __global__ void arange(i64* y, i64 start, i64 step, u64 n) {
    u64 i = thread_index();
    if (i < n) y[i] = start + (i64)i * step;
}

struct Words {
    u32 w[4];
    __device__ inline u64 first() const { return (u64)w[0] << 32 | w[1]; }
    __device__ inline u64 second() const { return (u64)w[2] << 32 | w[3]; }
};

// Philox4x32-10 (Salmon et al., 2011), word for word as `tensor::random`.
__device__ inline Words philox(u64 seed, u64 counter) {
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
    Words c = {{(u32)counter, (u32)(counter >> 32), 0, 0}};
#pragma unroll 1
    for (int round = 0; round < 10; round++) {
        u64 p0 = 0xD2511F53ull * c.w[0], p1 = 0xCD9E8D57ull * c.w[2];
        c = {{(u32)(p1 >> 32) ^ c.w[1] ^ k0, (u32)p1, (u32)(p0 >> 32) ^ c.w[3] ^ k1, (u32)p0}};
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return c;
}

enum Distribution : u32 { UNIFORM, NORMAL };

// Uniform on [a, b) and at most `last`, or normal with mean a and standard deviation b (Box–Muller). No multiply-add is fused,
// so that uniform numbers are the CPU's to the bit.
__device__ inline f64 draw(u32 distribution, f64 a, f64 b, f64 last, u64 seed, u64 counter) {
    Words w = philox(seed, counter);
    if (distribution == UNIFORM) return fmin(__dadd_rn(a, __dmul_rn(b - a, (f64)(w.first() >> 11) * 0x1p-53)), last);
    f64 u = (f64)((w.first() >> 11) + 1) * 0x1p-53, v = (f64)(w.second() >> 11) * 0x1p-53;
    return __dadd_rn(a, __dmul_rn(b, sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v)));
}

extern "C" __global__ void random_f64(f64* y, u32 distribution, f64 a, f64 b, f64 last, u64 seed, u64 offset, u64 n) {
    u64 i = thread_index();
    if (i < n) y[i] = draw(distribution, a, b, last, seed, offset + i);
}

extern "C" __global__ void random_f32(f32* y, u32 distribution, f64 a, f64 b, f64 last, u64 seed, u64 offset, u64 n) {
    u64 i = thread_index();
    if (i < n) y[i] = (f32)draw(distribution, a, b, last, seed, offset + i);
}

// Uniform on lo..hi.
extern "C" __global__ void random_i64(i64* y, i64 lo, i64 hi, u64 seed, u64 offset, u64 n) {
    u64 i = thread_index();
    if (i < n) y[i] = (i64)((u64)lo + __umul64hi(philox(seed, offset + i).first(), (u64)hi - (u64)lo));
}
