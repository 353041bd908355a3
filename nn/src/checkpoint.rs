//! Checkpoints in the hub's format: `config.json` beside `model.safetensors`, whole or in shards with an index.

use crate::config::{Config, ConfigError};
use crate::files::{write_atomic, write_atomic_with};
use crate::init::Init;
use crate::model::DeepseekV3ForCausalLM;
use crate::module::{Module, Named, Slot};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Shape, Tensor};

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
    /// Not a whole safetensors file or index.
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
    /// An output head that is not the embedding, although the config ties them.
    #[error("{}: `{key}` differs from the embedding, but the config has tie_word_embeddings", path.display())]
    NotTied {
        /// The file or folder.
        path: PathBuf,
        /// The output head.
        key: String,
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
        let weights = Weights::find(dir)?;
        let mut notices = Vec::new();
        let (first, wanted) = (config.num_hidden_layers, config.num_nextn_predict_layers);
        let has = |i: usize| weights.keys.keys().any(|key| key.starts_with(&format!("model.layers.{i}.")));
        if wanted > 0 && (first..first + wanted).all(|i| !has(i)) {
            config.num_nextn_predict_layers = 0;
            notices
                .push(Notice(format!("{}: no weights for the {wanted} multi-token-prediction layers; left out", dir.display())));
        }
        let layers = first + config.num_nextn_predict_layers;
        let tied = config.tie_word_embeddings;
        let in_file = |e| ConfigError::InFile { path: dir.join("config.json"), source: Box::new(e) };
        config.check_memory(dtype, device).map_err(in_file)?;
        let model = Self::with_init(config, &mut Init::placeholder(dtype, device))?;
        let is_beyond = |key: &str| {
            let layer = key.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            layer.is_some_and(|i| i >= layers)
        };
        let ignored = |key: &str| is_beyond(key) || key.ends_with(".rotary_emb.inv_freq") || (tied && key == "lm_head.weight");
        let left = weights.load_into(&model, ignored)?;
        let beyond: Vec<&String> = left.iter().filter(|key| is_beyond(key)).collect();
        if let Some(key) = beyond.first() {
            notices.push(Notice(format!(
                "{}: {} tensors of layers that the config does not name are ignored, such as {key}",
                dir.display(),
                beyond.len()
            )));
        }
        if left.iter().any(|key| key == "lm_head.weight") {
            weights.check_tied("lm_head.weight", "model.embed_tokens.weight")?;
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

/// Reads every tensor of a safetensors file, each in its own dtype.
///
/// # Errors
/// If the file cannot be read, is corrupt, or holds a dtype that does not exist here.
pub fn load_tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    parse_tensors(path, &fs::read(path).map_err(io(path))?, device)
}

/// As [`load_tensors`], of the bytes that were read from `path`.
///
/// # Errors
/// The same.
pub fn parse_tensors(path: &Path, bytes: &[u8], device: &Device) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let file = parse(path, bytes)?;
    file.iter().map(|(name, view)| Ok((name.to_owned(), tensor_of(path, name, &view, device)?))).collect()
}

/// Writes tensors as a safetensors file, which appears whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    let metadata = Some(HashMap::from([("format".to_owned(), "pt".to_owned())]));
    let write = |to: &Path| safetensors::serialize_to_file(stored(tensors), &metadata, to).map_err(system_error);
    write_atomic_with(path, write).map_err(io(path))
}

/// The bytes of a safetensors file of these tensors, with `metadata` in its header.
pub fn tensors_to_bytes(tensors: &BTreeMap<String, Tensor>, metadata: HashMap<String, String>) -> Vec<u8> {
    safetensors::serialize(stored(tensors), &Some(metadata)).expect("a tensor fills its shape")
}

fn stored(tensors: &BTreeMap<String, Tensor>) -> impl Iterator<Item = (&String, Stored<'_>)> {
    tensors.iter().map(|(name, tensor)| (name, Stored(tensor)))
}

/// What the system said, in its own words: wrapped once more, it would read `IoError(Os { … })`.
fn system_error(error: SafeTensorError) -> std::io::Error {
    match error {
        SafeTensorError::IoError(source) => source,
        other => std::io::Error::other(other),
    }
}

/// The weights of a checkpoint: which file holds which tensor.
struct Weights {
    dir: PathBuf,
    keys: BTreeMap<String, PathBuf>,
}

