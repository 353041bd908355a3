//! Fused operations: norms, rotary embedding, SwiGLU, causal attention (with its errors in `attention`), their gradients, AdamW.
//!
//! Finite differences check the rules in f64, where a composition may run; specifications of the gradients hold each kernel to
//! the formula in its own dtype. Their cases have the operands of the forward pass, after the gradient of its result.

use crate::array::{Array, Expected};
use crate::attention;
use crate::case::{FLOATS, Spec};
use crate::family::{Family, Named, elements};
use crate::input::Input;
use crate::precision::{Precision, round_to};
use crate::reduce::magnitude;
use crate::{Draw, Op, Source};
use tensor::Fused::{AttentionCausal, AttentionCausalBackward, RmsNorm, RmsNormBackward, Rope, Swiglu, SwigluBackward};
use tensor::{AdamW, DType, Fused, Tensor};

/// Of the norm whose gradient is taken.
const EPS: f64 = 1e-6;

impl Named for Fused {
    fn name(&self) -> &'static str {
        Fused::name(self)
    }
}

impl Family for Fused {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        let x: Vec<&Tensor> = x.iter().collect();
        match self {
            RmsNormBackward => {
                let results = RmsNorm { dims: 1, eps: EPS }.apply(&x[1..]);
                Fused::apply(self, &[&[x[0], x[1], &results[1]], &x[2..]].concat())
            }
            AttentionCausalBackward { scale } => {
                let results = AttentionCausal { visible: None, scale: *scale }.apply(&x[1..]);
                Fused::apply(self, &[&x[..], &[&results[0], &results[1]]].concat())
            }
            _ => Fused::apply(self, &x),
        }
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let dtype = x[0].dtype;
        let p = Precision::of(dtype);
        match self {
            RmsNorm { dims, eps } => rms_norm(x, *dims, *eps, p),
            RmsNormBackward => rms_norm_backward(x, p),
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
            SwigluBackward => swiglu_backward(x, p),
            AttentionCausal { visible, scale } => attention::causal(x, visible.as_deref(), *scale),
            AttentionCausalBackward { scale } => attention::causal_backward(x, *scale),
            Fused::AdamW(step) => adamw(step, x, p),
        }
    }

    fn differentiable(&self) -> Vec<usize> {
        match self {
            RmsNorm { .. } => vec![0, 1],
            // The angles are constants.
            Rope { .. } => vec![0],
            Swiglu => vec![0, 1],
            AttentionCausal { .. } => vec![0, 1, 2],
            SwigluBackward | RmsNormBackward | AttentionCausalBackward { .. } | Fused::AdamW(_) => vec![],
        }
    }

    fn flops(&self, x: &[Array], out: &[Expected]) -> u64 {
        match self {
            RmsNorm { .. } => 4 * elements(out),
            Rope { .. } => 3 * elements(out),
            RmsNormBackward => 9 * x[1].numel() as u64,
            Swiglu | SwigluBackward => 5 * elements(out),
            AttentionCausal { .. } => attention::flops(x, 2, 2, 4),
            // Scores and two products of their gradient over dim, two products over v's width.
            AttentionCausalBackward { .. } => attention::flops(&x[1..], 6, 4, 5),
            Fused::AdamW(_) => 14 * out[0].array.numel() as u64,
        }
    }
}

/// The normalised rows, and their factors.
fn rms_norm(x: &[Array], dims: usize, eps: f64, p: Precision) -> Vec<Expected> {
    let (lead, row) = x[0].shape.split_at(x[0].rank() - dims);
    let (rows, n) = (lead.iter().product(), row.iter().product::<usize>());
    let wide = if matches!(x[0].dtype, DType::BF16 | DType::F16) { DType::F32 } else { x[0].dtype };
    let factors: Vec<(f64, f64)> = (0..rows).map(|i| rstd(&x[0].data[i * n..][..n], eps, p)).collect();
    let mut y = Expected::exact(x[0].clone());
    for (i, (y, e)) in y.array.data.iter_mut().zip(&mut y.bound).enumerate() {
        let (rstd, relative) = factors[i / n];
        *y *= rstd * x.get(1).map_or(1.0, |w| w.data[i % n]);
        *e = y.abs() * (relative + 2.0 * p.u);
    }
    let (values, bound) = factors.iter().map(|(r, e)| (*r, r * e)).unzip();
    vec![y, Expected { array: Array::new(wide, [rows, 1], values), bound }]
}

