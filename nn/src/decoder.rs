//! [`DecoderLayer`]: attention and feed-forward, in the training pass, with checkpointing, and over a cache.

use crate::cache::LayerCache;
use crate::config::Config;
use crate::init::Init;
use crate::layers::{Mlp, RmsNorm};
use crate::mla::Mla;
use crate::module::{Module, Path, Visitor};
use crate::moe::Moe;
use crate::rope::Angles;
use autograd::{Var, checkpoint};
use std::sync::{Arc, Mutex, PoisonError};

/// One decoder layer: attention and a feed-forward part, each on the normed residual stream.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    input_layernorm: RmsNorm,
    pub(crate) self_attn: Mla,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a layer: a box would save nothing")]
enum FeedForward {
    Dense(Mlp),
    Experts(Moe),
}

impl DecoderLayer {
    /// A fresh layer; `i` decides whether it has experts.
    pub fn new(init: &mut Init, config: &Config, i: usize) -> Self {
        DecoderLayer {
            input_layernorm: RmsNorm::new(init, config.hidden_size, config.rms_norm_eps),
            self_attn: Mla::new(init, config),
            post_attention_layernorm: RmsNorm::new(init, config.hidden_size, config.rms_norm_eps),
            mlp: match config.is_moe(i) {
                true => FeedForward::Experts(Moe::new(init, config)),
                false => FeedForward::Dense(Mlp::new(init, config.hidden_size, config.intermediate_size)),
            },
        }
    }

    /// The mixture of experts, if the layer has one.
    pub fn moe(&self) -> Option<&Moe> {
        match &self.mlp {
            FeedForward::Experts(moe) => Some(moe),
            FeedForward::Dense(_) => None,
        }
    }

    /// `x` `[batch, seq, hidden_size]` to the same. `mask` says which tokens count as load.
    pub(crate) fn forward(&self, x: &Var, angles: &Angles, mask: Option<&[bool]>, balance: bool) -> LayerOutput {
        let x = x.add(&self.self_attn.forward(&self.input_layernorm.forward(x), angles));
        let normed = self.post_attention_layernorm.forward(&x);
        match &self.mlp {
            FeedForward::Dense(mlp) => LayerOutput { hidden: x.add(&mlp.forward(&normed)), load: None, balance: None },
            FeedForward::Experts(moe) => {
                let (y, routing) = moe.forward(&normed);
                let balance = balance.then(|| routing.balance_loss(x.dim(0), mask));
                LayerOutput { hidden: x.add(&y), load: Some(routing.load(mask)), balance }
            }
        }
    }

    /// As [`DecoderLayer::forward`], keeping only `x` for the backward pass.
    pub(crate) fn forward_checkpointed(
        self: &Arc<Self>,
        x: &Var,
        angles: &Angles,
        mask: Option<Arc<Vec<bool>>>,
        balance: bool,
    ) -> LayerOutput {
        let (layer, angles) = (self.clone(), angles.clone());
        let (batch, seq, width) = (x.dim(0), x.dim(1), x.dim(2));
        let balance = balance && self.moe().is_some();
        // The load is the same when the layer runs again: it is written, not added.
        let load = Arc::new(Mutex::new(None));
        let slot = load.clone();
        // A checkpoint has one result: the balance loss, where wanted, travels as one more element.
        let out = checkpoint(
            move |inputs| {
                let out = layer.forward(&inputs[0], &angles, mask.as_ref().map(|m| &m[..]), balance);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = out.load;
                match out.balance {
                    Some(loss) => Var::cat(&[out.hidden.flatten(0, -1), loss.to_dtype(out.hidden.dtype()).reshape(&[1])], 0),
                    None => out.hidden,
                }
            },
            std::slice::from_ref(x),
        );
        let load = load.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !balance {
            return LayerOutput { hidden: out, load, balance: None };
        }
        let parts = out.split_with_sizes(&[batch * seq * width, 1], 0);
        let hidden = parts[0].reshape(&[batch as isize, seq as isize, width as isize]);
        LayerOutput { hidden, load, balance: Some(parts[1].reshape(&[])) }
    }

    pub(crate) fn forward_cached(&self, x: &Var, angles: &Angles, cache: &mut LayerCache, starts: &[usize]) -> Var {
        let x = x.add(&self.self_attn.forward_cached(&self.input_layernorm.forward(x), angles, cache, starts));
        let normed = self.post_attention_layernorm.forward(&x);
        x.add(&match &self.mlp {
            FeedForward::Dense(mlp) => mlp.forward(&normed),
            FeedForward::Experts(moe) => moe.forward(&normed).0,
        })
    }
}

/// What a pass through one layer gives; see [`Output`](crate::Output).
pub(crate) struct LayerOutput {
    pub hidden: Var,
    pub load: Option<Vec<u64>>,
    pub balance: Option<Var>,
}

impl Module for DecoderLayer {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.module("input_layernorm", &self.input_layernorm, f);
        path.module("self_attn", &self.self_attn, f);
        path.module("post_attention_layernorm", &self.post_attention_layernorm, f);
        match &self.mlp {
            FeedForward::Dense(mlp) => path.module("mlp", mlp, f),
            FeedForward::Experts(moe) => path.module("mlp", moe, f),
        }
    }
}
