//! Fused operations. The gradients of one are given by another, which devices have kernels for too.

use crate::var::Var;
use tensor::{Fused, Tensor};

/// The operation that gives the gradients of the operands (of the first of them, the others being constants), and what it takes
/// after the gradient of the first result. Matched without a wildcard: a new operation does not compile before it has a rule,
/// or is said to have none.
fn backward(op: &Fused, x: &[Tensor], results: &[Tensor]) -> Option<(Fused, Vec<Tensor>)> {
    Some(match op {
        Fused::Swiglu => (Fused::SwigluBackward, x.to_vec()),
        Fused::RmsNorm { .. } => (Fused::RmsNormBackward, [&x[..1], &results[1..], &x[1..]].concat()),
        Fused::Rope { inverse } => (Fused::Rope { inverse: !inverse }, x[1..].to_vec()),
        Fused::AttentionCausal { visible: None, scale } => {
            (Fused::AttentionCausalBackward { scale: *scale }, [x, results].concat())
        }
        // A cache is for decoding; an optimizer's step and gradients are not differentiated.
        Fused::AttentionCausal { visible: Some(_), .. }
        | Fused::AdamW(_)
        | Fused::SwigluBackward
        | Fused::RmsNormBackward
        | Fused::AttentionCausalBackward { .. } => return None,
    })
}

impl Var {
    /// The first result of a fused operation; see [`Fused::apply`].
    ///
    /// # Panics
    /// If the operands do not fit, or the operation has no gradient and an operand needs one outside
    /// [`no_grad`](crate::no_grad): an optimizer's step, a gradient, attention over a cache.
    #[track_caller]
    pub fn fused(op: &Fused, operands: &[&Var]) -> Var {
        let x: Vec<Tensor> = operands.iter().map(|x| x.value()).collect();
        let mut results = op.apply(&x.iter().collect::<Vec<_>>());
        let Some((gradients, saved)) = backward(op, &x, &results) else {
            if crate::is_grad_enabled() && operands.iter().any(|x| x.requires_grad()) {
                panic!("{}: no gradient of {op:?}; compute it inside no_grad", op.name());
            }
            return Var::constant(results.swap_remove(0));
        };
        let operands: Vec<Var> = operands.iter().copied().cloned().collect();
        Var::op_list(op.name(), results.swap_remove(0), &operands, move |grad, needs| {
            let saved: Vec<Tensor> = saved.iter().map(Tensor::to_accumulator).collect();
            let given: Vec<&Tensor> = std::iter::once(grad).chain(&saved).collect();
            let mut gradients: Vec<_> = gradients.apply(&given).into_iter().map(Some).collect();
            gradients.resize(needs.len(), None);
            gradients
        })
    }

    /// `x / √(mean(x²) + eps) · weight`, the mean over the last `normalized_shape.len()` dimensions. Without `eps` the dtype's
    /// epsilon is taken. Zhang and Sennrich, "Root mean square layer normalization" (2019).
    ///
    /// # Panics
    /// If `x` does not end in `normalized_shape`, or `weight` does not have that shape.
    #[track_caller]
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Var>, eps: Option<f64>) -> Var {
        if !self.shape().ends_with(normalized_shape) {
            panic!("rms_norm: shape {} does not end in {normalized_shape:?}", self.shape());
        }
        let op = Fused::RmsNorm { dims: normalized_shape.len(), eps: eps.unwrap_or(self.dtype().epsilon()) };
        Var::fused(&op, &[Some(self), weight].into_iter().flatten().collect::<Vec<_>>())
    }

    /// Turns each adjacent pair of the last dimension by an angle: `(a, b) → (a·cos − b·sin, a·sin + b·cos)`. `x` is
    /// `[…, seq, dim]`; `cos` and `sin` broadcast to `[…, seq, dim/2]`. Su et al., "RoFormer" (2021).
    ///
    /// # Panics
    /// If `dim` is odd or the shapes do not broadcast.
    #[track_caller]
    pub fn rope(&self, cos: &Tensor, sin: &Tensor) -> Var {
        Var::fused(&Fused::Rope { inverse: false }, &[self, &cos.into(), &sin.into()])
    }

    /// `silu(self)·up`, the gated activation of Shazeer, "GLU variants improve transformer" (2020).
    ///
    /// # Panics
    /// If shapes, dtypes or devices differ.
    #[track_caller]
    pub fn swiglu(&self, up: &Var) -> Var {
        Var::fused(&Fused::Swiglu, &[self, up])
    }

    /// Causal attention: `q` `[batch, heads, seq, dim]`, `k` `[batch, heads, keys, dim]`, `v` `[batch, heads, keys, v_dim]`. Row `i`
    /// of sequence `b` sees the first `visible[b] − seq + i + 1` keys (`keys` of them for the last row without `visible`). See
    /// [`Tensor::attention_causal`], whose log-sum-exp is not returned.
    ///
    /// # Panics
    /// If shapes, dtypes or devices do not fit, there are more queries than keys, `visible` is below `seq` or above `keys`, or
    /// `visible` is given where a gradient is needed: a cache is for decoding, inside [`no_grad`](crate::no_grad).
    #[track_caller]
    pub fn attention_causal(q: &Var, k: &Var, v: &Var, visible: Option<&[usize]>, scale: f64) -> Var {
        Var::fused(&Fused::AttentionCausal { visible: visible.map(<[usize]>::to_vec), scale }, &[q, k, v])
    }
}
