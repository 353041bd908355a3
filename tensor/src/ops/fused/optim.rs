//! One step of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).

use crate::dtype::DType;
use crate::fused::{AdamW, Fused};
use crate::operation::operation;
use crate::refuse;
use crate::tensor::Tensor;

impl AdamW {
    /// Learning rate over the first moment's bias correction, and the root of the second one's.
    pub fn corrections(&self) -> (f64, f64) {
        let power = |beta: f64| i32::try_from(self.step).map_or_else(|_| beta.powf(self.step as f64), |n| beta.powi(n));
        (self.lr / (1.0 - power(self.beta1)), (1.0 - power(self.beta2)).sqrt())
    }

    /// The dtype of the moments of a parameter: f32, or f64 for an f64 parameter and for an `eps` beside which squares that
    /// f32 cannot hold (below 2⁻¹²⁶) would count.
    pub fn moments(&self, param: DType) -> DType {
        // Their root, over the least correction, is within half a unit in the last place of eps.
        let hidden = self.eps * (1.0 - self.beta2).sqrt() >= 2f64.powi(24 - 63);
        if param == DType::F64 || !hidden { DType::F64 } else { DType::F32 }
    }

    /// Applies the step to a parameter and its moments, all of one shape: the new parameter and moments.
    ///
    /// # Panics
    /// If shapes differ, the gradient is not of the parameter's dtype or a moment not of [`AdamW::moments`], `step` is 0, or a
    /// setting is out of its range: see [`AdamW::check`].
    #[track_caller]
    pub fn apply(&self, param: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor) -> (Tensor, Tensor, Tensor) {
        Fused::AdamW(*self).results(&[param, grad, m, v]).into()
    }

    /// Whether the settings make sense.
    ///
    /// # Panics
    /// Names one that does not: learning rate, `eps` and weight decay are finite and not negative, the decays of the moments at
    /// least 0 and below 1.
    #[track_caller]
    pub fn check(&self) {
        operation("adamw", || {
            for (name, value) in [("lr", self.lr), ("eps", self.eps), ("weight_decay", self.weight_decay)] {
                if !(value >= 0.0 && value.is_finite()) {
                    refuse!("{name} is {value}, expected a finite number that is not negative");
                }
            }
            for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
                if !(0.0..1.0).contains(&value) {
                    refuse!("{name} is {value}, expected at least 0 and less than 1");
                }
            }
        })
    }
}

pub(super) fn apply(op: &Fused, x: &[&Tensor], s: &AdamW) -> Vec<Tensor> {
    s.check();
    if s.step == 0 {
        refuse!("steps count from 1");
    }
    let (param, dtype) = (x[0], x[0].dtype());
    let moments = s.moments(dtype);
    let expected = [("gradient", dtype), ("first moment", moments), ("second moment", moments)];
    for ((name, expected), t) in expected.iter().zip(&x[1..]) {
        if t.shape() != param.shape() || t.dtype() != *expected {
            refuse!("{name} {t:?} for parameter {param:?} (expected {expected})");
        }
    }
    let lifted = if moments == DType::F64 { moments } else { dtype };
    let mut results = op.run(&[&param.to_dtype(lifted), &x[1].to_dtype(lifted), x[2], x[3]]);
    results[0] = results[0].to_dtype(dtype);
    results
}

pub(super) fn step(x: &[&Tensor], s: &AdamW) -> Vec<Tensor> {
    let (rate, root) = s.corrections();
    let g = x[1].mul(s.grad_scale);
    let m = x[2].mul(s.beta1).add(&g.mul(1.0 - s.beta1));
    let v = x[3].mul(s.beta2).add(&g.square().mul(1.0 - s.beta2));
    let update = m.div(&v.sqrt().div(root).add(s.eps)).mul(rate);
    vec![x[0].mul(1.0 - s.lr * s.weight_decay).sub(&update), m, v]
}

pub(super) mod cpu {
    use super::*;
    use crate::cpu::build;

    pub fn step(x: &[&Tensor], s: &AdamW) -> Vec<Tensor> {
        let (rate, root) = s.corrections();
        let (rate, inverse_root, decay) = (rate as f32, (1.0 / root) as f32, (1.0 - s.lr * s.weight_decay) as f32);
        let (b1, b2, eps, scale) = (s.beta1 as f32, s.beta2 as f32, s.eps as f32, s.grad_scale as f32);
        let (c1, c2) = ((1.0 - s.beta1) as f32, (1.0 - s.beta2) as f32);
        // Denormals would slow every later step; `eps` hides them (see `AdamW::moments`).
        let flush = |x: f32| if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x };
        let [param, grad, m, v] = [x[0], x[1], x[2], x[3]].map(Tensor::contiguous);
        let [p, g, m0, v0] = [&param, &grad, &m, &v].map(|t| t.data::<f32>());
        let like = |fill: &dyn Fn(usize) -> f32| {
            build(param.shape().clone(), DType::F32, |out: &mut [f32]| out.iter_mut().enumerate().for_each(|(i, o)| *o = fill(i)))
        };
        let m1 = like(&|i| flush(b1 * m0[i] + c1 * (scale * g[i])));
        let v1 = like(&|i| flush(b2 * v0[i] + c2 * (scale * g[i]) * (scale * g[i])));
        let (m, v) = (m1.data::<f32>(), v1.data::<f32>());
        let p1 = like(&|i| decay * p[i] - rate * m[i] / (v[i].sqrt() * inverse_root + eps));
        vec![p1, m1, v1]
    }
}
