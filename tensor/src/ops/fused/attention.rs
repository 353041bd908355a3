//! Causal attention, for training and decoding.

use crate::dtype::DType;
use crate::fused::Fused;
use crate::refuse;
use crate::tensor::Tensor;

impl Tensor {
    /// Causal attention: `q` `[batch, heads, seq, dim]`, `k` `[batch, heads, keys, dim]`, `v` `[batch, heads, keys, v_dim]`. Row `i`
    /// of sequence `b` sees the first `visible[b] − seq + i + 1` keys (`keys` of them for the last row without `visible`).
    /// Returns the output and the rows' log-sum-exp `[batch, heads, seq]`.
    ///
    /// A row's result depends on the keys it sees alone, whatever the others hold, NaN too: a decoding step over a cache gives the
    /// bits of the full pass.
    ///
    /// # Panics
    /// If shapes, dtypes or devices do not fit, there are more queries than keys, or `visible` is below `seq` or above `keys`.
    #[track_caller]
    pub fn attention_causal(q: &Tensor, k: &Tensor, v: &Tensor, visible: Option<&[usize]>, scale: f64) -> (Tensor, Tensor) {
        let op = Fused::AttentionCausal { visible: visible.map(<[usize]>::to_vec), scale };
        op.results(&[q, k, v]).into()
    }
}

pub(super) fn apply(op: &Fused, x: &[&Tensor], visible: Option<&[usize]>) -> Vec<Tensor> {
    expect_heads(x);
    if let Some(n) = visible {
        let (seq, keys) = (x[0].dims()[2], x[1].dims()[2]);
        if n.len() != x[0].dims()[0] || n.iter().any(|&n| n < seq || n > keys) {
            refuse!("visible {n:?} for {} sequences of {seq} queries and {keys} keys", x[0].dims()[0]);
        }
    }
    op.run(x)
}

pub(super) fn apply_backward(op: &Fused, x: &[&Tensor]) -> Vec<Tensor> {
    let &[grad, q, k, v, out, lse] = x else { unreachable!("operands were counted") };
    expect_heads(&[q, k, v]);
    let wide = q.dtype().accumulator();
    let is = |t: &Tensor, last: &[usize], dtype: DType| t.dims() == [&q.dims()[..3], last].concat() && t.dtype() == dtype;
    let width = &v.dims()[3..];
    if !is(grad, width, q.dtype()) || !is(out, width, q.dtype()) || !is(lse, &[], wide) {
        refuse!("gradient {grad:?}, output {out:?} and log-sum-exp {lse:?} do not fit {q:?} and {v:?}");
    }
    op.run(x)
}

/// Refuses queries, keys and values that are not those of one causal attention.
fn expect_heads(x: &[&Tensor]) {
    let (q, k, v) = (x[0], x[1], x[2]);
    let fit = x.iter().all(|t| t.rank() == 4 && t.dtype() == q.dtype())
        && q.dims()[..2] == k.dims()[..2]
        && q.dims()[3] == k.dims()[3]
        && k.dims()[..3] == v.dims()[..3];
    if !fit {
        refuse!("queries {q:?}, keys {k:?} and values {v:?} do not fit");
    }
    let (seq, keys) = (q.dims()[2], k.dims()[2]);
    if seq > keys {
        refuse!("{seq} queries and {keys} keys: the last query sees the last key, so the first would see none");
    }
}

/// Which keys each row sees, `[batch, 1, seq, keys]`, or `[seq, keys]` where all sequences are alike.
fn visible_mask(q: &Tensor, k: &Tensor, visible: Option<&[usize]>) -> Tensor {
    let (seq, keys, device) = (q.dims()[2], k.dims()[2], q.device());
    let column = Tensor::arange(0, keys as i64, 1, DType::I64, device);
    let row = Tensor::arange(0, seq as i64, 1, DType::I64, device).unsqueeze(1);
    let first: Vec<i64> = match visible {
        Some(n) => n.iter().map(|&n| n as i64 - seq as i64).collect(),
        None => vec![keys as i64 - seq as i64],
    };
    let first = Tensor::from_slice(&first, [first.len(), 1, 1, 1], device);
    column.le(&row.add(&first))
}

pub(super) fn forward(x: &[&Tensor], visible: Option<&[usize]>, scale: f64) -> Vec<Tensor> {
    let (q, k, v) = (x[0], x[1], x[2]);
    let scores = q.matmul(&k.t()).mul(scale);
    let scores = Tensor::where_(&visible_mask(q, k, visible), &scores, f64::NEG_INFINITY);
    vec![scores.softmax(-1).weighted_sum(v), scores.logsumexp(-1, false)]
}