/// `1/√(mean(x²) + eps)` and its relative error: half that of the mean and of the sum with `eps`, where terms of opposite sign
/// cancel; then a root and a quotient.
fn rstd(x: &[f64], eps: f64, p: Precision) -> (f64, f64) {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let shifted = mean + eps;
    let of_mean = (p.sum(x.len()) + 2.0 * p.u) * mean + p.u * eps.abs();
    (1.0 / shifted.sqrt(), (of_mean / shifted.abs() + p.u) / 2.0 + 3.0 * p.u)
}

/// `silu'(g) = σ·(1 + g − silu)`, where the terms in brackets may cancel.
fn swiglu_backward(x: &[Array], p: Precision) -> Vec<Expected> {
    let u = p.u;
    let mut out = vec![Expected::exact(x[0].clone()), Expected::exact(x[0].clone())];
    for i in 0..x[0].numel() {
        let (grad, gate, up) = (x[0].data[i], x[1].data[i], x[2].data[i]);
        let sigmoid = 1.0 / (1.0 + (-gate).exp());
        let silu = gate * sigmoid;
        let slope = sigmoid * (1.0 + gate - silu);
        let of_slope = sigmoid * 2.0 * u * (1.0 + gate.abs() + 8.0 * silu.abs()) + 8.0 * u * slope.abs();
        let (d_gate, d_up) = (grad * up * slope, grad * silu);
        (out[0].array.data[i], out[0].bound[i]) = (d_gate, (grad * up).abs() * of_slope + 3.0 * u * d_gate.abs());
        (out[1].array.data[i], out[1].bound[i]) = (d_up, 10.0 * u * d_up.abs());
    }
    out
}

