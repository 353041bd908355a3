//! [`Call`]: the arguments of a case bound to the parameters of an operation.
//!
//! An argument is taken by name; what nobody has taken in the end is unsupported, so that no argument is silently ignored.

use super::manifest::{Arg, Case};
use autograd::{Var, VarOperand};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tensor::{DType, Scalar, Tensor};

/// Why a case cannot be run.
pub(crate) type Unsupported = String;

/// A tensor or a number.
pub(crate) enum Value {
    /// A tensor.
    Var(Var),
    /// A number.
    Scalar(Scalar),
}

impl<'a> From<&'a Value> for VarOperand<'a> {
    fn from(v: &'a Value) -> Self {
        match v {
            Value::Var(v) => VarOperand::Var(v),
            Value::Scalar(s) => VarOperand::Scalar(*s),
        }
    }
}

/// PyTorch's suite calls two operations with the operand that has a gradient in front, though they are documented otherwise; the
/// dtypes tell.
fn differentiable_first(op: &str, case: &Case, operands: &BTreeMap<String, Var>) -> Option<&'static [&'static str]> {
    let float = |i: usize| match case.args.get(i) {
        Some(Arg::Tensor(key)) => Some(operands[key].dtype().is_float()),
        _ => None,
    };
    match (op, float(0), float(1)) {
        ("where", Some(true), Some(false)) => Some(&["input", "condition", "other"]),
        ("embedding", Some(true), Some(false)) => {
            Some(&["weight", "input", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"])
        }
        _ => None,
    }
}

/// One call with its arguments by name.
pub(crate) struct Call<'a> {
    /// The operation, without `nn.functional.`.
    pub op: &'a str,
    case: &'a Case,
    operands: &'a BTreeMap<String, Var>,
    bound: RefCell<BTreeMap<&'static str, Arg>>,
}

impl<'a> Call<'a> {
    /// Binds positional and keyword arguments as Python does.
    pub fn bind(case: &'a Case, operands: &'a BTreeMap<String, Var>) -> Result<Call<'a>, Unsupported> {
        let op = ["torch.", "Tensor.", "nn.functional."].iter().fold(case.op.as_str(), |op, p| op.strip_prefix(p).unwrap_or(op));
        let names = super::dispatch::parameters(op).ok_or_else(|| format!("operation `{}`", case.op))?;
        let names = differentiable_first(op, case, operands).unwrap_or(names);
        let mut bound = BTreeMap::new();
        for (i, arg) in case.args.iter().enumerate() {
            match names.get(i) {
                // `x.reshape(2, 3)` for `x.reshape([2, 3])`.
                Some(name) if name.starts_with('*') && matches!(arg, Arg::Int(_)) => {
                    bound.insert(&name[1..], Arg::List(case.args[i..].to_vec()));
                    break;
                }
                Some(name) => {
                    bound.insert(name.trim_start_matches('*'), arg.clone());
                }
                None => return Err(format!("{} positional arguments for {names:?}", case.args.len())),
            }
        }
        for (key, arg) in &case.kwargs {
            let key = match key.as_str() {
                "axis" => "dim",
                "keepdims" => "keepdim",
                "self" | "x" => "input",
                other => other,
            };
            let name = names.iter().map(|n| n.trim_start_matches('*')).find(|n| *n == key);
            let name = name.ok_or_else(|| format!("argument `{key}` of `{op}`"))?;
            if bound.insert(name, arg.clone()).is_some() {
                return Err(format!("argument `{key}` of `{op}` given twice"));
            }
        }
        bound.retain(|_, arg| !matches!(arg, Arg::None(_)));
        Ok(Call { op, case, operands, bound: RefCell::new(bound) })
    }

    /// That every argument was taken.
    pub fn finish(&self) -> Result<(), Unsupported> {
        match self.bound.borrow().iter().next() {
            Some((name, arg)) => Err(format!("argument `{name}` = {arg:?} of `{}`", self.op)),
            None => Ok(()),
        }
    }

    /// Whether an argument (not `None`) is there and not yet taken.
    pub fn has(&self, name: &str) -> bool {
        self.bound.borrow().contains_key(name)
    }

    /// Takes an argument; `None` where it is not given.
    pub fn take(&self, name: &str) -> Option<Arg> {
        self.bound.borrow_mut().remove(name)
    }

    /// What `take` makes of an argument, if it is given.
    pub fn optional<T>(
        &self,
        name: &str,
        take: impl Fn(&Self, &str) -> Result<T, Unsupported>,
    ) -> Result<Option<T>, Unsupported> {
        if self.has(name) { take(self, name).map(Some) } else { Ok(None) }
    }

    fn need(&self, name: &str) -> Result<Arg, Unsupported> {
        self.take(name).ok_or_else(|| format!("`{}` without `{name}`", self.op))
    }

    fn wrong<T>(&self, name: &str, arg: Arg) -> Result<T, Unsupported> {
        Err(format!("argument `{name}` = {arg:?} of `{}`", self.op))
    }

    /// A tensor through which a gradient may flow.
    pub fn var(&self, name: &str) -> Result<Var, Unsupported> {
        match self.need(name)? {
            Arg::Tensor(key) => Ok(self.operands[&key].clone()),
            other => self.wrong(name, other),
        }
    }

    /// A tensor that has no gradient here.
    pub fn constant(&self, name: &str) -> Result<Tensor, Unsupported> {
        match self.need(name)? {
            Arg::Tensor(key) if self.case.grads.contains_key(&key) => Err(format!("gradient of `{name}` of `{}`", self.op)),
            Arg::Tensor(key) => Ok(self.operands[&key].value()),
            other => self.wrong(name, other),
        }
    }

    /// A list of tensors.
    pub fn vars(&self, name: &str) -> Result<Vec<Var>, Unsupported> {
        let one = |arg| match arg {
            Arg::Tensor(key) => Ok(self.operands[&key].clone()),
            other => self.wrong(name, other),
        };
        match self.need(name)? {
            Arg::List(list) => list.into_iter().map(one).collect(),
            other => self.wrong(name, other),
        }
    }

    /// A tensor or a number.
    pub fn value(&self, name: &str) -> Result<Value, Unsupported> {
        match self.need(name)? {
            Arg::Tensor(key) => Ok(Value::Var(self.operands[&key].clone())),
            Arg::Int(i) => Ok(Value::Scalar(Scalar::Int(i))),
            Arg::Float(x) => Ok(Value::Scalar(Scalar::Float(x))),
            Arg::Bool(b) => Ok(Value::Scalar(Scalar::Bool(b))),
            other => self.wrong(name, other),
        }
    }

    /// A number.
    pub fn scalar(&self, name: &str) -> Result<Scalar, Unsupported> {
        match self.value(name)? {
            Value::Scalar(s) => Ok(s),
            Value::Var(v) => Err(format!("argument `{name}` of `{}`: a tensor of shape {}", self.op, v.shape())),
        }
    }

    /// A number or a default.
    pub fn scalar_or(&self, name: &str, default: impl Into<Scalar>) -> Result<Scalar, Unsupported> {
        Ok(self.optional(name, Call::scalar)?.unwrap_or(default.into()))
    }

    /// A float (integers count), if given.
    pub fn optional_float(&self, name: &str) -> Result<Option<f64>, Unsupported> {
        Ok(self.optional(name, Call::scalar)?.map(Scalar::as_f64))
    }

    /// A float or a default.
    pub fn float_or(&self, name: &str, default: f64) -> Result<f64, Unsupported> {
        Ok(self.optional_float(name)?.unwrap_or(default))
    }

    /// An integer; a tensor of one integer counts.
    pub fn int(&self, name: &str) -> Result<isize, Unsupported> {
        match self.need(name)? {
            Arg::Int(i) => Ok(i as isize),
            Arg::Tensor(key) if self.operands[&key].dtype().is_int() && self.operands[&key].numel() == 1 => {
                Ok(self.operands[&key].value().to_dtype(DType::I64).item::<i64>() as isize)
            }
            other => self.wrong(name, other),
        }
    }

    /// An integer or a default.
    pub fn int_or(&self, name: &str, default: isize) -> Result<isize, Unsupported> {
        Ok(self.optional(name, Call::int)?.unwrap_or(default))
    }

    /// A size.
    pub fn size(&self, name: &str) -> Result<usize, Unsupported> {
        let size = self.int(name)?;
        usize::try_from(size).map_err(|_| format!("{name} = {size}"))
    }

    /// A boolean or a default.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool, Unsupported> {
        match self.take(name) {
            None => Ok(default),
            Some(Arg::Bool(b)) => Ok(b),
            Some(other) => self.wrong(name, other),
        }
    }

    /// A string or a default.
    pub fn str_or(&self, name: &str, default: &str) -> Result<String, Unsupported> {
        match self.take(name) {
            None => Ok(default.into()),
            Some(Arg::Str(s)) => Ok(s),
            Some(other) => self.wrong(name, other),
        }
    }

    /// A list of integers, or one; `None` if not given.
    pub fn optional_ints(&self, name: &str) -> Result<Option<Vec<isize>>, Unsupported> {
        let list = match self.take(name) {
            None => return Ok(None),
            Some(Arg::List(list)) => list,
            Some(one) => vec![one],
        };
        let int = |arg| match arg {
            Arg::Int(i) => Ok(i as isize),
            other => self.wrong(name, other),
        };
        list.into_iter().map(int).collect::<Result<_, _>>().map(Some)
    }

    /// A list of integers, or one.
    pub fn ints(&self, name: &str) -> Result<Vec<isize>, Unsupported> {
        self.optional_ints(name)?.ok_or_else(|| format!("`{}` without `{name}`", self.op))
    }

    /// A list of sizes, or one.
    pub fn sizes(&self, name: &str) -> Result<Vec<usize>, Unsupported> {
        let bad = |_| format!("argument `{name}` of `{}`: a negative size", self.op);
        self.ints(name)?.into_iter().map(|i| usize::try_from(i).map_err(bad)).collect()
    }

    /// An operand converted to the `dtype` argument, if that is given.
    pub fn cast(&self, x: Var) -> Result<Var, Unsupported> {
        let Some(arg) = self.take("dtype") else { return Ok(x) };
        let Arg::Str(name) = &arg else { return self.wrong("dtype", arg) };
        let dtype = match name.strip_prefix("torch.").unwrap_or(name) {
            "float64" | "double" => DType::F64,
            "float32" | "float" => DType::F32,
            "bfloat16" => DType::BF16,
            "float16" | "half" => DType::F16,
            "int64" | "long" => DType::I64,
            "int32" | "int" => DType::I32,
            "uint8" => DType::U8,
            "bool" => DType::Bool,
            _ => return self.wrong("dtype", arg),
        };
        let cast = if x.requires_grad() { x.to_dtype(dtype) } else { Var::constant(x.value().to_dtype(dtype)) };
        Ok(cast)
    }

    /// Takes the boolean that an overload has in the place of `name`.
    pub fn overload(&self, name: &str) -> Option<bool> {
        let found = self.bound.borrow().get(name).cloned();
        let Some(Arg::Bool(b)) = found else { return None };
        self.take(name);
        Some(b)
    }

    /// That an argument has the one value that is supported, or is not given.
    pub fn only(&self, name: &str, supported: Arg) -> Result<(), Unsupported> {
        match self.take(name) {
            Some(arg) if arg != supported => self.wrong(name, arg),
            _ => Ok(()),
        }
    }
}
