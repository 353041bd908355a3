//! Elementwise operations of two operands, comparisons, and the choice between two by a third.

use crate::gpu::{Cuda, moving, typed};
use crate::kernels::BINARY;
use tensor::{BinaryOp, DType, Tensor};

/// The kernels' `Op`, or `Comparison` for predicates.
fn code(op: BinaryOp) -> u32 {
    use BinaryOp::*;
    match op {
        Add | Eq => 0,
        Sub | Ne => 1,
        Mul | Lt => 2,
        Div | Le => 3,
        Pow | Gt => 4,
        Maximum | Ge => 5,
        Minimum | LogicalAnd => 6,
        LogicalOr => 7,
    }
}

pub fn binary(cuda: &Cuda, op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
    let op = match (op, a.dtype()) {
        (BinaryOp::Add, DType::Bool) => BinaryOp::Maximum,
        (BinaryOp::Mul, DType::Bool) => BinaryOp::Minimum,
        _ => op,
    };
    let (name, dtype) = if op.is_predicate() { ("compare", DType::Bool) } else { ("binary", a.dtype()) };
    let y = cuda.empty(a.shape(), dtype);
    let args = cuda.args().tensor(&y).tensor(a).tensor(b).value(code(op)).size(a.numel()).loops_over([a, b]);
    cuda.each(BINARY, &typed(name, a.dtype()), a.numel(), args, &[&y]);
    y
}

pub fn where_(cuda: &Cuda, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let y = cuda.empty(a.shape(), a.dtype());
    let args = cuda.args().tensor(&y).tensor(condition).tensor(a).tensor(b).size(a.numel());
    cuda.each(BINARY, &moving("where", a.dtype()), a.numel(), args.loops_over([condition, a, b]), &[&y]);
    y
}