/// With `x̂ = x·rstd` and `g = grad·weight`: `dx = rstd·(g − x̂·mean(g·x̂))`, `dweight = Σ_rows grad·x̂`.
fn rms_norm_backward(x: &[Array], p: Precision) -> Vec<Expected> {
    let (grad, x, weight) = (&x[0], &x[1], x.get(2));
    let n = x.shape[x.rank() - 1];
    let mut dx = Expected::exact(x.clone());
    let mut dw: Vec<Vec<f64>> = vec![vec![]; n];
    let mut worst: f64 = 0.0;
    for start in (0..x.numel()).step_by(n.max(1)) {
        let row = &x.data[start..start + n];
        let (r, relative) = rstd(row, EPS, p);
        worst = worst.max(relative);
        let normed: Vec<f64> = row.iter().map(|v| v * r).collect();
        let g: Vec<f64> = (0..n).map(|i| grad.data[start + i] * weight.map_or(1.0, |w| w.data[i])).collect();
        let terms: Vec<f64> = g.iter().zip(&normed).map(|(g, x)| g * x).collect();
        let mean = terms.iter().sum::<f64>() / n as f64;
        let of_mean = (p.sum(n) + relative + 4.0 * p.u) * magnitude(&terms) / n as f64;
        for i in 0..n {
            dx.array.data[start + i] = r * (g[i] - normed[i] * mean);
            let kept = g[i].abs() * (relative + 4.0 * p.u);
            let taken = (normed[i] * mean).abs() * (2.0 * relative + 6.0 * p.u) + normed[i].abs() * of_mean;
            dx.bound[start + i] = r * (kept + taken);
            dw[i].push(grad.data[start + i] * normed[i]);
        }
    }
    let mut out = vec![dx];
    if let Some(weight) = weight {
        let bound = dw.iter().map(|t| (p.sum(t.len()) + worst + 3.0 * p.u) * magnitude(t)).collect();
        let values = dw.iter().map(|t| t.iter().sum()).collect();
        out.push(Expected { array: Array::new(weight.dtype, [n], values), bound });
    }
    out
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

/// Queries, keys and values of causal attention, and how many keys there are.
fn heads(s: &mut Source) -> (Vec<Input>, usize) {
    let (batch, heads) = if s.draw == Draw::Large { (2, 3) } else { (s.size().min(3), s.size().min(4)) };
    let (seq, dim, width) = (s.some(), s.some(), s.some());
    let keys = seq + if s.coin() { s.pick(6) } else { 0 };
    let shapes = [(seq, dim), (keys, dim), (keys, width)];
    (shapes.map(|(rows, columns)| s.input(&[batch, heads, rows, columns], -2.0, 2.0)).into(), keys)
}

pub(crate) fn specs() -> Vec<Spec> {
    vec![
        Spec::new("rms_norm", FLOATS, |s| {
            let shape = s.shape(1, 4);
            let dims = 1 + s.pick(shape.len());
            let eps = [s.dtype.epsilon(), 1e-6, 0.5][s.pick(3)];
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
        Spec::new("rms_norm_backward", FLOATS, |s| {
            let shape = s.shape(1, 4);
            let mut inputs = vec![s.input(&shape, -2.0, 2.0), s.input(&shape, 0.25, 3.0)];
            if s.coin() {
                inputs.push(s.input(&shape[shape.len() - 1..], -2.0, 2.0));
            }
            (Op::Fused(RmsNormBackward), inputs)
        }),
        Spec::new("rope", FLOATS, |s| {
            let mut shape = s.shape(1, 3);
            let half = s.some();
            shape.push(half);
            let angles = s.broadcastable(&shape);
            let rank = shape.len();
            shape[rank - 1] = 2 * half;
            let inputs = vec![s.input(&shape, -3.0, 3.0), s.input(&angles, -1.0, 1.0), s.input(&angles, -1.0, 1.0)];
            (Op::Fused(Rope { inverse: s.coin() }), inputs)
        }),
        Spec::new("swiglu", FLOATS, |s| {
            let shape = s.shape(0, 4);
            (Op::Fused(Swiglu), vec![s.input(&shape, -12.0, 12.0), s.input(&shape, -3.0, 3.0)])
        }),
        Spec::new("swiglu_backward", FLOATS, |s| {
            let shape = s.shape(0, 4);
            let inputs = vec![s.input(&shape, -2.0, 2.0), s.input(&shape, -12.0, 12.0), s.input(&shape, -3.0, 3.0)];
            (Op::Fused(SwigluBackward), inputs)
        }),
        Spec::new("attention_causal", FLOATS, |s| {
            let (inputs, keys) = heads(s);
            let (batch, seq, dim) = (inputs[0].array.shape[0], inputs[0].array.shape[2], inputs[0].array.shape[3]);
            let ragged = s.draw != Draw::Smooth && s.coin();
            let visible = ragged.then(|| (0..batch).map(|_| seq + s.pick(keys - seq + 1)).collect());
            (Op::Fused(AttentionCausal { visible, scale: 1.0 / (dim as f64).sqrt() }), inputs)
        }),
        Spec::new("attention_causal_backward", FLOATS, |s| {
            let (inputs, _) = heads(s);
            let (q, v) = (&inputs[0].array.shape, &inputs[2].array.shape);
            let scale = 1.0 / (q[3] as f64).sqrt();
            let grad = s.input(&[q[0], q[1], q[2], v[3]], -2.0, 2.0);
            (Op::Fused(AttentionCausalBackward { scale }), [vec![grad], inputs].concat())
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
