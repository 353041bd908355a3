//! A suite of operator cases: reading, running and judging them.

mod arguments;
mod compare;
mod dispatch;
mod elementwise;
mod manifest;
mod network;
mod rearrange;
mod reduction;

pub use compare::{ORDER, ROUNDING, tolerance};
pub use manifest::{Case, SuiteError};

use arguments::Call;
use autograd::Var;
use compare::{close, close_up_to_ties, same_choice};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Tensor};

/// One case's outcome.
#[derive(Debug)]
pub enum Verdict {
    /// Every output and gradient is within tolerance.
    Passed,
    /// Not all of PyTorch's results, but ours are as near to those in f64; the first difference.
    PassedInF64(String),
    /// What is not.
    Failed(String),
    /// Which operation or argument there is no counterpart for.
    Unsupported(String),
}

/// A result of an operation.
pub(crate) enum Output {
    /// Values, to be compared number by number.
    Value(Var),
    /// Positions along a dimension of `of` (flattened for `None`), to be compared by the values found there.
    Choice { of: Tensor, dim: Option<isize>, at: Tensor, distinct: bool },
}

/// What an operation gave.
pub(crate) struct Outputs {
    /// In PyTorch's order.
    pub all: Vec<Output>,
    /// The operand and dimension in which equal elements may have been exchanged (sort, topk).
    pub ties: Option<(Tensor, isize)>,
    /// The order of elements along that dimension is not defined (topk with `sorted=False`).
    pub unordered: bool,
}

impl From<Var> for Outputs {
    fn from(v: Var) -> Outputs {
        Outputs::from(vec![v])
    }
}
impl From<Vec<Var>> for Outputs {
    fn from(vars: Vec<Var>) -> Outputs {
        Outputs { all: vars.into_iter().map(Output::Value).collect(), ties: None, unordered: false }
    }
}

/// Cases and the tensors that they name.
pub struct Suite {
    cases: Vec<Case>,
    tensors: BTreeMap<String, Tensor>,
    path: PathBuf,
}

impl Suite {
    /// Reads `manifest.json` and `vectors.safetensors`, the tensors to `device`.
    ///
    /// # Errors
    /// If one of them is missing or corrupt, or a case names a tensor that is not there.
    pub fn load(dir: &Path, device: &Device) -> Result<Suite, SuiteError> {
        let cases = manifest::read(&dir.join("manifest.json"))?;
        let path = dir.join("vectors.safetensors");
        let tensors = nn::load_tensors(&path, device)?;
        let suite = Suite { cases, tensors, path };
        for case in &suite.cases {
            case.keys().into_iter().try_for_each(|key| suite.tensor(case, key).map(|_| ()))?;
        }
        Ok(suite)
    }

    /// All cases, in the manifest's order.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter()
    }

    fn tensor(&self, case: &Case, key: &str) -> Result<&Tensor, SuiteError> {
        let missing = || SuiteError::Key { path: self.path.clone(), case: case.id.clone(), key: key.into() };
        self.tensors.get(key).ok_or_else(missing)
    }

    /// Runs a case, forward and backward.
    pub fn run(&self, case: &Case) -> Verdict {
        let first = self.attempt(case, &BTreeMap::new());
        let Verdict::Failed(why) = first else { return first };
        match self.exact(case).map(|exact| self.attempt(case, &exact)) {
            Some(Verdict::Passed) => Verdict::PassedInF64(why),
            _ => Verdict::Failed(why),
        }
    }

    /// A case's operands, each `made` from the tensor of the file.
    fn operands(&self, case: &Case, made: impl Fn(&Tensor) -> Tensor) -> BTreeMap<String, Var> {
        let operand = |key: &str| {
            let value = made(&self.tensors[key]);
            (key.to_owned(), if case.grads.contains_key(key) { Var::parameter(value) } else { Var::constant(value) })
        };
        case.inputs().into_iter().map(operand).collect()
    }

    /// Outputs and gradients computed in f64, by PyTorch's keys; `None` where that fails.
    fn exact(&self, case: &Case) -> Option<BTreeMap<String, Tensor>> {
        let wide = |t: &Tensor| if t.dtype().is_float() { t.to_dtype(DType::F64) } else { t.clone() };
        let operands = self.operands(case, wide);
        let call = Call::bind(case, &operands).ok()?;
        let computed = catch_unwind(AssertUnwindSafe(|| {
            let outputs = dispatch::apply(&call).ok()?;
            let mut exact = BTreeMap::new();
            for ((output, key), grad) in outputs.all.iter().zip(&case.outputs).zip(&case.grad_outputs) {
                let Output::Value(v) = output else { continue };
                exact.insert(key.clone(), v.value());
                if let Some(grad) = grad.as_ref().filter(|_| v.requires_grad()) {
                    v.backward_with(&wide(&self.tensors[grad]));
                }
            }
            for (input, key) in &case.grads {
                exact.extend(operands[input].grad().map(|g| (key.clone(), g)));
            }
            Some(exact)
        }));
        computed.ok().flatten()
    }

    /// Runs a case and judges it, with the help of exact results where they are given.
    fn attempt(&self, case: &Case, exact: &BTreeMap<String, Tensor>) -> Verdict {
        let operands = self.operands(case, Tensor::clone);
        let call = match Call::bind(case, &operands) {
            Ok(call) => call,
            Err(why) => return Verdict::Unsupported(why),
        };
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let outputs = match dispatch::apply(&call) {
                Ok(outputs) => outputs,
                Err(why) => return Verdict::Unsupported(why),
            };
            match self.judge(case, &operands, &outputs, exact) {
                Ok(()) => Verdict::Passed,
                Err(why) => Verdict::Failed(why),
            }
        }));
        judged.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Verdict::Failed(format!("panicked: {}", text.unwrap_or_else(|| "without a message".into())))
        })
    }

    /// Compares outputs and gradients with PyTorch's.
    fn judge(
        &self,
        case: &Case,
        operands: &BTreeMap<String, Var>,
        outputs: &Outputs,
        exact: &BTreeMap<String, Tensor>,
    ) -> Result<(), String> {
        if outputs.all.len() != case.outputs.len() {
            return Err(format!("{} outputs, PyTorch gives {}", outputs.all.len(), case.outputs.len()));
        }
        for (i, (output, key)) in outputs.all.iter().zip(&case.outputs).enumerate() {
            let want = &self.tensors[key];
            let result = match (output, &outputs.ties) {
                (Output::Value(v), Some((_, dim))) if outputs.unordered => {
                    close(&v.value().sort(*dim, false).0, &want.sort(*dim, false).0, None)
                }
                (Output::Value(v), _) => close(&v.value(), want, exact.get(key)),
                (Output::Choice { of, dim, at, distinct }, _) => same_choice(of, *dim, at, want, *distinct, outputs.unordered),
            };
            result.map_err(|why| format!("output {i}: {why}"))?;
        }
        for (output, key) in outputs.all.iter().zip(&case.grad_outputs) {
            if let (Output::Value(v), Some(key)) = (output, key)
                && v.requires_grad()
            {
                v.backward_with(&self.tensors[key]);
            }
        }
        for (input, key) in &case.grads {
            let operand = &operands[input];
            let got = operand.grad().unwrap_or_else(|| operand.value().zeros_like());
            let result = match &outputs.ties {
                Some((of, dim)) => close_up_to_ties(of, *dim, &got, &self.tensors[key], outputs.unordered),
                None => close(&got, &self.tensors[key], exact.get(key)),
            };
            result.map_err(|why| format!("gradient of {input}: {why}"))?;
        }
        Ok(())
    }
}
