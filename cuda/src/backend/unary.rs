//! Elementwise operations of one operand.

use crate::gpu::{Cuda, typed};
use crate::kernels::UNARY;
use tensor::{DType, Gelu, Tensor, UnaryOp};

/// The kernels' `Op`.
fn code(op: UnaryOp) -> u32 {
    use UnaryOp::*;
    match op {
        Neg => 0,
        Abs => 1,
        Exp => 2,
        Log => 3,
        Sqrt => 4,
        Rsqrt => 5,
        Sin => 6,
        Cos => 7,
        Tanh => 8,
        Sigmoid => 9,
        Silu => 10,
        Gelu(self::Gelu::None) => 11,
        Gelu(self::Gelu::Tanh) => 12,
        Relu => 13,
        Softplus { .. } => 14,
        Reciprocal => 15,
        Square => 16,
        Sign => 17,
        Floor => 18,
        Erf => 19,
        LogicalNot => 20,
    }
}

pub fn unary(cuda: &Cuda, op: UnaryOp, x: &Tensor) -> Tensor {
    let (beta, threshold) = match op {
        UnaryOp::Softplus { beta, threshold } => (beta, threshold),
        _ => (1.0, 0.0),
    };
    let y = cuda.empty(x.shape(), if op == UnaryOp::LogicalNot { DType::Bool } else { x.dtype() });
    let args = cuda.args().tensor(&y).tensor(x).value(code(op)).value(beta).value(threshold).size(x.numel());
    cuda.each(UNARY, &typed("unary", x.dtype()), x.numel(), args.loops_over([x]), &[&y]);
    y
}
