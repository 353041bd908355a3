//! Gradients that have a kernel of their own. Finite differences check the rules in f64, where a composition may run; these
//! hold each kernel to the formula in its own dtype.

use crate::array::{Array, Expected, for_each_index};
use crate::attention::{row, vector};
use crate::case::{FLOATS, Spec};
use crate::family::{Family, elements, operations};
use crate::fused::rstd;
use crate::precision::Precision;
use crate::reduce::magnitude;
use crate::{Draw, Op};
use tensor::Tensor;

operations! {
    /// A gradient with a kernel of its own. It gets the gradient of the forward result first.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Backward {
        /// `[grad, gate, up]`, giving the gradients of gate and up.
        Swiglu,
        /// `[grad, x]` or `[grad, x, weight]`, over the last dimension, giving the gradients of x and weight.
        RmsNorm {
            /// The dtype's epsilon for `None`.
            eps: Option<f64>,
        },
        /// `[grad, q, k, v]`, giving the gradients of q, k and v.
        AttentionCausal {
            /// Multiplies the scores.
            scale: f64,
        },
    }
}

use Backward::*;

impl Family for Backward {
    fn name(&self) -> &'static str {
        match self {
            Swiglu => "swiglu_backward",
            RmsNorm { .. } => "rms_norm_backward",
            AttentionCausal { .. } => "attention_causal_backward",
        }
    }

    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        match *self {
            Swiglu => {
                let (gate, up) = x[1].swiglu_backward(&x[2], &x[0]);
                vec![gate, up]
            }
            RmsNorm { eps } => {
                let n = x[1].dim(-1);
                let (_, rstd) = x[1].rms_norm_with_rstd(&[n], x.get(2), eps);
                let (dx, dw) = x[1].rms_norm_backward(&x[0], x.get(2), &rstd);
                [dx].into_iter().chain(dw).collect()
            }
            AttentionCausal { scale } => {
                let (out, lse) = Tensor::attention_causal(&x[1], &x[2], &x[3], None, scale);
                let (q, k, v) = Tensor::attention_causal_backward(&x[0], &x[1], &x[2], &x[3], &out, &lse, scale);
                vec![q, k, v]
            }
        }
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let p = Precision::of(x[0].dtype);
        match *self {
            Swiglu => swiglu(x, p),
            RmsNorm { eps } => rms_norm(x, eps.unwrap_or(x[0].dtype.epsilon()), p),
            AttentionCausal { scale } => attention(x, scale, p),
        }
    }

    fn differentiable(&self) -> Vec<usize> {
        vec![]
    }

    fn flops(&self, x: &[Array], out: &[Expected]) -> u64 {
        match self {
            Swiglu => 5 * elements(out),
            RmsNorm { .. } => 9 * x[1].numel() as u64,
            AttentionCausal { .. } => {
                let (q, k, v) = (&x[1].shape, &x[2].shape, &x[3].shape);
                let pairs = (q[0] * q[1] * q[2] * k[2]) as u64;
                // Scores and their gradient's two products over dim; two products over v's width.
                pairs * (2 * 3 * q[3] + 2 * 2 * v[3] + 5) as u64
            }
        }
    }
}

