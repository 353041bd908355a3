//! What is read from a hub config, what is ignored and what is refused.

use crate::common::fixture;
use nn::{Config, ConfigError, RopeScaling, ScoringFunc, TopkMethod};
use serde_json::{Value, json};

/// The fixture's config with some keys set (null removes one).
fn with(changes: Value) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(fixture("deepseek_v3_tiny").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            value => config[key] = value.clone(),
        }
    }
    Config::from_json(&config.to_string())
}

/// The key that a refusal names.
fn refused(changes: Value) -> String {
    match with(changes.clone()) {
        Err(ConfigError::Invalid { key, .. } | ConfigError::Missing { key }) => key,
        other => panic!("{changes}: {other:?}"),
    }
}

#[test]
fn the_fixture_is_read() {
    let c = with(json!({})).unwrap();
    assert_eq!((c.vocab_size, c.hidden_size, c.q_lora_rank, c.qk_head_dim()), (97, 48, Some(24), 24));
    assert_eq!((c.n_routed_experts, c.n_group, c.topk_group, c.num_experts_per_tok), (8, 2, 1, 3));
    assert_eq!((c.scoring_func, c.topk_method), (ScoringFunc::Sigmoid, TopkMethod::NoauxTc));
    assert!(!c.is_moe(0) && c.is_moe(1));
    assert_eq!(c.other["bos_token_id"], json!(0), "harmless keys are kept");
}

#[test]
fn what_is_written_is_read_the_same() {
    for changes in [
        json!({}),
        json!({"q_lora_rank": 9, "tie_word_embeddings": true, "attention_bias": true, "rope_interleave": false}),
        json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e4, "factor": 4, "mscale": 0.7, "beta_fast": 16}}),
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.5}}),
        json!({"scoring_func": "softmax", "routed_scaling_factor": 1.0, "model_type": "deepseek_v2"}),
        json!({"n_routed_experts": null, "first_k_dense_replace": null, "moe_intermediate_size": null}),
    ] {
        let c = with(changes).unwrap();
        let again = Config::from_json(&c.to_json()).unwrap();
        assert_eq!(again.to_json(), c.to_json());
        assert_eq!(Config { other: Default::default(), ..again }, Config { other: Default::default(), ..c });
    }
}

#[test]
fn both_spellings_of_rope() {
    let new = with(
        json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 40, "mscale": 1, "mscale_all_dim": 1,
        "original_max_position_embeddings": 4096}}),
    );
    let old = |kind: &str| {
        with(json!({"rope_parameters": null, "rope_theta": 500, "rope_scaling": {kind: "yarn", "factor": 40.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}}))
    };
    let new = new.unwrap().rope;
    assert!(matches!(&new.scaling, RopeScaling::Yarn(y) if y.factor == 40.0 && y.beta_fast == 32.0));
    assert_eq!(new, old("type").unwrap().rope);
    assert_eq!(new, old("rope_type").unwrap().rope);
    let plain = with(json!({"rope_parameters": null, "rope_theta": 777.0})).unwrap().rope;
    assert_eq!((plain.theta, plain.scaling), (777.0, RopeScaling::None));
    assert_eq!(with(json!({"rope_parameters": null})).unwrap().rope.theta, 10_000.0);
    // Said twice it must be the same.
    let both = |theta: f64| json!({"rope_parameters": {"rope_theta": 500.0}, "rope_theta": theta});
    assert_eq!(with(both(500.0)).unwrap().rope.theta, 500.0);
    assert_eq!(refused(both(600.0)), "rope_parameters.rope_theta");
    let two = json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear", "factor": 2}});
    assert_eq!(refused(two), "rope_scaling");
}

