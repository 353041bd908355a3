//! One step of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).

use crate::dtype::DType;
use crate::ops::wide;
use crate::tensor::Tensor;

/// The numbers of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Which step this is, from 1.
    pub step: u64,
    /// The gradient is multiplied by this first (clipping).
    pub grad_scale: f64,
}

impl AdamW {
    /// Learning rate over the first moment's bias correction, and the root of the second one's.
    fn corrections(&self) -> (f64, f64) {
        let n = self.step as i32;
        (self.lr / (1.0 - self.beta1.powi(n)), (1.0 - self.beta2.powi(n)).sqrt())
    }

    /// Applies the step to a parameter and its moments, all of one shape: the new parameter and moments.
    ///
    /// # Panics
    /// If shapes or dtypes differ, or `step` is 0.
    #[track_caller]
    pub fn apply(&self, param: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor) -> (Tensor, Tensor, Tensor) {
        assert!(self.step > 0, "adamw: steps count from 1");
        for (name, t) in [("gradient", grad), ("first moment", m), ("second moment", v)] {
            if t.shape() != param.shape() || t.dtype() != param.dtype() {
                panic!("adamw: {name} {t:?} for parameter {param:?}");
            }
        }
        param.device().adamw(param, grad, m, v, self)
    }
}

pub(crate) fn adamw_composed(param: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor, s: &AdamW) -> (Tensor, Tensor, Tensor) {
    let dtype = param.dtype();
    let [param, grad, m, v] = [param, grad, m, v].map(wide);
    let (rate, root) = s.corrections();
    let g = grad.mul(s.grad_scale);
    let m = m.mul(s.beta1).add(&g.mul(1.0 - s.beta1));
    let v = v.mul(s.beta2).add(&g.square().mul(1.0 - s.beta2));
    let update = m.div(&v.sqrt().div(root).add(s.eps)).mul(rate);
    (param.mul(1.0 - s.lr * s.weight_decay).sub(&update).to_dtype(dtype), m.to_dtype(dtype), v.to_dtype(dtype))
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::build;

    /// Moments below this are set to 0: as denormals they would slow every later step.
    const TINY: f32 = 1e-30;

    pub fn adamw(param: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor, s: &AdamW) -> (Tensor, Tensor, Tensor) {
        match param.dtype() {
            DType::F32 => {}
            t if t.is_half() => {
                let (param, m, v) = adamw(&wide(param), &wide(grad), &wide(m), &wide(v), s);
                return (param.to_dtype(t), m.to_dtype(t), v.to_dtype(t));
            }
            _ => return adamw_composed(param, grad, m, v, s),
        }
        let (rate, root) = s.corrections();
        let (rate, inverse_root, decay) = (rate as f32, (1.0 / root) as f32, (1.0 - s.lr * s.weight_decay) as f32);
        let (b1, b2, eps, scale) = (s.beta1 as f32, s.beta2 as f32, s.eps as f32, s.grad_scale as f32);
        let (c1, c2) = ((1.0 - s.beta1) as f32, (1.0 - s.beta2) as f32);
        let flush = |x: f32| if x.abs() < TINY { 0.0 } else { x };
        let [param, grad, m, v] = [param, grad, m, v].map(Tensor::contiguous);
        let [p, g, m0, v0] = [&param, &grad, &m, &v].map(|t| t.data::<f32>());
        let like = |fill: &dyn Fn(usize) -> f32| {
            build(param.shape().clone(), DType::F32, |out: &mut [f32]| out.iter_mut().enumerate().for_each(|(i, o)| *o = fill(i)))
        };
        let m1 = like(&|i| flush(b1 * m0[i] + c1 * (scale * g[i])));
        let v1 = like(&|i| flush(b2 * v0[i] + c2 * (scale * g[i]) * (scale * g[i])));
        let (m, v) = (m1.data::<f32>(), v1.data::<f32>());
        let p1 = like(&|i| decay * p[i] - rate * m[i] / (v[i].sqrt() * inverse_root + eps));
        (p1, m1, v1)
    }
}
