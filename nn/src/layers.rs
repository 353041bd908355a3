//! The small modules: [`Linear`], [`Embedding`], [`RmsNorm`] and the SwiGLU [`Mlp`].

use crate::init::Init;
use crate::module::{Module, Path, Visitor};
use autograd::Var;
use tensor::Tensor;

/// `x·Wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out_features, in_features]`.
    pub weight: Var,
    /// `[out_features]`.
    pub bias: Option<Var>,
}

impl Linear {
    /// A fresh layer from `in_features` to `out_features`.
    pub fn new(init: &mut Init, in_features: usize, out_features: usize, bias: bool) -> Self {
        Linear { weight: init.weight([out_features, in_features]), bias: bias.then(|| init.bias([out_features])) }
    }

    /// `[…, in_features]` to `[…, out_features]`.
    ///
    /// # Panics
    /// If the last size is another.
    #[track_caller]
    pub fn forward(&self, x: &Var) -> Var {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

impl Module for Linear {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.parameter("weight", &self.weight, f);
        if let Some(bias) = &self.bias {
            path.parameter("bias", bias, f);
        }
    }
}

/// A row for each token of the vocabulary.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[vocab_size, hidden_size]`.
    pub weight: Var,
}

impl Embedding {
    /// A fresh table.
    pub fn new(init: &mut Init, vocab_size: usize, hidden_size: usize) -> Self {
        Embedding { weight: init.weight([vocab_size, hidden_size]) }
    }

    /// Integer ids `[…]` to rows `[…, hidden_size]`.
    ///
    /// # Panics
    /// If an id does not exist.
    #[track_caller]
    pub fn forward(&self, ids: &Tensor) -> Var {
        Var::embedding(&self.weight, ids)
    }
}

impl Module for Embedding {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.parameter("weight", &self.weight, f);
    }
}

/// Root-mean-square normalisation over the last dimension (Zhang and Sennrich, 2019).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// `[size]`.
    pub weight: Var,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// A fresh norm over `size` values.
    pub fn new(init: &mut Init, size: usize, eps: f64) -> Self {
        RmsNorm { weight: init.scale([size]), eps }
    }

    /// `x / √(mean(x²) + eps) · weight`.
    ///
    /// # Panics
    /// If the last size is another.
    #[track_caller]
    pub fn forward(&self, x: &Var) -> Var {
        x.rms_norm(&self.weight.shape(), Some(&self.weight), Some(self.eps))
    }
}

impl Module for RmsNorm {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.parameter("weight", &self.weight, f);
    }
}

/// The gated feed-forward layer `down(silu(gate(x))·up(x))` (Shazeer, "GLU variants improve transformer", 2020).
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `hidden_size` to `intermediate_size`.
    pub gate_proj: Linear,
    /// `hidden_size` to `intermediate_size`.
    pub up_proj: Linear,
    /// `intermediate_size` to `hidden_size`.
    pub down_proj: Linear,
}

impl Mlp {
    /// A fresh layer.
    pub fn new(init: &mut Init, hidden_size: usize, intermediate_size: usize) -> Self {
        Mlp {
            gate_proj: Linear::new(init, hidden_size, intermediate_size, false),
            up_proj: Linear::new(init, hidden_size, intermediate_size, false),
            down_proj: Linear::new(init, intermediate_size, hidden_size, false),
        }
    }

    /// `[…, hidden_size]` to the same.
    ///
    /// # Panics
    /// If the last size is another.
    #[track_caller]
    pub fn forward(&self, x: &Var) -> Var {
        self.down_proj.forward(&self.gate_proj.forward(x).swiglu(&self.up_proj.forward(x)))
    }
}

impl Module for Mlp {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.module("gate_proj", &self.gate_proj, f);
        path.module("up_proj", &self.up_proj, f);
        path.module("down_proj", &self.down_proj, f);
    }
}
