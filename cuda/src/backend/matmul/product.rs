//! [`Product`]: what is to be multiplied, in the numbers that kernels are chosen by.

use crate::args::address;
use crate::context::Context;
use tensor::layout::Loops;
use tensor::{DType, Tensor};

/// An operand: `m` rows (A) or `n` columns (B), each of k elements, and a batch of such. Strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    /// From a row of A, or a column of B, to the next.
    pub stride: usize,
    /// From an element to the next in k.
    pub k_stride: usize,
    /// From a matrix of the batch to the next, 0 for one matrix for all; `None` where that takes more than one stride.
    pub batch_stride: Option<usize>,
    /// Whether it starts at a multiple of 16 bytes.
    pub aligned: bool,
}

/// Which of an operand's dimensions runs fastest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Major {
    /// k.
    K,
    /// The rows of A, or the columns of B.
    Mn,
}

impl Operand {
    /// How an operand of a dtype is read 16 bytes at a time, or `None` if it cannot be: it starts on 16 bytes, one stride is 1, the
    /// other a multiple of 16 bytes, below the 2^40 that the copy engine takes.
    pub fn major(&self, dtype: DType) -> Option<Major> {
        match (self.k_stride, self.stride) {
            _ if !self.aligned => None,
            (1, stride) if is_pitch(stride, dtype) => Some(Major::K),
            (stride, 1) if is_pitch(stride, dtype) => Some(Major::Mn),
            _ => None,
        }
    }
}

/// Whether the copy engine takes a stride of so many elements.
fn is_pitch(stride: usize, dtype: DType) -> bool {
    let bytes = stride.saturating_mul(dtype.size());
    bytes > 0 && bytes.is_multiple_of(16) && bytes < 1 << 40
}

/// `[batch, m, k] × [batch, k, n]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Of both operands and of the result.
    pub dtype: DType,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Products.
    pub batch: usize,
    /// The left operand.
    pub a: Operand,
    /// The right operand.
    pub b: Operand,
}

/// The loops over the batch of `a` `[batch…, m, k]` and `b` `[batch…, k, n]`.
pub(super) fn batches(a: &Tensor, b: &Tensor) -> Loops<2> {
    let lead = a.rank() - 2;
    Loops::over(&a.dims()[..lead], [&a.strides()[..lead], &b.strides()[..lead]])
}

impl Product {
    /// Of `a` `[batch…, m, k]` and `b` `[batch…, k, n]`.
    pub(crate) fn of(context: &Context, a: &Tensor, b: &Tensor) -> Product {
        let loops = batches(a, b);
        let [a_batch, b_batch] = match loops.sizes[..] {
            [1] => [Some(0); 2],
            [_] => loops.inner_strides().map(Some),
            _ => [None; 2],
        };
        let lead = a.rank() - 2;
        let operand = |t: &Tensor, x: usize, k: usize, batch_stride| Operand {
            stride: t.strides()[lead + x],
            k_stride: t.strides()[lead + k],
            batch_stride,
            aligned: address(context, t).is_multiple_of(16),
        };
        Product {
            dtype: a.dtype(),
            m: a.dims()[lead],
            n: b.dims()[lead + 1],
            k: a.dims()[lead + 1],
            batch: a.dims()[..lead].iter().product(),
            a: operand(a, 0, 1, a_batch),
            b: operand(b, 1, 0, b_batch),
        }
    }

    /// Whether the copy engine can read both operands: as [`Operand::major`] says, and one stride for the batch.
    pub(super) fn suits_tma(&self) -> bool {
        [&self.a, &self.b].into_iter().all(|o| {
            let batch = o.batch_stride.is_some_and(|stride| stride == 0 || is_pitch(stride, self.dtype));
            batch && o.major(self.dtype).is_some()
        })
    }
}
