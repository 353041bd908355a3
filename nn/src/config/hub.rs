//! The hub's `config.json`: read into a [`Config`] and written from one.
//!
//! Every key that changes the mathematics is understood or refused by its name; harmless ones are kept and written back.
//! Both spellings of the rope settings are read: `rope_theta` beside `rope_scaling` (`type` or `rope_type`), and
//! `rope_parameters`.

use super::{Config, ConfigError};
use crate::rope::RopeScaling;
use crate::text;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Keys without which a model is not defined, whatever the defaults of a library are.
const REQUIRED: [&str; 10] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
];

/// The same for a model with experts.
const REQUIRED_OF_EXPERTS: [&str; 7] = [
    "first_k_dense_replace",
    "n_shared_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_group",
    "topk_group",
    "routed_scaling_factor",
];

impl Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read, is not JSON, or is refused; the key is named.
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Io { path: path.into(), source })?;
        Config::from_bytes(&bytes).map_err(|e| ConfigError::InFile { path: path.into(), source: Box::new(e) })
    }

    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is not JSON, or is refused; the key is named.
    pub fn from_json(json: &str) -> Result<Config, ConfigError> {
        Config::from_bytes(json.as_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
        let json = text::decode(bytes).map_err(ConfigError::Text)?;
        let file: Map<String, Value> = serde_json::from_str(json).map_err(ConfigError::Json)?;
        let mut keys = file.clone();
        keys.retain(|_, value| !value.is_null()); // a null counts as absent, except where it says that there is none:
        for (key, none) in [("q_lora_rank", json!("none")), ("n_shared_experts", json!(0))] {
            if file.get(key) == Some(&Value::Null) {
                keys.insert(key.into(), none);
            }
        }
        refuse_unsupported(&keys)?;
        fill(&mut keys)?;
        let rope_scaling = take_rope(&mut keys)?;

        let known = serde_keys(&Config::default());
        let own: Map<String, Value> = keys.clone().into_iter().filter(|(key, _)| known.contains_key(key)).collect();
        // One by one first: an error of serde_json's does not say which key it means.
        for (key, value) in &own {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            Config::deserialize(Value::Object(alone)).map_err(|e| refusal("", key, value, &e))?;
        }
        let mut config = Config::deserialize(Value::Object(own)).map_err(ConfigError::Json)?;
        config.rope_scaling = rope_scaling;
        config.validate()?;
        for (key, value, like) in [
            ("num_key_value_heads", config.num_attention_heads, "num_attention_heads"),
            ("num_local_experts", config.n_routed_experts, "n_routed_experts"),
            ("qk_head_dim", config.qk_head_dim(), "qk_nope_head_dim + qk_rope_head_dim"),
            ("head_dim", config.qk_rope_head_dim, "qk_rope_head_dim"),
        ] {
            if let Some(found) = keys.get(key).filter(|found| **found != json!(value)) {
                return invalid(key, found, format!("{value} as {like}"));
            }
        }
        let written = config.to_map();
        config.other = file;
        config.other.retain(|key, _| !written.contains_key(key) && key != "rope_parameters");
        Ok(config)
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
        let mut map = serde_keys(self);
        map.values_mut().filter(|value| **value == "none").for_each(|value| *value = Value::Null);
        map.insert("num_key_value_heads".into(), self.num_attention_heads.into());
        if self.n_routed_experts == 0 {
            map.insert("n_routed_experts".into(), Value::Null);
        }
        if let Some(Value::Object(scaling)) = map.get_mut("rope_scaling") {
            let kind = scaling["rope_type"].clone();
            scaling.insert("type".into(), kind); // the older name of the key, which DeepSeek's own code reads
        }
        map
    }
}

/// A config's keys as serde has them.
fn serde_keys(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("a config is an object, not {other:?}"),
    }
}

fn invalid<T>(key: &str, found: &Value, expected: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid { key: key.into(), found: found.to_string(), expected: expected.into() })
}

/// What serde says of `found` at `key` of the object `at`, with the key that it means.
fn refusal(at: &str, key: &str, found: &Value, error: &serde_json::Error) -> ConfigError {
    let message = error.to_string();
    let key = if at.is_empty() { key.into() } else { format!("{at}.{key}") };
    let named = |start: &str| message.strip_prefix(start)?.split('`').next();
    if let Some(field) = named("missing field `") {
        return ConfigError::Missing { key: format!("{key}.{field}") };
    }
    let expected = message.rsplit_once("expected ").map_or(&*message, |(_, expected)| expected).into();
    match named("unknown field `") {
        Some(field) => ConfigError::Invalid { key: format!("{key}.{field}"), found: found[field].to_string(), expected },
        None => ConfigError::Invalid { key, found: found.to_string(), expected },
    }
}

fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a))
}

/// Keys that would change the mathematics in ways that this implementation does not have.
fn refuse_unsupported(keys: &Map<String, Value>) -> Result<(), ConfigError> {
    for (key, allowed) in [
        ("model_type", &[json!("deepseek_v3"), json!("deepseek_v2")][..]),
        ("hidden_act", &[json!("silu"), json!("swish")]),
        ("moe_layer_freq", &[json!(1)]),
        ("attention_dropout", &[json!(0)]),
        ("partial_rotary_factor", &[json!(1)]),
        ("mlp_bias", &[json!(false)]),
    ] {
        if let Some(found) = keys.get(key).filter(|found| !allowed.iter().any(|value| same(value, found))) {
            return invalid(key, found, allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(" or "));
        }
    }
    match keys.get("quantization_config") {
        Some(found) => invalid("quantization_config", found, "none: convert the weights to bf16 or f32 first"),
        None => Ok(()),
    }
}

/// Sets what the two generations' code takes where keys are absent.
///
/// # Errors
/// A key without which the model is not defined is missing.
fn fill(keys: &mut Map<String, Value>) -> Result<(), ConfigError> {
    fn or(keys: &mut Map<String, Value>, key: &str, value: Value) {
        keys.entry(key).or_insert(value);
    }
    if keys.get("model_type").is_some_and(|kind| kind == "deepseek_v2") {
        or(keys, "scoring_func", json!("softmax"));
        or(keys, "norm_topk_prob", json!(false));
    }
    if keys.get("scoring_func").is_some_and(|f| f == "softmax") {
        or(keys, "topk_method", json!("greedy"));
    }
    if keys.get("topk_method").is_some_and(|method| method == "greedy") {
        or(keys, "n_group", json!(1));
        or(keys, "topk_group", json!(1));
    }
    let local = keys.get("num_local_experts").cloned().unwrap_or(json!(0));
    or(keys, "n_routed_experts", local);
    let experts = if keys["n_routed_experts"] == 0 { &[] } else { &REQUIRED_OF_EXPERTS[..] };
    match REQUIRED.iter().chain(experts).find(|key| !keys.contains_key(**key)) {
        Some(key) => Err(ConfigError::Missing { key: key.to_string() }),
        None => Ok(()),
    }
}

/// Takes the rope settings out, in either spelling, but for `rope_theta`, which comes to the top level.
fn take_rope(keys: &mut Map<String, Value>) -> Result<Option<RopeScaling>, ConfigError> {
    let mut found: Vec<Option<RopeScaling>> = Vec::new();
    for at in ["rope_parameters", "rope_scaling"] {
        let mut settings = match keys.remove(at) {
            None => continue,
            Some(Value::Object(settings)) => settings,
            Some(other) => return invalid(at, &other, "an object or null"),
        };
        settings.retain(|_, value| !value.is_null());
        let key = |name: &str| format!("{at}.{name}");
        let kind = match (settings.remove("rope_type"), settings.remove("type")) {
            (Some(new), Some(old)) if new != old => {
                return invalid(&key("type"), &old, format!("the same as rope_type, {new}"));
            }
            (new, old) => new.or(old).unwrap_or(json!("default")),
        };
        if let Some(part) = settings.remove("partial_rotary_factor").filter(|part| !same(part, &json!(1))) {
            return invalid(&key("partial_rotary_factor"), &part, "1");
        }
        if let Some(theta) = settings.remove("rope_theta") {
            let outer = keys.entry("rope_theta").or_insert(theta.clone());
            if !same(outer, &theta) {
                return invalid(&key("rope_theta"), &theta, format!("{outer} as at the top level"));
            }
        }
        if kind == "default" {
            if let Some((name, value)) = settings.iter().next() {
                return invalid(&key(name), value, "no such setting for rope type \"default\"");
            }
            found.push(None);
            continue;
        }
        if kind == "yarn" {
            let trained = keys.get("max_position_embeddings").cloned().unwrap_or(json!(4096));
            settings.entry("original_max_position_embeddings").or_insert(trained);
        }
        settings.insert("rope_type".into(), kind);
        let settings = Value::Object(settings);
        found.push(Some(RopeScaling::deserialize(&settings).map_err(|e| refusal("", at, &settings, &e))?));
    }
    match &found[..] {
        [a, b] if a != b => invalid("rope_scaling", &json!(b), "the same settings as in rope_parameters"),
        _ => Ok(found.pop().flatten()),
    }
}
