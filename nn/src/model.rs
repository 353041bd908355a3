//! [`DeepseekV3ForCausalLM`]: the whole model (DeepSeek-V3, arXiv 2412.19437), built from a hub `config.json`.

use crate::cache::KvCache;
use crate::config::{Config, ConfigError};
use crate::decoder::DecoderLayer;
use crate::init::{Init, accumulator};
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::module::{Module, Path, Visitor};
use crate::moe::Moe;
use crate::mtp::Mtp;
use crate::rope::Rope;
use autograd::Var;
use std::sync::Arc;
use tensor::{CrossEntropy, DType, Device, Generator, Tensor};

/// What is wanted of a pass beside the hidden states.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions<'a> {
    /// Keep only each layer's input and compute the layer again in the backward pass.
    pub checkpoint: bool,
    /// Bool `[batch, seq]`, false for padding: it is routed too, but counts in no load and no balance loss.
    pub mask: Option<&'a Tensor>,
    /// Compute the sequence-wise balance loss.
    pub balance_loss: bool,
}

/// What a pass gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// Normed hidden states `[batch, seq, hidden_size]`, which [`DeepseekV3ForCausalLM::logits`] takes.
    pub hidden: Var,
    /// How many tokens each expert of each mixture layer got, in the order of the layers.
    pub expert_load: Vec<Vec<u64>>,
    /// Sum over the layers of [`Routing::balance_loss`](crate::Routing::balance_loss), if it was asked for.
    pub balance_loss: Option<Var>,
}

/// The model: embedding, decoder layers, norm and output head, and the multi-token-prediction modules beside them.
///
/// ```
/// use nn::{Config, DeepseekV3ForCausalLM};
/// use tensor::{DType, Device, Generator, Tensor};
/// let config = Config {
///     vocab_size: 11, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 2,
///     q_lora_rank: None, kv_lora_rank: 8, qk_nope_head_dim: 4, qk_rope_head_dim: 4, v_head_dim: 4,
///     first_k_dense_replace: 1, n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 8, n_group: 1, topk_group: 1,
///     ..Config::default()
/// };
/// let model = DeepseekV3ForCausalLM::new(config, &mut Generator::new(0), DType::F32, &Device::cpu())?;
/// let ids = Tensor::from_slice(&[1i64, 2, 3], [1, 3], &Device::cpu());
/// let logits = model.forward(&ids);
/// assert_eq!(logits.value().dims(), [1, 3, 11]);
/// # Ok::<(), nn::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct DeepseekV3ForCausalLM {
    config: Config,
    rope: Rope,
    embed_tokens: Embedding,
    layers: Vec<Arc<DecoderLayer>>,
    norm: RmsNorm,
    /// Its weight is the embedding table where the config ties them.
    lm_head: Linear,
    mtp: Vec<Mtp>,
}

impl DeepseekV3ForCausalLM {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// If the config is refused.
    pub fn new(config: Config, rng: &mut Generator, dtype: DType, device: &Device) -> Result<Self, ConfigError> {
        config.validate()?;
        config.check_memory(dtype, device)?;
        let std = config.initializer_range;
        let model = Self::with_init(config, &mut Init::normal(rng, std, dtype, device))?;
        for mtp in &model.mtp {
            mtp.copy_from(&model.embed_tokens, &model.lm_head);
        }
        Ok(model)
    }

