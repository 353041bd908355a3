//! Root-mean-square norm.

use super::reduce::reduce_to;
use super::{Cuda, typed};
use crate::kernels::NORM;
use crate::layouts::Numbers;
use tensor::shape::Shape;
use tensor::{DType, ReduceOp, Tensor};

/// Rows whose weight gradients one block adds up.
const PART: usize = 1 << 11;

fn weight_stride(weight: Option<&Tensor>) -> usize {
    weight.map_or(0, |w| w.strides()[0])
}

pub fn rms_norm(cuda: &Cuda, x: &Tensor, weight: Option<&Tensor>, eps: f64) -> (Tensor, Tensor) {
    let (rows, n) = (x.dims()[0], x.dims()[1]);
    let (y, rstd) = (cuda.empty(x.shape(), x.dtype()), cuda.empty([rows, 1], x.dtype().accumulator()));
    let args = cuda.args().tensor(&y).tensor(&rstd).tensor(x).optional(weight).value(eps);
    let args = args.sizes(&[n, x.strides()[0], x.strides()[1], weight_stride(weight)]);
    cuda.rows(NORM, &typed("rms_norm", x.dtype()), rows, n, args, &[&y, &rstd]);
    (y, rstd)
}

pub fn rms_norm_backward(
    cuda: &Cuda,
    grad: &Tensor,
    x: &Tensor,
    weight: Option<&Tensor>,
    rstd: &Tensor,
) -> (Tensor, Option<Tensor>) {
    let (rows, n, rstd) = (x.dims()[0], x.dims()[1], rstd.contiguous());
    let strides = [grad.strides()[0], grad.strides()[1], x.strides()[0], x.strides()[1]];
    let dx = cuda.empty(x.shape(), x.dtype());
    let args = cuda.args().tensor(&dx).tensor(grad).tensor(x).optional(weight).tensor(&rstd);
    let args = args.size(n).sizes(&strides).size(weight_stride(weight));
    cuda.rows(NORM, &typed("rms_norm_backward", x.dtype()), rows, n, args, &[&dx]);
    (dx, weight.map(|w| weight_gradient(cuda, grad, x, &rstd, strides, w.dtype())))
}

fn weight_gradient(cuda: &Cuda, grad: &Tensor, x: &Tensor, rstd: &Tensor, strides: [usize; 4], dtype: DType) -> Tensor {
    let (rows, n) = (x.dims()[0], x.dims()[1]);
    let parts = rows.div_ceil(PART);
    let partial = cuda.empty([n, parts], rstd.dtype());
    let args = cuda.args().tensor(&partial).tensor(grad).tensor(x).tensor(rstd).sizes(&[rows, n, PART, parts]).sizes(&strides);
    cuda.launch(NORM, &typed("rms_norm_weight", x.dtype()), n.div_ceil(32) * parts, [32, 8], args, &[&partial]);
    let one = |n: usize| Numbers::from_slice(&[n]);
    reduce_to(cuda, ReduceOp::Sum, &partial, (one(n), one(parts)), (one(parts), one(1)), Shape::from(n), dtype)
}
