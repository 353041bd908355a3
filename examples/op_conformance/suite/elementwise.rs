//! Elementwise operations.

use super::arguments::{Call, Value};
use super::dispatch::{Prepared, ready};
use super::manifest::Arg;
use autograd::{Var, VarOperand};
use tensor::{BinaryOp, DType, Gelu, Operand, Scalar, Tensor};

pub(crate) fn prepare<'a>(call: &'a Call<'_>) -> Prepared<'a> {
    let unary: Option<fn(&Var) -> Var> = match call.op {
        "neg" => Some(Var::neg),
        "abs" => Some(Var::abs),
        "exp" => Some(Var::exp),
        "log" => Some(Var::log),
        "sqrt" => Some(Var::sqrt),
        "rsqrt" => Some(Var::rsqrt),
        "sin" => Some(Var::sin),
        "cos" => Some(Var::cos),
        "tanh" => Some(Var::tanh),
        "sigmoid" => Some(Var::sigmoid),
        "reciprocal" => Some(Var::reciprocal),
        "square" => Some(Var::square),
        "silu" => Some(Var::silu),
        "relu" => Some(Var::relu),
        _ => None,
    };
    if let Some(f) = unary {
        let x = call.var("input")?;
        call.only("inplace", Arg::Bool(false))?;
        return ready(move || f(&x));
    }
    match call.op {
        "gelu" => {
            let x = call.var("input")?;
            let approximate = match call.str_or("approximate", "none")?.as_str() {
                "none" => Gelu::None,
                "tanh" => Gelu::Tanh,
                other => return Err(format!("approximate = {other}")),
            };
            ready(move || x.gelu(approximate))
        }
        "softplus" => {
            let (x, beta, threshold) = (call.var("input")?, call.float_or("beta", 1.0)?, call.float_or("threshold", 20.0)?);
            ready(move || x.softplus(beta, threshold))
        }
        "add" | "sub" => {
            let (a, b, alpha) = (call.var("input")?, call.value("other")?, call.scalar_or("alpha", 1)?);
            let add = call.op == "add";
            ready(move || match (add, alpha) {
                (true, Scalar::Int(1)) => a.add(&b),
                (true, _) => a.add_alpha(&b, alpha),
                (false, Scalar::Int(1)) => a.sub(&b),
                (false, _) => a.sub_alpha(&b, alpha),
            })
        }
        "mul" | "div" | "maximum" | "minimum" => {
            // A rounding mode is left over, hence unsupported.
            let (a, b) = (call.var("input")?, call.value("other")?);
            let op = call.op;
            ready(move || match op {
                "mul" => a.mul(&b),
                "div" => a.div(&b),
                "maximum" => a.maximum(&b),
                _ => a.minimum(&b),
            })
        }
        "pow" => {
            let (a, b) = (call.value("input")?, call.value("exponent")?);
            ready(move || as_var(&a, &b).pow(&b))
        }
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => {
            let (a, b) = (call.var("input")?.value(), call.value("other")?);
            let op = match call.op {
                "eq" => BinaryOp::Eq,
                "ne" => BinaryOp::Ne,
                "lt" => BinaryOp::Lt,
                "le" => BinaryOp::Le,
                "gt" => BinaryOp::Gt,
                _ => BinaryOp::Ge,
            };
            ready(move || match &b {
                Value::Var(v) => Var::constant(a.binary(op, Operand::Tensor(&v.value()))),
                Value::Scalar(s) => Var::constant(a.binary(op, Operand::Scalar(*s))),
            })
        }
        "clamp" => {
            let x = call.var("input")?;
            match (call.optional("min", Call::value)?, call.optional("max", Call::value)?) {
                (Some(lo), Some(hi)) => ready(move || x.clamp(&lo, &hi)),
                (Some(lo), None) => ready(move || x.clamp_min(&lo)),
                (None, Some(hi)) => ready(move || x.clamp_max(&hi)),
                (None, None) => Err("`clamp` without a bound".into()),
            }
        }
        "where" => {
            let (condition, a, b) = (call.constant("condition")?, call.value("input")?, call.value("other")?);
            if !matches!(condition.dtype(), DType::Bool | DType::U8) {
                return Err(format!("a condition of {}", condition.dtype()));
            }
            ready(move || Var::where_(&condition.to_dtype(DType::Bool), &a, &b))
        }
        "masked_fill" => {
            let (x, mask, value) = (call.var("input")?, call.constant("mask")?, call.value("value")?);
            ready(move || x.masked_fill(&mask, VarOperand::from(&value)))
        }
        _ => Ok(None),
    }
}

/// A number on the left as a 0-d tensor, of the other operand's dtype where that is of the same kind.
fn as_var(a: &Value, b: &Value) -> Var {
    let scalar = match a {
        Value::Var(v) => return v.clone(),
        Value::Scalar(s) => *s,
    };
    let dtype = match b {
        Value::Var(v) if v.dtype().is_float() || !matches!(scalar, Scalar::Float(_)) => v.dtype(),
        _ => scalar.default_dtype(),
    };
    let device = match b {
        Value::Var(v) => v.value().device().clone(),
        Value::Scalar(_) => tensor::Device::cpu(),
    };
    Var::constant(Tensor::scalar(scalar, dtype, &device))
}
