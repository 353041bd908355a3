// Causal attention, forward and backward: the plain rung. One warp a query (for the gradients of keys and values: a key).
//
// A warp takes 32 keys at a time, a lane a key, for scores; then its lanes own columns of the output. Blocks of keys are
// counted from key 0, so that a row's bits depend on the keys it sees alone: a decoding step gives those of the full pass.
#include "common.cuh"

constexpr int WARPS = 4;

// [batch, heads, rows, columns]
struct Operand {
    u64 batch, head, row, col;
};

struct Shape {
    u64 heads, seq, keys, dim, width, rows; // rows: batch · heads · seq, or batch · heads · keys
};

// How many keys the last query of each sequence sees; a launch serves as many sequences as fit a parameter.
constexpr int SEQUENCES = 256;
struct Visible {
    u64 of[SEQUENCES];
};

// Row `index` of an operand that has `rows` of them a head.
template <class T>
__device__ inline const T* row_of(const T* x, const Operand& o, u64 heads, u64 rows, u64 index) {
    u64 head = index / rows;
    return x + head / heads * o.batch + head % heads * o.head + index % rows * o.row;
}

template <class A, class F>
__device__ inline A across_warp(A value, F join) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = join(value, __shfl_xor_sync(~0u, value, offset));
    return value;
}

template <class A, class T>
__device__ inline A dot(const A* a, const T* b, u64 stride, u64 n) {
    A sum = 0;
#pragma unroll 1
    for (u64 i = 0; i < n; i++) sum = fma(a[i], (A)widen(b[i * stride]), sum);
    return sum;
}

template <class A, class T>
__device__ inline void load(A* to, const T* from, u64 stride, u64 n) {
#pragma unroll 1
    for (u64 i = threadIdx.x % 32; i < n; i += 32) to[i] = widen(from[i * stride]);
}

// sum[c] += Σ_j weight[j]·rows[j][c] over `count` rows, each lane its columns, j ascending.
template <class A, class T>
__device__ inline void accumulate(A* sum, const A* weight, const T* rows, const Operand& o, u64 columns, u64 count) {
#pragma unroll 1
#pragma unroll 1
    for (u64 c = threadIdx.x % 32; c < columns; c += 32) {
        A s = sum[c];
#pragma unroll 1
        for (u64 j = 0; j < count; j++) s = fma(weight[j], (A)widen(rows[j * o.row + c * o.col]), s);
        sum[c] = s;
    }
}

// This warp's share of the dynamic shared memory.
template <class A>
__device__ inline A* scratch(u64 elements) {
    extern __shared__ __align__(8) u8 dynamic[];
    return (A*)dynamic + threadIdx.x / 32 * elements;
}

template <class T>
__device__ inline void forward(T* out, Wide<T>* lse, const T* q, const T* k, const T* v, f64 scale64, const Shape& s,
                               const Operand& oq, const Operand& ok, const Operand& ov, const Visible& visible) {
    using A = Wide<T>;
    const A infinity = __longlong_as_double(0x7ff0000000000000);
    A* query = scratch<A>(s.dim + s.width + 32);
    A *sum = query + s.dim, *weight = sum + s.width, scale = scale64;
    u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= s.rows) return;
    u64 head = row / s.seq, seen = visible.of[head / s.heads] + row % s.seq + 1 - s.seq;
    k = row_of(k, ok, s.heads, 1, head);
    v = row_of(v, ov, s.heads, 1, head);
    load(query, row_of(q, oq, s.heads, s.seq, row), oq.col, s.dim);
#pragma unroll 1
    for (u64 c = lane; c < s.width; c += 32) sum[c] = 0;
    __syncwarp();
    A top = -infinity, total = 0;
