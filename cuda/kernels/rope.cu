// Rotary position embedding over adjacent pairs.
#include "common.cuh"

// Each thread turns a pair: (a, b) → (a·cos − b·sin, a·sin + b·cos), backwards with −sin. The layout is that of the pairs:
// first elements of x (whose second lies `pair` further), cos, sin.
template <class T>
__device__ inline void rope(T* y, const T* x, const T* cos, const T* sin, u64 pair, u32 inverse, u64 n, const Layout<3>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    auto a = widen(x[o[0]]), b = widen(x[o[0] + pair]), c = widen(cos[o[1]]), s = widen(sin[o[2]]);
    if (inverse) s = -s;
    y[2 * i] = narrow<T>(a * c - b * s);
    y[2 * i + 1] = narrow<T>(a * s + b * c);
}

#define ROPE(T)                                                                                                               \
    extern "C" __global__ void rope_##T(T* y, const T* x, const T* cos, const T* sin, u64 pair, u32 inverse, u64 n,           \
                                        const __grid_constant__ Layout<3> layout) {                                           \
        rope(y, x, cos, sin, pair, inverse, n, layout);                                                                       \
    }
ROPE(f64)
ROPE(f32)
ROPE(bf16)
ROPE(f16)
