//! Scaled dot-product attention (Vaswani et al., 2017): the general form as a composition, and the causal form fused.

use crate::dtype::DType;
use crate::ops::wide;
use crate::tensor::Tensor;

/// Options of [`Tensor::scaled_dot_product_attention`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention<'a> {
    /// Added to the scores (float), or where false the key is hidden (bool); broadcasts to `[…, queries, keys]`.
    pub mask: Option<&'a Tensor>,
    /// Query `i` sees keys `0..=i`.
    pub is_causal: bool,
    /// Multiplies the scores; `1/√dim` if not given.
    pub scale: Option<f64>,
    /// Fewer key and value heads than query heads: each serves as many neighbouring query heads.
    pub enable_gqa: bool,
}

impl Tensor {
    /// `softmax(q·kᵀ·scale + mask)·v` for `q` `[…, queries, dim]`, `k` `[…, keys, dim]`, `v` `[…, keys, v_dim]`. A row that sees no
    /// key gives 0.
    ///
    /// # Panics
    /// If shapes do not fit, or both a mask and `is_causal` are given.
    #[track_caller]
    pub fn scaled_dot_product_attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Attention<'_>) -> Tensor {
        const OP: &str = "scaled_dot_product_attention";
        q.expect_float(OP);
        if q.rank() < 2 || k.rank() < 2 || v.rank() < 2 || q.dim(-1) != k.dim(-1) || k.dim(-2) != v.dim(-2) {
            panic!("{OP}: shapes {}, {} and {} do not fit", q.shape(), k.shape(), v.shape());
        }
        if options.mask.is_some() && options.is_causal {
            panic!("{OP}: give a mask or is_causal, not both");
        }
        let spread = |t: &Tensor| match options.enable_gqa {
            true if q.rank() < 3 || t.rank() < 3 || t.dim(-3) == 0 || !q.dim(-3).is_multiple_of(t.dim(-3)) => {
                panic!("{OP}: {} query heads cannot share the heads of {}", q.shape(), t.shape())
            }
            true => t.repeat_interleave(q.dim(-3) / t.dim(-3), Some(-3)),
            false => t.clone(),
        };
        let (k, v) = (spread(k), spread(v));
        let scale = options.scale.unwrap_or(1.0 / (q.dim(-1) as f64).sqrt());
        let scores = wide(q).matmul(&wide(&k).t()).mul(scale);
        let p = Tensor::attention_weights(&scores, options);
        p.matmul(&wide(&v)).to_dtype(q.dtype())
    }

    /// The masked softmax over scaled scores `[…, queries, keys]`; hidden keys weigh 0, and so does a row that sees none.
    ///
    /// # Panics
    /// If the scores have fewer than two dimensions, or the mask does not broadcast.
    #[track_caller]
    pub fn attention_weights(scores: &Tensor, options: &Attention<'_>) -> Tensor {
        let (rows, cols) = (scores.dim(-2), scores.dim(-1));
        if cols == 0 {
            return scores.clone();
        }
        let causal = options.is_causal.then(|| Tensor::ones([rows, cols], DType::Bool, scores.device()).tril(0));
        let masked = match causal.as_ref().or(options.mask) {
            None => return scores.softmax(-1),
            Some(m) if m.dtype() == DType::Bool => Tensor::where_(m, scores, f64::NEG_INFINITY),
            Some(m) => scores.add(&m.to_dtype(scores.dtype())),
        };
        let blind = masked.amax(-1, true).eq(f64::NEG_INFINITY);
        masked.masked_fill(&blind, 0.0).softmax(-1).masked_fill(&blind, 0.0)
    }

    /// Causal attention for training and decoding, fused: `q` `[batch, heads, seq, dim]`, `k` `[batch, heads, keys, dim]`, `v`
    /// `[batch, heads, keys, v_dim]`. Row `i` of sequence `b` sees the first `visible[b] − seq + i + 1` keys (`keys` of them for
    /// the last row without `visible`). Returns the output and the rows' log-sum-exp `[batch, heads, seq]`.
    ///
    /// A row's result depends on the keys it sees alone: a decoding step over a cache gives the bits of the full pass.
    ///
    /// # Panics
    /// If shapes or dtypes do not fit, or `visible` is below `seq` or above `keys`.
    #[track_caller]
    pub fn attention_causal(q: &Tensor, k: &Tensor, v: &Tensor, visible: Option<&[usize]>, scale: f64) -> (Tensor, Tensor) {
        if !fit(q, k, v) || (visible.is_none() && q.dims()[2] > k.dims()[2]) {
            panic!("attention_causal: {q:?}, {k:?} and {v:?} do not fit");
        }
        if let Some(n) = visible {
            let (seq, keys) = (q.dims()[2], k.dims()[2]);
            if n.len() != q.dims()[0] || n.iter().any(|&n| n < seq || n > keys) {
                panic!("attention_causal: visible {n:?} for {} sequences of {seq} queries and {keys} keys", q.dims()[0]);
            }
        }
        q.device().attention_causal(q, k, v, visible, scale)
    }

    /// Gradients of [`Tensor::attention_causal`] (without `visible`) for q, k and v, from the output and the log-sum-exp of the
    /// forward pass.
    ///
    /// # Panics
    /// If shapes or dtypes are not those of a forward pass.
    #[allow(clippy::too_many_arguments)] // the saved tensors of the forward pass, each of them needed
    #[track_caller]
    pub fn attention_causal_backward(
        grad: &Tensor,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        lse: &Tensor,
        scale: f64,
    ) -> (Tensor, Tensor, Tensor) {
        let is = |t: &Tensor, last: &[usize], dtype: DType| t.dims() == [&q.dims()[..3], last].concat() && t.dtype() == dtype;
        let saved =
            |v_dim: &[usize]| is(grad, v_dim, q.dtype()) && is(out, v_dim, q.dtype()) && is(lse, &[], q.dtype().accumulator());
        if !fit(q, k, v) || q.dims()[2] > k.dims()[2] || !saved(&v.dims()[3..]) {
            panic!(
                "attention_causal_backward: gradient {grad:?}, {q:?}, {k:?}, {v:?}, output {out:?} and log-sum-exp {lse:?} do not fit"
            );
        }
        q.device().attention_causal_backward(grad, q, k, v, out, lse, scale)
    }
}

