//! Compares a hub checkpoint with what Hugging Face transformers computed from it.
//!
//! `cargo run --release --example hf_parity -- DIR`: DIR holds `config.json`, `model.safetensors` and `reference.safetensors`
//! (`input_ids`, `logits`, `loss`, `grad.*`, `greedy`). Prints one JSON line; the exit code is not 0 if the bar is missed.

use clap::Parser;
use nn::{CheckpointError, DeepseekV3ForCausalLM, Generate, GenerateError, Module, Sampling, load_tensors};
use scratchwork::grpo::console::{exit, finish, say};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tensor::{DType, Device, Tensor};

/// Logits, loss and gradients may differ by this.
const BAR: (f64, f64, f64) = (1e-4, 1e-5, 1e-3);

#[derive(Parser)]
#[command(about = "Compares a hub checkpoint with what transformers computed from it; prints one JSON line")]
struct Args {
    /// Folder with config.json, model.safetensors and reference.safetensors.
    dir: PathBuf,
    /// Where to compute: cpu, cuda, cuda:NUMBER, interpreted or interpreted:SEED.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Debug, thiserror::Error)]
enum ParityError {
    #[error("--device {0}")]
    Device(#[from] scratchwork::DeviceNameError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error("{}: `{key}` {problem}", path.display())]
    Reference { path: PathBuf, key: String, problem: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (line, passed) = match compare(&args.dir, &args.device) {
        Ok(compared) => compared,
        Err(e) => return exit(Err::<String, _>(e)),
    };
    let code = finish(line);
    if !passed {
        say("hf_parity: the bar is missed (logits 1e-4, loss 1e-5, gradients 1e-3, greedy and saved equal)");
        return ExitCode::FAILURE;
    }
    code
}

fn compare(dir: &Path, device: &str) -> Result<(serde_json::Value, bool), ParityError> {
    let device = scratchwork::device(device)?;
    let (model, notices) = DeepseekV3ForCausalLM::from_pretrained(dir, DType::F32, &device)?;
    notices.iter().for_each(say);
    let reference = Reference::load(&dir.join("reference.safetensors"), model.config().vocab_size)?;

    let ids = &reference.ids.to_device(&device);
    let logits = model.forward(ids).value();
    let logits_max_abs = max_abs(&logits, reference.get("logits", logits.dims())?);
    let loss = model.loss(ids);
    let loss_abs = max_abs(&loss.value(), reference.get("loss", &[])?);
    loss.backward();
    let (grad_max_rel, worst_grad) = reference.compare_gradients(&model)?;
    let greedy_equal = reference.greedy_equal(&model)?;
    let saved_equal = saved_equal(&model)?;

    // Not `<`: a NaN misses the bar.
    let passed = logits_max_abs <= BAR.0 && loss_abs <= BAR.1 && grad_max_rel <= BAR.2 && greedy_equal && saved_equal;
    let line = serde_json::json!({
        "logits_max_abs": logits_max_abs, "loss_abs": loss_abs, "grad_max_rel": grad_max_rel, "worst_grad": worst_grad,
        "greedy_equal": greedy_equal, "saved_equal": saved_equal,
    });
    Ok((line, passed))
}

struct Reference {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    ids: Tensor,
}

impl Reference {
    fn load(path: &Path, vocab_size: usize) -> Result<Self, ParityError> {
        let tensors = load_tensors(path, &Device::cpu())?;
        let problem = |key: &str, problem: String| ParityError::Reference { path: path.into(), key: key.into(), problem };
        let ids = tensors.get("input_ids").ok_or_else(|| problem("input_ids", "is missing".into()))?;
        if !ids.dtype().is_int() || ids.rank() != 2 || ids.dims()[0] == 0 || ids.dims()[1] < 2 {
            return Err(problem("input_ids", format!("is {ids:?}, expected integers [batch, seq] with at least two tokens")));
        }
        let ids = ids.to_dtype(DType::I64);
        if let Some(id) = ids.to_vec::<i64>().into_iter().find(|&id| id < 0 || id >= vocab_size as i64) {
            return Err(problem("input_ids", format!("holds {id}, but the vocabulary has {vocab_size} tokens")));
        }
        Ok(Reference { path: path.into(), tensors, ids })
    }

    fn problem(&self, key: &str, problem: impl Into<String>) -> ParityError {
        ParityError::Reference { path: self.path.clone(), key: key.into(), problem: problem.into() }
    }

    fn get(&self, key: &str, shape: &[usize]) -> Result<&Tensor, ParityError> {
        match self.tensors.get(key) {
            None => Err(self.problem(key, "is missing")),
            Some(t) if t.dims() != shape => Err(self.problem(key, format!("has shape {}, expected {shape:?}", t.shape()))),
            Some(t) => Ok(t),
        }
    }

    /// The largest relative difference of a gradient, and whose. Those of experts may come one by one under hub names, or
    /// stacked as transformers has them. Every parameter is compared and every reference gradient used.
    fn compare_gradients(&self, model: &DeepseekV3ForCausalLM) -> Result<(f64, String), ParityError> {
        let mut ours: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, var) in model.named_parameters() {
            let grad = var.grad().ok_or_else(|| self.problem(&format!("grad.{name}"), "is ours to compute, but none was"))?;
            ours.insert(name, grad);
        }
        let mut worst = (0.0, String::new());
        for (key, theirs) in &self.tensors {
            let Some(name) = key.strip_prefix("grad.") else { continue };
            let grad = self.take(&mut ours, name, key)?;
            if grad.shape() != theirs.shape() {
                return Err(self.problem(key, format!("has shape {}, expected {}", theirs.shape(), grad.shape())));
            }
            let error = relative(&grad, theirs);
            if worst.1.is_empty() || error > worst.0 || error.is_nan() {
                worst = (error, name.to_owned());
            }
        }
        match ours.keys().next() {
            Some(name) => Err(self.problem(&format!("grad.{name}"), "is missing")),
            None => Ok(worst),
        }
    }

    /// Takes the gradient that the reference calls `name` out of ours.
    fn take(&self, ours: &mut BTreeMap<String, Tensor>, name: &str, key: &str) -> Result<Tensor, ParityError> {
        if let Some(grad) = ours.remove(name) {
            return Ok(grad);
        }
        let parts: &[&str] = match name.rsplit_once(".experts.") {
            Some((_, "gate_up_proj")) => &["gate_proj", "up_proj"],
            Some((_, "down_proj")) => &["down_proj"],
            _ => return Err(self.problem(key, "belongs to no parameter")),
        };
        let (layer, _) = name.rsplit_once('.').expect("found a dot above");
        let mut experts = Vec::new();
        for e in 0.. {
            let own: Vec<Tensor> = parts.iter().filter_map(|p| ours.remove(&format!("{layer}.{e}.{p}.weight"))).collect();
            if own.len() < parts.len() {
                break;
            }
            experts.push(Tensor::cat(&own, 0));
        }
        if experts.is_empty() { Err(self.problem(key, "belongs to no parameter")) } else { Ok(Tensor::stack(&experts, 0)) }
    }

    /// Whether greedy decoding over a cache continues `input_ids` as the reference does.
    fn greedy_equal(&self, model: &DeepseekV3ForCausalLM) -> Result<bool, ParityError> {
        let theirs = self.tensors.get("greedy").ok_or_else(|| self.problem("greedy", "is missing"))?;
        let (batch, seq) = (self.ids.dims()[0], self.ids.dims()[1]);
        if !theirs.dtype().is_int() || theirs.rank() != 2 || theirs.dims()[0] != batch || theirs.dims()[1] < seq {
            return Err(self.problem("greedy", format!("is {theirs:?}, expected integers [{batch}, {seq} or more]")));
        }
        let rows = |t: &Tensor| -> Vec<Vec<i64>> {
            t.to_dtype(DType::I64).to_vec::<i64>().chunks(t.dims()[1]).map(<[i64]>::to_vec).collect()
        };
        let prompts = rows(&self.ids);
        let options = Generate {
            max_new_tokens: theirs.dims()[1] - seq,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            ..Generate::default()
        };
        let ours = model.generate(&prompts, &options)?;
        let whole = |prompt: &Vec<i64>, tokens: &[i64]| [prompt, tokens].concat();
        Ok(ours.iter().zip(&prompts).zip(rows(theirs)).all(|((o, prompt), theirs)| whole(prompt, &o.tokens) == theirs))
    }
}

/// Whether a saved and reloaded model is the same, bit for bit.
fn saved_equal(model: &DeepseekV3ForCausalLM) -> Result<bool, ParityError> {
    let folder = std::env::temp_dir().join(format!("hf_parity.{}", std::process::id()));
    let again =
        model.save_pretrained(&folder).and_then(|()| DeepseekV3ForCausalLM::from_pretrained(&folder, DType::F32, &Device::cpu()));
    let removed = std::fs::remove_dir_all(&folder);
    // A folder that could not even be made cannot be removed either: the first error is the one to report.
    let (again, _) = again?;
    removed.map_err(|source| ParityError::Io { path: folder, source })?;
    let bits = |model: &DeepseekV3ForCausalLM| -> Vec<(String, Vec<usize>, Vec<u8>)> {
        model.state_dict().into_iter().map(|(name, t)| (name, t.dims().to_vec(), t.to_bytes())).collect()
    };
    Ok(bits(model) == bits(&again))
}

fn max_abs(a: &Tensor, b: &Tensor) -> f64 {
    let pairs = a.to_f64_vec().into_iter().zip(b.to_f64_vec());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

/// Norm of the difference over the norm of the reference; where that is zero, the norm itself.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let (a, b) = (a.to_f64_vec(), b.to_f64_vec());
    let difference = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
    let size = norm(&mut b.iter().copied());
    if size > 0.0 { difference / size } else { difference }
}
