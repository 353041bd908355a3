//! The CPU backend.
//!
//! [`CpuBackend`] only connects the [`Backend`] trait to the kernels, which live beside their operations in [`crate::ops`].
//! Here are the parts that know nothing of tensors: memory (`buffer`), run-time choice of instruction set (`simd`), threads (`parallel`), matrix
//! multiplication (`gemm`), the order of reductions (`fold`), vector mathematics (`vmath`) and row kernels (`rows`: softmax,
//! norms, attention).
//!
//! Work is split over the output and each output element is computed in one fixed order, so results do not depend on the
//! number of threads.

pub(crate) mod buffer;
pub(crate) mod fold;
pub(crate) mod gemm;
pub(crate) mod parallel;
pub(crate) mod rows;
pub mod simd;
pub(crate) mod vmath;

pub use buffer::{CpuBuffer, peak_memory};
pub(crate) use parallel::{GRAIN, par_chunks, par_chunks2, par_parts, par_parts2};

use crate::backend::{Backend, DeviceError, Distribution};
use crate::device::Device;
use crate::dtype::{DType, Scalar};
use crate::fused::Fused;
use crate::layout::Layout;
use crate::ops::kernels as k;
use crate::ops::{BinaryOp, ReduceOp, UnaryOp};
use crate::profile::time;
use crate::refuse;
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;
use bytemuck::Pod;
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

/// A fresh contiguous tensor of `shape`, filled by `fill`. Bool tensors are filled as `u8`.
pub(crate) fn build<T: Pod>(shape: impl Into<Shape>, dtype: DType, fill: impl FnOnce(&mut [T])) -> Tensor {
    let shape = shape.into();
    assert_eq!(dtype.size(), size_of::<T>(), "a {dtype} tensor filled with elements of another size");
    let bytes = shape.numel() * size_of::<T>();
    let Some(mut buffer) = CpuBuffer::new(bytes) else {
        refuse!("out of memory: {bytes} bytes for a tensor of shape {shape} of {dtype}")
    };
    fill(buffer.as_mut_slice());
    Tensor::from_parts(Storage::new(buffer, Device::cpu()), Layout::contiguous(shape), dtype)
}

impl Tensor {
    /// The whole storage as a slice.
    pub(crate) fn raw<T: Pod>(&self) -> &[T] {
        assert_eq!(self.dtype().size(), size_of::<T>(), "a kernel met a {} tensor where it expects another dtype", self.dtype());
        match self.storage().buffer::<CpuBuffer>() {
            Some(buffer) => buffer.as_slice(),
            None => panic!("the CPU was handed a tensor on {}", self.device()),
        }
    }

    /// The elements of a contiguous tensor.
    pub(crate) fn data<T: Pod>(&self) -> &[T] {
        assert!(self.is_contiguous());
        &self.raw()[self.layout().offset()..][..self.numel()]
    }
}

/// Addition as every operation does it: integers wrap.
pub(crate) trait Plus: Pod {
    fn plus(self, b: Self) -> Self;
}
macro_rules! plus {
    ($($t:ty: $plus:expr),*) => {$(
        impl Plus for $t {
            #[inline(always)]
            fn plus(self, b: Self) -> Self {
                $plus(self, b)
            }
        }
    )*};
}
plus!(f32: std::ops::Add::add, f64: std::ops::Add::add, i64: i64::wrapping_add, i32: i32::wrapping_add, u8: u8::wrapping_add);

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

/// Runs `$body` with `$T` bound to the Rust type of `$dtype`, one of f32, f64 and the integers (bool as u8).
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            DType::I32 => {
                type $T = i32;
                $body
            }
            DType::U8 | DType::Bool => {
                type $T = u8;
                $body
            }
            other => $crate::refuse!("{other} tensors are not supported (cast first)"),
        }
    };
}
/// Runs `$body` with `$T` bound to an unsigned type of the dtype's size, for moving elements without looking at them.
macro_rules! dispatch_bits {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype.size() {
            8 => {
                type $T = u64;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            _ => {
                type $T = u8;
                $body
            }
        }
    };
}
pub(crate) use {dispatch, dispatch_bits};

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
        time("full", || k::create::full(shape, value, dtype))
    }
    fn arange(&self, start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
        time("arange", || k::create::arange(start, step, len, dtype))
    }
    fn random(&self, shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
        time("random", || k::create::random(shape, dtype, distribution, seed, offset))
    }
    fn copy(&self, x: &Tensor, dtype: DType) -> Tensor {
        time("copy", || k::create::copy(x, dtype))
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Tensor {
        let run = |x: &Tensor| k::unary::unary(op, x);
        time("unary", || in_f32([x], |[x], round| if op == UnaryOp::LogicalNot { run(x) } else { round(run(x)) }))
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        let run = |a: &Tensor, b: &Tensor| k::binary::binary(op, a, b);
        time("binary", || in_f32([a, b], |[a, b], round| if op.is_predicate() { run(a, b) } else { round(run(a, b)) }))
    }
    fn where_(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        time("where_", || k::binary::where_(condition, a, b))
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor {
        time("reduce", || in_f32([x], |[x], round| round(k::reduce::reduce(op, x, dims))))
    }
    fn arg_reduce(&self, largest: bool, x: &Tensor, dim: usize) -> Tensor {
        time("arg_reduce", || in_f32([x], |[x], _| k::reduce::arg_reduce(largest, x, dim)))
    }
    fn cumsum(&self, x: &Tensor, dim: usize) -> Tensor {
        time("cumsum", || in_f32([x], |[x], round| round(k::reduce::cumsum(x, dim))))
    }
    fn softmax(&self, x: &Tensor, log: bool) -> Tensor {
        time("softmax", || in_f32([x], |[x], round| round(k::softmax::softmax(x, log))))
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Tensor {
        time("matmul", || in_f32([a, b], |[a, b], round| round(k::matmul::matmul(a, b))))
    }
    fn position_outside(&self, index: &Tensor, size: usize) -> Option<i64> {
        k::index::position_outside(index, size)
    }
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        time("gather", || k::index::gather(x, dim, index))
    }
    fn scatter(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
        let run = |x: &Tensor, src: &Tensor| k::index::scatter(x, dim, index, src, add);
        time("scatter", || if add { in_f32([x, src], |[x, src], round| round(run(x, src))) } else { run(x, src) })
    }
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        time("index_select", || k::index::index_select(x, dim, index))
    }
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor {
        time("index_add", || in_f32([x, src], |[x, src], round| round(k::index::index_add(x, dim, index, src, alpha))))
    }
    fn write_rows(&self, cache: &mut Tensor, positions: &[usize], src: &Tensor) {
        time("write_rows", || k::index::write_rows(cache, positions, src))
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
        let run = |x: &Tensor| k::sort::sort(x, dim, descending);
        time("sort", || {
            in_f32([x], |[x], round| {
                let (values, positions) = run(x);
                (round(values), positions)
            })
        })
    }
    fn cat(&self, parts: &[Tensor], dim: usize) -> Tensor {
        time("cat", || k::create::cat(parts, dim))
    }
    fn tri(&self, x: &Tensor, diagonal: i64, upper: bool) -> Tensor {
        time("tri", || k::create::tri(x, diagonal, upper))
    }
    fn fused(&self, op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
        k::fused::fused(op, x)
    }
}
