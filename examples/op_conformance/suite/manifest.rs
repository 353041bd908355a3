//! `manifest.json`.

use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a suite cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// JSON, but not a list of cases.
    #[error("{}: case {number}: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Which case, counted from 0.
        number: usize,
        /// What was expected.
        problem: String,
    },
    /// The tensors cannot be read.
    #[error(transparent)]
    Tensors(#[from] nn::CheckpointError),
    /// A case names a tensor that is not there.
    #[error("{}: case {case} names `{key}`, which is not there", path.display())]
    Key {
        /// The file of tensors.
        path: PathBuf,
        /// The case.
        case: String,
        /// The tensor.
        key: String,
    },
}

/// An argument of a case, in JSON `{"int": 3}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arg {
    /// The tensor of a key.
    Tensor(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(#[serde(deserialize_with = "float")] f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(String),
    /// Python's `None`, whatever stands there.
    None(IgnoredAny),
    /// A list or tuple.
    List(Vec<Arg>),
}

/// One call of an operation with what PyTorch gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// `torch.<op>`, or `nn.functional.<op>`.
    pub op: String,
    /// Positional arguments.
    pub args: Vec<Arg>,
    /// Keyword arguments.
    pub kwargs: BTreeMap<String, Arg>,
    /// Keys of the results.
    pub outputs: Vec<String>,
    /// For each result the key of its gradient, if it has one.
    pub grad_outputs: Vec<Option<String>>,
    /// For each operand that has a gradient the gradient's key.
    pub grads: BTreeMap<String, String>,
}

impl Case {
    /// Keys of the operands.
    pub fn inputs(&self) -> Vec<&str> {
        fn collect<'a>(arg: &'a Arg, keys: &mut Vec<&'a str>) {
            match arg {
                Arg::Tensor(key) => keys.push(key),
                Arg::List(list) => list.iter().for_each(|a| collect(a, keys)),
                _ => {}
            }
        }
        let mut keys = vec![];
        self.args.iter().chain(self.kwargs.values()).for_each(|a| collect(a, &mut keys));
        keys.extend(self.grads.keys().map(String::as_str));
        keys
    }

    /// Every key it names.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys = self.inputs();
        keys.extend(self.outputs.iter().chain(self.grad_outputs.iter().flatten()).chain(self.grads.values()).map(String::as_str));
        keys
    }
}

/// Reads the cases.
pub fn read(path: &Path) -> Result<Vec<Case>, SuiteError> {
    let text = std::fs::read_to_string(path).map_err(|source| SuiteError::Io { path: path.into(), source })?;
    let value: Value =
        serde_json::from_str(&quote_specials(&text)).map_err(|source| SuiteError::Json { path: path.into(), source })?;
    let wrong = |number, problem| SuiteError::Manifest { path: path.into(), number, problem };
    let list = value.as_array().ok_or_else(|| wrong(0, "the manifest is not a list".into()))?;
    let case = |(number, v): (usize, &Value)| match Case::deserialize(v) {
        Ok(case) if case.grad_outputs.len() > case.outputs.len() => {
            Err(wrong(number, format!("{} gradients for {} outputs", case.grad_outputs.len(), case.outputs.len())))
        }
        case => case.map_err(|e| wrong(number, e.to_string())),
    };
    list.iter().enumerate().map(case).collect()
}

/// Python writes floats that JSON does not have as bare `NaN`, `Infinity` and `-Infinity`; here they become strings.
fn quote_specials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(c) = rest.chars().next() {
        let special = ["NaN", "Infinity", "-Infinity"].into_iter().find(|s| !quoted && rest.starts_with(s));
        let taken = match special {
            Some(s) => {
                out.push_str(&format!("\"{s}\""));
                s.len()
            }
            None => {
                // A backslash takes the next character with it.
                let escaped = quoted && c == '\\';
                quoted ^= c == '"';
                let taken: usize = rest.chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum();
                out.push_str(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// A float, or one of the words that [`quote_specials`] has quoted.
fn float<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    let value = Value::deserialize(d)?;
    let float = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    float.ok_or_else(|| D::Error::custom(format!("{value} is not a float")))
}
