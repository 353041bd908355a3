//! Rotary position embedding over adjacent pairs.

use super::{Cuda, typed};
use crate::kernels::ROPE;
use crate::layouts::{Layouts, Numbers};
use tensor::Tensor;

pub fn rope(cuda: &Cuda, x: &Tensor, cos: &Tensor, sin: &Tensor, inverse: bool) -> Tensor {
    let y = cuda.empty(x.shape(), x.dtype());
    let pair = x.strides()[x.rank() - 1];
    let mut first = Numbers::from_slice(x.strides());
    first[x.rank() - 1] = 2 * pair;
    let layout = Layouts::new(cos.dims(), [&first, cos.strides(), sin.strides()]);
    let args = cuda.args().tensor(&y).tensor(x).tensor(cos).tensor(sin).size(pair).flag(inverse).size(cos.numel());
    cuda.each(ROPE, &typed("rope", x.dtype()), cos.numel(), args.layout(&layout), &[&y]);
    y
}
