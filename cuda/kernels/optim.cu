// One step of AdamW.
#include "common.cuh"

// The numbers of the step, the same for every element; filled in cuda/src/backend/fused.rs.
struct Step {
    f64 rate;          // learning rate over the first moment's bias correction
    f64 inverse_root;  // 1 over the root of the second moment's
    f64 keep;          // 1 − lr·weight_decay
    f64 beta1, rest1;  // beta and 1 − beta
    f64 beta2, rest2;
    f64 eps;
    f64 grad_scale;
};

// The moments of half types are f32.
template <class T, class A = Wide<T>>
__device__ inline void adamw(T* p_out, A* m_out, A* v_out, const T* p, const T* grad, const A* m, const A* v, u64 n,
                             const Step& s, const Layout<4>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    Offsets o(layout, i);
    A g = (A)s.grad_scale * (A)widen(grad[o[1]]);
    A m1 = (A)s.beta1 * m[o[2]] + (A)s.rest1 * g;
    A v1 = (A)s.beta2 * v[o[3]] + (A)s.rest2 * g * g;
    A update = (A)s.rate * m1 / (sqrt(v1) * (A)s.inverse_root + (A)s.eps);
    p_out[i] = narrow<T>((A)s.keep * (A)widen(p[o[0]]) - update);
    m_out[i] = m1;
    v_out[i] = v1;
}

#define ADAMW(T, A)                                                                                                           \
    extern "C" __global__ void adamw_##T(T* p_out, A* m_out, A* v_out, const T* p, const T* grad, const A* m, const A* v,     \
                                         u64 n, const __grid_constant__ Step step,                                            \
                                         const __grid_constant__ Layout<4> layout) {                                          \
        adamw(p_out, m_out, v_out, p, grad, m, v, n, step, layout);                                                           \
    }
ADAMW(f64, f64)
ADAMW(f32, f32)
ADAMW(bf16, f32)
ADAMW(f16, f32)
