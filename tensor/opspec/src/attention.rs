//! Attention.

use crate::array::{Array, Expected, for_each_index};
use crate::case::{FLOATS, Spec};
use crate::family::{Family, operations};
use crate::precision::Precision;
use crate::{Op, Source};
use tensor::{Attention, DType, Tensor};

operations! {
    /// Scaled dot-product attention in its general form.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Attend {
        /// `[q, k, v]` or `[q, k, v, mask]`; the mask is bool, or float and added.
        ScaledDotProduct {
            /// Query `i` sees keys `0..=i`.
            is_causal: bool,
            /// Instead of `1/√dim`.
            scale: Option<f64>,
            /// Fewer key heads than query heads.
            enable_gqa: bool,
        } = "scaled_dot_product_attention",
    }
}

use Attend::*;

impl Family for Attend {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        match self {
            &ScaledDotProduct { is_causal, scale, enable_gqa } => {
                let options = Attention { mask: x.get(3), is_causal, scale, enable_gqa };
                vec![Tensor::scaled_dot_product_attention(&x[0], &x[1], &x[2], &options)]
            }
        }
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let (q, k, v) = (&x[0], &x[1], &x[2]);
        let r = q.rank();
        match self {
            ScaledDotProduct { is_causal, scale, enable_gqa } => {
                let group = if *enable_gqa { q.shape[r - 3] / k.shape[r - 3] } else { 1 };
                let scale = scale.unwrap_or(1.0 / (q.shape[r - 1] as f64).sqrt());
                let mask = |ix: &[usize], j: usize| match x.get(3) {
                    None if *is_causal && j > ix[r - 2] => f64::NEG_INFINITY,
                    None => 0.0,
                    Some(m) => {
                        let at: Vec<usize> = ix[..r - 1].iter().copied().chain([j]).collect();
                        match m.dtype {
                            DType::Bool if m.at(&at) == 0.0 => f64::NEG_INFINITY,
                            DType::Bool => 0.0,
                            _ => m.at(&at),
                        }
                    }
                };
                vec![attend(q, k, v, scale, group, mask).0]
            }
        }
    }

    fn differentiable(&self) -> Vec<usize> {
        vec![0, 1, 2]
    }

    fn flops(&self, x: &[Array], _: &[Expected]) -> u64 {
        flops(x, 2, 2, 4)
    }
}

/// One row of scores against the keys it sees: masked scores with their errors.
struct Row {
    /// Share of each key.
    weights: Vec<f64>,
    /// Relative error of each share.
    relative: Vec<f64>,
    /// Logarithm of the sum of exponentials, and its absolute error.
    lse: (f64, f64),
}

/// The softmax of one query's scores. A score's error, that of a dot product and its scaling, is relative in its exponential;
/// the sum has at most the largest of them.
fn row(q: &[f64], keys: &[Vec<f64>], scale: f64, mask: impl Fn(usize) -> f64, p: Precision) -> Row {
    let mut scores = Vec::new();
    let mut errors = Vec::new();
    for (j, k) in keys.iter().enumerate() {
        let terms: Vec<f64> = q.iter().zip(k).map(|(a, b)| a * b).collect();
        let (dot, size) = (terms.iter().sum::<f64>(), crate::reduce::magnitude(&terms));
        let s = dot * scale + mask(j);
        scores.push(s);
        errors.push(if s.is_finite() { (p.dot(q.len()) + 2.0 * p.u) * size * scale.abs() + 2.0 * p.u * s.abs() } else { 0.0 });
    }
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return Row { weights: vec![0.0; keys.len()], relative: vec![0.0; keys.len()], lse: (max, 0.0) };
    }
    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp() / sum).collect();
    // Error of an exponential: of its argument, rounded once more when the maximum is taken off, and its own.
    let exponential: Vec<f64> = scores
        .iter()
        .zip(&errors)
        .map(|(s, e)| if s.is_finite() { (e + p.u * (s - max).abs()).exp_m1() + p.function() } else { 0.0 })
        .collect();
    let mean: f64 = weights.iter().zip(&exponential).map(|(w, e)| w * e).sum();
    let of_sum = mean + p.sum(keys.len());
    let lse = sum.ln() + max;
    Row {
        relative: exponential.iter().map(|e| e + of_sum + 2.0 * p.u).collect(),
        weights,
        lse: (lse, of_sum + p.function() * sum.ln().abs() + 2.0 * p.u * lse.abs()),
    }
}

/// The vector at `[lead…, i]` of a `[lead…, n, dim]` array, its head counted in groups.
fn vector(t: &Array, lead: &[usize], i: usize, group: usize) -> Vec<f64> {
    let mut at: Vec<usize> = lead.to_vec();
    if let Some(head) = at.last_mut() {
        *head /= group;
    }
    at.extend([i, 0]);
    (0..t.shape[t.rank() - 1])
        .map(|c| {
            *at.last_mut().expect("a dimension") = c;
            t.at(&at)
        })
        .collect()
}

