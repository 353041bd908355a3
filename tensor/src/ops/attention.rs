//! Scaled dot-product attention (Vaswani et al., 2017) in its general form, as a composition.

use crate::dtype::DType;
use crate::operation::operation;
use crate::refuse;
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
    /// key gives 0. What a hidden key and its value hold has no say, be it NaN.
    ///
    /// # Panics
    /// If shapes do not fit, the mask is neither bool nor float, or both a mask and `is_causal` are given.
    #[track_caller]
    pub fn scaled_dot_product_attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Attention<'_>) -> Tensor {
        operation("scaled_dot_product_attention", || {
            q.expect_float();
            if q.rank() < 2 || k.rank() < 2 || v.rank() < 2 || q.dim(-1) != k.dim(-1) || k.dim(-2) != v.dim(-2) {
                refuse!("shapes {}, {} and {} do not fit", q.shape(), k.shape(), v.shape());
            }
            if options.mask.is_some() && options.is_causal {
                refuse!("give a mask or is_causal, not both");
            }
            let spread = |t: &Tensor| match options.enable_gqa {
                true if q.rank() < 3 || t.rank() < 3 || t.dim(-3) == 0 || !q.dim(-3).is_multiple_of(t.dim(-3)) => {
                    refuse!("{} query heads cannot share the heads of {}", q.shape(), t.shape())
                }
                true => t.repeat_interleave(q.dim(-3) / t.dim(-3), Some(-3)),
                false => t.clone(),
            };
            let (k, v) = (spread(k), spread(v));
            let scale = options.scale.unwrap_or(1.0 / (q.dim(-1) as f64).sqrt());
            let scores = q.to_accumulator().matmul(&k.to_accumulator().t()).mul(scale);
            let p = Tensor::attention_weights(&scores, options);
            p.weighted_sum(&v.to_accumulator()).to_dtype(q.dtype())
        })
    }

    /// The masked softmax over scaled scores `[…, queries, keys]`; hidden keys weigh 0, and so does a row that sees none.
    ///
    /// # Panics
    /// If the scores have fewer than two dimensions, or the mask does not broadcast or is neither bool nor float.
    #[track_caller]
    pub fn attention_weights(scores: &Tensor, options: &Attention<'_>) -> Tensor {
        operation("attention_weights", || {
            let (rows, cols) = (scores.dim(-2), scores.dim(-1));
            if cols == 0 {
                return scores.clone();
            }
            let causal = options.is_causal.then(|| Tensor::ones([rows, cols], DType::Bool, scores.device()).tril(0));
            let masked = match causal.as_ref().or(options.mask) {
                None => return scores.softmax(-1),
                Some(m) if m.dtype() == DType::Bool => Tensor::where_(m, scores, f64::NEG_INFINITY),
                Some(m) => {
                    if !m.dtype().is_float() || m.dtype() == DType::F8E4M3 {
                        refuse!("the mask is {}, expected bool, f32, f64, bf16 or f16", m.dtype());
                    }
                    let m = m.to_dtype(scores.dtype());
                    Tensor::where_(&m.eq(f64::NEG_INFINITY), f64::NEG_INFINITY, &scores.add(&m))
                }
            };
            let blind = masked.amax(-1, true).eq(f64::NEG_INFINITY);
            masked.masked_fill(&blind, 0.0).softmax(-1).masked_fill(&blind, 0.0)
        })
    }

    /// The matrix product of weights `[…, m, k]` (`self`) and `rows` `[…, k, n]` in which a weight of 0 leaves its row out, whatever
    /// that holds: `0·∞` and `0·NaN` are 0 here.
    ///
    /// # Panics
    /// As [`Tensor::matmul`].
    #[track_caller]
    pub fn weighted_sum(&self, rows: &Tensor) -> Tensor {
        operation("weighted_sum", || {
            let (finite, infinite) = (rows.abs().lt(f64::INFINITY), rows.abs().eq(f64::INFINITY));
            let sum = self.matmul(&Tensor::where_(&finite, rows, 0.0));
            // How many ∞ and NaN a sum has, and the signs of its ∞: all of one sign make ∞, anything else NaN.
            let (sign, wild) = (self.sign(), finite.logical_not().to_dtype(rows.dtype()));
            let met = sign.abs().matmul(&wild);
            let signs = sign.matmul(&Tensor::where_(&infinite, &rows.sign(), 0.0));
            let extreme = Tensor::where_(&signs.abs().eq(&met), &signs.mul(f64::INFINITY), f64::NAN);
            Tensor::where_(&met.eq(0.0), &sum, &extreme)
        })
    }
}
