//! What a run must remember to go on bit for bit after it was killed: one file, written whole or not at all.
//!
//! `state.safetensors` holds the policy, the reference and the optimizer's moments as tensors, and in its metadata a JSON object
//! with everything else ([`Progressed`]). Problems, corpus and samples need not be kept: they are functions of the seed and the
//! step.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use nn::{AdamW, CheckpointError, DeepseekV3ForCausalLM, Module};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tensor::{DType, Device, Tensor};

use crate::cost::Ledger;
use crate::metrics::{EvalMetrics, Stage};
use crate::rundir::{RunDir, RunDirError};

/// The file's name in a run folder.
pub const FILE: &str = "state.safetensors";

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progressed {
    /// The stage it is in.
    pub stage: Stage,
    /// Steps done in it.
    pub step: usize,
    /// Records in `metrics.jsonl`.
    pub metrics_lines: usize,
    /// The bill so far.
    pub ledger: Ledger,
    /// The newest evaluations of the base model.
    pub base_evals: Vec<EvalMetrics>,
    /// The newest evaluations of all.
    pub last_evals: Vec<EvalMetrics>,
}

/// A state that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is missing or the disk refuses.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its tensors are broken.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
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
    progressed: Progressed,
    tensors: BTreeMap<String, Tensor>,
}

impl Snapshot {
    /// Of a run as it is.
    pub fn of(
        progressed: &Progressed,
        policy: &DeepseekV3ForCausalLM,
        reference: Option<&DeepseekV3ForCausalLM>,
        optimizer: &AdamW,
    ) -> Snapshot {
        let mut tensors = BTreeMap::new();
        let mut put = |prefix: &str, items: Vec<(String, Tensor)>| {
            items.into_iter().for_each(|(name, t)| drop(tensors.insert(format!("{prefix}/{name}"), t)));
        };
        put("policy", policy.state_dict());
        if let Some(reference) = reference {
            put("reference", reference.state_dict());
        }
        put("optimizer", optimizer.state_dict().into_iter().collect());
        Snapshot { progressed: progressed.clone(), tensors }
    }

    /// Writes it into the run folder.
    ///
    /// # Errors
    /// The disk refuses; the state before is untouched then.
    pub fn write(&self, dir: &RunDir) -> Result<(), RunDirError> {
        let bytes: Vec<(String, DType, Vec<usize>, Vec<u8>)> =
            self.tensors.iter().map(|(name, t)| (name.clone(), t.dtype(), t.dims().to_vec(), t.to_bytes())).collect();
        let views = bytes.iter().map(|(name, dtype, shape, data)| {
            let dtype = if *dtype == DType::I64 { safetensors::Dtype::I64 } else { safetensors::Dtype::F32 };
            (name, safetensors::tensor::TensorView::new(dtype, shape.clone(), data).expect("a tensor fills its shape"))
        });
        let metadata = HashMap::from([("run".to_owned(), serde_json::to_string(&self.progressed).expect("plain data"))]);
        let file = safetensors::serialize(views, &Some(metadata)).expect("names and shapes are well formed");
        dir.write(FILE, &file)
    }
}

/// Reads a run's state: how far it was, and its tensors by name.
///
/// # Errors
/// The file is missing, corrupt or not of this program.
pub fn load(folder: &Path, device: &Device) -> Result<(Progressed, BTreeMap<String, Tensor>), StateError> {
    let path = folder.join(FILE);
    let bytes = fs::read(&path).map_err(|source| StateError::Io { path: path.clone(), source })?;
    let invalid = |message: String| StateError::Invalid { path: path.clone(), message };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| invalid(e.to_string()))?;
    let run = header.metadata().as_ref().and_then(|m| m.get("run")).ok_or_else(|| invalid("it holds no `run`".into()))?;
    let progressed = serde_json::from_str(run).map_err(|e| invalid(e.to_string()))?;
    let tensors = nn::parse_tensors(&path, &bytes, device)?;
    if let Some((name, t)) = tensors.iter().find(|(_, t)| !matches!(t.dtype(), DType::F32 | DType::I64)) {
        return Err(invalid(format!("`{name}` is {}", t.dtype())));
    }
    Ok((progressed, tensors))
}

/// Gives a module the tensors under `prefix`.
///
/// # Errors
/// Names the first that is missing or of another shape.
pub fn restore(folder: &Path, tensors: &BTreeMap<String, Tensor>, prefix: &str, module: &dyn Module) -> Result<(), StateError> {
    let mut wrong = None;
    module.visit(&mut Default::default(), &mut |name, slot| {
        let (key, own) = (format!("{prefix}/{name}"), slot.value());
        match tensors.get(&key) {
            Some(t) if t.shape() == own.shape() && t.dtype() == own.dtype() => slot.set_value(t.clone()),
            Some(t) => {
                let (found, expected) = ((t.dtype(), t.shape()), (own.dtype(), own.shape()));
                wrong =
                    wrong.take().or(Some(format!("`{key}` is {} {}, expected {} {}", found.0, found.1, expected.0, expected.1)));
            }
            None => wrong = wrong.take().or(Some(format!("`{key}` is missing"))),
        }
    });
    wrong.map_or(Ok(()), |message| Err(StateError::Invalid { path: folder.join(FILE), message }))
}

/// Gives an optimizer the moments under `optimizer/`.
///
/// # Errors
/// Names the first that is missing or does not fit.
pub fn restore_optimizer(folder: &Path, tensors: &BTreeMap<String, Tensor>, optimizer: &mut AdamW) -> Result<(), StateError> {
    let state = tensors.iter().filter_map(|(key, t)| Some((key.strip_prefix("optimizer/")?.to_owned(), t.clone()))).collect();
    let invalid = |e: nn::OptimError| StateError::Invalid { path: folder.join(FILE), message: e.to_string() };
    optimizer.load_state_dict(&state).map_err(invalid)
}
