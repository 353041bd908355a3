//! Reading and writing at positions.

use crate::args::{buffer, without};
use crate::context::{CudaBuffer, Start};
use crate::gpu::{Cuda, elements_block, moving, operation, typed, with};
use crate::kernels::INDEX;
use tensor::layout::{Loops, Strides};
use tensor::{DType, Scalar, Tensor};

/// Sequences that one launch serves: `SEQUENCES` in `kernels/index.cu`.
const SEQUENCES: usize = 256;

/// Strides of a 1-d tensor in a shape of which it is dimension `dim`.
fn along(index: &Tensor, rank: usize, dim: usize) -> Strides {
    (0..rank).map(|d| if d == dim { index.strides()[0] } else { 0 }).collect()
}

/// Strides of `x` without that of `dim`, along which positions decide.
fn free(x: &Tensor, dim: usize) -> Strides {
    x.strides().iter().enumerate().map(|(d, &s)| if d == dim { 0 } else { s }).collect()
}

pub fn gather(cuda: &Cuda, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
    read(cuda, x, dim, index, index.strides(), index.dims())
}

pub fn index_select(cuda: &Cuda, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
    read(cuda, x, dim, index, &along(index, x.rank(), dim), &with(x.dims(), dim, index.numel()))
}

fn read(cuda: &Cuda, x: &Tensor, dim: usize, index: &Tensor, index_strides: &[usize], dims: &[usize]) -> Tensor {
    let y = cuda.empty(dims, x.dtype());
    let layout = Loops::over(dims, [index_strides, &free(x, dim)]);
    let args = cuda.args().tensor(&y).tensor(x).tensor(index).size(x.dims()[dim]).size(x.strides()[dim]).faults(operation());
    let args = args.size(y.numel()).loops(&layout);
    let block = elements_block(y.numel());
    let blocks = y.numel().div_ceil(block as usize);
    let name = moving("gather", x.dtype());
    cuda.start(&Start { reports: true, ..Start::new(INDEX, &name, blocks, [block, 1]) }, &args, &[&y]);
    y
}

/// The dtype in which terms are added one after the other: floats in f64, however many there are.
fn added_in(x: &Tensor) -> DType {
    if x.dtype().is_float() { DType::F64 } else { x.dtype() }
}

pub fn scatter(cuda: &Cuda, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
    let dtype = if add { added_in(x) } else { x.dtype() };
    let y = cuda.copy_of(x, dtype);
    write(cuda, &y, dim, (index, index.strides()), src, add);
    y.to_dtype(x.dtype())
}

pub fn index_add(cuda: &Cuda, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor {
    let dtype = added_in(x);
    let y = cuda.copy_of(x, dtype);
    let scaled = match alpha.as_f64() {
        1.0 => src.clone(),
        _ => src.to_dtype(dtype).mul(alpha).to_dtype(dtype),
    };
    write(cuda, &y, dim, (index, &along(index, x.rank(), dim)), &scaled, true);
    y.to_dtype(x.dtype())
}

/// Writes, or adds, `src` into a contiguous `y` that nobody else sees: one thread a line along `dim`, in ascending order.
fn write(cuda: &Cuda, y: &Tensor, dim: usize, (index, index_strides): (&Tensor, &[usize]), src: &Tensor, add: bool) {
    let lines = without(src.dims(), dim);
    let strides = [y.strides(), index_strides, src.strides()].map(|s| without(s, dim));
    let layout = Loops::over(&lines, [&strides[0], &strides[1], &strides[2]]);
    let (count, length) = (lines.iter().product::<usize>(), src.dims()[dim]);
    let args = cuda.args().tensor(y).tensor(index).tensor(src).size(length).size(y.dims()[dim]);
    let args =
        args.sizes(&[y.strides()[dim], index_strides[dim], src.strides()[dim]]).faults(operation()).size(count).loops(&layout);
    let name = if add { typed("scatter_add", src.dtype()) } else { moving("scatter", src.dtype()) };
    let block = elements_block(count);
    let blocks = if length == 0 { 0 } else { count.div_ceil(block as usize) };
    cuda.start(&Start { reports: true, ..Start::new(INDEX, &name, blocks, [block, 1]) }, &args, &[y]);
}

pub fn write_rows(cuda: &Cuda, cache: &mut Tensor, positions: &[usize], src: &Tensor) {
    let alone = cache.is_contiguous() && cache.layout().offset() == 0 && cache.storage_mut().buffer_mut::<CudaBuffer>().is_some();
    if !alone {
        *cache = cuda.copy_of(cache, cache.dtype());
    }
    let (heads, capacity, dim, len) = (cache.dims()[1], cache.dims()[2], cache.dims()[3], src.dims()[2]);
    for (chunk, positions) in positions.chunks(SEQUENCES).enumerate() {
        let first = chunk * SEQUENCES;
        let part = src.narrow(0, first as isize, positions.len());
        let to = buffer(&cuda.context, cache).ptr() + (first * cache.strides()[0] * cache.dtype().size()) as u64;
        let mut args = cuda.args().value(to).tensor(&part).sizes(&[heads, len, dim, capacity, part.numel()]).sizes(positions);
        args = args.sizes(&vec![0; SEQUENCES - positions.len()]).loops_over([&part]);
        args.lost |= buffer(&cuda.context, cache).is_lost();
        cuda.each(INDEX, &moving("write_rows", src.dtype()), part.numel(), args, &[&*cache]);
    }
}

impl Cuda {
    /// A contiguous copy that nobody else sees.
    fn copy_of(&self, x: &Tensor, dtype: DType) -> Tensor {
        super::create::copy(self, x, dtype)
    }
}
