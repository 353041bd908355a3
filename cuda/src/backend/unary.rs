//! Elementwise operations of one operand, and SwiGLU.

use super::{Cuda, typed};
use crate::kernels::UNARY;
use crate::layouts::layouts;
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
    cuda.each(UNARY, &typed("unary", x.dtype()), x.numel(), args.layout(&layouts([x])), &[&y]);
    y
}

pub fn swiglu(cuda: &Cuda, gate: &Tensor, up: &Tensor) -> Tensor {
    let y = cuda.empty(gate.shape(), gate.dtype());
    let args = cuda.args().tensor(&y).tensor(gate).tensor(up).size(gate.numel()).layout(&layouts([gate, up]));
    cuda.each(UNARY, &typed("swiglu", gate.dtype()), gate.numel(), args, &[&y]);
    y
}

pub fn swiglu_backward(cuda: &Cuda, grad: &Tensor, gate: &Tensor, up: &Tensor) -> (Tensor, Tensor) {
    let (d_gate, d_up) = (cuda.empty(gate.shape(), gate.dtype()), cuda.empty(gate.shape(), gate.dtype()));
    let args = cuda.args().tensor(&d_gate).tensor(&d_up).tensor(grad).tensor(gate).tensor(up).size(gate.numel());
    let args = args.layout(&layouts([grad, gate, up]));
    cuda.each(UNARY, &typed("swiglu_backward", gate.dtype()), gate.numel(), args, &[&d_gate, &d_up]);
    (d_gate, d_up)
}
