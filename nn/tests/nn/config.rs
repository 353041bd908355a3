//! What is read from a hub config, what is ignored and what is refused.

use crate::common::{Folder, cpu, fixture, model, tiny};
use nn::{Config, ConfigError, DeepseekV3ForCausalLM, Module, RopeScaling, ScoringFunc, TopkMethod};
use serde_json::{Value, json};
use tensor::{DType, Generator};

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
    let rope = |c: Config| (c.rope_theta, c.rope_scaling);
    let new = rope(new.unwrap());
    assert!(matches!(&new.1, Some(RopeScaling::Yarn(y)) if y.factor == 40.0 && y.beta_fast == 32.0));
    assert_eq!(new, rope(old("type").unwrap()));
    assert_eq!(new, rope(old("rope_type").unwrap()));
    let plain = with(json!({"rope_parameters": null, "rope_theta": 777.0}));
    assert_eq!(rope(plain.unwrap()), (777.0, None));
    assert_eq!(with(json!({"rope_parameters": null})).unwrap().rope_theta, 10_000.0);
    // Said twice it must be the same.
    let both = |theta: f64| json!({"rope_parameters": {"rope_theta": 500.0}, "rope_theta": theta});
    assert_eq!(with(both(500.0)).unwrap().rope_theta, 500.0);
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
        (json!({"rope_type": "llama3", "factor": 8}), "rope_parameters"),
        (json!({"type": "dynamic", "factor": 8}), "rope_parameters"),
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

/// What a config foretells is what a model of it has, in every form that a layer can take.
#[test]
fn parameters_are_counted_without_a_model() {
    for config in [
        tiny(),
        Config { q_lora_rank: None, attention_bias: true, ..tiny() },
        Config { attention_bias: true, n_shared_experts: 3, first_k_dense_replace: 0, ..tiny() },
        Config { tie_word_embeddings: true, n_shared_experts: 0, num_hidden_layers: 3, ..tiny() },
        Config { num_nextn_predict_layers: 2, first_k_dense_replace: 5, ..tiny() },
        Config { num_nextn_predict_layers: 1, first_k_dense_replace: 1, ..tiny() },
        Config { n_routed_experts: 0, ..tiny() },
    ] {
        assert_eq!(config.num_parameters(), model(config.clone(), 0, DType::F32).num_parameters() as u64, "{config:?}");
    }
    assert_eq!(Config::default().num_parameters(), 671_026_404_352, "as DeepSeek-V3's paper counts: 671 billion");
}

/// Sizes that each may be had, but not together, are refused before anything is made; both figures are there.
#[test]
fn a_model_larger_than_the_memory_is_refused() {
    let huge = Config { num_hidden_layers: 512, n_routed_experts: 2048, n_group: 1, topk_group: 1, ..Config::default() };
    huge.validate().unwrap();
    let error = DeepseekV3ForCausalLM::new(huge.clone(), &mut Generator::new(0), DType::F32, &cpu()).unwrap_err();
    let ConfigError::Memory(nn::TooLittleMemory { needed, available }) = error else { panic!("{error}") };
    assert!(needed > huge.num_parameters() * 4 && available < 1 << 48, "{needed} {available}");
    // Many tensors of almost nothing weigh more than their values.
    let crumbs = Config { hidden_size: 1, moe_intermediate_size: 1, ..huge };
    assert!(crumbs.check_memory(DType::F32, &cpu()).is_err() || nn::available_memory(&cpu()).unwrap() > 3 << 30);
    let folder = Folder::new("huge");
    std::fs::write(folder.0.join("config.json"), Config::default().to_json()).unwrap();
    std::fs::write(folder.0.join("model.safetensors"), [2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']).unwrap();
    let error = DeepseekV3ForCausalLM::from_pretrained(&folder.0, DType::F32, &cpu()).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("2.4 TiB") && error.contains("available"), "{error}");
}

#[test]
fn a_byte_order_mark_is_read_and_other_files_are_named() {
    let json = tiny().to_json();
    assert_eq!(Config::from_json(&format!("\u{feff}{json}")).unwrap().to_json(), json);
    let folder = Folder::new("encodings");
    let path = folder.0.join("config.json");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Config::from_file(&path).map(|c| c.to_json()).map_err(|e| e.to_string())
    };
    assert_eq!(load(format!("\u{feff}{json}").as_bytes()), Ok(json.clone()));
    let utf16 = |order: fn(u16) -> [u8; 2]| json.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
    let utf32: Vec<u8> = json.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    let marked = |mark: &[u8], text: &[u8]| [mark, text].concat();
    for (bytes, named) in [
        (little.clone(), "UTF-16"),
        (big.clone(), "UTF-16"),
        (marked(&[0xff, 0xfe], &little), "UTF-16"),
        (marked(&[0xfe, 0xff], &big), "UTF-16"),
        (utf32.clone(), "UTF-32"),
        (marked(&[0xff, 0xfe, 0, 0], &utf32), "UTF-32"),
        (b"{\"x\": \"\xe9\"}".to_vec(), "not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "Git LFS"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "HTML"),
    ] {
        let error = load(&bytes).unwrap_err();
        assert!(error.contains("config.json") && error.contains(named), "{named}: {error}");
    }
}

/// The same type is a table of TOML: a null there is the word "none".
#[test]
fn serde_has_every_key_once() {
    let c = Config { q_lora_rank: None, ..Config::default() };
    let json = serde_json::to_value(&c).unwrap();
    assert_eq!((&json["q_lora_rank"], &json["topk_method"]), (&json!("none"), &json!("noaux_tc")));
    assert_eq!(serde_json::from_value::<Config>(json).unwrap(), c);
    assert_eq!(
        serde_json::from_value::<Config>(json!({"hidden_size": 8})).unwrap(),
        Config { hidden_size: 8, ..Config::default() }
    );
    let error = serde_json::from_value::<Config>(json!({"hidden_sise": 8})).unwrap_err().to_string();
    assert!(error.contains("hidden_sise") && error.contains("`hidden_size`"), "{error}");
}