    /// A model whose parameters come from `init`.
    ///
    /// # Errors
    /// If the config is refused.
    pub fn with_init(config: Config, init: &mut Init) -> Result<Self, ConfigError> {
        config.validate()?;
        let embed_tokens = Embedding::new(init, config.vocab_size, config.hidden_size);
        Ok(DeepseekV3ForCausalLM {
            rope: Rope::new(&config, init.dtype(), init.device()),
            layers: (0..config.num_hidden_layers).map(|i| Arc::new(DecoderLayer::new(init, &config, i))).collect(),
            mtp: (0..config.num_nextn_predict_layers).map(|_| Mtp::new(init, &config)).collect(),
            norm: RmsNorm::new(init, config.hidden_size, config.rms_norm_eps),
            lm_head: match config.tie_word_embeddings {
                true => Linear { weight: embed_tokens.weight.clone(), bias: None },
                false => Linear::new(init, config.hidden_size, config.vocab_size, false),
            },
            embed_tokens,
            config,
        })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The decoder layers.
    pub fn layers(&self) -> impl Iterator<Item = &DecoderLayer> {
        self.layers.iter().map(|layer| &**layer)
    }

    /// The compute dtype.
    pub fn dtype(&self) -> DType {
        self.embed_tokens.weight.dtype()
    }

    /// Where the model lives.
    pub fn device(&self) -> Device {
        self.embed_tokens.weight.device()
    }

    /// Integer ids `[batch, seq]` to logits `[batch, seq, vocab_size]`. Position `i` is index `i`, attention is causal: shorter
    /// sequences are padded on the right, with any id, and what comes before is not changed by it.
    ///
    /// # Panics
    /// If `ids` is not such a tensor, or an id does not exist.
    #[track_caller]
    pub fn forward(&self, ids: &Tensor) -> Var {
        self.logits(&self.forward_with(ids, &ForwardOptions::default()).hidden)
    }

    /// As [`DeepseekV3ForCausalLM::forward`], up to the hidden states, with options.
    ///
    /// # Panics
    /// If `ids` is not `[batch, seq]`, an id does not exist, or the mask has another shape.
    #[track_caller]
    pub fn forward_with(&self, ids: &Tensor, options: &ForwardOptions<'_>) -> Output {
        if ids.rank() != 2 || options.mask.is_some_and(|m| m.shape() != ids.shape()) {
            panic!("forward: ids {ids:?} and mask {:?}, expected [batch, seq] for both", options.mask);
        }
        let mask = options.mask.map(|m| Arc::new(m.to_dtype(DType::Bool).to_vec::<bool>()));
        let angles = self.rope.first(ids.dims()[1]);
        let mut hidden = self.embed_tokens.forward(ids);
        let (mut expert_load, mut balance_loss) = (Vec::new(), None::<Var>);
        for layer in &self.layers {
            let out = match options.checkpoint {
                true => layer.forward_checkpointed(&hidden, &angles, mask.clone(), options.balance_loss),
                false => layer.forward(&hidden, &angles, mask.as_ref().map(|m| &m[..]), options.balance_loss),
            };
            hidden = out.hidden;
            expert_load.extend(out.load);
            balance_loss = match (balance_loss, out.balance) {
                (Some(sum), Some(loss)) => Some(sum.add(&loss)),
                (sum, loss) => sum.or(loss),
            };
        }
        if options.balance_loss && balance_loss.is_none() {
            balance_loss = Some(Var::from(Tensor::scalar(0.0, accumulator(self.dtype()), &self.device())));
        }
        Output { hidden: self.norm.forward(&hidden), expert_load, balance_loss }
    }

    /// Normed hidden states `[…, hidden_size]` to logits `[…, vocab_size]`.
    ///
    /// # Panics
    /// If the last size is another.
    #[track_caller]
    pub fn logits(&self, hidden: &Var) -> Var {
        self.lm_head.forward(hidden)
    }

    /// Of each token but the first, given those before it: log-probability (differentiable) and the entropy of the distribution
    /// it comes from (not), both `[batch, seq − 1]`, in at least f32. That distribution is the softmax of the logits divided by
    /// `temperature`. The log-probabilities that [`generate`](DeepseekV3ForCausalLM::generate) records at the same temperature are
    /// these, bit for bit.
    ///
    /// # Panics
    /// As [`DeepseekV3ForCausalLM::forward`], or if the temperature is not a finite number above 0.
    #[track_caller]
    pub fn log_probs(&self, ids: &Tensor, temperature: f64) -> (Var, Tensor) {
        let out = self.forward_with(ids, &ForwardOptions::default());
        self.token_log_probs(&out.hidden, ids, temperature)
    }

    /// [`DeepseekV3ForCausalLM::log_probs`] from the hidden states of a pass over the same ids.
    ///
    /// # Panics
    /// If the shapes do not fit, or if the temperature is not a finite number above 0.
    #[track_caller]
    pub fn token_log_probs(&self, hidden: &Var, ids: &Tensor, temperature: f64) -> (Var, Tensor) {
        let len = ids.dim(1).saturating_sub(1);
        let all = log_softmax(&self.logits(&hidden.narrow(1, 0, len)), temperature);
        let target = ids.narrow(1, (ids.dim(1) - len) as isize, len).unsqueeze(-1);
        let values = all.value();
        let entropy = values.exp().mul(&values).sum(-1, false).neg();
        (all.gather(-1, &target).squeeze(-1), entropy)
    }

    /// Mean cross-entropy of each token but the first, a 0-d value.
    ///
    /// # Panics
    /// As [`DeepseekV3ForCausalLM::forward`], or if sequences have fewer than two tokens.
    #[track_caller]
    pub fn loss(&self, ids: &Tensor) -> Var {
        assert!(ids.dim(1) > 1, "loss: sequences of shape {} hold no token to predict", ids.shape());
        let len = ids.dim(1) - 1;
        next_token_loss(&self.forward(ids).narrow(1, 0, len), &ids.narrow(1, 1, len))
    }

    /// Logits of the multi-token-prediction modules: the `d`-th `[batch, seq − d − 1, vocab_size]` predicts, at `i`, token
    /// `i + d + 2`, from the hidden states of a pass over the same ids.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn mtp_logits(&self, ids: &Tensor, hidden: &Var) -> Vec<Var> {
        let (mut hidden, seq) = (hidden.clone(), ids.dim(1));
        let mut all = Vec::new();
        for (d, mtp) in self.mtp.iter().enumerate().take(seq.saturating_sub(1)) {
            let len = seq - d - 1;
            let (next, logits) =
                mtp.forward(&hidden.narrow(1, 0, len), &ids.narrow(1, d as isize + 1, len), &self.rope.first(len));
            hidden = next;
            all.push(logits);
        }
        all
    }

