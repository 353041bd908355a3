//! What a run must remember to go on bit for bit after it was killed: one file, written whole or not at all.
//!
//! `state.safetensors` holds each model of the workspace and the optimizer's moments as tensors, and in its metadata a JSON object
//! with everything else ([`RunState`]). Problems, corpus and samples need not be kept: they are functions of the seed and the
//! step. Its last eight bytes, a tensor of their own, are the checksum of all before; those of the other files that a run goes on
//! from are in the object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{Cursor, ErrorKind};
use std::path::{Path, PathBuf};

use nn::{AdamW, CheckpointError, DeepseekV3ForCausalLM, Module, Named, TensorFile};
use serde::{Deserialize, Serialize};
use tensor::{DType, Device, Tensor};

use crate::checksum::checksum;
use crate::cost::Ledger;
use crate::file_error::{FileError, cannot};
use crate::metrics::{EvalMetrics, Written};
use crate::policy;
use crate::rundir::{CONFIG, EVAL, PROBLEMS, RunDir, RunDirError, RunFormat, SETUP, STATE, read_formatted};
use crate::samples::Kept;

/// The tensor with the checksum: of the smallest dtype, so that it is stored last.
const CHECKSUM: &str = "checksum";
/// What stands before the names of the optimizer's tensors; no model is called so.
const OPTIMIZER: &str = "optimizer";
/// Bytes of a checksum.
const CHECKSUM_SIZE: usize = size_of::<u64>();

/// How the files of tasks end.
const DATA: [&str; 2] = [".train.jsonl", ".test.jsonl"];

/// Checksums of the files in a run folder that never change, by name; a file that is not there has none.
pub type Files = BTreeMap<String, u64>;

/// How far a run is, and what it must find to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Of the run folder.
    pub format: RunFormat,
    /// What was in the other files.
    pub files: Files,
    /// The stage it is in, by its name.
    pub stage: String,
    /// Steps done in it.
    pub step: usize,
    /// Whether what it ends with has been measured.
    pub measured: bool,
    /// The configs of the models there are, by name.
    pub models: BTreeMap<String, nn::Config>,
    /// What `metrics.jsonl` holds.
    pub metrics: Written,
    /// The bill so far.
    pub ledger: Ledger,
    /// The samples that stages kept.
    pub samples: BTreeMap<String, Vec<Kept>>,
    /// The evaluations of what each stage so far ended with.
    pub ends: Vec<EvalMetrics>,
}

/// A state's file in memory, checked.
pub type StateFile = TensorFile<Cursor<Vec<u8>>>;

/// A state that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is missing or the disk refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its tensors are broken.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// It is not what was written.
    #[error(
        "{} is damaged: {message}; restore it from a copy, or begin a new run (with --base {} if base/ is complete)",
        path.display(), path.parent().unwrap_or(path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that is known.
        message: String,
    },
    /// Another file of the folder is not what the run began with.
    #[error("{} is not as the run left it (checksum {found}, expected {expected}): put it back as it was, or begin a new run",
        path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its checksum.
        found: String,
        /// The one when the state was saved.
        expected: String,
    },
    /// Not a state of this program, or of another configuration.
    #[error("{} does not fit this run: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// A run's state, to be written now or later: tensors never change, so that holding them costs no copy.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: RunState,
    tensors: BTreeMap<String, Tensor>,
}

impl Snapshot {
    /// Of a run as it is, with its models by name.
    pub fn of<'a>(
        state: &RunState,
        models: impl IntoIterator<Item = (&'a str, &'a DeepseekV3ForCausalLM)>,
        optimizer: &AdamW,
    ) -> Snapshot {
        let mut state = RunState { models: BTreeMap::new(), ..state.clone() };
        let mut tensors = BTreeMap::new();
        let mut put = |prefix: &str, items: Vec<(String, Tensor)>| {
            items.into_iter().for_each(|(name, t)| drop(tensors.insert(format!("{prefix}/{name}"), t)));
        };
        for (name, model) in models {
            put(name, model.state_dict().into_iter().collect());
            state.models.insert(name.to_owned(), model.config().clone());
        }
        put(OPTIMIZER, optimizer.state_dict().into_iter().collect());
        tensors.insert(CHECKSUM.into(), Tensor::zeros(CHECKSUM_SIZE, DType::U8, &Device::cpu()));
        Snapshot { state, tensors }
    }

    /// Writes it into the run folder.
    ///
    /// # Errors
    /// The disk refuses; the state before is untouched then.
    pub fn write(&self, dir: &RunDir) -> Result<(), RunDirError> {
        let metadata = HashMap::from([("run".to_owned(), serde_json::to_string(&self.state).expect("plain data"))]);
        let mut bytes = nn::tensors_to_bytes(&self.tensors, metadata);
        let end = bytes.len() - CHECKSUM_SIZE;
        let sum = checksum(0, &bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
        dir.write(STATE, &bytes)
    }
}