impl Weights {
    fn find(dir: &Path) -> Result<Weights, CheckpointError> {
        let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        let keys = if single.is_file() {
            let bytes = fs::read(&single).map_err(io(&single))?;
            parse(&single, &bytes)?.names().into_iter().map(|key| (key.to_owned(), single.clone())).collect()
        } else if index.is_file() {
            let corrupt = |reason: String| CheckpointError::Corrupt { path: index.clone(), reason };
            let text = fs::read_to_string(&index).map_err(io(&index))?;
            let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| corrupt(e.to_string()))?;
            let map = json.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| corrupt("no `weight_map`".into()))?;
            let file = |key: &String, file: &serde_json::Value| match file.as_str() {
                Some(name) if Path::new(name).file_name() == Some(name.as_ref()) => Ok((key.clone(), dir.join(name))),
                _ => Err(corrupt(format!("`{key}` is said to be in {file}, which is no file name"))),
            };
            map.iter().map(|(key, name)| file(key, name)).collect::<Result<_, _>>()?
        } else {
            return Err(CheckpointError::NoWeights { path: dir.into() });
        };
        Ok(Weights { dir: dir.into(), keys })
    }

    /// Gives each parameter and buffer of a module its value. Tensors without a place must be `ignored`; they are returned.
    fn load_into(&self, module: &dyn Module, ignored: impl Fn(&str) -> bool) -> Result<Vec<String>, CheckpointError> {
        let places = module.walk();
        let names: BTreeSet<&String> = places.iter().map(|place| &place.name).collect();
        let missing: Vec<String> =
            names.iter().filter(|name| !self.keys.contains_key(**name)).map(|name| name.to_string()).collect();
        if !missing.is_empty() {
            return Err(CheckpointError::Missing { path: self.dir.clone(), keys: missing });
        }
        let (left, unexpected): (Vec<String>, Vec<String>) =
            self.keys.keys().filter(|key| !names.contains(*key)).cloned().partition(|key| ignored(key));
        if !unexpected.is_empty() {
            return Err(CheckpointError::Unexpected { path: self.dir.clone(), keys: unexpected });
        }
        let files: BTreeSet<&PathBuf> = names.iter().map(|name| &self.keys[*name]).collect();
        for path in files {
            let bytes = fs::read(path).map_err(io(path))?;
            let file = parse(path, &bytes)?;
            for Named { name, slot, .. } in places.iter().filter(|place| &self.keys[&place.name] == path) {
                load_one(path, &file, name, slot)?;
            }
        }
        Ok(left)
    }

    /// That two tensors hold the same numbers.
    fn check_tied(&self, key: &str, with: &str) -> Result<(), CheckpointError> {
        let read = |key: &str| -> Result<Tensor, CheckpointError> {
            let path = &self.keys[key];
            let bytes = fs::read(path).map_err(io(path))?;
            tensor_of(path, key, &view(path, &parse(path, &bytes)?, key)?, &Device::cpu())
        };
        let (a, b) = (read(key)?, read(with)?);
        let same = a.shape() == b.shape() && a.to_f64_vec() == b.to_f64_vec();
        if same { Ok(()) } else { Err(CheckpointError::NotTied { path: self.dir.clone(), key: key.into() }) }
    }
}

fn load_one(path: &Path, file: &SafeTensors<'_>, name: &str, slot: &Slot) -> Result<(), CheckpointError> {
    let (view, old) = (view(path, file, name)?, slot.value());
    if view.shape() != old.dims() {
        let (found, expected) = (view.shape().to_vec(), old.dims().to_vec());
        return Err(CheckpointError::Shape { path: path.into(), key: name.into(), found, expected });
    }
    if !matches!(view.dtype(), Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16) {
        let found = format!("{:?}", view.dtype());
        return Err(CheckpointError::DType { path: path.into(), key: name.into(), found, expected: "F64, F32, BF16 or F16" });
    }
    slot.set_value(tensor_of(path, name, &view, old.device())?.to_dtype(old.dtype()));
    Ok(())
}

fn view<'a>(path: &Path, file: &SafeTensors<'a>, name: &str) -> Result<safetensors::tensor::TensorView<'a>, CheckpointError> {
    file.tensor(name).map_err(|_| CheckpointError::Missing { path: path.into(), keys: vec![name.into()] })
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|e| CheckpointError::Corrupt { path: path.into(), reason: e.to_string() })
}

fn tensor_of(
    path: &Path,
    name: &str,
    view: &safetensors::tensor::TensorView<'_>,
    device: &Device,
) -> Result<Tensor, CheckpointError> {
    let dtype = match view.dtype() {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F8_E4M3 => DType::F8E4M3,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        other => {
            let (path, key, found) = (path.into(), name.into(), format!("{other:?}"));
            return Err(CheckpointError::DType {
                path,
                key,
                found,
                expected: "F64, F32, BF16, F16, F8_E4M3, I64, I32, U8 or BOOL",
            });
        }
    };
    if !Shape::from(view.shape()).fits() {
        let reason = format!("`{name}` has the shape {:?}, more than any memory holds", view.shape());
        return Err(CheckpointError::Corrupt { path: path.into(), reason });
    }
    Ok(Tensor::from_bytes(view.data().to_vec(), view.shape(), dtype, device))
}

/// A tensor on its way into a file.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::F8E4M3 => Dtype::F8_E4M3,
            DType::I64 => Dtype::I64,
            DType::I32 => Dtype::I32,
            DType::U8 => Dtype::U8,
            DType::Bool => Dtype::BOOL,
        }
    }
    fn shape(&self) -> &[usize] {
        self.0.dims()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.0.to_bytes().into()
    }
    fn data_len(&self) -> usize {
        self.0.numel() * self.0.dtype().size()
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io { path: path.into(), source }
}
