//! [`CpuBackend`]: the [`Backend`] trait connected to the kernels, which live beside their operations in [`crate::ops`].

use super::buffer::CpuBuffer;
use crate::backend::{Backend, DeviceError, Distribution};
use crate::device::Device;
use crate::dtype::{DType, Scalar};
use crate::fused::Fused;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::ops::binary::cpu as binary;
use crate::ops::create::cpu as create;
use crate::ops::fused::cpu as fused;
use crate::ops::index::cpu as index;
use crate::ops::reduce::cpu as reduce;
use crate::ops::{matmul, softmax, sort, unary};
use crate::profile::time;
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;
use std::sync::OnceLock;

/// The CPU as a [`Backend`].
#[derive(Debug)]
pub struct CpuBackend;

impl Device {
    /// The processor this program runs on.
    pub fn cpu() -> Device {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Device::new(CpuBackend)).clone()
    }
}

/// Half-precision arithmetic, for all kernels that compute: `f` gets the operands in f32, and a function that rounds a result to
/// the first one's dtype. Anything else goes straight through.
fn in_f32<const N: usize, R>(x: [&Tensor; N], f: impl FnOnce([&Tensor; N], &dyn Fn(Tensor) -> Tensor) -> R) -> R {
    let dtype = x[0].dtype();
    if !dtype.is_half() {
        return f(x, &|y| y);
    }
    let wide = x.map(Tensor::to_accumulator);
    f(wide.each_ref(), &|y| y.to_dtype(dtype))
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        "cpu".into()
    }
    fn upload(&self, bytes: Vec<u8>) -> Result<Storage, DeviceError> {
        let Some(mut buffer) = CpuBuffer::new(bytes.len()) else {
            return Err(DeviceError { device: self.name(), message: format!("out of memory: {} bytes", bytes.len()) });
        };
        buffer.as_mut_slice().copy_from_slice(&bytes);
        Ok(Storage::new(buffer, Device::cpu()))
    }
    fn download(&self, storage: &Storage, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let buffer = storage.buffer::<CpuBuffer>().expect("storage of another device");
        Ok(buffer.as_slice::<u8>()[..bytes].to_vec())
    }
    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn full(&self, shape: &Shape, value: Scalar, dtype: DType) -> Tensor {
        time("full", || create::full(shape, value, dtype))
    }
    fn arange(&self, start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
        time("arange", || create::arange(start, step, len, dtype))
    }
    fn random(&self, shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
        time("random", || create::random(shape, dtype, distribution, seed, offset))
    }
    fn copy(&self, x: &Tensor, dtype: DType) -> Tensor {
        time("copy", || create::copy(x, dtype))
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Tensor {
        let run = |x: &Tensor| unary::cpu::unary(op, x);
        time("unary", || in_f32([x], |[x], round| if op == UnaryOp::LogicalNot { run(x) } else { round(run(x)) }))
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        let run = |a: &Tensor, b: &Tensor| binary::binary(op, a, b);
        time("binary", || in_f32([a, b], |[a, b], round| if op.is_predicate() { run(a, b) } else { round(run(a, b)) }))
    }
    fn where_(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        time("where_", || binary::where_(condition, a, b))
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor {
        time("reduce", || in_f32([x], |[x], round| round(reduce::reduce(op, x, dims))))
    }
    fn arg_reduce(&self, largest: bool, x: &Tensor, dim: usize) -> Tensor {
        time("arg_reduce", || in_f32([x], |[x], _| reduce::arg_reduce(largest, x, dim)))
    }
    fn cumsum(&self, x: &Tensor, dim: usize) -> Tensor {
        time("cumsum", || in_f32([x], |[x], round| round(reduce::cumsum(x, dim))))
    }
    fn softmax(&self, x: &Tensor, log: bool) -> Tensor {
        time("softmax", || in_f32([x], |[x], round| round(softmax::cpu::softmax(x, log))))
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Tensor {
        time("matmul", || in_f32([a, b], |[a, b], round| round(matmul::cpu::matmul(a, b))))
    }
    fn position_outside(&self, index: &Tensor, size: usize) -> Option<i64> {
        index::position_outside(index, size)
    }
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        time("gather", || index::gather(x, dim, index))
    }
    fn scatter(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
        let run = |x: &Tensor, src: &Tensor| index::scatter(x, dim, index, src, add);
        time("scatter", || if add { in_f32([x, src], |[x, src], round| round(run(x, src))) } else { run(x, src) })
    }
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        time("index_select", || index::index_select(x, dim, index))
    }
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor {
        time("index_add", || in_f32([x, src], |[x, src], round| round(index::index_add(x, dim, index, src, alpha))))
    }
    fn write_rows(&self, cache: &mut Tensor, positions: &[usize], src: &Tensor) {
        time("write_rows", || index::write_rows(cache, positions, src))
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
        let round_values = |(values, positions): (Tensor, Tensor), round: &dyn Fn(Tensor) -> Tensor| (round(values), positions);
        time("sort", || in_f32([x], |[x], round| round_values(sort::cpu::sort(x, dim, descending), round)))
    }
    fn cat(&self, parts: &[Tensor], dim: usize) -> Tensor {
        time("cat", || create::cat(parts, dim))
    }
    fn tri(&self, x: &Tensor, diagonal: i64, upper: bool) -> Tensor {
        time("tri", || create::tri(x, diagonal, upper))
    }
    fn fused(&self, op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
        fused::fused(op, x)
    }
}