/// Whether queries, keys and values are those of one causal attention.
fn fit(q: &Tensor, k: &Tensor, v: &Tensor) -> bool {
    [q, k, v].iter().all(|t| t.rank() == 4 && t.dtype() == q.dtype())
        && q.dims()[..2] == k.dims()[..2]
        && q.dims()[3] == k.dims()[3]
        && k.dims()[..3] == v.dims()[..3]
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

pub(crate) fn attention_causal_composed(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    visible: Option<&[usize]>,
    scale: f64,
) -> (Tensor, Tensor) {
    let scores = wide(q).matmul(&wide(k).t()).mul(scale);
    let scores = Tensor::where_(&visible_mask(q, k, visible), &scores, f64::NEG_INFINITY);
    (scores.softmax(-1).matmul(&wide(v)).to_dtype(q.dtype()), scores.logsumexp(-1, false))
}

/// With `P = exp(S − lse)`: `dV = Pᵀ·dO`, `dS = P∘(dO·Vᵀ − rowsum(dO∘O))·scale`, `dQ = dS·K`, `dK = dSᵀ·Q`.
pub(crate) fn attention_causal_backward_composed(
    grad: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    scale: f64,
) -> (Tensor, Tensor, Tensor) {
    let dtype = q.dtype();
    let [grad, q, k, v, out] = [grad, q, k, v, out].map(wide);
    let scores = q.matmul(&k.t()).mul(scale).sub(&lse.unsqueeze(-1));
    let p = Tensor::where_(&visible_mask(&q, &k, None), &scores.exp(), 0.0);
    let dv = p.t().matmul(&grad);
    let delta = grad.mul(&out).sum(-1, true);
    let ds = grad.matmul(&v.t()).sub(&delta).mul(&p).mul(scale);
    (ds.matmul(&k).to_dtype(dtype), ds.t().matmul(&q).to_dtype(dtype), dv.to_dtype(dtype))
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::parallel::{Task, run};
    use crate::cpu::{build, par_parts2, rows};

    /// The matrix of one head in a `[batch, heads, seq, dim]` tensor whose last dimension is dense: data and row stride.
    fn head(t: &Tensor, i: usize) -> rows::Head<'_> {
        let (heads, s) = (t.dims()[1], t.strides());
        let at = t.layout().offset() + i / heads * s[0] + i % heads * s[1];
        rows::Head { data: &t.raw::<f32>()[at..], stride: s[2], cols: t.dims()[3] }
    }

    fn dense(t: &Tensor) -> Tensor {
        if t.strides()[3] == 1 || t.dims()[3] == 1 { t.clone() } else { t.contiguous() }
    }

    pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, visible: Option<&[usize]>, scale: f64) -> (Tensor, Tensor) {
        let (batch, heads, seq, width) = (q.dims()[0], q.dims()[1], q.dims()[2], v.dims()[3]);
        let (keys, dim) = (k.dims()[2], k.dims()[3]);
        match q.dtype() {
            t if t.is_half() => {
                let (out, lse) = forward(&wide(q), &wide(k), &wide(v), visible, scale);
                return (out.to_dtype(t), lse);
            }
            DType::F32 if batch * heads * seq * width * dim > 0 => {}
            _ => return attention_causal_composed(q, k, v, visible, scale),
        }
        // Keys whose memory is transposed, as a cache keeps them, are read as they lie.
        let columns = k.strides()[2] == 1 && k.strides()[3] != 1 && dim > 1;
        let (q, k, v) = (dense(q), if columns { k.t() } else { dense(k) }, dense(v));
        let keys_of = |i| if columns { rows::Keys::Columns(head(&k, i)) } else { rows::Keys::Rows(head(&k, i)) };
        let mut lse = None;
        let out = build([batch, heads, seq, width], DType::F32, |out: &mut [f32]| {
            lse = Some(build([batch, heads, seq], DType::F32, |lse: &mut [f32]| {
                let one = |i: usize, out: &mut [f32], lse: &mut [f32]| {
                    let seen = visible.map_or(keys, |n| n[i / heads]);
                    rows::attention(head(&q, i), keys_of(i), head(&v, i), seq, seen, scale as f32, out, lse);
                };
                // A decoding step has little work a head: give each thread several.
                let per = (crate::cpu::GRAIN / (seq * keys.max(1))).clamp(1, (batch * heads).div_ceil(8).max(1));
                par_parts2(out, per * seq * width, lse, per * seq, |c, out, lse| {
                    for (j, (out, lse)) in out.chunks_exact_mut(seq * width).zip(lse.chunks_exact_mut(seq)).enumerate() {
                        one(c * per + j, out, lse);
                    }
                });
            }));
        });
        (out, lse.expect("filled above"))
    }

    pub fn backward(
        grad: &Tensor,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        lse: &Tensor,
        scale: f64,
    ) -> (Tensor, Tensor, Tensor) {
        let (seq, keys, dim, width) = (q.dims()[2], k.dims()[2], q.dims()[3], v.dims()[3]);
        match q.dtype() {
            t if t.is_half() => {
                let (dq, dk, dv) = backward(&wide(grad), &wide(q), &wide(k), &wide(v), &wide(out), lse, scale);
                return (dq.to_dtype(t), dk.to_dtype(t), dv.to_dtype(t));
            }
            DType::F32 if [q, k, v].iter().all(|x| x.numel() > 0) => {}
            _ => return attention_causal_backward_composed(grad, q, k, v, out, lse, scale),
        }
        let [grad, q, k, v, out] = [grad, q, k, v, out].map(dense);
        let lse = lse.contiguous();
        let (mut dk, mut dv) = (None, None);
        let dq = build(q.shape().clone(), DType::F32, |dq: &mut [f32]| {
            dk = Some(build(k.shape().clone(), DType::F32, |dk: &mut [f32]| {
                dv = Some(build(v.shape().clone(), DType::F32, |dv: &mut [f32]| {
                    let parts = dq.chunks_mut(seq * dim).zip(dk.chunks_mut(keys * dim)).zip(dv.chunks_mut(keys * width));
                    let one = |i: usize, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]| {
                        let saved = (head(&q, i), head(&k, i), head(&v, i), head(&out, i), &lse.data::<f32>()[i * seq..][..seq]);
                        rows::attention_backward(head(&grad, i), saved, seq, keys, scale as f32, dq, dk, dv);
                    };
                    let one = &one;
                    run(parts.enumerate().map(|(i, ((dq, dk), dv))| Box::new(move || one(i, dq, dk, dv)) as Task<'_>).collect());
                }));
            }));
        });
        (dq, dk.expect("filled above"), dv.expect("filled above"))
    }
}