    /// The mean over the multi-token-prediction modules of their mean cross-entropy, without its factor λ; `None` without
    /// modules, or where sequences are too short for one.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn mtp_loss(&self, ids: &Tensor, hidden: &Var) -> Option<Var> {
        let logits = self.mtp_logits(ids, hidden);
        let losses: Vec<Var> = logits
            .iter()
            .enumerate()
            .filter(|(_, logits)| logits.dim(1) > 1)
            .map(|(d, logits)| {
                let len = logits.dim(1) - 1;
                next_token_loss(&logits.narrow(1, 0, len), &ids.narrow(1, d as isize + 2, len))
            })
            .collect();
        (!losses.is_empty()).then(|| Var::stack(&losses, 0).mean((), false))
    }

    /// Adjusts the routers' correction biases to a load as [`Output::expert_load`] has it; see
    /// [`Gate::update_bias`](crate::Gate::update_bias).
    ///
    /// # Panics
    /// If there is not one load a mixture layer.
    #[track_caller]
    pub fn update_bias(&self, expert_load: &[Vec<u64>], speed: f64) {
        let layers: Vec<&Moe> = self.layers().filter_map(DecoderLayer::moe).collect();
        assert_eq!(layers.len(), expert_load.len(), "update_bias: one load a mixture layer is needed");
        for (moe, load) in layers.iter().zip(expert_load) {
            moe.gate().update_bias(load, speed);
        }
    }

    /// Empty caches for `batch` sequences, in the absorbed form (the compressed latent, for serving) or in training's.
    pub fn cache(&self, batch: usize, absorbed: bool) -> KvCache {
        let (dtype, device) = (self.dtype(), self.device());
        KvCache { layers: self.layers.iter().map(|layer| layer.self_attn.cache(batch, absorbed, dtype, &device)).collect() }
    }

    /// The next tokens `ids` `[batch, seq]` of each sequence, the first at position `starts[b]`: normed hidden states
    /// `[batch, seq, hidden_size]`. The cache is written. Not differentiable: call it inside [`autograd::no_grad`].
    ///
    /// # Panics
    /// If the shapes do not fit or an id does not exist.
    #[track_caller]
    pub fn forward_cached(&self, ids: &Tensor, cache: &mut KvCache, starts: &[usize]) -> Var {
        let angles = self.rope.at(starts, ids.dim(1));
        let mut hidden = self.embed_tokens.forward(ids);
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            hidden = layer.forward_cached(&hidden, &angles, cache, starts);
        }
        self.norm.forward(&hidden)
    }
}