#pragma unroll 1
    for (u64 j0 = 0; j0 < seen; j0 += 32) {
        u64 j = j0 + lane;
        A score = j < seen ? dot(query, k + j * ok.row, ok.col, s.dim) * scale : -infinity;
        A block_top = across_warp(score, [](A a, A b) { return b > a ? b : a; });
        A new_top = block_top > top ? block_top : top, shift = new_top == -infinity ? A(0) : new_top;
        A kept = exp(top - shift), e = j < seen ? exp(score - shift) : A(0);
        top = new_top;
        total = total * kept + across_warp(e, [](A a, A b) { return a + b; });
        weight[lane] = e;
#pragma unroll 1
        for (u64 c = lane; c < s.width; c += 32) sum[c] *= kept;
        __syncwarp();
        accumulate(sum, weight, v + j0 * ov.row, ov, s.width, min(32ull, seen - j0));
        __syncwarp();
    }
#pragma unroll 1
    for (u64 c = lane; c < s.width; c += 32) out[row * s.width + c] = narrow<T>(sum[c] / total);
    if (lane == 0) lse[row] = top + log(total);
}

// delta = Σ_c grad·out of each query.
template <class T>
__device__ inline void delta(Wide<T>* y, const T* grad, const T* out, const Shape& s, const Operand& og, const Operand& oo) {
    using A = Wide<T>;
    u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= s.rows) return;
    grad = row_of(grad, og, s.heads, s.seq, row);
    out = row_of(out, oo, s.heads, s.seq, row);
    A sum = 0;
#pragma unroll 1
    for (u64 c = threadIdx.x % 32; c < s.width; c += 32) sum = fma((A)widen(grad[c * og.col]), (A)widen(out[c * oo.col]), sum);
    sum = across_warp(sum, [](A a, A b) { return a + b; });
    if (threadIdx.x % 32 == 0) y[row] = sum;
}

// With P = exp(S − lse) and dS = P∘(dO·Vᵀ − delta)·scale: dQ = dS·K.
template <class T>
__device__ inline void backward_q(T* dq, const T* grad, const T* q, const T* k, const T* v, const Wide<T>* lse,
                                  const Wide<T>* delta, f64 scale64, const Shape& s, const Operand& og, const Operand& oq,
                                  const Operand& ok, const Operand& ov) {
    using A = Wide<T>;
    A* query = scratch<A>(2 * s.dim + s.width + 32);
    A *sum = query + s.dim, *slope = sum + s.dim, *ds = slope + s.width, scale = scale64;
    u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= s.rows) return;
    u64 head = row / s.seq, seen = s.keys + row % s.seq + 1 - s.seq;
    k = row_of(k, ok, s.heads, 1, head);
    v = row_of(v, ov, s.heads, 1, head);
    load(query, row_of(q, oq, s.heads, s.seq, row), oq.col, s.dim);
    load(slope, row_of(grad, og, s.heads, s.seq, row), og.col, s.width);
#pragma unroll 1
    for (u64 c = lane; c < s.dim; c += 32) sum[c] = 0;
    __syncwarp();
#pragma unroll 1
    for (u64 j0 = 0; j0 < seen; j0 += 32) {
        u64 j = j0 + lane;
        if (j < seen) {
            A p = exp(dot(query, k + j * ok.row, ok.col, s.dim) * scale - lse[row]);
            ds[lane] = p * (dot(slope, v + j * ov.row, ov.col, s.width) - delta[row]) * scale;
        }
        __syncwarp();
        accumulate(sum, ds, k + j0 * ok.row, ok, s.dim, min(32ull, seen - j0));
        __syncwarp();
    }
#pragma unroll 1
    for (u64 c = lane; c < s.dim; c += 32) dq[row * s.dim + c] = narrow<T>(sum[c]);
}

// dV = Pᵀ·dO, dK = dSᵀ·Q: a warp a key, 32 queries at a time.
template <class T>
__device__ inline void backward_kv(T* dk, T* dv, const T* grad, const T* q, const T* k, const T* v, const Wide<T>* lse,
                                   const Wide<T>* delta, f64 scale64, const Shape& s, const Operand& og, const Operand& oq,
                                   const Operand& ok, const Operand& ov) {
    using A = Wide<T>;
    A* key = scratch<A>(2 * s.dim + 2 * s.width + 64);
    A *sum_k = key + s.dim, *value = sum_k + s.dim, *sum_v = value + s.width, *p = sum_v + s.width, *ds = p + 32, scale = scale64;
    u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= s.rows) return;
    u64 head = row / s.keys, j = row % s.keys, first = j + s.seq > s.keys ? j + s.seq - s.keys : 0;
    q = row_of(q, oq, s.heads, 1, head);
    grad = row_of(grad, og, s.heads, 1, head);
    lse += head * s.seq;
    delta += head * s.seq;
    load(key, row_of(k, ok, s.heads, s.keys, row), ok.col, s.dim);
    load(value, row_of(v, ov, s.heads, s.keys, row), ov.col, s.width);
