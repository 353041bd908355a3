//! Reading and writing checkpoints, whole and broken.

use crate::common::{Folder, cpu, ids, model, tiny};
use nn::{CheckpointError, Config, DeepseekV3ForCausalLM, Module, load_tensors, save_tensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tensor::{DType, Tensor};

type Tensors = BTreeMap<String, Tensor>;

/// A folder with a saved model, and its tensors.
fn saved(name: &str, config: Config) -> (Folder, Tensors) {
    let folder = Folder::new(name);
    model(config, 1, DType::F32).save_pretrained(&folder.0).unwrap();
    let tensors = load_tensors(&folder.0.join("model.safetensors"), &cpu()).unwrap();
    (folder, tensors)
}

fn load(folder: &Folder) -> Result<(DeepseekV3ForCausalLM, Vec<nn::Notice>), CheckpointError> {
    DeepseekV3ForCausalLM::from_pretrained(&folder.0, DType::F32, &cpu())
}

fn rewrite(folder: &Folder, tensors: &Tensors) {
    save_tensors(&folder.0.join("model.safetensors"), tensors).unwrap();
}

fn same(a: &DeepseekV3ForCausalLM, b: &DeepseekV3ForCausalLM) -> bool {
    let bytes = |m: &DeepseekV3ForCausalLM| m.state_dict().into_iter().map(|(n, t)| (n, t.to_bytes())).collect::<Vec<_>>();
    bytes(a) == bytes(b)
}

#[test]
fn whole_and_sharded_checkpoints_load_alike() {
    let (folder, tensors) = saved("sharded", Config { num_nextn_predict_layers: 1, ..tiny() });
    let (whole, notices) = load(&folder).unwrap();
    assert!(notices.is_empty() && same(&whole, &model(Config { num_nextn_predict_layers: 1, ..tiny() }, 1, DType::F32)));
    assert!(
        tensors.contains_key("model.layers.2.shared_head.norm.weight") && tensors.contains_key("model.layers.2.eh_proj.weight")
    );
    let shard = |keep: usize| {
        tensors.iter().enumerate().filter(|(i, _)| i % 3 == keep).map(|(_, (k, t))| (k.clone(), t.clone())).collect()
    };
    let mut map = BTreeMap::new();
    for i in 0..3 {
        let (name, part): (_, Tensors) = (format!("model-{:05}-of-00003.safetensors", i + 1), shard(i));
        save_tensors(&folder.0.join(&name), &part).unwrap();
        map.extend(part.into_keys().map(|key| (key, name.clone())));
    }
    fs::remove_file(folder.0.join("model.safetensors")).unwrap();
    let index = folder.0.join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    assert!(same(&load(&folder).unwrap().0, &whole));

    // Keys of another shard, a key of no shard, a tensor that the index does not list or that is there twice, a shard that is not
    // there, a name that leads out of the folder, an index that is none.
    let write = |map: &BTreeMap<String, String>| fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    let said = || load(&folder).unwrap_err().to_string();
    let second = "model-00002-of-00003.safetensors";
    let (moved, home) = map.iter().find(|(_, file)| **file != second).unwrap();
    let mut broken = map.clone();
    broken.insert(moved.clone(), second.into());
    write(&broken);
    assert!(said().ends_with(&format!("{home}: corrupt or truncated: it holds `{moved}`, which the index has in {second}")));
    broken.remove(moved);
    write(&broken);
    assert!(said().ends_with(&format!("{home}: corrupt or truncated: it holds `{moved}`, which the index does not list")));
    let mut broken = map.clone();
    broken.insert("nowhere.weight".into(), second.into());
    write(&broken);
    assert!(said().ends_with(&format!("{second}: 1 missing: `nowhere.weight`")));
    write(&map);
    let shard_two = load_tensors(&folder.0.join(second), &cpu()).unwrap();
    let mut twice = shard_two.clone();
    twice.insert(moved.clone(), tensors[moved].clone());
    save_tensors(&folder.0.join(second), &twice).unwrap();
    assert!(said().ends_with(&format!("{second}: corrupt or truncated: it holds `{moved}`, which the index has in {home}")));
    save_tensors(&folder.0.join(second), &shard_two).unwrap();
    let json = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(&index, json.replacen(r#""weight_map":{"#, &format!(r#""weight_map":{{"{moved}":"{second}","#), 1)).unwrap();
    assert!(said().contains("index.json") && said().contains(&format!("`{moved}` occurs twice")));

    // Text as editors on Windows save it, and what a broken download leaves.
    fs::write(&index, format!("\u{feff}{json}")).unwrap();
    assert!(same(&load(&folder).unwrap().0, &whole));
    let wide: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, what) in
        [(&wide[..], "UTF-16"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"), (b"{\xff}", "UTF-8")]
    {
        fs::write(&index, bytes).unwrap();
        assert!(said().contains("index.json: ") && said().contains(what), "{}", said());
    }

    let mut broken = map.clone();
    broken.insert("lm_head.weight".into(), "model-00009-of-00003.safetensors".into());
    write(&broken);
    assert!(matches!(load(&folder), Err(CheckpointError::Io { path, .. }) if path.ends_with("model-00009-of-00003.safetensors")));
    broken.insert("lm_head.weight".into(), "../model-00001-of-00003.safetensors".into());
    write(&broken);
    assert!(matches!(load(&folder), Err(CheckpointError::Corrupt { path, .. }) if path == index));
    fs::write(&index, "{}").unwrap();
    assert!(matches!(load(&folder), Err(CheckpointError::Corrupt { path, .. }) if path == index));
    fs::remove_file(&index).unwrap();
    assert!(matches!(load(&folder), Err(CheckpointError::NoWeights { .. })));
}

#[test]
fn a_key_that_is_missing_extra_or_misshapen_is_named() {
    let (folder, tensors) = saved("keys", tiny());
    let key = "model.layers.1.mlp.experts.3.up_proj.weight";
    let mut missing = tensors.clone();
    missing.remove(key);
    missing.remove("model.layers.1.mlp.gate.e_score_correction_bias");
    rewrite(&folder, &missing);
    let error = load(&folder).unwrap_err().to_string();
    assert!(error.contains("2 missing") && error.contains(key) && error.contains("e_score_correction_bias"), "{error}");

    let mut extra = tensors.clone();
    extra.insert("model.layers.0.mlp.typo.weight".into(), Tensor::zeros(3, DType::F32, &cpu()));
    rewrite(&folder, &extra);
    let error = load(&folder).unwrap_err().to_string();
    assert!(error.contains("not part of the model: `model.layers.0.mlp.typo.weight`"), "{error}");

    let mut misshapen = tensors.clone();
    misshapen.insert(key.into(), Tensor::zeros([8, 4], DType::F32, &cpu()));
    rewrite(&folder, &misshapen);
    let error = load(&folder).unwrap_err().to_string();
    assert!(error.contains(key) && error.contains("[8, 4]") && error.contains("[4, 8]"), "{error}");

    let mut ints = tensors.clone();
    ints.insert(key.into(), Tensor::zeros([4, 8], DType::I64, &cpu()));
    rewrite(&folder, &ints);
    assert!(matches!(load(&folder), Err(CheckpointError::DType { key: k, .. }) if k == key));
}

#[test]
fn a_corrupt_or_truncated_file_is_one_clear_error() {
    let (folder, _) = saved("corrupt", tiny());
    let path = folder.0.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let corrupt = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        matches!(load(&folder), Err(CheckpointError::Corrupt { path: p, .. }) if p == path)
    };
    for len in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        assert!(corrupt(&whole[..len]), "{len} bytes");
    }
    assert!(corrupt(&[&whole[..], &[0]].concat()), "a byte too many");
    for (at, byte) in [(0, 0xff), (7, 0x7f), (8, b'x'), (9, b'{'), (20, 0xff)] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        assert!(corrupt(&bytes), "byte {at} = {byte}");
    }
    assert!(corrupt(&[b'a'; 64]));
    // No bytes, and yet more elements than can be counted.
    let header = r#"{"x":{"dtype":"F32","shape":[0,1099511627776,1099511627776],"data_offsets":[0,0]}}"#;
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(folder.0.join("huge.safetensors"), file).unwrap();
    let error = load_tensors(&folder.0.join("huge.safetensors"), &cpu()).unwrap_err().to_string();
    assert!(error.contains("huge.safetensors") && error.contains("`x`"), "{error}");
    fs::write(&path, &whole).unwrap();
    load(&folder).unwrap();
    fs::write(folder.0.join("config.json"), "{\"vocab_size\": 13").unwrap();
    let error = load(&folder).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("JSON"), "{error}");
}

