//! Scaled dot-product attention (Vaswani et al., "Attention is all you need", 2017).

use crate::graph::Like;
use crate::operand::{Value, VarOperand};
use crate::var::Var;
use tensor::{Tensor, operation, refuse};

/// Options of [`Var::scaled_dot_product_attention`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention<'a> {
    /// Added to the scores (float: may be a [`Var`] that gets a gradient), or where false the key is hidden (a bool tensor);
    /// broadcasts to `[…, queries, keys]`.
    pub mask: Option<VarOperand<'a>>,
    /// Query `i` sees keys `0..=i`.
    pub is_causal: bool,
    /// Multiplies the scores; `1/√dim` if not given.
    pub scale: Option<f64>,
    /// Fewer key and value heads than query heads: each serves as many neighbouring query heads.
    pub enable_gqa: bool,
}

impl Var {
    /// `softmax(q·kᵀ·scale + mask)·v` for `q` `[…, queries, dim]`, `k` `[…, keys, dim]`, `v` `[…, keys, v_dim]`. A row that sees no
    /// key gives 0.
    ///
    /// # Panics
    /// If shapes do not fit, the mask is a number, or both a mask and `is_causal` are given.
    #[track_caller]
    pub fn scaled_dot_product_attention(q: &Var, k: &Var, v: &Var, options: &Attention<'_>) -> Var {
        const OP: &str = "scaled_dot_product_attention";
        operation(OP, || {
            let mask = options.mask.map(|m| match m.value() {
                Value::Tensor(t) => t,
                Value::Scalar(s) => refuse!("the mask is a number, {s:?}"),
            });
            let (is_causal, enable_gqa) = (options.is_causal, options.enable_gqa);
            let (qv, kv, vv) = (q.value(), k.value(), v.value());
            let given = tensor::Attention { mask: mask.as_ref(), is_causal, scale: options.scale, enable_gqa };
            let out = Tensor::scaled_dot_product_attention(&qv, &kv, &vv, &given);
            let scale = options.scale.unwrap_or(1.0 / (qv.dim(-1) as f64).sqrt());
            let edges = [q.edge(), k.edge(), v.edge(), options.mask.and_then(|m| m.edge())];
            let like = [&qv, &kv, &vv].map(Like::of);
            let like_mask = mask.as_ref().map(Like::of);
            Var::op_edges(OP, out, edges, move |g, needs| {
                let heads =
                    |t: &Tensor| if enable_gqa { t.repeat_interleave(qv.dim(-3) / t.dim(-3), Some(-3)) } else { t.clone() };
                let [q, k, v] = [qv.clone(), heads(&kv), heads(&vv)].map(|t| t.to_accumulator());
                let options = tensor::Attention { mask: mask.as_ref(), is_causal, ..Default::default() };
                let p = Tensor::attention_weights(&q.matmul(&k.t()).mul(scale), &options);
                // Query heads that share a key head add up in its gradient.
                let share = |like: &Like, d: Tensor| {
                    let d = if enable_gqa { shared_heads(&d, like.shape[like.shape.len() - 3]) } else { d };
                    like.fit(&d)
                };
                let dv = needs[2].then(|| share(&like[2], p.t().weighted_sum(g)));
                if !(needs[0] || needs[1] || needs[3]) {
                    return [None, None, dv, None];
                }
                // What weighs nothing was hidden.
                let seen = p.ne(0.0);
                let dp = Tensor::where_(&seen, &g.matmul(&v.t()), 0.0);
                let ds = Tensor::where_(&seen, &dp.sub(&dp.mul(&p).sum(-1, true)).mul(&p), 0.0);
                let dmask = needs[3].then(|| like_mask.as_ref().expect("only a given mask needs a gradient").fit(&ds));
                let ds = ds.mul(scale);
                let dq = needs[0].then(|| like[0].fit(&ds.weighted_sum(&k)));
                let dk = needs[1].then(|| share(&like[1], ds.t().weighted_sum(&q)));
                [dq, dk, dv, dmask]
            })
        })
    }
}

/// `[…, heads·n, a, b]` summed to `[…, heads, a, b]` over each group of `n` neighbours.
fn shared_heads(d: &Tensor, heads: usize) -> Tensor {
    let rank = d.rank();
    let mut shape: Vec<isize> = d.dims().iter().map(|&s| s as isize).collect();
    shape[rank - 3] /= heads as isize;
    shape.insert(rank - 3, heads as isize);
    d.reshape(&shape).sum(-3, false)
}