#[test]
fn harmless_keys_are_ignored() {
    let c = with(
        json!({"pretraining_tp": 4, "use_cache": false, "torch_dtype": "bfloat16", "ep_size": 1, "aux_loss_alpha": 0.001,
        "anything": {"new": [1, 2]}, "num_local_experts": 8, "moe_layer_freq": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid"}),
    );
    assert_eq!(c.unwrap().other["anything"], json!({"new": [1, 2]}));
}

#[test]
fn what_changes_the_mathematics_is_refused_by_name() {
    for (key, value) in [
        ("model_type", json!("llama")),
        ("hidden_act", json!("gelu")),
        ("hidden_act", json!(3)),
        ("num_key_value_heads", json!(2)),
        ("scoring_func", json!("tanh")),
        ("topk_method", json!("dropless")),
        ("moe_layer_freq", json!(2)),
        ("attention_dropout", json!(0.1)),
        ("partial_rotary_factor", json!(0.5)),
        ("mlp_bias", json!(true)),
        ("quantization_config", json!({"quant_method": "fp8"})),
    ] {
        assert_eq!(refused(json!({key: value})), key);
    }
    for (settings, key) in [
        (json!({"rope_type": "llama3", "factor": 8}), "rope_parameters.rope_type"),
        (json!({"type": "dynamic", "factor": 8}), "rope_parameters.type"),
        (json!({"rope_type": "yarn", "type": "linear", "factor": 8}), "rope_parameters.type"),
        (json!({"rope_type": "yarn"}), "rope_parameters.factor"),
        (json!({"rope_type": "default", "factor": 8}), "rope_parameters.factor"),
        (json!({"rope_type": "yarn", "factor": 8, "long_factor": [1]}), "rope_parameters.long_factor"),
        (json!({"partial_rotary_factor": 0.5}), "rope_parameters.partial_rotary_factor"),
        (json!({"rope_type": "yarn", "factor": 0.5}), "rope_scaling.factor"),
        (json!({"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2}), "rope_scaling.beta_fast"),
        (json!({"rope_theta": -1}), "rope_theta"),
        (json!([1]), "rope_parameters"),
    ] {
        assert_eq!(refused(json!({"rope_parameters": settings})), key);
    }
}

#[test]
fn contradictions_are_refused() {
    for (changes, key) in [
        (json!({"qk_head_dim": 25}), "qk_head_dim"),
        (json!({"head_dim": 16}), "head_dim"),
        (json!({"num_local_experts": 4}), "num_local_experts"),
        (json!({"n_group": 3}), "n_group"),
        (json!({"n_group": 8, "topk_group": 4}), "n_group"),
        (json!({"topk_group": 3}), "topk_group"),
        (json!({"num_experts_per_tok": 5}), "num_experts_per_tok"),
        (json!({"n_group": 1, "num_experts_per_tok": 9}), "num_experts_per_tok"),
        (json!({"qk_rope_head_dim": 7, "head_dim": 7, "qk_head_dim": 23}), "qk_rope_head_dim"),
        (json!({"scoring_func": "softmax"}), "routed_scaling_factor"),
        (json!({"rms_norm_eps": 0}), "rms_norm_eps"),
        (json!({"initializer_range": -0.1}), "initializer_range"),
        (json!({"routed_scaling_factor": 0}), "routed_scaling_factor"),
    ] {
        assert_eq!(refused(changes), key);
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for key in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "kv_lora_rank",
        "q_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "n_group",
        "topk_group",
        "max_position_embeddings",
    ] {
        // Keys that repeat others would be named first.
        let base = json!({"qk_head_dim": null, "head_dim": null, "num_key_value_heads": null});
        for value in [json!(0), json!(-3), json!(2.5), json!("48"), json!(u64::MAX), json!(1u64 << 40), json!([1])] {
            let mut changes = base.clone();
            changes[key] = value;
            assert_eq!(refused(changes), key);
        }
    }
    for key in ["n_routed_experts", "n_shared_experts", "num_nextn_predict_layers"] {
        assert_eq!(refused(json!({key: 1u64 << 40})), key);
    }
    for key in ["vocab_size", "hidden_size", "kv_lora_rank", "v_head_dim", "num_experts_per_tok", "moe_intermediate_size"] {
        assert_eq!(refused(json!({key: null})), key);
    }
    assert!(matches!(Config::from_json("{\"vocab_size\": "), Err(ConfigError::Json(_))));
    assert!(matches!(Config::from_json("[]"), Err(ConfigError::Json(_))));
    let missing = Config::from_file(&fixture("nowhere.json")).unwrap_err().to_string();
    assert!(missing.contains("nowhere.json"), "{missing}");
}
