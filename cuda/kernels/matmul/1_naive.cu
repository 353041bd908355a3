// Rung 1 of the products: a thread per output, [batch, m, k] x [batch, k, n] in any layout, sums in f32, rounded once.
//
// What it is for: the definition as code, which the other rungs are held against.
//
// What limits it: each thread loads 2 k elements for 2 k operations. A warp's loads of B are shared by nobody and those of A are
// one broadcast, so that L1 serves 2 loads per multiply-add; the CUDA cores wait for it, and the tensor cores are idle.
//
// Elements loaded: m n k of A and as many of B. An output is one chain of multiply-adds in ascending k.
//
// sass: registers <= 64, spills = 0, ffma > 0, loop.bar = 0
#include "strided.cuh"

constexpr int SIDE = 16; // of a block's square of outputs

template <class T>
__device__ inline void product(T* c, const T* a, const T* b, const Product& p, const Layout<2>& batch) {
    Tile tile(p, SIDE, SIDE);
    u64 row = tile.row + threadIdx.x / SIDE, col = tile.col + threadIdx.x % SIDE;
    if (row >= p.m || col >= p.n) return;
    Offsets o(batch, tile.batch);
    a += o[0] + row * p.a_row;
    b += o[1] + col * p.b_col;
    f32 sum = 0;
    for (u64 k = 0; k < p.k; k++) sum = fmaf(widen(a[k * p.a_col]), widen(b[k * p.b_row]), sum);
    c[(tile.batch * p.m + row) * p.n + col] = narrow<T>(sum);
}

#define PRODUCT(T)                                                                                                            \
    extern "C" __global__ void __launch_bounds__(SIDE * SIDE)                                                                 \
        matmul_naive_##T(T* c, const T* a, const T* b, const __grid_constant__ Product p, const __grid_constant__ Layout<2> batch) { \
        product<T>(c, a, b, p, batch);                                                                                        \
    }
PRODUCT(f32)
PRODUCT(bf16)
PRODUCT(f16)