#[test]
fn prediction_layers_that_only_one_side_has() {
    // Promised by the config and wholly absent: left out.
    let (folder, tensors) = saved("mtp", Config { num_nextn_predict_layers: 1, ..tiny() });
    let without: Tensors =
        tensors.iter().filter(|(k, _)| !k.starts_with("model.layers.2.")).map(|(k, t)| (k.clone(), t.clone())).collect();
    rewrite(&folder, &without);
    let (loaded, notices) = load(&folder).unwrap();
    assert_eq!(loaded.config().num_nextn_predict_layers, 0);
    assert!(notices.len() == 1 && notices[0].0.contains("multi-token-prediction"), "{notices:?}");
    // Partly absent: an error.
    let mut partly = tensors.clone();
    partly.remove("model.layers.2.enorm.weight");
    rewrite(&folder, &partly);
    assert!(matches!(load(&folder), Err(CheckpointError::Missing { keys, .. }) if keys == ["model.layers.2.enorm.weight"]));
    // There, and not named by the config: ignored.
    rewrite(&folder, &tensors);
    let config = loaded.config().to_json();
    fs::write(folder.0.join("config.json"), config).unwrap();
    let (loaded, notices) = load(&folder).unwrap();
    assert!(notices.len() == 1 && notices[0].0.contains("model.layers.2."), "{notices:?}");
    // A table that old checkpoints carry in every layer is no layer too many.
    let mut old = tensors.clone();
    old.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), Tensor::ones([2], DType::F32, &cpu()));
    rewrite(&folder, &old);
    assert_eq!(load(&folder).unwrap().1, notices);
    let tokens = ids(1, [1, 4], 13);
    assert!(loaded.mtp_logits(&tokens, &loaded.forward_with(&tokens, &Default::default()).hidden).is_empty());
}

