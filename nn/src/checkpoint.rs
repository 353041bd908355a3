//! Checkpoints in the hub's format: `config.json` beside `model.safetensors`, whole or in shards with an index.

use crate::config::{Config, ConfigError};
use crate::files::write_atomic;
use crate::init::Init;
use crate::model::DeepseekV3ForCausalLM;
use crate::module::{Module, Named, Slot};
use crate::safetensors::{TensorFile, Unique, io, save_tensors};
use crate::text;
use ::safetensors::tensor::{Dtype, TensorInfo};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Tensor};

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not a safetensors file or index by the format's rules, or one that contradicts another.
    #[error("{}: corrupt or truncated: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Neither a whole file nor an index.
    #[error("{}: neither model.safetensors nor model.safetensors.index.json is there", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// Tensors that the model needs are not there.
    #[error("{}: {} missing: {}", path.display(), keys.len(), listed(keys))]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// Their names.
        keys: Vec<String>,
    },
    /// Tensors that the model has no place for.
    #[error("{}: {} not part of the model: {}", path.display(), keys.len(), listed(keys))]
    Unexpected {
        /// The file or folder.
        path: PathBuf,
        /// Their names.
        keys: Vec<String>,
    },
    /// A tensor of another shape than the model's.
    #[error("{}: `{key}` has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Its shape in the model.
        expected: Vec<usize>,
    },
    /// A tensor of a dtype that cannot be used here.
    #[error("{}: `{key}` has dtype {found}, expected {expected}", path.display())]
    DType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// Its dtype in the file.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// Two tensors that are one parameter of the model (an output head and the embedding that it is tied to) and differ.
    #[error("{}: `{key}` differs from `{with}`, but the config ties them", path.display())]
    NotTied {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The other name of the same parameter.
        with: String,
    },
    /// A number with which the model means nothing.
    #[error("{}: `{key}` holds {found}, expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The number.
        found: f64,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The config is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The first few names.
fn listed(keys: &[String]) -> String {
    let more = if keys.len() > 4 { ", …" } else { "" };
    keys.iter().take(4).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ") + more
}

/// Something in a checkpoint that was left out on purpose, for the user to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(pub String);

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DeepseekV3ForCausalLM {
    /// Loads a hub checkpoint from a folder, converting its weights to `dtype`.
    ///
    /// A multi-token-prediction layer that the config promises and the files do not have at all is left out, and one that the
    /// files have and the config does not name is ignored, as transformers does; the notices say so.
    ///
    /// # Errors
    /// If a file cannot be read or is corrupt, the config is refused, or a tensor is missing, unknown, or of the wrong shape or
    /// dtype: the file and the key are named.
    pub fn from_pretrained(dir: &Path, dtype: DType, device: &Device) -> Result<(Self, Vec<Notice>), CheckpointError> {
        let mut config = Config::from_file(&dir.join("config.json"))?;
        let mut weights = Weights::find(dir)?;
        let mut notices = Vec::new();
        let (first, wanted) = (config.num_hidden_layers, config.num_nextn_predict_layers);
        let has = |i: usize| weights.keys.keys().any(|key| key.starts_with(&format!("model.layers.{i}.")));
        if wanted > 0 && (first..first + wanted).all(|i| !has(i)) {
            config.num_nextn_predict_layers = 0;
            notices
                .push(Notice(format!("{}: no weights for the {wanted} multi-token-prediction layers; left out", dir.display())));
        }
        let layers = first + config.num_nextn_predict_layers;
        let in_file = |e| ConfigError::InFile { path: dir.join("config.json"), source: Box::new(e) };
        config.check_memory(dtype, device).map_err(in_file)?;
        let model = Self::with_init(config, &mut Init::placeholder(dtype, device))?;
        let is_beyond = |key: &str| {
            let layer = key.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            layer.is_some_and(|i| i >= layers)
        };
        let ignored = |key: &str| is_beyond(key) || key.ends_with(".rotary_emb.inv_freq");
        let left = weights.load_into(&model, ignored)?;
        let beyond: Vec<&String> = left.iter().filter(|key| is_beyond(key)).collect();
        if let Some(key) = beyond.first() {
            notices.push(Notice(format!(
                "{}: {} tensors of layers that the config does not name are ignored, such as {key}",
                dir.display(),
                beyond.len()
            )));
        }
        Ok((model, notices))
    }

    /// Writes `config.json` and `model.safetensors` (f32) into a folder, which is made if need be. Each file appears whole or not
    /// at all.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save_pretrained(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.save_pretrained_as(dir, DType::F32)
    }

    /// As [`DeepseekV3ForCausalLM::save_pretrained`], with the weights converted to `dtype`. Buffers stay in at least f32.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save_pretrained_as(&self, dir: &Path, dtype: DType) -> Result<(), CheckpointError> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        let mut tensors = BTreeMap::new();
        for Named { name, slot, .. } in self.walk() {
            let to = if matches!(slot, Slot::Buffer(_)) { crate::init::accumulator(dtype) } else { dtype };
            tensors.insert(name, slot.value().to_dtype(to));
        }
        let mut config = self.config().clone();
        config.other.remove("torch_dtype"); // the older name of the same key
        config.other.insert("dtype".into(), hub_dtype(dtype).into());
        save_tensors(&dir.join("model.safetensors"), &tensors)?;
        let file = dir.join("config.json");
        write_atomic(&file, (config.to_json() + "\n").as_bytes()).map_err(io(&file))
    }
}

/// The name that transformers has for a dtype.
fn hub_dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "float64",
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    }
}

