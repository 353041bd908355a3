//! [`Fused`]: operations that are compositions of others, and that a device may have one kernel for.

use std::ops::RangeInclusive;

/// The numbers of one AdamW step (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Which step this is, from 1.
    pub step: u64,
    /// The gradient is multiplied by this first (clipping).
    pub grad_scale: f64,
}

/// Declares [`Fused`] with the operations' names.
macro_rules! operations {
    ($($(#[$doc:meta])+ $name:ident => $op:ident $({ $($(#[$field_doc:meta])+ $field:ident: $type:ty),+ })? $(($tuple:ty))?;)*) => {
        /// A fused operation: its id, with the arguments that are no tensors. [`Fused::apply`] applies it. A backend is offered it
        /// by [`Backend::fused`](crate::Backend::fused); where that has no kernel, the definition as a composition is computed.
        ///
        /// The gradients of one are another, whose operands begin with the gradient of the first result. Results have the dtype of
        /// the first operand, but for statistics (`rstd`, the log-sum-exp, an optimizer's moments), which are f32 for half types.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Fused {$(
            $(#[$doc])+
            $op $({ $($(#[$field_doc])+ $field: $type),+ })? $(($tuple))?,
        )*}

        impl Fused {
            /// The names of the variants.
            pub const VARIANTS: &'static [&'static str] = &[$(stringify!($op)),*];

            /// Its name, for messages and records.
            pub fn name(&self) -> &'static str {
                match self {$(
                    Fused::$op { .. } => stringify!($name),
                )*}
            }
        }
    };
}

operations! {
    /// `silu(gate)·up` of `[gate, up]`, of one shape; see [`Tensor::swiglu`](crate::Tensor::swiglu).
    swiglu => Swiglu;
    /// The gradients for gate and up, of `[grad, gate, up]`.
    swiglu_backward => SwigluBackward;
    /// The root-mean-square norm, of `[x]` or `[x, weight]`: `y`, and `rstd = 1/√(mean(x²) + eps)` as `[rows, 1]`; see
    /// [`Tensor::rms_norm`](crate::Tensor::rms_norm). Backends get `x` as `[rows, n]`, with 1 for `dims`.
    rms_norm => RmsNorm {
        /// How many dimensions at the end make a row.
        dims: usize,
        /// Added to the mean of the squares.
        eps: f64
    };
    /// The gradients for `x`, and weight where there is one, of `[grad, x, rstd]` or `[grad, x, rstd, weight]`. Backends get
    /// `grad` and `x` as `[rows, n]`.
    rms_norm_backward => RmsNormBackward;
    /// Adjacent pairs turned by an angle, of `[x, cos, sin]`; see [`Tensor::rope`](crate::Tensor::rope). Backends get the angles
    /// broadcast to the pairs. The gradient is turned the other way.
    rope => Rope {
        /// Turned the other way.
        inverse: bool
    };
    /// Causal attention of `[q, k, v]`: the output and the rows' log-sum-exp; see
    /// [`Tensor::attention_causal`](crate::Tensor::attention_causal).
    attention_causal => AttentionCausal {
        /// Keys that the last query of each sequence sees; all of them for `None`.
        visible: Option<Vec<usize>>,
        /// Multiplies the scores.
        scale: f64
    };
    /// The gradients for q, k and v, of `[grad, q, k, v, out, lse]`, every key visible to the last query.
    attention_causal_backward => AttentionCausalBackward {
        /// Multiplies the scores.
        scale: f64
    };
    /// One step of an optimizer, of `[parameter, gradient, first moment, second moment]`, the moments of [`AdamW::moments`]: the
    /// new parameter and moments. It has no gradient.
    adamw => AdamW(AdamW);
}

impl Fused {
    /// How many operands it takes.
    pub(crate) fn operands(&self) -> RangeInclusive<usize> {
        match self {
            Fused::RmsNorm { .. } => 1..=2,
            Fused::Swiglu => 2..=2,
            Fused::SwigluBackward | Fused::Rope { .. } | Fused::AttentionCausal { .. } => 3..=3,
            Fused::RmsNormBackward => 3..=4,
            Fused::AdamW(_) => 4..=4,
            Fused::AttentionCausalBackward { .. } => 6..=6,
        }
    }

    /// Whether a result is a statistic, which half types keep in f32.
    pub(crate) fn is_statistic(&self, result: usize) -> bool {
        matches!((self, result), (Fused::RmsNorm { .. } | Fused::AttentionCausal { .. } | Fused::AdamW(_), 1..))
    }
}
