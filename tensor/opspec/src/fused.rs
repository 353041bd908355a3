//! Fused operations: norms, rotary embedding, SwiGLU and AdamW.

use crate::array::{Array, Expected};
use crate::case::{FLOATS, Spec};
use crate::family::{Family, elements, operations};
use crate::precision::{Precision, round_to};
use crate::{Draw, Op, Source};
use tensor::{AdamW, DType, Tensor};

operations! {
    /// A fused operation.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Fused {
        /// `[x]` or `[x, weight]`, normalised over its last dimensions.
        RmsNorm {
            /// How many dimensions.
            dims: usize,
            /// The dtype's epsilon for `None`.
            eps: Option<f64>,
        },
        /// `[x, cos, sin]`.
        Rope {
            /// Turned the other way.
            inverse: bool,
        },
        /// `[gate, up]`.
        Swiglu,
        /// `[parameter, gradient, first moment, second moment]`, the moments in f32 at least, giving the new parameter and
        /// moments. Not differentiable.
        AdamW(AdamW),
    }
}

use Fused::*;

impl Family for Fused {
    fn name(&self) -> &'static str {
        match self {
            RmsNorm { .. } => "rms_norm",
            Rope { inverse: false } => "rope",
            Rope { inverse: true } => "rope_inverse",
            Swiglu => "swiglu",
            Fused::AdamW(_) => "adamw",
        }
    }

    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        vec![match self {
            RmsNorm { dims, eps } => {
                let rank = x[0].rank();
                x[0].rms_norm(&x[0].dims()[rank - dims..], x.get(1), *eps)
            }
            Rope { inverse: false } => x[0].rope(&x[1], &x[2]),
            Rope { inverse: true } => x[0].rope_inverse(&x[1], &x[2]),
            Swiglu => x[0].swiglu(&x[1]),
            Fused::AdamW(step) => {
                let (param, m, v) = step.apply(&x[0], &x[1], &x[2], &x[3]);
                return vec![param, m, v];
            }
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let dtype = x[0].dtype;
        let p = Precision::of(dtype);
        match self {
            RmsNorm { dims, eps } => {
                let n: usize = x[0].shape[x[0].rank() - dims..].iter().product();
                let eps = eps.unwrap_or(dtype.epsilon());
                let mut y = Expected::exact(x[0].clone());
                for (i, (y, e)) in y.array.data.iter_mut().zip(&mut y.bound).enumerate() {
                    let (rstd, relative) = rstd(&x[0].data[i / n * n..][..n], eps, p);
                    *y *= rstd * x.get(1).map_or(1.0, |w| w.data[i % n]);
                    *e = y.abs() * (relative + 2.0 * p.u);
                }
                vec![y]
            }
            Rope { inverse } => {
                let rank = x[0].rank();
                vec![Expected::from_fn(dtype, &x[0].shape, |ix| {
                    let (mut pair, mut other) = (ix.to_vec(), ix.to_vec());
                    pair[rank - 1] /= 2;
                    other[rank - 1] ^= 1;
                    // First of a pair: a·cos − b·sin; second: b·cos + a·sin.
                    let sign = if (ix[rank - 1] % 2 == 0) != *inverse { -1.0 } else { 1.0 };
                    let (kept, crossed) = (x[0].at(ix) * x[1].at(&pair), sign * x[0].at(&other) * x[2].at(&pair));
                    // Two products and a sum.
                    let y = kept + crossed;
                    (y, p.u * (kept.abs() + crossed.abs()) * (1.0 + p.u) + p.u * y.abs())
                })]
            }
            Swiglu => {
                let mut y = Expected::exact(x[0].clone());
                for (i, (y, e)) in y.array.data.iter_mut().zip(&mut y.bound).enumerate() {
                    let gate = *y;
                    *y = p.held(gate / (1.0 + (-gate).exp())) * x[1].data[i];
                    // silu takes 7 units, and one more here; then one product.
                    *e = y.abs() * (9.0 * p.u) + p.underflow(x[1].data[i]);
                }
                vec![y]
            }
            Fused::AdamW(step) => adamw(step, x, p),
        }
    }

    fn differentiable(&self) -> Vec<usize> {
        match self {
            RmsNorm { .. } => vec![0, 1],
            // The angles are constants.
            Rope { .. } => vec![0],
            Swiglu => vec![0, 1],
            Fused::AdamW(_) => vec![],
        }
    }

    fn flops(&self, _: &[Array], out: &[Expected]) -> u64 {
        match self {
            RmsNorm { .. } => 4 * elements(out),
            Rope { .. } => 3 * elements(out),
            Swiglu => 5 * elements(out),
            Fused::AdamW(_) => 14 * out[0].array.numel() as u64,
        }
    }
}

/// `1/√(mean(x²) + eps)` and its relative error: half that of the mean and of the sum with `eps`, where terms of opposite sign
/// cancel; then a root and a quotient.
pub(crate) fn rstd(x: &[f64], eps: f64, p: Precision) -> (f64, f64) {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let shifted = mean + eps;
    let of_mean = (p.sum(x.len()) + 2.0 * p.u) * mean + p.u * eps.abs();
    (1.0 / shifted.sqrt(), (of_mean / shifted.abs() + p.u) / 2.0 + 3.0 * p.u)
}

