//! Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): a module that predicts one token further.
//!
//! In a hub checkpoint the `d`-th module is one more layer after the decoder's, with copies of the embedding and the output head
//! of its own. (The paper shares both with the model; a fresh module starts from equal values and trains them by itself.)

use crate::config::Config;
use crate::decoder::DecoderLayer;
use crate::init::Init;
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::module::{Module, Path, Visitor};
use crate::rope::Angles;
use autograd::Var;
use tensor::Tensor;

/// One module.
#[derive(Clone, Debug)]
pub struct Mtp {
    embed_tokens: Embedding,
    enorm: RmsNorm,
    hnorm: RmsNorm,
    eh_proj: Linear,
    layer: DecoderLayer,
    shared_head_norm: RmsNorm,
    shared_head: Linear,
}

impl Mtp {
    /// A fresh module.
    pub fn new(init: &mut Init, config: &Config) -> Self {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        Mtp {
            embed_tokens: Embedding::new(init, config.vocab_size, hidden),
            enorm: RmsNorm::new(init, hidden, eps),
            hnorm: RmsNorm::new(init, hidden, eps),
            eh_proj: Linear::new(init, 2 * hidden, hidden, false),
            layer: DecoderLayer::new(init, config, config.num_hidden_layers),
            shared_head_norm: RmsNorm::new(init, hidden, eps),
            shared_head: Linear::new(init, hidden, config.vocab_size, false),
        }
    }

    /// Starts from the model's embedding and output head.
    pub(crate) fn copy_from(&self, embed_tokens: &Embedding, lm_head: &Linear) {
        self.embed_tokens.weight.set_value(embed_tokens.weight.value());
        self.shared_head.weight.set_value(lm_head.weight.value());
    }

    /// From the hidden states of the model (normed) or of the module before, `[batch, seq, hidden_size]`, and each one's next
    /// token `[batch, seq]`: hidden states for the module after, and logits `[batch, seq, vocab_size]` of the token after next.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward(&self, hidden: &Var, next: &Tensor, angles: &Angles) -> (Var, Var) {
        let joined = Var::cat(&[self.enorm.forward(&self.embed_tokens.forward(next)), self.hnorm.forward(hidden)], -1);
        let hidden = self.layer.forward(&self.eh_proj.forward(&joined), angles, None, false).hidden;
        let logits = self.shared_head.forward(&self.shared_head_norm.forward(&hidden));
        (hidden, logits)
    }
}

impl Module for Mtp {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.module("embed_tokens", &self.embed_tokens, f);
        path.module("enorm", &self.enorm, f);
        path.module("hnorm", &self.hnorm, f);
        path.module("eh_proj", &self.eh_proj, f);
        self.layer.visit(path, f);
        path.within("shared_head", |path| {
            path.module("norm", &self.shared_head_norm, f);
            path.module("head", &self.shared_head, f);
        });
    }
}
