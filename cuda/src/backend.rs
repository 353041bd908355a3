//! The operations of the tensor crate on a GPU, a file per family beside its kernels.

mod binary;
mod create;
mod fused;
mod index;
pub mod matmul;
mod reduce;
mod softmax;
mod sort;
mod unary;

use crate::context::CudaBuffer;
use crate::gpu::Cuda;
use tensor::shape::Shape;
use tensor::{Backend, BinaryOp, DType, DeviceError, Distribution, Fused, ReduceOp, Scalar, Storage, Tensor, UnaryOp};

impl Backend for Cuda {
    fn name(&self) -> String {
        self.context.name.clone()
    }
    fn upload(&self, bytes: Vec<u8>) -> Result<Storage, DeviceError> {
        Ok(Storage::new(self.context.upload(&bytes)?, self.handle()))
    }
    fn download(&self, storage: &Storage, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let Some(buffer) = storage.buffer().filter(|b: &&CudaBuffer| b.is_of(&self.context)) else {
            panic!("{} was asked to read a storage on {}", self.context.name, storage.device());
        };
        self.context.download(buffer, bytes)
    }
    fn synchronize(&self) -> Result<(), DeviceError> {
        self.context.synchronize()
    }
    fn full(&self, shape: &Shape, value: Scalar, dtype: DType) -> Tensor {
        create::full(self, shape, value, dtype)
    }
    fn arange(&self, start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
        create::arange(self, start, step, len, dtype)
    }
    fn random(&self, shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
        create::random(self, shape, dtype, distribution, seed, offset)
    }
    fn copy(&self, x: &Tensor, dtype: DType) -> Tensor {
        create::copy(self, x, dtype)
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Tensor {
        unary::unary(self, op, x)
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        binary::binary(self, op, a, b)
    }
    fn where_(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        binary::where_(self, condition, a, b)
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor {
        reduce::reduce(self, op, x, dims)
    }
    fn arg_reduce(&self, largest: bool, x: &Tensor, dim: usize) -> Tensor {
        reduce::arg_reduce(self, largest, x, dim)
    }
    fn cumsum(&self, x: &Tensor, dim: usize) -> Tensor {
        reduce::cumsum(self, x, dim)
    }
    fn softmax(&self, x: &Tensor, log: bool) -> Tensor {
        softmax::softmax(self, x, log)
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Tensor {
        matmul::matmul(self, a, b)
    }
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        index::gather(self, x, dim, index)
    }
    fn scatter(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
        index::scatter(self, x, dim, index, src, add)
    }
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        index::index_select(self, x, dim, index)
    }
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor {
        index::index_add(self, x, dim, index, src, alpha)
    }
    fn write_rows(&self, cache: &mut Tensor, positions: &[usize], src: &Tensor) {
        index::write_rows(self, cache, positions, src);
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
        sort::sort(self, x, dim, descending)
    }
    fn cat(&self, parts: &[Tensor], dim: usize) -> Tensor {
        create::cat(self, parts, dim)
    }
    fn tri(&self, x: &Tensor, k: i64, upper: bool) -> Tensor {
        create::tri(self, x, k, upper)
    }
    fn fused(&self, op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
        fused::fused(self, op, x)
    }
}
