//! [`Config`]: a DeepSeek model's `config.json` as the hub has it.
//!
//! Every key that changes the mathematics is understood or refused by its name; harmless ones are kept and written back.
//! Both spellings of the rope settings are read: `rope_theta` beside `rope_scaling` (`type` or `rope_type`), and
//! `rope_parameters`.

use crate::keys::{ConfigError, Keys};
use crate::rope::{RopeConfig, RopeScaling};
use serde_json::{Map, Value, json};
use std::path::Path;

/// How router logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoringFunc {
    /// DeepSeek-V3: each expert by itself.
    Sigmoid,
    /// DeepSeek-V2: over all experts.
    Softmax,
}

/// How experts are chosen from their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopkMethod {
    /// DeepSeek-V3, `noaux_tc`: scores plus a correction bias; a group counts as the sum of its two best.
    NoauxTc,
    /// DeepSeek-V2-Lite, `greedy`: the best scores.
    Greedy,
    /// DeepSeek-V2, `group_limited_greedy`: the best scores of the best groups; a group counts as its best.
    GroupLimitedGreedy,
}

/// The hyperparameters, under their hub names. The default is DeepSeek-V3's (and R1's) with plain RoPE and without MTP.
#[derive(Clone, Debug, PartialEq)]
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
    /// Rotary position embedding.
    pub rope: RopeConfig,
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
    /// Every other key of the file, written back by [`Config::to_json`].
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
            rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
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
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read, is not JSON, or is refused; the key is named.
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.into(), source })?;
        Config::from_json(&text).map_err(|e| ConfigError::InFile { path: path.into(), source: Box::new(e) })
    }

    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is not JSON, or is refused; the key is named.
    pub fn from_json(text: &str) -> Result<Config, ConfigError> {
        let keys = Keys(serde_json::from_str(text).map_err(ConfigError::Json)?);
        refuse_unsupported(&keys)?;
        // What the two generations' code takes where these keys are absent.
        let v3 = keys.choice("model_type", Some("deepseek_v3"), &[("deepseek_v3", true), ("deepseek_v2", false)])?;
        let scoring = if v3 { "sigmoid" } else { "softmax" };
        let sigmoid = keys.choice("scoring_func", Some(scoring), &[("sigmoid", true), ("softmax", false)])?;
        let method = if sigmoid { "noaux_tc" } else { "greedy" };
        let methods = [
            ("noaux_tc", TopkMethod::NoauxTc),
            ("greedy", TopkMethod::Greedy),
            ("group_limited_greedy", TopkMethod::GroupLimitedGreedy),
        ];
        let topk_method = keys.choice("topk_method", Some(method), &methods)?;
        let max_position_embeddings = keys.size("max_position_embeddings", Some(4096))?;
        let n_routed_experts = match keys.optional_size("n_routed_experts")? {
            Some(n) => n,
            None => keys.optional_size("num_local_experts")?.unwrap_or(0),
        };
        // Without experts their settings may be absent, and without choosing among groups the groups'.
        let or = |value: usize| (n_routed_experts == 0).then_some(value);
        let one_group = (n_routed_experts == 0 || topk_method == TopkMethod::Greedy).then_some(1);
        let config = Config {
            vocab_size: keys.size("vocab_size", None)?,
            hidden_size: keys.size("hidden_size", None)?,
            intermediate_size: keys.size("intermediate_size", None)?,
            num_hidden_layers: keys.size("num_hidden_layers", None)?,
            num_attention_heads: keys.size("num_attention_heads", None)?,
            q_lora_rank: match keys.0.get("q_lora_rank") {
                None => return Err(ConfigError::Missing { key: "q_lora_rank".into() }),
                Some(_) => keys.optional_size("q_lora_rank")?,
            },
            kv_lora_rank: keys.size("kv_lora_rank", None)?,
            qk_nope_head_dim: keys.size("qk_nope_head_dim", None)?,
            qk_rope_head_dim: keys.size("qk_rope_head_dim", None)?,
            v_head_dim: keys.size("v_head_dim", None)?,
            attention_bias: keys.flag("attention_bias", false)?,
            rms_norm_eps: keys.number("rms_norm_eps", Some(1e-6))?,
            rope: rope(&keys, max_position_embeddings)?,
            rope_interleave: keys.flag("rope_interleave", true)?,
            max_position_embeddings,
            initializer_range: keys.number("initializer_range", Some(0.02))?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", false)?,
            num_nextn_predict_layers: keys.size("num_nextn_predict_layers", Some(0))?,
            first_k_dense_replace: keys.size("first_k_dense_replace", or(0))?,
            n_routed_experts,
            n_shared_experts: match keys.0.get("n_shared_experts") {
                Some(Value::Null) => 0,
                _ => keys.size("n_shared_experts", or(0))?,
            },
            num_experts_per_tok: keys.size("num_experts_per_tok", or(0))?,
            moe_intermediate_size: keys.size("moe_intermediate_size", or(0))?,
            n_group: keys.size("n_group", one_group)?,
            topk_group: keys.size("topk_group", one_group)?,
            norm_topk_prob: keys.flag("norm_topk_prob", v3)?,
            routed_scaling_factor: keys.number("routed_scaling_factor", (n_routed_experts == 0).then_some(1.0))?,
            scoring_func: if sigmoid { ScoringFunc::Sigmoid } else { ScoringFunc::Softmax },
            topk_method,
            other: Map::new(),
        };
        config.validate()?;
        keys.check_equal("num_key_value_heads", config.num_attention_heads, "num_attention_heads")?;
        keys.check_equal("num_local_experts", config.n_routed_experts, "n_routed_experts")?;
        keys.check_equal(
            "qk_head_dim",
            config.qk_nope_head_dim + config.qk_rope_head_dim,
            "qk_nope_head_dim + qk_rope_head_dim",
        )?;
        keys.check_equal("head_dim", config.qk_rope_head_dim, "qk_rope_head_dim")?;
        let known = config.to_map();
        let mut other = keys.0;
        other.retain(|key, _| !known.contains_key(key) && key != "rope_parameters");
        Ok(Config { other, ..config })
    }

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
        self.rope.validate()?;
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

    /// The text of a `config.json` that the hub's libraries and [`Config::from_json`] read.
    pub fn to_json(&self) -> String {
        let mut map = self.other.clone();
        map.extend(self.to_map());
        map.entry("architectures").or_insert_with(|| json!(["DeepseekV3ForCausalLM"]));
        map.entry("model_type").or_insert_with(|| json!("deepseek_v3"));
        map.entry("hidden_act").or_insert_with(|| json!("silu"));
        serde_json::to_string_pretty(&Value::Object(map)).expect("a map of plain values")
    }

    fn to_map(&self) -> Map<String, Value> {
        let (theta, scaling) = self.rope.to_json();
        let method = match self.topk_method {
            TopkMethod::NoauxTc => "noaux_tc",
            TopkMethod::Greedy => "greedy",
            TopkMethod::GroupLimitedGreedy => "group_limited_greedy",
        };
        let map = json!({
            "vocab_size": self.vocab_size, "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers, "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_attention_heads, "q_lora_rank": self.q_lora_rank, "kv_lora_rank": self.kv_lora_rank,
            "qk_nope_head_dim": self.qk_nope_head_dim, "qk_rope_head_dim": self.qk_rope_head_dim, "v_head_dim": self.v_head_dim,
            "attention_bias": self.attention_bias, "rms_norm_eps": self.rms_norm_eps, "rope_theta": theta, "rope_scaling": scaling,
            "rope_interleave": self.rope_interleave, "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range, "tie_word_embeddings": self.tie_word_embeddings,
            "num_nextn_predict_layers": self.num_nextn_predict_layers, "first_k_dense_replace": self.first_k_dense_replace,
            "n_routed_experts": (self.n_routed_experts > 0).then_some(self.n_routed_experts),
            "n_shared_experts": self.n_shared_experts, "num_experts_per_tok": self.num_experts_per_tok,
            "moe_intermediate_size": self.moe_intermediate_size, "n_group": self.n_group, "topk_group": self.topk_group,
            "norm_topk_prob": self.norm_topk_prob, "routed_scaling_factor": self.routed_scaling_factor,
            "scoring_func": if self.scoring_func == ScoringFunc::Sigmoid { "sigmoid" } else { "softmax" },
            "topk_method": method,
        });
        match map {
            Value::Object(map) => map,
            _ => unreachable!("an object was written above"),
        }
    }
}

