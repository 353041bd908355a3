//! Matrix multiplication: `C = A · B`, for any strides of A and B.
//!
//! **Order of accumulation.** `k` is cut into blocks of [`KC`], counted from zero. Inside a block each element of C is one
//! chain of multiply-adds in ascending `k` from zero; blocks' sums are added in ascending order. The order depends on `k`
//! alone: not on `m`, `n`, an element's place, strides, packing or the number of threads. A row multiplied alone
//! is bit-equal to the same row inside a batch (*batch invariance*). The blocks also shorten the chains: the error grows
//! with `KC + k / KC` instead of `k`.
//!
//! **Structure** (Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication*, 2008). A micro-kernel
//! ([`kernel`]) holds a tile of C in registers, broadcasts elements of the left operand and loads registers of the right
//! one. [`block`](mod@block) walks it over a region of C, and [`plan`] cuts C into regions, a task each.
//! The left operand is read in place, whatever its strides, unless they fall into few sets of the cache; then it is copied.
//! The right operand is packed into panels once, before the tasks start; with few rows and contiguous columns it
//! is read in place.
//!
//! **Few rows and a transposed B**, `x · Wᵀ` with few rows of `x`: packing `W` would cost more than the product. Then
//! the product is computed as `Cᵀ = W · xᵀ`: `W` is broadcast in place and the little `xᵀ` is packed. Multiplication
//! commutes, so bits do not change.

mod block;
mod kernel;
mod pack;
mod plan;
#[cfg(test)]
mod tests;

use crate::cpu::simd::isa;
use crate::operation::interruptible;
pub(crate) use block::{Out, Right, block};
pub(crate) use kernel::{Micro, Mode};
pub(crate) use pack::{Scratch, left_room, pack_left, pack_right};
use plan::Product;
use rayon::prelude::*;

/// Length of a block of `k`: a tile's rows of the left operand and a panel of the right one, `KC` x (14 + 32) floats, just
/// fit a first-level cache of 48 KiB.
pub const KC: usize = 256;

/// Multiply-adds below which a product stays on the calling thread: about 10 µs of work.
const SERIAL: usize = 1 << 20;

/// A strided matrix: element `(i, j)` is `data[offset + i * row_stride + j * col_stride]`. A stride may be zero or negative.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T> {
    /// The storage.
    pub data: &'a [T],
    /// Where element `(0, 0)` is.
    pub offset: usize,
    /// Distance from one row to the next.
    pub row_stride: isize,
    /// Distance from one column to the next.
    pub col_stride: isize,
}

impl<'a, T> Mat<'a, T> {
    /// Whether every element of `rows` x `cols` (neither of them zero) lies inside the storage.
    fn covers(&self, rows: usize, cols: usize) -> bool {
        let reach = |stride: isize, n: usize| stride as i128 * (n as i128 - 1);
        let (r, c) = (reach(self.row_stride, rows), reach(self.col_stride, cols));
        let low = self.offset as i128 + r.min(0) + c.min(0);
        let high = self.offset as i128 + r.max(0) + c.max(0);
        low >= 0 && high < self.data.len() as i128
    }

    /// The same as raw parts, once checked.
    fn view(&self, rows: usize, cols: usize) -> View<T> {
        assert!(self.covers(rows, cols), "gemm: a {rows} x {cols} operand leaves its storage");
        View { ptr: self.data[self.offset..].as_ptr(), row: self.row_stride, col: self.col_stride }
    }
}

/// A matrix as raw parts, its bounds checked before.
#[derive(Clone, Copy)]
pub(crate) struct View<T> {
    pub ptr: *const T,
    pub row: isize,
    pub col: isize,
}

// SAFETY: a view is only read, and made from a `&[T]` that outlives the tasks that share it.
unsafe impl<T: Sync> Send for View<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for View<T> {}
// SAFETY: tasks write disjoint regions of the one `&mut [T]` behind it.
unsafe impl<T: Send> Send for Out<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Out<T> {}

impl<T: Copy> View<T> {
    /// # Safety
    /// `(i, j)` lies in the matrix.
    pub unsafe fn at(self, i: usize, j: usize) -> *const T {
        // SAFETY: the caller's contract.
        unsafe { self.ptr.offset(i as isize * self.row + j as isize * self.col) }
    }

    /// The part from `(i, j)` on.
    ///
    /// # Safety
    /// `(i, j)` lies in the matrix.
    pub unsafe fn from(self, i: usize, j: usize) -> Self {
        // SAFETY: the caller's contract.
        View { ptr: unsafe { self.at(i, j) }, ..self }
    }

    pub fn t(self) -> Self {
        View { ptr: self.ptr, row: self.col, col: self.row }
    }
}

