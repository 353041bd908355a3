//! [`VarOperand`]: what the other side of an operation may be, and the operators.

use crate::graph::{Edge, Like};
use crate::var::Var;
use tensor::{Operand, Scalar, Tensor};

/// The other operand of an operation: a [`Var`], a tensor (a constant), or a number that takes the tensor's dtype where its
/// kind allows.
#[derive(Clone, Copy, Debug)]
pub enum VarOperand<'a> {
    /// A value through which a gradient may flow.
    Var(&'a Var),
    /// A constant.
    Tensor(&'a Tensor),
    /// A number.
    Scalar(Scalar),
}

impl VarOperand<'_> {
    /// The value, owned so that a rule can keep it.
    pub(crate) fn value(&self) -> Value {
        match *self {
            VarOperand::Var(v) => Value::Tensor(v.value()),
            VarOperand::Tensor(t) => Value::Tensor(t.clone()),
            VarOperand::Scalar(s) => Value::Scalar(s),
        }
    }

    pub(crate) fn edge(&self) -> Option<Edge> {
        match self {
            VarOperand::Var(v) => v.edge(),
            _ => None,
        }
    }

    pub(crate) fn requires_grad(&self) -> bool {
        matches!(self, VarOperand::Var(v) if v.requires_grad())
    }
}

/// A tensor or a number.
#[derive(Clone)]
pub(crate) enum Value {
    Tensor(Tensor),
    Scalar(Scalar),
}

impl Value {
    /// A tensor in the dtype that it is added up in; a number as it is.
    pub fn to_accumulator(&self) -> Value {
        match self {
            Value::Tensor(t) => Value::Tensor(t.to_accumulator()),
            Value::Scalar(s) => Value::Scalar(*s),
        }
    }

    /// What a gradient of it looks like; `None` for a number, which has none.
    pub fn like(&self) -> Option<Like> {
        match self {
            Value::Tensor(t) => Some(Like::of(t)),
            Value::Scalar(_) => None,
        }
    }
}

impl<'a> From<&'a Value> for Operand<'a> {
    fn from(v: &'a Value) -> Self {
        match v {
            Value::Tensor(t) => Operand::Tensor(t),
            Value::Scalar(s) => Operand::Scalar(*s),
        }
    }
}

impl<'a> From<&'a Var> for VarOperand<'a> {
    fn from(v: &'a Var) -> Self {
        VarOperand::Var(v)
    }
}
impl<'a> From<&'a Tensor> for VarOperand<'a> {
    fn from(t: &'a Tensor) -> Self {
        VarOperand::Tensor(t)
    }
}

tensor::operators!(Var, VarOperand);
