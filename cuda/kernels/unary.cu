// Elementwise operations of one operand, and SwiGLU.
#include "common.cuh"

enum Op : u32 {
    NEG,
    ABS,
    EXP,
    LOG,
    SQRT,
    RSQRT,
    SIN,
    COS,
    TANH,
    SIGMOID,
    SILU,
    GELU,
    GELU_TANH,
    RELU,
    SOFTPLUS,
    RECIPROCAL,
    SQUARE,
    SIGN,
    FLOOR,
    ERF,
    LOGICAL_NOT,
};

template <class A>
__device__ inline A sigmoid(A x) {
    return 1 / (1 + exp(-x));
}

// The product's rounding would be multiplied by its own size in the exponential; its error is put back to first order, where
// anything is left. Above 0, where the exponential may overflow, log(1 + eᶻ) is z + log(1 + e⁻ᶻ).
template <class A>
__device__ inline A softplus(A x, A beta, A threshold) {
    A product = x * beta;
    if (product > threshold) return x;
    A e = exp(-fabs(product));
    if (product > 0) return x + log1p(e) / beta;
    return log1p(e == 0 ? e : fma(e, fma(x, beta, -product), e)) / beta;
}

template <class A>
__device__ inline A real(u32 op, A x, A beta, A threshold) {
    switch (op) {
        case NEG: return -x;
        case ABS: return fabs(x);
        case EXP: return exp(x);
        case LOG: return log(x);
        case SQRT: return sqrt(x);
        case RSQRT: return 1 / sqrt(x);
        case SIN: return sin(x);
        case COS: return cos(x);
        case TANH: return tanh(x);
        case SIGMOID: return sigmoid(x);
        case SILU: return x / (1 + exp(-x));
        case GELU: return A(0.5) * x * erfc(-x * A(0.70710678118654752440));
        // 0.5·x·(1 + tanh z) is x·sigmoid(2z), which does not cancel in the tail.
        case GELU_TANH: return x * sigmoid(A(2 * 0.79788456080286535588) * (x + A(0.044715) * x * x * x));
        case RELU: return x < 0 ? A(0) : x;
        case SOFTPLUS: return softplus(x, beta, threshold);
        case RECIPROCAL: return 1 / x;
        case SQUARE: return x * x;
        case SIGN: return x != x ? x : A((x > 0) - (x < 0));
        case FLOOR: return floor(x);
        default: return erf(x);
    }
}

// In unsigned arithmetic, which wraps.
__device__ inline i64 whole(u32 op, i64 x) {
    switch (op) {
        case NEG: return (i64)(0 - (u64)x);
        case ABS: return x < 0 ? (i64)(0 - (u64)x) : x;
        case RELU: return x < 0 ? 0 : x;
        case SQUARE: return (i64)((u64)x * (u64)x);
        case SIGN: return (x > 0) - (x < 0);
        default: return x;
    }
}

template <class T>
__device__ inline void unary(u8* y, const T* x, u32 op, f64 beta, f64 threshold, u64 n, const Layout<1>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    auto value = widen(x[Offsets(layout, i)[0]]);
    if (op == LOGICAL_NOT) {
        y[i] = value == 0;
    } else if constexpr (is_integer<T>) {
        ((T*)y)[i] = narrow<T>(whole(op, value));
    } else {
        using A = Wide<T>;
        ((T*)y)[i] = narrow<T>(real<A>(op, value, (A)beta, (A)threshold));
    }
}

#define UNARY(T)                                                                                                              \
    extern "C" __global__ void unary_##T(u8* y, const T* x, u32 op, f64 beta, f64 threshold, u64 n,                           \
                                         const __grid_constant__ Layout<1> layout) {                                          \
        unary(y, x, op, beta, threshold, n, layout);                                                                          \
    }
UNARY(f64)
UNARY(f32)
UNARY(bf16)
UNARY(f16)
UNARY(i64)
UNARY(i32)
UNARY(u8)

// silu(gate)·up
template <class T>
__device__ inline void swiglu(T* y, const T* gate, const T* up, u64 n, const Layout<2>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    auto g = widen(gate[o[0]]);
    y[i] = narrow<T>(g / (1 + exp(-g)) * widen(up[o[1]]));
}

// d silu = s·(1 + g·(1 − s))
template <class T>
__device__ inline void swiglu_backward(T* d_gate, T* d_up, const T* grad, const T* gate, const T* up, u64 n,
                                       const Layout<3>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    auto d = widen(grad[o[0]]), g = widen(gate[o[1]]), s = sigmoid(g);
    d_gate[i] = narrow<T>(d * widen(up[o[2]]) * (s * (1 + g * (1 - s))));
    d_up[i] = narrow<T>(d * (g * s));
}

#define SWIGLU(T)                                                                                                             \
    extern "C" __global__ void swiglu_##T(T* y, const T* gate, const T* up, u64 n,                                            \
                                          const __grid_constant__ Layout<2> layout) {                                         \
        swiglu(y, gate, up, n, layout);                                                                                       \
    }                                                                                                                         \
    extern "C" __global__ void swiglu_backward_##T(T* d_gate, T* d_up, const T* grad, const T* gate, const T* up, u64 n,      \
                                                   const __grid_constant__ Layout<3> layout) {                                \
        swiglu_backward(d_gate, d_up, grad, gate, up, n, layout);                                                             \
    }
SWIGLU(f64)
SWIGLU(f32)
SWIGLU(bf16)
SWIGLU(f16)