/// Element types that can be multiplied. Integers wrap.
pub trait Gemm: Copy + Send + Sync + 'static {
    /// One product on at most `threads` threads. The sizes are not zero.
    #[doc(hidden)]
    fn multiply(size: Size, a: Mat<Self>, b: Mat<Self>, c: &mut [Self], c_row: usize, accumulate: bool, threads: usize);
    #[doc(hidden)]
    const ZERO: Self;
}

/// `(m, n, k)`.
type Size = (usize, usize, usize);

/// `batch` products `C = A · B`, or `C += A · B` where `accumulate`, item `i` of A `[m, k]` and B `[k, n]` being `a(i)` and
/// `b(i)`, into a contiguous C `[batch, m, n]`.
/// Small items are spread over threads, large ones are threaded within.
///
/// # Panics
/// Where an operand leaves its slice, or `c` has another length than `batch * m * n`.
pub fn gemm_batch<'a, T: Gemm>(
    batch: usize,
    size: Size,
    a: impl Fn(usize) -> Mat<'a, T> + Sync,
    b: impl Fn(usize) -> Mat<'a, T> + Sync,
    c: &mut [T],
    accumulate: bool,
) {
    let (m, n, k) = size;
    let len = batch.checked_mul(m).and_then(|rows| rows.checked_mul(n));
    assert!(len == Some(c.len()), "gemm_batch: C of {} elements is not [{batch}, {m}, {n}]", c.len());
    if c.is_empty() {
        return;
    }
    let threads = rayon::current_num_threads();
    let one = |i: usize, c: &mut [T], threads| gemm_on(size, a(i), b(i), c, n, accumulate, threads);
    let work = (m * n).saturating_mul(k);
    if threads > 1 && batch > 1 && work.saturating_mul(batch) >= SERIAL && (batch >= 4 * threads || work < SERIAL) {
        let least = (SERIAL / 2).div_ceil(work.max(1));
        interruptible(|| c.par_chunks_mut(m * n).with_min_len(least).enumerate().for_each(|(i, c)| one(i, c, 1)));
    } else {
        let threads = if work < SERIAL { 1 } else { threads };
        c.chunks_mut(m * n).enumerate().for_each(|(i, c)| one(i, c, threads));
    }
}

fn gemm_on<T: Gemm>(size: Size, a: Mat<T>, b: Mat<T>, c: &mut [T], c_row: usize, accumulate: bool, threads: usize) {
    let (m, n, k) = size;
    if m == 0 || n == 0 {
        return;
    }
    assert!(c_row >= n || m == 1, "gemm: rows of C overlap");
    let end = (m - 1).checked_mul(c_row).and_then(|last| last.checked_add(n));
    assert!(end.is_some_and(|end| end <= c.len()), "gemm: C leaves its storage");
    // An operand's sizes need not be bounded by its storage: strides may be zero. The plan multiplies them.
    let sane = |rows: usize, cols: usize| rows.checked_mul(cols).is_some_and(|n| n <= isize::MAX as usize / 8);
    assert!(sane(m, k) && sane(k, n), "gemm: operands of [{m}, {k}] and [{k}, {n}] are too large");
    if k > 0 {
        T::multiply(size, a, b, c, c_row, accumulate, threads);
    } else if !accumulate {
        c.chunks_mut(c_row).take(m).for_each(|row| row[..n].fill(T::ZERO));
    }
}

macro_rules! float {
    ($($t:ty)*) => {$(
        impl Gemm for $t {
            const ZERO: $t = 0.0;
            fn multiply((m, n, k): Size, a: Mat<$t>, b: Mat<$t>, c: &mut [$t], c_row: usize, accumulate: bool, threads: usize) {
                let (a, b) = (a.view(m, k), b.view(k, n));
                let c = Out { ptr: c.as_mut_ptr(), row: c_row as isize, col: 1 };
                let kernels = <$t>::kernels(isa());
                Product { m, n, k, a, b, c, accumulate, threads, kernels, copy: false }.run();
            }
        }
    )*};
}
float!(f32 f64);

macro_rules! integer {
    ($($t:ty)*) => {$(
        impl Gemm for $t {
            const ZERO: $t = 0;
            fn multiply((m, n, k): Size, a: Mat<$t>, b: Mat<$t>, c: &mut [$t], c_row: usize, accumulate: bool, _: usize) {
                let (a, b) = (a.view(m, k), b.view(k, n));
                for (i, row) in c.chunks_mut(c_row).take(m).enumerate() {
                    let row = &mut row[..n];
                    if !accumulate {
                        row.fill(0);
                    }
                    for p in 0..k {
                        // SAFETY (both): the views were checked for these sizes.
                        let x = unsafe { *a.at(i, p) };
                        for (j, c) in row.iter_mut().enumerate() {
                            *c = c.wrapping_add(x.wrapping_mul(unsafe { *b.at(p, j) }));
                        }
                    }
                }
            }
        }
    )*};
}
integer!(i64 i32 u8);
