//! The policy: a DeepSeek-V3 model of the run's configuration, and what a pass through it costs.

use nn::{Config, ConfigError, DeepseekV3ForCausalLM, Module, Named};
use tensor::{DType, Device, Generator};

/// A run's `[model]` as the config of a model that reads at most `max_length` tokens, or more if it says so itself.
pub fn hub_config(model: &Config, max_length: usize) -> Config {
    let ids = [("bos_token_id", crate::token::BOS), ("eos_token_id", crate::token::EOS), ("pad_token_id", crate::token::PAD)];
    Config {
        max_position_embeddings: model.max_position_embeddings.max(max_length),
        other: ids.map(|(key, id)| (key.to_owned(), id.into())).into_iter().collect(),
        ..model.clone()
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
    let (from, to) = (from.walk(), to.walk());
    let names = |all: &[Named]| all.iter().map(|named| named.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&from), names(&to), "models of one config");
    from.iter().zip(&to).for_each(|(from, to)| to.slot.set_value(from.slot.value()));
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
    /// Active parameters that are multiplied with: without an embedding table that is only looked up, and the norms' weights.
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
            multiplied: parameters
                - (idle + vectors + if c.tie_word_embeddings { 0 } else { c.vocab_size * c.hidden_size }) as u64,
        }
    }

    /// Floating-point operations of a forward pass over sequences of these lengths: two per multiply-add, a backward pass takes
    /// twice as many again. Norms, activations and the softmax are not counted, as is usual.
    pub fn forward_flops(&self, lengths: impl IntoIterator<Item = usize>) -> u64 {
        let of = |n: u64| 2 * n * self.multiplied + self.attention * n * (n + 1);
        lengths.into_iter().map(|n| of(n as u64)).sum()
    }
}