/// With `P = exp(S − lse)`: `dV = Pᵀ·dO`, `dS = P∘(dO·Vᵀ − rowsum(dO∘O))·scale`, `dQ = dS·K`, `dK = dSᵀ·Q`.
pub(super) fn backward(x: &[&Tensor], scale: f64) -> Vec<Tensor> {
    let &[grad, q, k, v, out, lse] = x else { unreachable!("operands were counted") };
    let scores = q.matmul(&k.t()).mul(scale).sub(&lse.unsqueeze(-1));
    let seen = visible_mask(q, k, None);
    let p = Tensor::where_(&seen, &scores.exp(), 0.0);
    let dv = p.t().weighted_sum(grad);
    let delta = grad.mul(out).sum(-1, true);
    let ds = Tensor::where_(&seen, &grad.matmul(&v.t()).sub(&delta).mul(&p).mul(scale), 0.0);
    vec![ds.weighted_sum(k), ds.t().weighted_sum(q), dv]
}

pub(super) mod cpu {
    use super::*;
    use crate::cpu::parallel::{Task, run};
    use crate::cpu::{build, build2, par_parts2, rows};

    /// The matrix of one head in a `[batch, heads, seq, dim]` tensor whose last dimension is dense: data and row stride.
    fn head(t: &Tensor, i: usize) -> rows::Head<'_> {
        let (heads, s) = (t.dims()[1], t.strides());
        let at = t.layout().offset() + i / heads * s[0] + i % heads * s[1];
        rows::Head { data: &t.raw::<f32>()[at..], stride: s[2], cols: t.dims()[3] }
    }

    fn dense(t: &Tensor) -> Tensor {
        if t.strides()[3] == 1 || t.dims()[3] == 1 { t.clone() } else { t.contiguous() }
    }

    pub fn forward(x: &[&Tensor], visible: Option<&[usize]>, scale: f64) -> Vec<Tensor> {
        let (q, k, v) = (x[0], x[1], x[2]);
        let (batch, heads, seq, width) = (q.dims()[0], q.dims()[1], q.dims()[2], v.dims()[3]);
        let (keys, dim) = (k.dims()[2], k.dims()[3]);
        // Keys whose memory is transposed, as a cache keeps them, are read as they lie.
        let columns = k.strides()[2] == 1 && k.strides()[3] != 1 && dim > 1;
        let (q, k, v) = (dense(q), if columns { k.t() } else { dense(k) }, dense(v));
        let keys_of = |i| if columns { rows::Keys::Columns(head(&k, i)) } else { rows::Keys::Rows(head(&k, i)) };
        let shapes = ([batch, heads, seq, width], [batch, heads, seq]);
        let (out, lse) = build2((shapes.0, DType::F32), (shapes.1, DType::F32), |out: &mut [f32], lse: &mut [f32]| {
            let one = |i: usize, out: &mut [f32], lse: &mut [f32]| {
                let seen = visible.map_or(keys, |n| n[i / heads]);
                rows::attention(head(&q, i), keys_of(i), head(&v, i), seq, seen, scale as f32, out, lse);
            };
            // A decoding step has little work per head: give each thread several.
            let per = (crate::cpu::GRAIN / (seq * keys.max(1))).clamp(1, (batch * heads).div_ceil(8).max(1));
            par_parts2(out, per * seq * width, lse, per * seq, &|c, out, lse| {
                for (j, (out, lse)) in out.chunks_exact_mut(seq * width).zip(lse.chunks_exact_mut(seq)).enumerate() {
                    one(c * per + j, out, lse);
                }
            });
        });
        vec![out, lse]
    }

    pub fn backward(x: &[&Tensor], scale: f64) -> Vec<Tensor> {
        let [grad, q, k, v, out] = [x[0], x[1], x[2], x[3], x[4]].map(dense);
        let (seq, keys, dim, width) = (q.dims()[2], k.dims()[2], q.dims()[3], v.dims()[3]);
        let lse = x[5].contiguous();
        let mut dv = None;
        let (dq, dk) = build2((q.shape(), DType::F32), (k.shape(), DType::F32), |dq: &mut [f32], dk: &mut [f32]| {
            dv = Some(build(v.shape(), DType::F32, |dv: &mut [f32]| {
                let parts = dq.chunks_mut(seq * dim).zip(dk.chunks_mut(keys * dim)).zip(dv.chunks_mut(keys * width));
                let one = |i: usize, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]| {
                    let saved = (head(&q, i), head(&k, i), head(&v, i), head(&out, i), &lse.data::<f32>()[i * seq..][..seq]);
                    rows::attention_backward(head(&grad, i), saved, seq, keys, scale as f32, dq, dk, dv);
                };
                let one = &one;
                run(parts.enumerate().map(|(i, ((dq, dk), dv))| Box::new(move || one(i, dq, dk, dv)) as Task<'_>).collect());
            }));
        });
        vec![dq, dk, dv.expect("built inside")]
    }
}
