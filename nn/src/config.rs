//! [`Config`]: a DeepSeek model's hyperparameters, under the names that its `config.json` on the hub has.

mod hub;

use crate::memory;
use crate::rope::RopeScaling;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use tensor::{DType, Device};

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not text at all.
    #[error(transparent)]
    Text(crate::text::TextError),
    /// Not JSON.
    #[error("config is not valid JSON: {0}")]
    Json(serde_json::Error),
    /// A key without which the model is not defined.
    #[error("config key `{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value that is impossible, or that this implementation does not have.
    #[error("config key `{key}`: found {found}, expected {expected}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would have been accepted.
        expected: String,
    },
    /// More memory than there is.
    #[error("a model of this config is too large: {0}")]
    Memory(#[from] memory::TooLittleMemory),
    /// Any of these, in a file.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
}

/// How router logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoringFunc {
    /// DeepSeek-V3: each expert by itself.
    Sigmoid,
    /// DeepSeek-V2: over all experts.
    Softmax,
}

/// How experts are chosen from their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopkMethod {
    /// DeepSeek-V3, `noaux_tc`: scores plus a correction bias; a group counts as the sum of its two best.
    NoauxTc,
    /// DeepSeek-V2-Lite, `greedy`: the best scores.
    Greedy,
    /// DeepSeek-V2, `group_limited_greedy`: the best scores of the best groups; a group counts as its best.
    GroupLimitedGreedy,
}

/// The hyperparameters, under their hub names. The default is DeepSeek-V3's (and R1's) with plain RoPE and without MTP.
///
/// To serde it is a table of these keys and no others, in which what is absent has its default. A hub `config.json`, which has more
/// spellings and must name the model's sizes, is read by [`Config::from_file`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of a dense layer's MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Rank of the query's low-rank projection; `None` for a full one.
    #[serde(with = "crate::or_none")]
    pub q_lora_rank: Option<usize>,
    /// Size of the compressed key-value latent.
    pub kv_lora_rank: usize,
    /// Part of a query and key head without position.
    pub qk_nope_head_dim: usize,
    /// Part of a query and key head with rotary position.
    pub qk_rope_head_dim: usize,
    /// Size of a value head.
    pub v_head_dim: usize,
    /// Whether `q_a_proj`, `kv_a_proj_with_mqa` and `o_proj` have a bias.
    pub attention_bias: bool,
    /// Epsilon of the layers' norms. (The two norms inside attention have 1e-6 always, as in DeepSeek's and transformers' code.)
    pub rms_norm_eps: f64,
    /// Base of the rotary angles: pair `i` of `qk_rope_head_dim/2` turns by `rope_theta^(−2i/qk_rope_head_dim)` per position.
    pub rope_theta: f64,
    /// How a context longer than the one trained on is fitted in, if it is.
    #[serde(with = "crate::or_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether a head's rotary pairs lie side by side (DeepSeek) or half a head apart.
    pub rope_interleave: bool,
    /// Longest sequence the model is meant for.
    pub max_position_embeddings: usize,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Multi-token-prediction modules after the layers.
    pub num_nextn_predict_layers: usize,
    /// Layers before this one have a dense MLP, the others a mixture of experts.
    pub first_k_dense_replace: usize,
    /// Routed experts a layer; 0 for a dense model.
    pub n_routed_experts: usize,
    /// Shared experts a layer (one MLP of that many times the width); may be 0.
    pub n_shared_experts: usize,
    /// Routed experts a token uses.
    pub num_experts_per_tok: usize,
    /// Width of an expert.
    pub moe_intermediate_size: usize,
    /// Groups of experts.
    pub n_group: usize,
    /// Groups a token may use.
    pub topk_group: usize,
    /// Whether the chosen experts' weights are normalised to sum 1.
    pub norm_topk_prob: bool,
    /// Multiplies the routed experts' weights.
    pub routed_scaling_factor: f64,
    /// How router logits become scores.
    pub scoring_func: ScoringFunc,
    /// How experts are chosen.
    pub topk_method: TopkMethod,
    /// Every other key of a hub file, written back by [`Config::to_json`].
    #[serde(skip)]
    pub other: Map<String, Value>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 129_280,
            hidden_size: 7168,
            intermediate_size: 18_432,
            num_hidden_layers: 61,
            num_attention_heads: 128,
            q_lora_rank: Some(1536),
            kv_lora_rank: 512,
            qk_nope_head_dim: 128,
            qk_rope_head_dim: 64,
            v_head_dim: 128,
            attention_bias: false,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rope_interleave: true,
            max_position_embeddings: 4096,
            initializer_range: 0.02,
            tie_word_embeddings: false,
            num_nextn_predict_layers: 0,
            first_k_dense_replace: 3,
            n_routed_experts: 256,
            n_shared_experts: 1,
            num_experts_per_tok: 8,
            moe_intermediate_size: 2048,
            n_group: 8,
            topk_group: 4,
            norm_topk_prob: true,
            routed_scaling_factor: 2.5,
            scoring_func: ScoringFunc::Sigmoid,
            topk_method: TopkMethod::NoauxTc,
            other: Map::new(),
        }
    }
}