#[test]
fn tied_embeddings_need_no_head_and_refuse_another() {
    let (folder, mut tensors) = saved("tied", Config { tie_word_embeddings: true, ..tiny() });
    assert!(!tensors.contains_key("lm_head.weight"));
    let (plain, _) = load(&folder).unwrap();
    tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone());
    rewrite(&folder, &tensors);
    assert!(same(&load(&folder).unwrap().0, &plain));
    tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].neg());
    rewrite(&folder, &tensors);
    assert!(matches!(load(&folder), Err(CheckpointError::NotTied { key, .. }) if key == "lm_head.weight"));
    // safetensors' own save_model drops the other name.
    let table = tensors.remove("model.embed_tokens.weight").unwrap();
    tensors.insert("lm_head.weight".into(), table);
    rewrite(&folder, &tensors);
    assert!(same(&load(&folder).unwrap().0, &plain));
    tensors.remove("lm_head.weight");
    rewrite(&folder, &tensors);
    assert!(matches!(load(&folder), Err(CheckpointError::Missing { keys, .. }) if keys == ["model.embed_tokens.weight"]));
}

#[test]
fn numbers_with_which_a_router_means_nothing_are_refused() {
    let (folder, tensors) = saved("router", tiny());
    let (weight, bias) = ("model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.e_score_correction_bias");
    let with = |key: &str, value: f32| {
        let mut changed = tensors.clone();
        let old = &tensors[key];
        let mut values = old.to_vec::<f32>();
        *values.last_mut().unwrap() = value;
        changed.insert(key.into(), Tensor::from_vec(values, old.shape().clone(), &cpu()));
        rewrite(&folder, &changed);
        load(&folder).map(drop).map_err(|e| e.to_string())
    };
    let most = 8_388_608f32;
    for (key, value) in [
        (weight, f32::NAN),
        (weight, f32::INFINITY),
        (weight, f32::NEG_INFINITY),
        (bias, f32::NAN),
        (bias, f32::INFINITY),
        (bias, f32::NEG_INFINITY),
        (bias, most),
        (bias, -most),
    ] {
        let said = with(key, value).unwrap_err();
        assert!(said.contains(&format!("model.safetensors: `{key}` holds {value}, expected ")), "{value}: {said}");
    }
    for (key, value) in [(weight, 1e30), (bias, most.next_down()), (bias, -most.next_down()), ("model.norm.weight", f32::NAN)] {
        assert_eq!(with(key, value), Ok(()), "{key} {value}");
    }
    // What overflows in the dtype of the model counts too.
    assert_eq!(with(weight, 1e6), Ok(()));
    let said = DeepseekV3ForCausalLM::from_pretrained(&folder.0, DType::F16, &cpu()).unwrap_err().to_string();
    assert!(said.contains(weight) && said.contains("inf"), "{said}");
}

#[test]
fn weights_are_converted_to_the_compute_dtype_and_back() {
    let (folder, tensors) = saved("dtypes", tiny());
    let load_as = |dtype| DeepseekV3ForCausalLM::from_pretrained(&folder.0, dtype, &cpu()).unwrap().0;
    let half = load_as(DType::BF16);
    for (name, value) in half.state_dict() {
        let to = if name.ends_with("bias") { DType::F32 } else { DType::BF16 };
        assert!(value.dtype() == to && value.to_bytes() == tensors[&name].to_dtype(to).to_bytes(), "{name}");
    }
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        half.save_pretrained_as(&folder.0, dtype).unwrap();
        assert!(fs::read_to_string(folder.0.join("config.json")).unwrap().contains("\"dtype\""));
        let stored = load_tensors(&folder.0.join("model.safetensors"), &cpu()).unwrap();
        assert_eq!(stored["lm_head.weight"].dtype(), dtype);
        if dtype != DType::F16 {
            assert!(same(&load_as(DType::BF16), &half), "{dtype}");
        }
    }
}

#[test]
fn saving_leaves_whole_files_or_none() {
    let folder = Folder::new("atomic");
    let model = model(tiny(), 1, DType::F32);
    let target = folder.0.join("deep/er");
    model.save_pretrained(&target).unwrap();
    let names = |dir: &Path| {
        let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    };
    assert_eq!(names(&target), ["config.json", "model.safetensors"]);
    // A folder in the way of the file: the save fails, names it, and leaves nothing behind.
    let blocked = folder.0.join("blocked");
    fs::create_dir_all(blocked.join("model.safetensors/full")).unwrap();
    let error = model.save_pretrained(&blocked).unwrap_err().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    assert_eq!(names(&blocked), ["model.safetensors"]);
    // A file in the way of the folder.
    fs::write(folder.0.join("file"), "").unwrap();
    assert!(matches!(model.save_pretrained(&folder.0.join("file")), Err(CheckpointError::Io { .. })));
}
