//! Sorting and choosing the largest.

use crate::dtype::DType;
use crate::operation::operation;
use crate::refuse;
use crate::shape::resolve_dim;
use crate::tensor::Tensor;

impl Tensor {
    /// Values along `dim` in order, with their positions (i64). Stable in both directions; NaN counts as the largest.
    ///
    /// # Panics
    /// If there is no such dimension, or the dtype is f8e4m3.
    #[track_caller]
    pub fn sort(&self, dim: isize, descending: bool) -> (Tensor, Tensor) {
        operation("sort", || {
            self.expect_arithmetic();
            let d = resolve_dim(dim, self.rank());
            if self.rank() == 0 {
                return (self.clone(), Tensor::zeros((), DType::I64, self.device()));
            }
            self.device().sort(self, d, descending)
        })
    }

    /// The positions of [`Tensor::sort`].
    ///
    /// # Panics
    /// As [`Tensor::sort`].
    #[track_caller]
    pub fn argsort(&self, dim: isize, descending: bool) -> Tensor {
        operation("argsort", || self.sort(dim, descending).1)
    }

    /// The `k` largest (or smallest) elements along `dim` and their positions (i64). They always come sorted, which is one of
    /// the orders that `sorted == false` allows; of equal elements the first are chosen.
    ///
    /// # Panics
    /// If there are fewer than `k`, or as [`Tensor::sort`].
    #[track_caller]
    pub fn topk(&self, k: usize, dim: isize, largest: bool, sorted: bool) -> (Tensor, Tensor) {
        let _ = sorted;
        operation("topk", || {
            let d = resolve_dim(dim, self.rank());
            let size = if self.rank() == 0 { 1 } else { self.dims()[d] };
            if k > size {
                refuse!("{k} of {size} elements along dimension {dim} of shape {}", self.shape());
            }
            let (values, positions) = self.sort(dim, largest);
            if self.rank() == 0 { (values, positions) } else { (values.narrow(dim, 0, k), positions.narrow(dim, 0, k)) }
        })
    }
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build2, dispatch, par_chunks2};
    use crate::ops::reduce::cpu::last;
    use bytemuck::Pod;
    use std::cmp::Ordering;

    pub fn sort(x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
        let rows = last(x, dim);
        let n = x.dims()[dim].max(1);
        let like = [x.dtype(), DType::I64].map(|dtype| (rows.shape(), dtype));
        let (values, positions) = dispatch!(x.dtype(), T => build2(like[0], like[1], |values: &mut [T], positions: &mut [i64]| {
            let source = rows.data::<T>();
            par_chunks2(values, n, positions, n, |row, values, positions| {
                for (i, (v, p)) in values.chunks_mut(n).zip(positions.chunks_mut(n)).enumerate() {
                    sort_row(&source[(row + i) * n..][..n], v, p, descending);
                }
            });
        }));
        let back = |t: Tensor| t.transpose(dim as isize, -1).contiguous();
        (back(values), back(positions))
    }

    fn sort_row<T: Pod + PartialOrd>(x: &[T], values: &mut [T], positions: &mut [i64], descending: bool) {
        positions.iter_mut().enumerate().for_each(|(i, p)| *p = i as i64);
        let order = |&a: &i64, &b: &i64| {
            let (a, b) = (x[a as usize], x[b as usize]);
            // Only NaN is not equal to itself; it ranks above everything.
            #[allow(clippy::eq_op)]
            let up = a.partial_cmp(&b).unwrap_or_else(|| {
                if a != a && b != b {
                    Ordering::Equal
                } else if a != a {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            });
            if descending { up.reverse() } else { up }
        };
        positions.sort_by(order);
        values.iter_mut().zip(positions).for_each(|(v, &mut p)| *v = x[p as usize]);
    }
}
