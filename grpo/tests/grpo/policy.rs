//! Sizes, costs and copies of the model.

use grpo::policy::{self, Size};
use nn::Module;
use tensor::Device;

use crate::common::{bits, copy_of, model, tiny};

#[test]
fn operations_are_those_counted_by_hand() {
    let (model, c) = (model(0), tiny());
    let (d, vocab, heads) = (c.hidden_size, model.config().vocab_size, c.num_attention_heads);
    let qk = c.qk_nope_head_dim + c.qk_rope_head_dim;
    // Multiply-adds of a token in each product of the model.
    let projections = d * heads * qk // q_proj
        + d * (c.kv_lora_rank + c.qk_rope_head_dim) // kv_a_proj_with_mqa
        + c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim) // kv_b_proj
        + heads * c.v_head_dim * d; // o_proj
    let dense = 3 * d * c.intermediate_size;
    let experts = c.num_experts_per_tok + c.n_shared_experts;
    let mixture = d * c.n_routed_experts + 3 * d * c.moe_intermediate_size * experts;
    let a_token = 2 * projections + dense + mixture + d * vocab;
    for n in [1usize, 2, 7] {
        // Query i meets keys 0 to i, in both layers: a product with the key and one with the value.
        let attention: usize = (0..n).map(|i| 2 * heads * (i + 1) * (qk + c.v_head_dim)).sum();
        assert_eq!(Size::of(&model).forward_flops([n]), 2 * (n * a_token + attention) as u64);
    }
    let size = Size::of(&model);
    assert_eq!(size.forward_flops([3, 5]), size.forward_flops([3]) + size.forward_flops([5]));
    assert_eq!(size.forward_flops([]), 0);
    // Beside the products: two norms a layer and one in its attention, the last norm, and the table of embeddings.
    let norms = 2 * (2 * d + c.kv_lora_rank) + d;
    assert_eq!(size.active, (a_token + norms + vocab * d) as u64);
    let idle = (c.n_routed_experts - c.num_experts_per_tok) * 3 * d * c.moe_intermediate_size;
    assert_eq!(size.parameters, size.active + idle as u64);
    assert_eq!(size.parameters, model.num_parameters() as u64);
}

#[test]
fn a_copy_has_the_values_and_a_life_of_its_own() {
    let original = model(1);
    original.update_bias(&[vec![9, 1, 1, 1]], 0.25); // the router's bias is no parameter, yet must come along
    let copy = copy_of(&original);
    assert_eq!(bits(&copy), bits(&original));
    let before = bits(&original);
    copy.named_parameters().iter().for_each(|(_, p)| p.set_value(p.value().add(1.0)));
    copy.update_bias(&[vec![1, 9, 1, 1]], 0.25);
    assert_eq!(bits(&original), before);
    assert_ne!(bits(&copy), before);
}

/// The head is the embedding: one parameter, counted, copied, saved and restored once.
#[test]
fn a_policy_with_a_tied_head_is_copied_and_restored_as_one() {
    let tied = |seed| {
        let config = nn::Config { tie_word_embeddings: true, ..model(0).config().clone() };
        policy::fresh(config, seed, &Device::cpu()).unwrap()
    };
    let (original, copy, restored) = (tied(1), tied(2), tied(3));
    policy::copy_weights(&original, &copy);
    assert_eq!(bits(&copy), bits(&original));
    let state = original.state_dict().into_iter().map(|(name, t)| (format!("policy/{name}"), t)).collect();
    grpo::state::restore("FOLDER".as_ref(), &state, "policy", &restored).unwrap();
    assert_eq!(bits(&restored), bits(&original));
    let (size, free, config) = (Size::of(&original), Size::of(&model(0)), original.config());
    assert_eq!(size.parameters + (config.vocab_size * config.hidden_size) as u64, free.parameters);
    assert_eq!(size.forward_flops([5]), free.forward_flops([5]));
}

#[test]
fn fresh_weights_are_a_function_of_the_seed() {
    assert_eq!(bits(&model(3)), bits(&model(3)));
    assert_ne!(bits(&model(3)), bits(&model(4)));
}

#[test]
#[should_panic(expected = "models of one config")]
fn models_of_different_configs_are_not_copied() {
    let other = nn::Config { num_hidden_layers: 1, ..model(0).config().clone() };
    let other = policy::fresh(other, 0, &Device::cpu()).unwrap();
    policy::copy_weights(&model(0), &other);
}
