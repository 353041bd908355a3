//! The gated activation of Shazeer, "GLU variants improve transformer" (2020).

use crate::fused::Fused;
use crate::refuse;
use crate::tensor::Tensor;

impl Tensor {
    /// `silu(self)·up`.
    ///
    /// # Panics
    /// If shapes, dtypes or devices differ.
    #[track_caller]
    pub fn swiglu(&self, up: &Tensor) -> Tensor {
        let [y] = Fused::Swiglu.results(&[self, up]);
        y
    }
}

pub(super) fn apply(op: &Fused, x: &[&Tensor]) -> Vec<Tensor> {
    if x.iter().any(|t| t.shape() != x[0].shape() || t.dtype() != x[0].dtype()) {
        refuse!("{x:?} differ");
    }
    op.run(x)
}

pub(super) fn forward(x: &[&Tensor]) -> Vec<Tensor> {
    vec![x[0].silu().mul(x[1])]
}

pub(super) fn backward(x: &[&Tensor]) -> Vec<Tensor> {
    let (grad, gate, up) = (x[0], x[1], x[2]);
    let s = gate.sigmoid();
    let silu = gate.mul(&s);
    let slope = s.mul(&(gate - &silu).add(1.0)); // d silu = s·(1 + x − silu)
    vec![grad.mul(up).mul(&slope), grad.mul(&silu)]
}

pub(super) mod cpu {
    use super::*;
    use crate::cpu::simd::{dispatch, fma};
    use crate::cpu::vmath::sigmoid1;
    use crate::cpu::{build, build2, par_chunks, par_chunks2};
    use crate::dtype::DType;

    pub fn forward(x: &[&Tensor]) -> Vec<Tensor> {
        let (gate, up) = (x[0].contiguous(), x[1].contiguous());
        let (g, u) = (gate.data::<f32>(), up.data::<f32>());
        vec![build(gate.shape().clone(), DType::F32, |out: &mut [f32]| {
            par_chunks(out, 1, |start, out| swiglu(&g[start..][..out.len()], &u[start..][..out.len()], out));
        })]
    }

    pub fn backward(x: &[&Tensor]) -> Vec<Tensor> {
        let (grad, gate, up) = (x[0].contiguous(), x[1].contiguous(), x[2].contiguous());
        let (d, g, u) = (grad.data::<f32>(), gate.data::<f32>(), up.data::<f32>());
        let like = (gate.shape(), DType::F32);
        let (dg, du) = build2(like, like, |dg: &mut [f32], du: &mut [f32]| {
            par_chunks2(dg, 1, du, 1, |start, dg, du| {
                let n = dg.len();
                swiglu_backward(&d[start..][..n], &g[start..][..n], &u[start..][..n], dg, du);
            });
        });
        vec![dg, du]
    }

    dispatch! {
        fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
            assert!(gate.len() == out.len() && up.len() == out.len());
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * sigmoid1::<FMA>(gate) * up;
            }
        }

        /// `dup = grad · silu(gate)` and `dgate = grad · up · silu'(gate)`.
        fn swiglu_backward(grad: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
            let n = grad.len();
            assert!(gate.len() == n && up.len() == n && dgate.len() == n && dup.len() == n);
            let inputs = grad.iter().zip(gate).zip(up);
            for ((dgate, dup), ((&grad, &gate), &up)) in dgate.iter_mut().zip(dup).zip(inputs) {
                let s = sigmoid1::<FMA>(gate);
                let silu = gate * s;
                *dup = grad * silu;
                *dgate = grad * up * fma::<FMA, _>(silu, 1.0 - s, s);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::cpu::rows::tests::{U, close, each_row};

        #[test]
        fn both_passes_agree_with_f64() {
            each_row(|gate, random| {
                let n = gate.len();
                let (up, grad) = (random.values(n, 2.0), random.values(n, 1.0));
                let (mut out, mut dgate, mut dup) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
                swiglu(gate, &up, &mut out);
                swiglu_backward(&grad, gate, &up, &mut dgate, &mut dup);
                for i in 0..n {
                    let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(grad[i]));
                    let s = 1.0 / (1.0 + (-g).exp());
                    // A sigmoid is good to 2.5 ulp, which is at most 5 U; then two products.
                    close(out[i], g * s * u, (g * s * u).abs() * 8.0 * U);
                    close(dup[i], d * g * s, (d * g * s).abs() * 8.0 * U);
                    // 1 - s has the absolute error of s, which cancels nothing for negative gates.
                    let bound = (d * u).abs() * s * (12.0 + 20.0 * g.abs()) * U;
                    close(dgate[i], d * u * s * (1.0 + g * (1.0 - s)), bound);
                }
            });
        }
    }
}