/// Log-softmax of `logits / temperature` over the last dimension, in at least f32. Where that overflows, because the temperature is
/// so near to 0, it is the limit: the most probable tokens share the probability, and of the others what is left is finite.
#[track_caller]
pub(crate) fn log_softmax(logits: &Var, temperature: f64) -> Var {
    let expected = temperature > 0.0 && temperature.is_finite();
    assert!(expected, "log_softmax: the temperature is {temperature}, expected a finite number above 0");
    let logits = logits.to_dtype(accumulator(logits.dtype()));
    let (least, most) = (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
    let scaled = match temperature {
        1.0 => logits,
        1.0.. => logits.div(temperature.min(most)),
        _ => logits.sub(&Var::from(logits.value().amax(-1, true))).div(temperature.max(least)).clamp_min(-most),
    };
    scaled.log_softmax(-1)
}

/// Mean cross-entropy of logits `[batch, seq, vocab_size]` for targets `[batch, seq]`.
fn next_token_loss(logits: &Var, targets: &Tensor) -> Var {
    let logits = logits.to_dtype(accumulator(logits.dtype()));
    logits.flatten(0, 1).cross_entropy(&targets.flatten(0, 1), &CrossEntropy::default())
}

impl Module for DeepseekV3ForCausalLM {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.within("model", |path| {
            path.module("embed_tokens", &self.embed_tokens, f);
            path.within("layers", |path| {
                for (i, layer) in self.layers.iter().enumerate() {
                    path.module(i, &**layer, f);
                }
                for (i, mtp) in self.mtp.iter().enumerate() {
                    path.module(self.layers.len() + i, mtp, f);
                }
            });
            path.module("norm", &self.norm, f);
        });
        path.module("lm_head", &self.lm_head, f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Softmax of the quotients in f64, ties and all: at the limit the best tokens share the probability.
    #[test]
    fn a_temperature_near_0_gives_the_limit() {
        let rows = [[1.0f32, 3.0, 3.0, -2.0], [0.0, -5.0, f32::NEG_INFINITY, 7e-3], [1e30, -1e30, 3e38, -3e38]];
        let logits = || Var::parameter(Tensor::from_slice(&rows.concat(), [3, 4], &Device::cpu()));
        for temperature in [5e-324, 1e-300, 1e-41, 1e-38, 1e-30, 1e-3, 0.7, 1.5, 1e30, 1e35] {
            let x = logits();
            let y = log_softmax(&x, temperature);
            let expected = rows.map(|row| {
                let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
                let scaled = row.map(|x| (x as f64 - best) / temperature);
                scaled.map(|s| s - scaled.iter().map(|s| s.exp()).sum::<f64>().ln())
            });
            for (y, e) in y.value().to_vec::<f32>().into_iter().zip(expected.concat()) {
                let near = (f64::from(y) - e).abs() <= 1e-5 * e.abs().max(1.0);
                // What is out of the question is finite where the quotient is not, so that nothing is 0 times infinity.
                let gone = e < -1e30 && y < -1e30 && (y.is_finite() || temperature >= 1.0);
                assert!(near || gone, "{temperature:e}: {y} for {e}");
            }
            let first = y.select(-1, 1).narrow(0, 0, 1).sum((), false);
            first.backward();
            assert!(x.grad().unwrap().to_vec::<f32>().iter().all(|g| g.is_finite()), "{temperature:e}: {:?}", x.grad());
        }
        let (x, bits) = (logits().narrow(0, 0, 2), |v: Var| v.value().to_bytes());
        assert_eq!(bits(log_softmax(&x, 1.0)), bits(x.log_softmax(-1)));
    }
}
