//! The fused operations of a transformer block: RMSNorm, RoPE, SwiGLU. Each calls the kernel's own backward.

use crate::var::Var;
use tensor::Tensor;

impl Var {
    /// `x / √(mean(x²) + eps) · weight`, the mean over the last `normalized_shape.len()` dimensions. Without `eps` the dtype's
    /// epsilon is taken. Zhang and Sennrich, "Root mean square layer normalization" (2019).
    ///
    /// # Panics
    /// If `x` does not end in `normalized_shape`, or `weight` does not have that shape.
    #[track_caller]
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Var>, eps: Option<f64>) -> Var {
        let (x, w) = (self.value(), weight.map(Var::value));
        let (y, rstd) = x.rms_norm_with_rstd(normalized_shape, w.as_ref(), eps);
        Var::op_edges("rms_norm", y, [self.edge(), weight.and_then(Var::edge)], move |g, _| {
            let w = w.as_ref().map(Tensor::to_accumulator);
            let (dx, dw) = x.to_accumulator().rms_norm_backward(g, w.as_ref(), &rstd);
            [Some(dx), dw]
        })
    }

    /// Turns each adjacent pair of the last dimension by an angle: `(a, b) → (a·cos − b·sin, a·sin + b·cos)`. `x` is
    /// `[…, seq, dim]`; `cos` and `sin` broadcast to `[…, seq, dim/2]`. Su et al., "RoFormer" (2021).
    ///
    /// # Panics
    /// If `dim` is odd or the shapes do not broadcast.
    #[track_caller]
    pub fn rope(&self, cos: &Tensor, sin: &Tensor) -> Var {
        let (cos, sin) = (cos.clone(), sin.clone());
        let y = self.value().rope(&cos, &sin);
        Var::op_edges("rope", y, [self.edge()], move |g, _| [Some(g.rope_inverse(&cos.to_accumulator(), &sin.to_accumulator()))])
    }

    /// `silu(self)·up`, the gated activation of Shazeer, "GLU variants improve transformer" (2020).
    ///
    /// # Panics
    /// If shapes, dtypes or devices differ.
    #[track_caller]
    pub fn swiglu(&self, up: &Var) -> Var {
        let (gate, u) = (self.value(), up.value());
        Var::op_edges("swiglu", gate.swiglu(&u), [self.edge(), up.edge()], move |g, _| {
            let (dgate, dup) = gate.to_accumulator().swiglu_backward(&u.to_accumulator(), g);
            [Some(dgate), Some(dup)]
        })
    }
}