/// Keys that would change the mathematics in ways that this implementation does not have.
fn refuse_unsupported(keys: &Keys) -> Result<(), ConfigError> {
    keys.choice("hidden_act", Some("silu"), &[("silu", ()), ("swish", ())])?;
    for (key, value) in [("moe_layer_freq", 1.0), ("attention_dropout", 0.0), ("partial_rotary_factor", 1.0)] {
        if keys.number(key, Some(value))? != value {
            return keys.invalid(key, value.to_string());
        }
    }
    if keys.flag("mlp_bias", false)? {
        return keys.invalid("mlp_bias", "false");
    }
    match keys.get("quantization_config") {
        Some(_) => keys.invalid("quantization_config", "none: convert the weights to bf16 or f32 first"),
        None => Ok(()),
    }
}

/// The rope settings, in either spelling.
fn rope(keys: &Keys, max_position_embeddings: usize) -> Result<RopeConfig, ConfigError> {
    let theta = keys.optional_number("rope_theta")?;
    let mut found = Vec::new();
    for key in ["rope_parameters", "rope_scaling"] {
        match keys.get(key) {
            None => {}
            Some(Value::Object(map)) => found.push(RopeConfig::from_json(key, map.clone(), theta, max_position_embeddings)?),
            Some(_) => return keys.invalid(key, "an object or null"),
        }
    }
    match &found[..] {
        [] => Ok(RopeConfig { theta: theta.unwrap_or(10_000.0), scaling: RopeScaling::None }),
        [a, b] if a != b => keys.invalid("rope_scaling", "the same settings as in rope_parameters"),
        [a, ..] => Ok(a.clone()),
    }
}