impl Config {
    /// Checks that the values are possible and do not contradict each other.
    ///
    /// # Errors
    /// Names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &str, found: String, expected: String| Err(ConfigError::Invalid { key: key.into(), found, expected });
        // Bounds well above any model, so that sums and products of sizes cannot overflow.
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 512),
            ("num_attention_heads", self.num_attention_heads, 4096),
            ("q_lora_rank", self.q_lora_rank.unwrap_or(1), 1 << 20),
            ("kv_lora_rank", self.kv_lora_rank, 1 << 20),
            ("qk_nope_head_dim", self.qk_nope_head_dim, 1 << 14),
            ("qk_rope_head_dim", self.qk_rope_head_dim, 1 << 14),
            ("v_head_dim", self.v_head_dim, 1 << 14),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 30),
        ];
        let moe = [
            ("n_routed_experts", self.n_routed_experts, 2048),
            ("moe_intermediate_size", self.moe_intermediate_size, 1 << 20),
            ("num_experts_per_tok", self.num_experts_per_tok, 2048),
            ("n_group", self.n_group, 2048),
            ("topk_group", self.topk_group, 2048),
        ];
        let moe = if self.n_routed_experts > 0 { &moe[..] } else { &[] };
        for (key, size, limit) in sizes.iter().chain(moe).copied() {
            if size == 0 || size > limit {
                return bad(key, size.to_string(), format!("1 to {limit}"));
            }
        }
        if self.num_nextn_predict_layers > 16 {
            return bad("num_nextn_predict_layers", self.num_nextn_predict_layers.to_string(), "0 to 16".into());
        }
        if !self.qk_rope_head_dim.is_multiple_of(2) {
            return bad("qk_rope_head_dim", self.qk_rope_head_dim.to_string(), "an even number".into());
        }
        for (key, value) in [("rms_norm_eps", self.rms_norm_eps), ("initializer_range", self.initializer_range)] {
            if !(value.is_finite() && value > 0.0) {
                return bad(key, value.to_string(), "a positive number".into());
            }
        }
        self.validate_rope()?;
        if self.n_routed_experts > 0 {
            self.validate_experts()?;
        }
        Ok(())
    }

    fn validate_experts(&self) -> Result<(), ConfigError> {
        let bad = |key: &str, found: String, expected: String| Err(ConfigError::Invalid { key: key.into(), found, expected });
        let experts = self.n_routed_experts;
        if self.n_shared_experts > 2048 {
            return bad("n_shared_experts", self.n_shared_experts.to_string(), "0 to 2048".into());
        }
        if !experts.is_multiple_of(self.n_group) {
            return bad("n_group", self.n_group.to_string(), format!("a divisor of n_routed_experts = {experts}"));
        }
        if self.topk_group > self.n_group {
            return bad("topk_group", self.topk_group.to_string(), format!("at most n_group = {}", self.n_group));
        }
        let grouped = self.topk_method != TopkMethod::Greedy && self.topk_group < self.n_group;
        let available = if grouped { experts / self.n_group * self.topk_group } else { experts };
        if self.num_experts_per_tok > available {
            let expected = format!("at most the {available} experts that topk_group = {} groups hold", self.topk_group);
            return bad("num_experts_per_tok", self.num_experts_per_tok.to_string(), expected);
        }
        if self.topk_method == TopkMethod::NoauxTc && self.n_group > 1 && experts / self.n_group < 2 {
            return bad("n_group", self.n_group.to_string(), format!("groups of at least two of the {experts} experts"));
        }
        if !(self.routed_scaling_factor.is_finite() && self.routed_scaling_factor > 0.0) {
            return bad("routed_scaling_factor", self.routed_scaling_factor.to_string(), "a positive number".into());
        }
        if self.scoring_func == ScoringFunc::Softmax && self.norm_topk_prob && self.routed_scaling_factor != 1.0 {
            // DeepSeek-V2's code then leaves the factor out, V3's applies both.
            return bad(
                "routed_scaling_factor",
                self.routed_scaling_factor.to_string(),
                "1 with softmax scores and norm_topk_prob".into(),
            );
        }
        Ok(())
    }

    /// Whether layer `i` has a mixture of experts.
    pub fn is_moe(&self, i: usize) -> bool {
        self.n_routed_experts > 0 && i >= self.first_k_dense_replace
    }

    /// Size of a query and key head.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// Trained values of a model of this config, and the tensors that hold them.
    fn counts(&self) -> (u64, u64) {
        let n = |x: usize| x as u64;
        let (hidden, heads, latent) = (n(self.hidden_size), n(self.num_attention_heads), n(self.kv_lora_rank));
        let (rotary, qk, bias) = (n(self.qk_rope_head_dim), n(self.qk_head_dim()), u64::from(self.attention_bias));
        let query = match self.q_lora_rank.map(n) {
            None => hidden * heads * qk,
            Some(rank) => rank * (hidden + bias + 1 + heads * qk),
        };
        let key_value =
            (hidden + bias) * (latent + rotary) + latent + latent * heads * n(self.qk_nope_head_dim + self.v_head_dim);
        let output = (heads * n(self.v_head_dim) + bias) * hidden;
        let around = query + key_value + output + 2 * hidden;
        let mlp = |width: u64| 3 * hidden * width;
        let (experts, width) = (n(self.n_routed_experts), n(self.moe_intermediate_size));
        let mixture = experts * (hidden + mlp(width)) + mlp(n(self.n_shared_experts) * width);
        let embeddings = 2 * n(self.vocab_size) * hidden;
        let (mut values, mut tensors) = (embeddings + hidden, 3);
        if self.tie_word_embeddings {
            values -= embeddings / 2;
        }
        for i in 0..self.num_hidden_layers + self.num_nextn_predict_layers {
            let is_moe = self.is_moe(i.min(self.num_hidden_layers));
            values += around + if is_moe { mixture } else { mlp(n(self.intermediate_size)) };
            tensors += 16 + if is_moe { 3 * experts } else { 0 };
        }
        let prediction = embeddings + 3 * hidden + 2 * hidden * hidden;
        (values + n(self.num_nextn_predict_layers) * prediction, tensors)
    }

    /// Number of trained values of a model of this config.
    pub fn num_parameters(&self) -> u64 {
        self.counts().0
    }

    /// That a device has the memory for a model of this config with weights of a dtype, before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError::Memory`] with what is needed and what there is.
    pub fn check_memory(&self, dtype: DType, device: &Device) -> Result<(), ConfigError> {
        // What holds a small tensor together weighs more than its values.
        const TENSOR: u64 = 1024;
        let (values, tensors) = self.counts();
        let needed = values.saturating_mul(dtype.size() as u64).saturating_add(tensors * TENSOR);
        Ok(memory::require_memory(needed, device)?)
    }
}
