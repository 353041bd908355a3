//! Matrix products.

mod hopper;
#[cfg(test)]
mod tests;

use crate::gpu::{Cuda, typed};
use crate::kernels::{MATMUL, MATMUL_HOPPER};
use hopper::Product;
use tensor::layout::Loops;
use tensor::shape::Shape;
use tensor::{DType, Tensor};

/// Side of a tile and threads per block: large tiles, or small ones where large ones would be less than a third full. The sums are
/// the same, bit for bit.
fn tile(m: usize, n: usize, half: bool) -> (usize, u32) {
    let full = m.div_ceil(64) * n.div_ceil(64) * 64 * 64;
    match (3 * m * n >= full, half) {
        (true, false) => (64, 256),
        (true, true) => (64, 128),
        (false, false) => (8, 64),
        (false, true) => (16, 32),
    }
}

pub fn matmul(cuda: &Cuda, a: &Tensor, b: &Tensor) -> Tensor {
    let lead = a.rank() - 2;
    let (m, k, n) = (a.dims()[lead], a.dims()[lead + 1], b.dims()[lead + 1]);
    let shape: Shape = a.dims()[..=lead].iter().copied().chain([n]).collect();
    let batch: usize = a.dims()[..lead].iter().product();
    let y = cuda.empty(shape, a.dtype());
    let layout = Loops::over(&a.dims()[..lead], [&a.strides()[..lead], &b.strides()[..lead]]);
    let (sa, sb) = (&a.strides()[lead..], &b.strides()[lead..]);
    let product = Product::of(cuda, a, b, &layout);
    if let Some((product, tile)) = product.and_then(|p| Some((p, hopper::choose(&p, &cuda.context.properties)?))) {
        hopper::start(cuda, MATMUL_HOPPER, tile, &product, &y, a, b);
        return y;
    }
    let args = cuda.args().tensor(&y).tensor(a).tensor(b).sizes(&[m, n, k, sa[0], sa[1], sb[0], sb[1]]).loops(&layout);
    let (side, threads) = tile(m, n, matches!(a.dtype(), DType::BF16 | DType::F16));
    let name = typed(&format!("matmul_{side}"), a.dtype());
    cuda.launch(MATMUL, &name, batch * m.div_ceil(side) * n.div_ceil(side), [threads, 1], args, &[&y]);
    y
}