/// Constants are rounded (one unit each), products and sums once more; all in the moments' dtype, or f32.
fn adamw(s: &AdamW, x: &[Array], p: Precision) -> Vec<Expected> {
    let n = s.step as i32;
    let (rate, root) = (s.lr / (1.0 - s.beta1.powi(n)), (1.0 - s.beta2.powi(n)).sqrt());
    let u = Precision::of(x[2].dtype).u;
    let mut out: Vec<Expected> = (0..3).map(|_| Expected::exact(x[0].clone())).collect();
    for i in 0..x[0].numel() {
        let (param, g, m, v) = (x[0].data[i], x[1].data[i] * s.grad_scale, x[2].data[i], x[3].data[i]);
        let first = [s.beta1 * m, (1.0 - s.beta1) * g];
        let second = [s.beta2 * v, (1.0 - s.beta2) * g * g];
        let (m, v) = (first[0] + first[1], second[0] + second[1]);
        // Denormals may be flushed to 0 in f32.
        let flushed = if x[2].dtype == DType::F64 { 0.0 } else { f32::MIN_POSITIVE.into() };
        let em = 5.0 * u * (first[0].abs() + first[1].abs()) + flushed;
        let ev = 8.0 * u * (second[0] + second[1]) + flushed;
        let denominator = v.sqrt() / root + s.eps;
        // d√v = dv / (2√v), and at most √dv where v itself is small.
        let of_root = (ev / (2.0 * v.sqrt())).min(ev.sqrt()) / root + 4.0 * u * denominator;
        let update = rate * m / denominator;
        let of_update = rate * em / denominator + update.abs() * (of_root / denominator + 4.0 * u);
        let kept = param * (1.0 - s.lr * s.weight_decay);
        let y = kept - update;
        for (o, (value, error)) in out.iter_mut().zip([(y, of_update + 2.0 * u * kept.abs() + p.u * y.abs()), (m, em), (v, ev)]) {
            (o.array.data[i], o.bound[i]) = (value, error);
        }
    }
    out.iter_mut().zip([0, 2, 3]).for_each(|(o, like)| o.array.dtype = x[like].dtype);
    out
}

pub(crate) fn specs() -> Vec<Spec> {
    let rope = |name, inverse| {
        Spec::new(name, FLOATS, move |s: &mut Source| {
            let mut shape = s.shape(1, 3);
            let half = s.some();
            shape.push(half);
            let angles = s.broadcastable(&shape);
            let rank = shape.len();
            shape[rank - 1] = 2 * half;
            let inputs = vec![s.input(&shape, -3.0, 3.0), s.input(&angles, -1.0, 1.0), s.input(&angles, -1.0, 1.0)];
            (Op::Fused(Rope { inverse }), inputs)
        })
    };
    vec![
        Spec::new("rms_norm", FLOATS, |s| {
            let shape = s.shape(1, 4);
            let dims = 1 + s.pick(shape.len());
            let eps = [None, Some(1e-6), Some(0.5)][s.pick(3)];
            // Away from zero: a row of zeros under the dtype's epsilon has gradients of 1/√eps.
            let mut inputs = vec![s.input(&shape, 0.25, 3.0)];
            if s.coin() && s.draw != Draw::Smooth {
                inputs[0] = s.input(&shape, -3.0, 3.0);
            }
            if s.coin() {
                inputs.push(s.input(&shape[shape.len() - dims..], -2.0, 2.0));
            }
            (Op::Fused(RmsNorm { dims, eps }), inputs)
        }),
        rope("rope", false),
        rope("rope_inverse", true),
        Spec::new("swiglu", FLOATS, |s| {
            let shape = s.shape(0, 4);
            (Op::Fused(Swiglu), vec![s.input(&shape, -12.0, 12.0), s.input(&shape, -3.0, 3.0)])
        }),
        Spec::new("adamw", FLOATS, |s| {
            let shape = s.shape(0, 3);
            let step = AdamW {
                lr: [1e-3, 0.1][s.pick(2)],
                beta1: [0.9, 0.5][s.pick(2)],
                beta2: [0.95, 0.999][s.pick(2)],
                eps: [1e-8, 1e-6, 1e-12, 1e-30][s.pick(4)],
                weight_decay: [0.0, 0.1][s.pick(2)],
                step: [1, 2, 100][s.pick(3)],
                grad_scale: [1.0, 0.25][s.pick(2)],
            };
            // From gradients of size 1 down to those whose squares f32 cannot hold, beside moments of their size.
            let size = [1.0, 1e-7, 1e-14, 1e-21, 1e-28][s.pick(5)];
            let moments = step.moments(s.dtype);
            let scaled = |s: &mut Source, dtype, lo: f64, size: f64| {
                let layout = s.layout(&shape);
                s.fill(dtype, &shape, layout, |s| round_to(dtype, s.value(lo, 1.0) * size))
            };
            let inputs = vec![
                s.input(&shape, -2.0, 2.0),
                scaled(s, s.dtype, -1.0, size),
                scaled(s, moments, -1.0, size),
                scaled(s, moments, 0.0, size * size),
            ];
            (Op::Fused(Fused::AdamW(step)), inputs)
        }),
    ]
}
