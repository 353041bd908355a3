//! The policy: a DeepSeek-V3 model of the run's configuration, and what a pass through it costs.

use nn::{Config, ConfigError, DeepseekV3ForCausalLM, Module, RopeConfig, RopeScaling, Slot};
use tensor::{DType, Device, Generator};

use crate::config::ModelConfig;

/// The hub config of a model with `vocab_size` tokens that reads at most `max_length` of them.
pub fn hub_config(model: &ModelConfig, vocab_size: usize, max_length: usize) -> Config {
    let mut other = serde_json::Map::new();
    for (key, id) in
        [("bos_token_id", crate::token::BOS), ("eos_token_id", crate::token::EOS), ("pad_token_id", crate::token::PAD)]
    {
        other.insert(key.into(), id.into());
    }
    Config {
        vocab_size,
        hidden_size: model.hidden_size,
        intermediate_size: model.intermediate_size,
        num_hidden_layers: model.num_hidden_layers,
        num_attention_heads: model.num_attention_heads,
        q_lora_rank: model.q_lora_rank,
        kv_lora_rank: model.kv_lora_rank,
        qk_nope_head_dim: model.qk_nope_head_dim,
        qk_rope_head_dim: model.qk_rope_head_dim,
        v_head_dim: model.v_head_dim,
        rms_norm_eps: model.rms_norm_eps,
        rope: RopeConfig { theta: model.rope_theta, scaling: RopeScaling::None },
        max_position_embeddings: max_length,
        initializer_range: model.initializer_range,
        first_k_dense_replace: model.first_k_dense_replace,
        n_routed_experts: model.n_routed_experts,
        n_shared_experts: model.n_shared_experts,
        num_experts_per_tok: model.num_experts_per_tok,
        moe_intermediate_size: model.moe_intermediate_size,
        n_group: model.n_group,
        topk_group: model.topk_group,
        norm_topk_prob: model.norm_topk_prob,
        routed_scaling_factor: model.routed_scaling_factor,
        other,
        ..Config::default()
    }
}

/// A model with fresh weights, a function of the seed.
///
/// # Errors
/// If the config is refused.
pub fn fresh(config: Config, seed: u64, device: &Device) -> Result<DeepseekV3ForCausalLM, ConfigError> {
    DeepseekV3ForCausalLM::new(config, &mut Generator::new(seed), DType::F32, device)
}

/// Gives `to` the weights of `from`, a model of the same config. The values are shared, not copied: tensors never change.
///
/// # Panics
/// If the models differ in shape.
pub fn copy_weights(from: &DeepseekV3ForCausalLM, to: &DeepseekV3ForCausalLM) {
    let mut values = from.state_dict().into_iter();
    to.visit(&mut Default::default(), &mut |name, slot: Slot<'_>| {
        let (source, value) = values.next().expect("models of one config");
        assert_eq!(source, name, "models of one config");
        slot.set_value(value);
    });
}

/// Counts of a model's parameters and operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// All parameters.
    pub parameters: u64,
    /// Those that a token meets: without the experts it is not routed to.
    pub active: u64,
    /// Multiply-adds of attention for one query and one key, over heads and layers.
    attention: u64,
    /// Active parameters that are multiplied with: without the embedding table, which is looked up, and the norms' weights.
    multiplied: u64,
}

impl Size {
    /// Of a model.
    pub fn of(model: &DeepseekV3ForCausalLM) -> Size {
        let c = model.config();
        let parameters = model.num_parameters() as u64;
        let expert = 3 * c.hidden_size * c.moe_intermediate_size;
        let idle =
            (0..c.num_hidden_layers).filter(|&i| c.is_moe(i)).count() * (c.n_routed_experts - c.num_experts_per_tok) * expert;
        let vectors: usize = model.named_parameters().iter().filter(|(_, p)| p.shape().len() < 2).map(|(_, p)| p.numel()).sum();
        Size {
            parameters,
            active: parameters - idle as u64,
            attention: (c.num_hidden_layers * c.num_attention_heads * (c.qk_head_dim() + c.v_head_dim)) as u64,
            multiplied: parameters - (idle + vectors + c.vocab_size * c.hidden_size) as u64,
        }
    }

    /// Floating-point operations of a forward pass over sequences of these lengths: two a multiply-add, a backward pass takes
    /// twice as many again. Norms, activations and the softmax are not counted, as is usual.
    pub fn forward_flops(&self, lengths: impl IntoIterator<Item = usize>) -> u64 {
        let of = |n: u64| 2 * n * self.multiplied + self.attention * n * (n + 1);
        lengths.into_iter().map(|n| of(n as u64)).sum()
    }
}