/// The checksums of a folder's files as they are.
///
/// # Errors
/// A file is there and cannot be read.
pub fn files(folder: &Path) -> Result<Files, StateError> {
    let mut files = Files::new();
    let mut names: Vec<String> = [CONFIG, SETUP, EVAL, PROBLEMS].map(String::from).into();
    let entries = fs::read_dir(folder).map_err(cannot("read", folder))?;
    let all = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let all = all.collect::<Result<Vec<String>, std::io::Error>>().map_err(cannot("read", folder))?;
    names.extend(all.into_iter().filter(|name| DATA.iter().any(|end| name.ends_with(end))));
    for name in names {
        let path = folder.join(&name);
        match fs::read(&path) {
            Ok(bytes) => drop(files.insert(name, checksum(0, &bytes))),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(cannot("read", &path)(e).into()),
        }
    }
    Ok(files)
}

/// Reads a run's state, how far it was and its tensors by name, and checks that it and the files that it names are as they were.
///
/// # Errors
/// A file is missing, damaged, changed or not of this program.
pub fn load(folder: &Path, device: &Device) -> Result<(RunState, BTreeMap<String, Tensor>), StateError> {
    let (state, mut file) = check(folder)?;
    let mut tensors = file.read_all(device)?;
    tensors.remove(CHECKSUM);
    Ok((state, tensors))
}

/// As [`load`], without the tensors, which the file still has.
///
/// # Errors
/// As [`load`].
pub fn check(folder: &Path) -> Result<(RunState, StateFile), StateError> {
    let path = folder.join(STATE);
    let bytes = fs::read(&path).map_err(cannot("read", &path))?;
    let damaged = |message: String| StateError::Damaged { path: path.clone(), message };
    let invalid = |message: String| StateError::Invalid { path: path.clone(), message };
    let sums = bytes.split_last_chunk::<CHECKSUM_SIZE>().map(|(before, sum)| (checksum(0, before).to_le_bytes(), *sum));
    let file = TensorFile::new(&path, Cursor::new(bytes)).map_err(|e| match e {
        CheckpointError::Corrupt { reason, .. } => damaged(format!("it is no safetensors file ({reason})")),
        other => other.into(),
    })?;
    let run = file.metadata("run").ok_or_else(|| invalid("it holds no `run`".into()))?;
    if sums.is_none_or(|(found, expected)| found != expected) {
        return Err(damaged("its checksum is not that of its content".into()));
    }
    let mut state: RunState = read_formatted(run).map_err(invalid)?;
    // A config keeps what makes a model; the special tokens beside it are the tokenizer's.
    for config in state.models.values_mut() {
        *config = policy::hub_config(config, config.max_position_embeddings);
    }
    let found = files(folder)?;
    let shown = |sum: Option<&u64>| sum.map_or("none".to_owned(), |sum| format!("{sum:016x}"));
    let names: BTreeSet<&String> = found.keys().chain(state.files.keys()).collect();
    for name in names {
        let (found, expected) = (found.get(name), state.files.get(name));
        if found != expected {
            let (found, expected) = (shown(found), shown(expected));
            return Err(StateError::Changed { path: folder.join(name), found, expected });
        }
    }
    Ok((state, file))
}

/// Gives a module the tensors under `prefix`.
///
/// # Errors
/// Names the first that is missing or of another shape.
pub fn restore(folder: &Path, tensors: &BTreeMap<String, Tensor>, prefix: &str, module: &dyn Module) -> Result<(), StateError> {
    let invalid = |message: String| Err(StateError::Invalid { path: folder.join(STATE), message });
    for Named { name, slot, .. } in module.walk() {
        let (key, own) = (format!("{prefix}/{name}"), slot.value());
        match tensors.get(&key) {
            None => return invalid(format!("`{key}` is missing")),
            Some(t) if t.shape() == own.shape() && t.dtype() == own.dtype() => slot.set_value(t.clone()),
            Some(t) => {
                let (found, expected) = ((t.dtype(), t.shape()), (own.dtype(), own.shape()));
                return invalid(format!("`{key}` is {} {}, expected {} {}", found.0, found.1, expected.0, expected.1));
            }
        }
    }
    Ok(())
}

/// Gives an optimizer the moments under `optimizer/`.
///
/// # Errors
/// Names the first that is missing or does not fit.
pub fn restore_optimizer(folder: &Path, tensors: &BTreeMap<String, Tensor>, optimizer: &mut AdamW) -> Result<(), StateError> {
    let state = tensors
        .iter()
        .filter_map(|(key, t)| Some((key.strip_prefix(OPTIMIZER)?.strip_prefix('/')?.to_owned(), t.clone())))
        .collect();
    let invalid = |e: nn::OptimError| StateError::Invalid { path: folder.join(STATE), message: e.to_string() };
    optimizer.load_state_dict(&state).map_err(invalid)
}
