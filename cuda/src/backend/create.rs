//! Filling, drawing, copying, converting, joining.

use crate::args::buffer;
use crate::gpu::{Cuda, moving, with};
use crate::kernels::CREATE;
use tensor::layout::Loops;
use tensor::random::last_below;
use tensor::shape::Shape;
use tensor::{DType, Distribution, Scalar, Tensor};

pub fn full(cuda: &Cuda, shape: &Shape, value: Scalar, dtype: DType) -> Tensor {
    let y = cuda.empty(shape.clone(), dtype);
    let args = cuda.args().tensor(&y).value(value.to_bits(dtype)).size(y.numel());
    cuda.each(CREATE, &moving("fill", dtype), y.numel(), args, &[&y]);
    y
}

pub fn arange(cuda: &Cuda, start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
    let y = cuda.empty(len, DType::I64);
    cuda.each(CREATE, "arange", len, cuda.args().tensor(&y).value(start).value(step).size(len), &[&y]);
    y.to_dtype(dtype)
}

/// Drawn as f64, f32 or i64, then converted, as on the CPU.
pub fn random(cuda: &Cuda, shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
    let (code, a, b, last) = match distribution {
        Distribution::Uniform(lo, hi) => (0u32, lo, hi, last_below(lo, hi, dtype)),
        Distribution::Normal(mean, std) => (1u32, mean, std, f64::INFINITY),
        Distribution::Int(lo, hi) => {
            let y = cuda.empty(shape.clone(), DType::I64);
            let args = cuda.args().tensor(&y).value(lo).value(hi).value(seed).value(offset).size(y.numel());
            cuda.each(CREATE, "random_i64", y.numel(), args, &[&y]);
            return y.to_dtype(dtype);
        }
    };
    let y = cuda.empty(shape.clone(), if dtype == DType::F32 { DType::F32 } else { DType::F64 });
    let args = cuda.args().tensor(&y).value(code).value(a).value(b).value(last).value(seed).value(offset).size(y.numel());
    cuda.each(CREATE, &format!("random_{}", y.dtype()), y.numel(), args, &[&y]);
    y.to_dtype(dtype)
}

/// The kernels' `DType`.
fn code(dtype: DType) -> u32 {
    match dtype {
        DType::F64 => 0,
        DType::F32 => 1,
        DType::BF16 => 2,
        DType::F16 => 3,
        DType::F8E4M3 => 4,
        DType::I64 => 5,
        DType::I32 => 6,
        DType::U8 | DType::Bool => 7,
    }
}

pub fn copy(cuda: &Cuda, x: &Tensor, dtype: DType) -> Tensor {
    let y = cuda.empty(x.shape(), dtype);
    if dtype == x.dtype() {
        put(cuda, &y, 0, x.dims(), x);
        return y;
    }
    let args = cuda.args().tensor(&y).tensor(x).value(code(x.dtype())).size(x.numel()).loops_over([x]);
    cuda.each(CREATE, &format!("cast_{dtype}"), x.numel(), args, &[&y]);
    y
}

/// Copies `x` into the part of a contiguous `y` that starts at element `start`; its sizes are those of `x`.
fn put(cuda: &Cuda, y: &Tensor, start: usize, dims: &[usize], x: &Tensor) {
    let loops = Loops::over(dims, [y.strides(), x.strides()]);
    let size = x.dtype().size();
    let args = cuda.args().tensor(y);
    let (to, from) = (buffer_at(cuda, y, start), buffer_at(cuda, x, x.layout().offset()));
    if x.is_contiguous() && x.numel() == y.numel() && !args.lost && !buffer(&cuda.context, x).is_lost() {
        if x.numel() > 0 && !cuda.context.copy(to, from, x.numel() * size) {
            buffer(&cuda.context, y).lose();
        }
        return;
    }
    let mut args = cuda.args().value(to).tensor(x).size(x.numel()).loops(&loops);
    args.lost |= buffer(&cuda.context, y).is_lost();
    cuda.each(CREATE, &moving("move", x.dtype()), x.numel(), args, &[y]);
}

fn buffer_at(cuda: &Cuda, t: &Tensor, element: usize) -> u64 {
    buffer(&cuda.context, t).ptr() + (element * t.dtype().size()) as u64
}

pub fn cat(cuda: &Cuda, parts: &[Tensor], dim: usize) -> Tensor {
    let first = &parts[0];
    let y = cuda.empty(with(first.dims(), dim, parts.iter().map(|p| p.dims()[dim]).sum()), first.dtype());
    let mut start = 0;
    for part in parts {
        put(cuda, &y, start * y.strides()[dim], part.dims(), part);
        start += part.dims()[dim];
    }
    y
}

pub fn tri(cuda: &Cuda, x: &Tensor, k: i64, upper: bool) -> Tensor {
    let y = cuda.empty(x.shape(), x.dtype());
    let (rows, cols) = (x.dims()[x.rank() - 2], x.dims()[x.rank() - 1]);
    let args = cuda.args().tensor(&y).tensor(x).size(rows).size(cols).value(k).flag(upper).size(x.numel());
    cuda.each(CREATE, &moving("tri", x.dtype()), x.numel(), args.loops_over([x]), &[&y]);
    y
}