#pragma unroll 1
    for (u64 c = lane; c < s.dim; c += 32) sum_k[c] = 0;
#pragma unroll 1
    for (u64 c = lane; c < s.width; c += 32) sum_v[c] = 0;
    __syncwarp();
#pragma unroll 1
    for (u64 i0 = first; i0 < s.seq; i0 += 32) {
        u64 i = i0 + lane;
        if (i < s.seq) {
            A share = exp(dot(key, q + i * oq.row, oq.col, s.dim) * scale - lse[i]);
            p[lane] = share;
            ds[lane] = share * (dot(value, grad + i * og.row, og.col, s.width) - delta[i]) * scale;
        }
        __syncwarp();
        u64 count = min(32ull, s.seq - i0);
        accumulate(sum_k, ds, q + i0 * oq.row, oq, s.dim, count);
        accumulate(sum_v, p, grad + i0 * og.row, og, s.width, count);
        __syncwarp();
    }
#pragma unroll 1
    for (u64 c = lane; c < s.dim; c += 32) dk[row * s.dim + c] = narrow<T>(sum_k[c]);
#pragma unroll 1
    for (u64 c = lane; c < s.width; c += 32) dv[row * s.width + c] = narrow<T>(sum_v[c]);
}

#define ATTENTION(T)                                                                                                          \
    extern "C" __global__ void attention_##T(                                                                                 \
        T* out, Wide<T>* lse, const T* q, const T* k, const T* v, f64 scale, const __grid_constant__ Shape shape,             \
        const __grid_constant__ Operand oq, const __grid_constant__ Operand ok, const __grid_constant__ Operand ov,           \
        const __grid_constant__ Visible visible) {                                                                            \
        forward(out, lse, q, k, v, scale, shape, oq, ok, ov, visible);                                                        \
    }                                                                                                                         \
    extern "C" __global__ void attention_delta_##T(Wide<T>* y, const T* grad, const T* out,                                   \
                                                   const __grid_constant__ Shape shape, const __grid_constant__ Operand og,   \
                                                   const __grid_constant__ Operand oo) {                                      \
        delta(y, grad, out, shape, og, oo);                                                                                   \
    }                                                                                                                         \
    extern "C" __global__ void attention_backward_q_##T(                                                                      \
        T* dq, const T* grad, const T* q, const T* k, const T* v, const Wide<T>* lse, const Wide<T>* delta, f64 scale,        \
        const __grid_constant__ Shape shape, const __grid_constant__ Operand og, const __grid_constant__ Operand oq,          \
        const __grid_constant__ Operand ok, const __grid_constant__ Operand ov) {                                             \
        backward_q(dq, grad, q, k, v, lse, delta, scale, shape, og, oq, ok, ov);                                              \
    }                                                                                                                         \
    extern "C" __global__ void attention_backward_kv_##T(                                                                     \
        T* dk, T* dv, const T* grad, const T* q, const T* k, const T* v, const Wide<T>* lse, const Wide<T>* delta, f64 scale, \
        const __grid_constant__ Shape shape, const __grid_constant__ Operand og, const __grid_constant__ Operand oq,          \
        const __grid_constant__ Operand ok, const __grid_constant__ Operand ov) {                                             \
        backward_kv(dk, dv, grad, q, k, v, lse, delta, scale, shape, og, oq, ok, ov);                                         \
    }
ATTENTION(f64)
ATTENTION(f32)
ATTENTION(bf16)
ATTENTION(f16)
