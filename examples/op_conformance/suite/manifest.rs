//! `manifest.json`.

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

/// An argument of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// The tensor of a key.
    Tensor(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(String),
    /// Python's `None`.
    None,
    /// A list or tuple.
    List(Vec<Arg>),
}

/// One call of an operation with what PyTorch gave.
#[derive(Clone, Debug)]
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
    list.iter().enumerate().map(|(i, v)| case(v).map_err(|problem| wrong(i, problem))).collect()
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

fn case(v: &Value) -> Result<Case, String> {
    let field = |name: &str| v.get(name).ok_or_else(|| format!("`{name}` is missing"));
    let text = |v: &Value, what: &str| v.as_str().map(str::to_owned).ok_or_else(|| format!("{what} is not a string"));
    let list = |name: &str| field(name)?.as_array().ok_or_else(|| format!("`{name}` is not a list"));
    let map = |name: &str| field(name)?.as_object().ok_or_else(|| format!("`{name}` is not an object"));
    let case = Case {
        id: text(field("id")?, "`id`")?,
        op: text(field("op")?, "`op`")?,
        args: list("args")?.iter().map(arg).collect::<Result<_, _>>()?,
        kwargs: map("kwargs")?.iter().map(|(k, v)| Ok((k.clone(), arg(v)?))).collect::<Result<_, String>>()?,
        outputs: list("outputs")?.iter().map(|v| text(v, "an output")).collect::<Result<_, _>>()?,
        grad_outputs: list("grad_outputs")?
            .iter()
            .map(|v| if v.is_null() { Ok(None) } else { text(v, "a gradient").map(Some) })
            .collect::<Result<_, _>>()?,
        grads: map("grads")?.iter().map(|(k, v)| Ok((k.clone(), text(v, "a gradient")?))).collect::<Result<_, String>>()?,
    };
    if case.grad_outputs.len() > case.outputs.len() {
        return Err(format!("{} gradients for {} outputs", case.grad_outputs.len(), case.outputs.len()));
    }
    Ok(case)
}

fn arg(v: &Value) -> Result<Arg, String> {
    let wrong = || format!("{v} is not an argument");
    let (kind, value) = v.as_object().filter(|o| o.len() == 1).and_then(|o| o.iter().next()).ok_or_else(wrong)?;
    match (kind.as_str(), value) {
        ("tensor", Value::String(key)) => Ok(Arg::Tensor(key.clone())),
        ("int", v) => v.as_i64().map(Arg::Int).ok_or_else(wrong),
        ("float", Value::String(s)) => s.parse().map(Arg::Float).map_err(|_| wrong()),
        ("float", v) => v.as_f64().map(Arg::Float).ok_or_else(wrong),
        ("bool", Value::Bool(b)) => Ok(Arg::Bool(*b)),
        ("str", Value::String(s)) => Ok(Arg::Str(s.clone())),
        ("none", _) => Ok(Arg::None),
        ("list", Value::Array(list)) => Ok(Arg::List(list.iter().map(arg).collect::<Result<_, _>>()?)),
        _ => Err(wrong()),
    }
}