/// The weights of a checkpoint: which file holds which tensor.
struct Weights {
    dir: PathBuf,
    /// From the name of a tensor to that of its file.
    keys: BTreeMap<String, String>,
    files: BTreeMap<String, TensorFile>,
}

/// `model.safetensors.index.json`
#[derive(Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

impl Weights {
    /// Reads all headers.
    fn find(dir: &Path) -> Result<Weights, CheckpointError> {
        let (single, index) = ("model.safetensors", dir.join("model.safetensors.index.json"));
        if dir.join(single).is_file() {
            let file = TensorFile::open(&dir.join(single))?;
            let keys = file.names().map(|key| (key.to_owned(), single.to_owned())).collect();
            return Ok(Weights { dir: dir.into(), keys, files: BTreeMap::from([(single.to_owned(), file)]) });
        }
        if !index.is_file() {
            return Err(CheckpointError::NoWeights { path: dir.into() });
        }
        let corrupt = |path: &Path, reason: String| CheckpointError::Corrupt { path: path.into(), reason };
        let bytes = fs::read(&index).map_err(io(&index))?;
        let json = text::decode(&bytes).map_err(|e| corrupt(&index, e.to_string()))?;
        let Index { weight_map: Unique(keys) } = serde_json::from_str(json).map_err(|e| corrupt(&index, e.to_string()))?;
        let mut files = BTreeMap::new();
        for (key, name) in &keys {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(corrupt(&index, format!("`{key}` is said to be in {name:?}, which is no file name")));
            }
            if !files.contains_key(name) {
                files.insert(name.clone(), TensorFile::open(&dir.join(name))?);
            }
        }
        let weights = Weights { dir: dir.into(), keys, files };
        for (name, file) in &weights.files {
            let wrong = |key: &&str| weights.keys.get(*key) != Some(name);
            if let Some(key) = file.names().find(wrong) {
                let said = weights.keys.get(key).map_or("does not list".to_owned(), |other| format!("has in {other}"));
                return Err(corrupt(&dir.join(name), format!("it holds `{key}`, which the index {said}")));
            }
        }
        weights.keys.iter().try_for_each(|(key, name)| weights.files[name].info(key).map(drop))?;
        Ok(weights)
    }

    /// Gives each parameter and buffer of a module its value, under whichever of its names; where several are there, they must agree.
    /// Tensors without a place must be `ignored`; they are returned.
    fn load_into(&mut self, module: &dyn Module, ignored: impl Fn(&str) -> bool) -> Result<Vec<String>, CheckpointError> {
        let places = module.walk();
        let found: Vec<Vec<&String>> =
            places.iter().map(|place| place.names().filter(|name| self.keys.contains_key(*name)).collect()).collect();
        let missing: Vec<String> =
            places.iter().zip(&found).filter(|(_, found)| found.is_empty()).map(|(place, _)| place.name.clone()).collect();
        if !missing.is_empty() {
            return Err(CheckpointError::Missing { path: self.dir.clone(), keys: missing });
        }
        let names: BTreeSet<&String> = found.iter().flatten().copied().collect();
        let (left, unexpected): (Vec<String>, Vec<String>) =
            self.keys.keys().filter(|key| !names.contains(*key)).cloned().partition(|key| ignored(key));
        if !unexpected.is_empty() {
            return Err(CheckpointError::Unexpected { path: self.dir.clone(), keys: unexpected });
        }
        for (place, names) in places.iter().zip(&found) {
            let value = self.read(names[0], &place.slot)?;
            for other in &names[1..] {
                if self.read(other, &place.slot)?.to_bytes() != value.to_bytes() {
                    let (path, key, with) = (self.dir.clone(), other.to_string(), names[0].clone());
                    return Err(CheckpointError::NotTied { path, key, with });
                }
            }
            if let Some((found, expected)) = misrouting(&place.name, &value) {
                let (path, key) = (self.dir.join(&self.keys[names[0]]), names[0].clone());
                return Err(CheckpointError::Value { path, key, found, expected });
            }
            place.slot.set_value(value);
        }
        Ok(left)
    }

    /// A tensor as the value of a place.
    fn read(&mut self, key: &str, slot: &Slot) -> Result<Tensor, CheckpointError> {
        let (name, old) = (&self.keys[key], slot.value());
        let (path, key) = (self.dir.join(name), key.to_owned());
        let file = self.files.get_mut(name).expect("every file was opened");
        let TensorInfo { dtype, shape, .. } = file.info(&key)?;
        if shape != old.dims() {
            let (found, expected) = (shape.clone(), old.dims().to_vec());
            return Err(CheckpointError::Shape { path, key, found, expected });
        }
        if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            let (found, expected) = (dtype.to_string(), "F64, F32, BF16 or F16");
            return Err(CheckpointError::DType { path, key, found, expected });
        }
        Ok(file.read(&key, old.device())?.to_dtype(old.dtype()))
    }
}

/// The first value with which a router would send every token the same way or nowhere, and what would be accepted.
fn misrouting(name: &str, value: &Tensor) -> Option<(f64, &'static str)> {
    let (limit, expected) = if name.ends_with("mlp.gate.weight") {
        (f64::INFINITY, "finite numbers")
    } else if name.ends_with("e_score_correction_bias") {
        (f64::from(1 << 23), "numbers below 2^23 in magnitude, where f32 still adds scores to them")
    } else {
        return None;
    };
    value.to_f64_vec().into_iter().find(|x| x.is_nan() || x.abs() >= limit).map(|found| (found, expected))
}
