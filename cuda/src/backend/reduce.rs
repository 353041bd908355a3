//! Reductions, positions of extremes, running sums.

use crate::args::without;
use crate::gpu::{Cuda, numeric, typed, with};
use crate::kernels::REDUCE;
use tensor::layout::{Loops, Strides};
use tensor::shape::Shape;
use tensor::{DType, ReduceOp, Tensor};

/// Terms that one block reduces: longer reductions are cut into parts whose results are reduced once more.
const ROW_PART: usize = 1 << 16;
/// The same where neighbouring threads take neighbouring output elements.
const COLUMN_PART: usize = 1 << 11;
/// Below this many terms, one block per row would be mostly idle.
const FEW: usize = 32;

/// The kernels' `Op`.
fn code(op: ReduceOp) -> u32 {
    match op {
        ReduceOp::Sum => 0,
        ReduceOp::Max => 1,
        ReduceOp::Min => 2,
    }
}

pub fn reduce(cuda: &Cuda, op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor {
    let dtype = if op == ReduceOp::Sum && !x.dtype().is_float() { DType::I64 } else { x.dtype() };
    let shape: Shape = x.dims().iter().enumerate().map(|(d, &n)| if dims.contains(&d) { 1 } else { n }).collect();
    let pick = |numbers: &[usize], reduced: bool| -> Strides {
        numbers.iter().enumerate().filter(|(d, _)| dims.contains(d) == reduced).map(|(_, &n)| n).collect()
    };
    let axes = |reduced| (pick(x.dims(), reduced), pick(x.strides(), reduced));
    reduce_to(cuda, op, x, axes(false), axes(true), shape, dtype)
}

/// Sizes and strides of dimensions.
type Axes = (Strides, Strides);

/// Reduces the dimensions `reduced` of `x` into a contiguous tensor of `shape`, whose elements follow `kept` in row-major order.
pub fn reduce_to(
    cuda: &Cuda,
    op: ReduceOp,
    x: &Tensor,
    (kept_sizes, kept_strides): Axes,
    (sizes, strides): Axes,
    shape: Shape,
    dtype: DType,
) -> Tensor {
    let (outputs, terms) = (shape.numel(), sizes.iter().product::<usize>());
    let kept = Loops::over(&kept_sizes, [&kept_strides]);
    let reduced = Loops::over(&sizes, [&strides]);
    let by_columns = terms < FEW || (kept.inner_strides() == [1] && reduced.inner_strides() != [1]);
    let length = if by_columns { COLUMN_PART } else { ROW_PART };
    let parts = terms.div_ceil(length).max(1);
    let partial = match op {
        _ if parts == 1 => dtype,
        ReduceOp::Sum => x.dtype().accumulator(),
        ReduceOp::Max | ReduceOp::Min => x.dtype(),
    };
    let y = cuda.empty(if parts == 1 { shape.clone() } else { Shape::from([outputs, parts]) }, partial);
    let args = cuda.args().tensor(&y).tensor(x).value(code(op));
    let name = |way: &str| format!("reduce_{way}_{}_{}", numeric(x.dtype()), numeric(partial));
    if by_columns {
        let args = args.sizes(&[outputs, terms, length, parts]).loops(&kept).loops(&reduced);
        cuda.launch(REDUCE, &name("columns"), outputs.div_ceil(32) * parts, [32, 8], args, &[&y]);
    } else {
        let args = args.sizes(&[terms, length, parts]).loops(&kept).loops(&reduced);
        cuda.rows(REDUCE, &name("rows"), outputs * parts, terms, args, &[&y]);
    }
    if parts == 1 {
        return y;
    }
    let one = |n: usize| Strides::from_slice(&[n]);
    reduce_to(cuda, op, &y, (one(outputs), one(parts)), (one(parts), one(1)), shape, dtype)
}

pub fn arg_reduce(cuda: &Cuda, largest: bool, x: &Tensor, dim: usize) -> Tensor {
    let (terms, stride) = (x.dims()[dim], x.strides()[dim]);
    let y = cuda.empty(with(x.dims(), dim, 1), DType::I64);
    let kept = Loops::over(&without(x.dims(), dim), [&without(x.strides(), dim)]);
    let args = cuda.args().tensor(&y).tensor(x).flag(largest).size(terms).size(stride).loops(&kept);
    cuda.rows(REDUCE, &typed("arg_reduce", x.dtype()), y.numel(), terms, args, &[&y]);
    y
}

pub fn cumsum(cuda: &Cuda, x: &Tensor, dim: usize) -> Tensor {
    let y = cuda.empty(x.shape(), x.dtype());
    let terms = x.dims()[dim];
    let kept = without(x.dims(), dim);
    let layout = Loops::over(&kept, [&without(y.strides(), dim), &without(x.strides(), dim)]);
    let args = cuda.args().tensor(&y).tensor(x).sizes(&[terms, y.strides()[dim], x.strides()[dim]]).loops(&layout);
    let rows = if terms == 0 { 0 } else { kept.iter().product() };
    cuda.launch(REDUCE, &typed("cumsum", x.dtype()), rows, [32, 1], args, &[&y]);
    y
}