/// Output and log-sum-exp of `softmax(q·kᵀ·scale + mask)·v`; `mask(query position, key)` is `−∞` for a hidden key.
fn attend(
    q: &Array,
    k: &Array,
    v: &Array,
    scale: f64,
    group: usize,
    mask: impl Fn(&[usize], usize) -> f64,
) -> (Expected, Expected) {
    let p = Precision::of(q.dtype);
    let r = q.rank();
    let (keys, width) = (k.shape[r - 2], v.shape[r - 1]);
    let rows = q.shape[..r - 1].to_vec();
    let (mut out, mut bounds, mut lse, mut lse_bounds) = (vec![], vec![], vec![], vec![]);
    for_each_index(&rows, |ix| {
        let lead = &ix[..r - 2];
        let query = vector(q, lead, ix[r - 2], 1);
        let key: Vec<Vec<f64>> = (0..keys).map(|j| vector(k, lead, j, group)).collect();
        let row = row(&query, &key, scale, |j| mask(ix, j), p);
        let value: Vec<Vec<f64>> = (0..keys).map(|j| vector(v, lead, j, group)).collect();
        for c in 0..width {
            let terms: Vec<f64> = (0..keys).map(|j| row.weights[j] * value[j][c]).collect();
            let size = crate::reduce::magnitude(&terms);
            let moved: f64 = terms.iter().zip(&row.relative).map(|(t, e)| t.abs() * e).sum();
            // Shares below the smallest normal number count as 0.
            let lost = p.tiny * value.iter().map(|v| v[c].abs()).sum::<f64>();
            out.push(terms.iter().sum());
            bounds.push(moved + p.dot(keys) * size + 2.0 * p.u * size + lost);
        }
        lse.push(row.lse.0);
        lse_bounds.push(row.lse.1);
    });
    let wide = q.float();
    let lse_dtype = if matches!(wide, DType::BF16 | DType::F16) { DType::F32 } else { wide };
    let shape = [&rows[..], &[width]].concat();
    (
        Expected { array: Array::new(q.dtype, shape, out), bound: bounds },
        Expected { array: Array::new(lse_dtype, rows, lse), bound: lse_bounds },
    )
}

/// So many operations for each pair of a query and a key: for each number of their vectors, for each of the value's, and others.
pub(crate) fn flops(x: &[Array], dim: usize, width: usize, others: usize) -> u64 {
    let (q, k, v) = (&x[0].shape, &x[1].shape, &x[2].shape);
    let r = q.len();
    let pairs = q[..r - 1].iter().product::<usize>() * k[r - 2];
    (pairs * (dim * q[r - 1] + width * v[r - 1] + others)) as u64
}

/// Causal attention: query `i` of sequence `b` sees the first `visible[b] − seq + i + 1` keys.
pub(crate) fn causal(x: &[Array], visible: Option<&[usize]>, scale: f64) -> Vec<Expected> {
    let (seq, keys) = (x[0].shape[2], x[1].shape[2]);
    let mask = |ix: &[usize], j: usize| {
        let last = visible.map_or(keys, |n| n[ix[0]]);
        if j < last + ix[2] + 1 - seq { 0.0 } else { f64::NEG_INFINITY }
    };
    let (out, lse) = attend(&x[0], &x[1], &x[2], scale, 1, mask);
    vec![out, lse]
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
pub(crate) fn causal_backward(x: &[Array], scale: f64) -> Vec<Expected> {
    let p = Precision::of(x[0].dtype);
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
    let value = |s: &mut Source, shape: &[usize]| s.input(shape, -2.0, 2.0);
    vec![Spec::new("scaled_dot_product_attention", FLOATS, move |s| {
        let mut lead = s.shape(0, 2);
        let (queries, keys, dim, width) = (s.size(), s.size(), s.some(), s.size());
        let mut shared = lead.clone();
        let enable_gqa = !lead.is_empty() && s.coin();
        if enable_gqa {
            let heads = lead.len() - 1;
            shared[heads] = shared[heads].clamp(1, 3);
            lead[heads] = shared[heads] * (1 + s.pick(3));
        }
        let shape = |lead: &[usize], n: usize, d: usize| [lead, &[n, d]].concat();
        let mut inputs = vec![
            value(s, &shape(&lead, queries, dim)),
            value(s, &shape(&shared, keys, dim)),
            value(s, &shape(&shared, keys, width)),
        ];
        let kind = s.pick(4);
        let mask = s.broadcastable(&shape(&lead, queries, keys));
        match kind {
            2 => inputs.push(s.bools(&mask)),
            3 => inputs.push(value(s, &mask)),
            _ => {}
        }
        let scale = if s.coin() { Some([0.5, 0.125, 1.0][s.pick(3)]) } else { None };
        (Op::Attend(ScaledDotProduct { is_causal: kind == 1, scale, enable_gqa }), inputs)
    })]
}
