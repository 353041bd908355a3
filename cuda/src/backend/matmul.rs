//! Matrix products: a ladder of kernels in `kernels/matmul/`, a rung a file, of which the highest that accepts a product computes
//! it. The rungs on the way to the last are there to be read, tested and timed.

mod kernel;
mod product;
mod start;
#[cfg(test)]
mod tests;

use crate::gpu::Cuda;
pub use kernel::{KERNELS, Kernel, choose};
pub use product::{Major, Operand, Product};
use tensor::shape::Shape;
use tensor::{Tensor, refuse};

pub(crate) fn matmul(cuda: &Cuda, a: &Tensor, b: &Tensor) -> Tensor {
    let product = Product::of(&cuda.context, a, b);
    match choose(&product, &cuda.context.properties) {
        Some(kernel) => by(cuda, kernel, &product, a, b),
        None => refuse!("there are no products of {}", a.dtype()),
    }
}

/// By a kernel that accepts it.
fn by(cuda: &Cuda, kernel: &Kernel, product: &Product, a: &Tensor, b: &Tensor) -> Tensor {
    let shape: Shape = a.dims()[..a.rank() - 1].iter().copied().chain([product.n]).collect();
    let y = cuda.empty(shape, a.dtype());
    kernel.start(cuda, product, &y, a, b);
    y
}

impl Kernel {
    /// The product of `a` `[batch…, m, k]` and `b` `[batch…, k, n]`, whose batch dimensions are equal, by this kernel; `None` if it
    /// does not accept it.
    ///
    /// # Panics
    /// If the tensors do not lie on a GPU of this crate, or differ in dtype or batch.
    #[track_caller]
    pub fn multiply(&self, a: &Tensor, b: &Tensor) -> Option<Tensor> {
        let device = a.device();
        let Some(cuda) = device.backend::<Cuda>() else { refuse!("expected tensors on a GPU, got one on {device}") };
        let (lead, same) = (a.rank().wrapping_sub(2), a.rank() == b.rank() && a.dtype() == b.dtype());
        if a.rank() < 2 || !same || a.dims()[..lead] != b.dims()[..lead] || a.dims()[lead + 1] != b.dims()[lead] {
            refuse!("expected two batches of matrices that fit, got shapes {} and {}", a.shape(), b.shape());
        }
        let product = Product::of(&cuda.context, a, b);
        self.accepts(&product, &cuda.context.properties).then(|| by(cuda, self, &product, a, b))
    }
}