/// `silu'(g) = σ·(1 + g − silu)`, where the terms in brackets may cancel.
fn swiglu(x: &[Array], p: Precision) -> Vec<Expected> {
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
fn rms_norm(x: &[Array], eps: f64, p: Precision) -> Vec<Expected> {
    let (grad, x, weight) = (&x[0], &x[1], x.get(2));
    let n = x.shape[x.rank() - 1];
    let mut dx = Expected::exact(x.clone());
    let mut dw: Vec<Vec<f64>> = vec![vec![]; n];
    let mut worst: f64 = 0.0;
    for start in (0..x.numel()).step_by(n.max(1)) {
        let row = &x.data[start..start + n];
        let (r, relative) = rstd(row, eps, p);
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

/// A sum of products of which the first factors are known with an error each.
fn inexact_dot(factors: impl Iterator<Item = ((f64, f64), f64)>, p: Precision) -> (f64, f64) {
    let (mut sum, mut size, mut moved, mut n) = (0.0, 0.0, 0.0, 0);
    for ((a, e), b) in factors {
        sum += a * b;
        size += (a * b).abs();
        moved += e * b.abs();
        n += 1;
    }
    (sum, moved + p.dot(n) * size)
}

/// With `P = exp(S − lse)`: `dV = Pᵀ·dO`, `dS = P∘(dO·Vᵀ − rowsum(dO∘O))·scale`, `dQ = dS·K`, `dK = dSᵀ·Q`; each with the errors
/// of what it is made of.
fn attention(x: &[Array], scale: f64, p: Precision) -> Vec<Expected> {
    let (grad, q, k, v) = (&x[0], &x[1], &x[2], &x[3]);
    let (seq, keys, dim, width) = (q.shape[2], k.shape[2], q.shape[3], v.shape[3]);
    let mut out = [q, k, v].map(|t| Expected::exact(Array::new(t.dtype, t.shape.clone(), vec![0.0; t.numel()])));
    for_each_index(&q.shape[..2], |lead| {
        let rows = |t: &Array| -> Vec<Vec<f64>> { (0..t.shape[2]).map(|i| vector(t, lead, i, 1)).collect() };
        let (dos, qs, ks, vs) = (rows(grad), rows(q), rows(k), rows(v));
        // Shares and gradients of scores, each with its absolute error: [seq][keys].
        let (mut shares, mut ds) = (vec![], vec![]);
        for i in 0..seq {
            let hidden = |j: usize| if j < keys + i + 1 - seq { 0.0 } else { f64::NEG_INFINITY };
            let r = row(&qs[i], &ks, scale, hidden, p);
            let share: Vec<(f64, f64)> =
                r.weights.iter().zip(&r.relative).map(|(w, e)| (*w, w * (e + r.lse.1 + p.function()))).collect();
            let output: Vec<(f64, f64)> = (0..width)
                .map(|c| {
                    let (o, e) = inexact_dot(share.iter().copied().zip(vs.iter().map(|v| v[c])), p);
                    (o, e + p.store * o.abs())
                })
                .collect();
            let delta = inexact_dot(output.iter().copied().zip(dos[i].iter().copied()), p);
            ds.push(
                (0..keys)
                    .map(|j| {
                        let exact = dos[i].iter().map(|&d| (d, 0.0));
                        let dp = inexact_dot(exact.zip(vs[j].iter().copied()), p);
                        let (difference, error) = (dp.0 - delta.0, dp.1 + delta.1);
                        let (w, of_w) = share[j];
                        let d = w * difference * scale;
                        (d, scale.abs() * (of_w * difference.abs() + w * error) + 4.0 * p.u * d.abs())
                    })
                    .collect::<Vec<(f64, f64)>>(),
            );
            shares.push(share);
        }
        let head = lead[0] * q.shape[1] + lead[1];
        let mut put = |t: usize, i: usize, n: usize, width: usize, c: usize, (value, bound): (f64, f64)| {
            let at = (head * n + i) * width + c;
            (out[t].array.data[at], out[t].bound[at]) = (value, bound);
        };
        for c in 0..dim {
            for (i, ds) in ds.iter().enumerate() {
                put(0, i, seq, dim, c, inexact_dot(ds.iter().copied().zip(ks.iter().map(|k| k[c])), p));
            }
            for j in 0..keys {
                put(1, j, keys, dim, c, inexact_dot(ds.iter().map(|d| d[j]).zip(qs.iter().map(|q| q[c])), p));
            }
        }
        for (c, j) in (0..width).flat_map(|c| (0..keys).map(move |j| (c, j))) {
            put(2, j, keys, width, c, inexact_dot(shares.iter().map(|s| s[j]).zip(dos.iter().map(|d| d[c])), p));
        }
    });
    out.to_vec()
}

pub(crate) fn specs() -> Vec<Spec> {
    vec![
        Spec::new("swiglu_backward", FLOATS, |s| {
            let shape = s.shape(0, 4);
            let inputs = vec![s.input(&shape, -2.0, 2.0), s.input(&shape, -12.0, 12.0), s.input(&shape, -3.0, 3.0)];
            (Op::Backward(Swiglu), inputs)
        }),
        Spec::new("rms_norm_backward", FLOATS, |s| {
            let shape = s.shape(1, 4);
            let eps = [Some(1e-6), None, Some(0.5)][s.pick(3)];
            let mut inputs = vec![s.input(&shape, -2.0, 2.0), s.input(&shape, 0.25, 3.0)];
            if s.coin() {
                inputs.push(s.input(&shape[shape.len() - 1..], -2.0, 2.0));
            }
            (Op::Backward(RmsNorm { eps }), inputs)
        }),
        Spec::new("attention_causal_backward", FLOATS, |s| {
            let (batch, heads) = if s.draw == Draw::Large { (2, 3) } else { (s.size().min(3), s.size().min(4)) };
            let (seq, dim, width) = (s.some(), s.some(), s.some());
            let keys = seq + if s.coin() { s.pick(6) } else { 0 };
            let inputs = vec![
                s.input(&[batch, heads, seq, width], -2.0, 2.0),
                s.input(&[batch, heads, seq, dim], -2.0, 2.0),
                s.input(&[batch, heads, keys, dim], -2.0, 2.0),
                s.input(&[batch, heads, keys, width], -2.0, 2.0),
            ];
            (Op::Backward(AttentionCausal { scale: 1.0 / (dim as f64).sqrt() }), inputs)
        }),
    ]
}
