//! Softmax and its logarithm over the last dimension.

use crate::gpu::{Cuda, typed};
use crate::kernels::SOFTMAX;
use tensor::Tensor;
use tensor::layout::Loops;

pub fn softmax(cuda: &Cuda, x: &Tensor, log: bool) -> Tensor {
    let y = cuda.empty(x.shape(), x.dtype());
    let last = x.rank() - 1;
    let (n, rows) = (x.dims()[last], x.dims()[..last].iter().product());
    let kept = Loops::over(&x.dims()[..last], [&x.strides()[..last]]);
    let args = cuda.args().tensor(&y).tensor(x).flag(log).size(n).size(x.strides()[last]).loops(&kept);
    cuda.rows(SOFTMAX, &typed("softmax", x.dtype()), if n == 0 { 0 } else { rows }, n, args, &[&y]);
    y
}
