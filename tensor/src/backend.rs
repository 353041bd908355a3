//! [`Backend`]: what a device must be able to do.
//!
//! The methods of [`Tensor`] check shapes and dtypes, broadcast and promote; a backend gets operands that already agree, in
//! any layout (strided, expanded, empty, 0-d), and returns a fresh contiguous tensor. The trait is object-safe and small:
//! everything else in the crate is a composition of these. Some compositions are *fused operations*: a backend is offered them
//! by id ([`Backend::fused`]) and may have one kernel for them; tests hold the two equal.

use crate::dtype::{DType, Scalar};
use crate::fused::Fused;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;
use std::any::Any;
use std::fmt;

/// A fault of a device: out of memory, a failed launch, a lost card.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{device}: {message}")]
pub struct DeviceError {
    /// The device's name.
    pub device: String,
    /// What happened.
    pub message: String,
}

/// The distribution of random numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Uniform on `[lo, hi)`.
    Uniform(f64, f64),
    /// Normal with a mean and a standard deviation.
    Normal(f64, f64),
    /// Integers uniform on `lo..hi`.
    Int(i64, i64),
}

/// The operations of a device. See the [module](self) for what a method may assume.
pub trait Backend: Any + fmt::Debug + Send + Sync {
    /// For messages and records, such as `cpu` or `cuda:0`.
    fn name(&self) -> String;

    /// Copies bytes to the device.
    ///
    /// # Errors
    /// Out of memory.
    fn upload(&self, bytes: Vec<u8>) -> Result<Storage, DeviceError>;

    /// Copies `bytes` bytes from the start of a storage to the host, after everything that was started before.
    ///
    /// # Errors
    /// Any fault since the last synchronisation.
    fn download(&self, storage: &Storage, bytes: usize) -> Result<Vec<u8>, DeviceError>;

    /// Waits for everything that was started.
    ///
    /// # Errors
    /// Any fault since the last synchronisation.
    fn synchronize(&self) -> Result<(), DeviceError>;

    /// A tensor of one value.
    fn full(&self, shape: &Shape, value: Scalar, dtype: DType) -> Tensor;
    /// `start + i·step` for `i` in `0..len`.
    fn arange(&self, start: i64, step: i64, len: usize, dtype: DType) -> Tensor;
    /// Random numbers: element `i` depends on `seed`, `offset + i` and the distribution alone.
    fn random(&self, shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor;
    /// The elements in row-major order, converted to `dtype`.
    fn copy(&self, x: &Tensor, dtype: DType) -> Tensor;
    /// Elementwise with one operand; the result has the operand's dtype (bool for `LogicalNot`).
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Tensor;
    /// Elementwise with two operands of one shape and dtype; comparisons give bool.
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor;
    /// `a` where `condition` (bool) holds, else `b`; one shape, `a` and `b` of one dtype.
    fn where_(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor;
    /// Reduces the dimensions `dims` (sorted) and keeps them with size 1. `Sum` of integers and bool gives i64.
    fn reduce(&self, op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor;
    /// The i64 index of the largest (or smallest) element along `dim`, the first of equals; NaN beats everything. Keeps the dimension.
    fn arg_reduce(&self, largest: bool, x: &Tensor, dim: usize) -> Tensor;
    /// Running sums along `dim`.
    fn cumsum(&self, x: &Tensor, dim: usize) -> Tensor;
    /// Softmax or its logarithm over the last dimension.
    fn softmax(&self, x: &Tensor, log: bool) -> Tensor;
    /// `[batch…, m, k] × [batch…, k, n]` with equal batch dimensions.
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Tensor;
    /// A position in `index` (i64) outside `0..size`. A device that would have to wait for it says `None`, and reports it as a
    /// fault of [`running_operation`](crate::running_operation).
    fn position_outside(&self, index: &Tensor, size: usize) -> Option<i64> {
        let _ = (index, size);
        None
    }
    /// `out[.., i, ..] = x[.., index[.., i, ..], ..]`; `index` is i64 with the output's shape, at most `x`'s in the other dimensions.
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor;
    /// `x` with `src[.., i, ..]` put (or added, in ascending order, of all but bool) at `index[.., i, ..]`; a later value wins.
    fn scatter(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor;
    /// Whole slices of `x` at the positions of a 1-d i64 `index`.
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor;
    /// `x` with `alpha` times the slices of `src` added at the positions of a 1-d i64 `index`, in ascending order; not of bool.
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor;
    /// Writes `src` `[batch, heads, len, dim]` into `cache` `[batch, heads, capacity, dim]` at `positions[b]..positions[b] + len`
    /// of each sequence: in place where nobody shares the cache's memory, in a copy otherwise.
    fn write_rows(&self, cache: &mut Tensor, positions: &[usize], src: &Tensor);
    /// Stable sort along `dim`: values and their i64 positions; NaN counts as the largest.
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor);
    /// Concatenation along `dim`; the other sizes and the dtypes agree.
    fn cat(&self, parts: &[Tensor], dim: usize) -> Tensor;
    /// Zeroes what lies above (`upper == false`) or below (`upper == true`) the `k`-th diagonal of the last two dimensions.
    fn tri(&self, x: &Tensor, k: i64, upper: bool) -> Tensor;

    /// The results of a fused operation, where the device has a kernel for it and these operands; their definition as a
    /// composition is computed for `None`, of half types in f32.
    fn fused(&self, op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
        let _ = (op, x);
        None
    }
}
