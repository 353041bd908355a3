//! The CPU backend.
//!
//! The kernels live beside their operations in [`crate::ops`], and [`CpuBackend`] connects them to the [`Backend`](crate::Backend)
//! trait. Here are the parts that know nothing of operations: memory (`buffer`), run-time choice of instruction set (`simd`), threads (`parallel`), matrix
//! multiplication (`gemm`), the order of reductions (`fold`), vector mathematics (`vmath`) and row kernels (`rows`: softmax,
//! norms, attention).
//!
//! Work is split over the output and each output element is computed in one fixed order, so results do not depend on the
//! number of threads.

mod backend;
mod buffer;
pub(crate) mod fold;
pub(crate) mod gemm;
pub(crate) mod parallel;
pub(crate) mod rows;
pub mod simd;
pub(crate) mod vmath;

pub use backend::CpuBackend;
pub use buffer::{CpuBuffer, MemoryUsage, peak_memory};
pub(crate) use parallel::{GRAIN, par_chunks, par_chunks2, par_parts, par_parts2};

use crate::device::Device;
use crate::dtype::DType;
use crate::layout::{Layout, Loops};
use crate::refuse;
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;
use bytemuck::Pod;

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

/// [`build`] of two tensors at once.
pub(crate) fn build2<A: Pod, B: Pod>(
    first: (impl Into<Shape>, DType),
    second: (impl Into<Shape>, DType),
    fill: impl FnOnce(&mut [A], &mut [B]),
) -> (Tensor, Tensor) {
    let mut other = None;
    let one = build(first.0, first.1, |a| other = Some(build(second.0, second.1, |b| fill(a, b))));
    (one, other.expect("built inside"))
}

/// [`build`] by rows of `width` elements: `fill(number, row)`.
pub(crate) fn build_rows<T: Pod + Send>(
    shape: impl Into<Shape>,
    dtype: DType,
    width: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) -> Tensor {
    build(shape, dtype, |out: &mut [T]| {
        if !out.is_empty() {
            par_chunks(out, width, |start, out| {
                out.chunks_exact_mut(width).enumerate().for_each(|(i, row)| fill(start / width + i, row));
            });
        }
    })
}

/// [`build`] by the innermost loops over operands: `fill(where each operand's starts, row)`.
pub(crate) fn build_looped<T: Pod + Send, const N: usize>(
    shape: &Shape,
    dtype: DType,
    loops: &Loops<N>,
    fill: impl Fn([usize; N], &mut [T]) + Sync,
) -> Tensor {
    let n = loops.inner();
    build(shape, dtype, |out: &mut [T]| {
        if !out.is_empty() {
            par_chunks(out, n, |start, out| {
                loops.for_rows(start / n, (start + out.len()) / n, |row, at| fill(at, &mut out[row * n - start..][..n]));
            });
        }
    })
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

/// Runs `$body` with `$T` bound to the Rust type of `$dtype`, one of f32, f64 and the integers (bool as u8).
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => $crate::cpu::with!($T = f32, $body),
            DType::F64 => $crate::cpu::with!($T = f64, $body),
            DType::I64 => $crate::cpu::with!($T = i64, $body),
            DType::I32 => $crate::cpu::with!($T = i32, $body),
            DType::U8 | DType::Bool => $crate::cpu::with!($T = u8, $body),
            other => $crate::refuse!("{other} tensors are not supported (cast first)"),
        }
    };
}
/// Runs `$body` with `$T` bound to an unsigned type of the dtype's size, for moving elements without looking at them.
macro_rules! dispatch_bits {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype.size() {
            8 => $crate::cpu::with!($T = u64, $body),
            4 => $crate::cpu::with!($T = u32, $body),
            2 => $crate::cpu::with!($T = u16, $body),
            _ => $crate::cpu::with!($T = u8, $body),
        }
    };
}
macro_rules! with {
    ($T:ident = $type:ty, $body:expr) => {{
        type $T = $type;
        $body
    }};
}
pub(crate) use {dispatch, dispatch_bits, with};
