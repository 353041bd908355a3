//! Matrix products.

use crate::operation::operation;
use crate::refuse;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Tensor {
    /// Matrix product with NumPy's rules: vectors are promoted and demoted again, leading dimensions broadcast.
    /// `[…, m, k] × […, k, n] → […, m, n]`. bf16 and f16 accumulate in f32 and round once. The order of summation over `k`
    /// depends on `k` alone, so a row of the result does not depend on the other rows.
    ///
    /// # Panics
    /// If an operand is 0-d, inner sizes, dtypes or devices differ, or leading dimensions do not broadcast.
    #[track_caller]
    pub fn matmul(&self, rhs: &Tensor) -> Tensor {
        operation("matmul", || self.product(rhs))
    }

    /// Matrix product of two matrices; see [`Tensor::matmul`].
    ///
    /// # Panics
    /// If one of them does not have two dimensions.
    #[track_caller]
    pub fn mm(&self, rhs: &Tensor) -> Tensor {
        operation("mm", || match (self.rank(), rhs.rank()) {
            (2, 2) => self.product(rhs),
            _ => refuse!("expected two matrices, got shapes {} and {}", self.shape(), rhs.shape()),
        })
    }

    /// Products of two batches of matrices `[b, m, k] × [b, k, n]`; see [`Tensor::matmul`].
    ///
    /// # Panics
    /// If one of them does not have three dimensions or the batch sizes differ.
    #[track_caller]
    pub fn bmm(&self, rhs: &Tensor) -> Tensor {
        operation("bmm", || {
            if self.rank() != 3 || rhs.rank() != 3 || self.dims()[0] != rhs.dims()[0] {
                refuse!("expected two equal batches of matrices, got shapes {} and {}", self.shape(), rhs.shape());
            }
            self.product(rhs)
        })
    }

    /// `x·Wᵀ + b` for `x` `[…, in]`, `weight` `[out, in]` (or `[in]`) and `bias` `[out]`. bf16 and f16 round once, after the bias.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        operation("linear", || {
            let turned = weight.t();
            match bias {
                Some(b) if [weight.dtype(), b.dtype()] == [self.dtype(); 2] => {
                    let y = self.to_accumulator().product(&turned.to_accumulator());
                    y.add(&b.to_accumulator()).to_dtype(self.dtype())
                }
                Some(b) => self.product(&turned).add(b),
                None => self.product(&turned),
            }
        })
    }

    fn product(&self, rhs: &Tensor) -> Tensor {
        let (a, b) = (self, rhs);
        if a.rank() == 0 || b.rank() == 0 {
            refuse!("0-d operands (shapes {} and {})", a.shape(), b.shape());
        }
        if a.dtype() != b.dtype() || a.device() != b.device() {
            refuse!("operands {a:?} and {b:?} differ in dtype or device");
        }
        let a2 = if a.rank() == 1 { a.unsqueeze(0) } else { a.clone() };
        let b2 = if b.rank() == 1 { b.unsqueeze(1) } else { b.clone() };
        if a2.dim(-1) != b2.dim(-2) {
            refuse!("inner sizes of shapes {} and {} differ ({} and {})", a.shape(), b.shape(), a2.dim(-1), b2.dim(-2));
        }
        let (ra, rb) = (a2.rank(), b2.rank());
        let out = if rb == 2 && ra > 2 {
            // One matrix for all rows: fold the batch into them.
            let shape = a2.shape().with(ra - 1, b2.dim(-1));
            shape.expect_fits();
            a.device().matmul(&a2.flatten(0, -2), &b2).reshape_to(&shape)
        } else {
            let batch = |t: &Tensor| Shape::from(&t.dims()[..t.rank() - 2]);
            let Some(lead) = batch(&a2).broadcast(&batch(&b2)) else {
                refuse!("leading dimensions of shapes {} and {} do not broadcast", a.shape(), b.shape());
            };
            let shape: Shape = lead.iter().copied().chain([a2.dim(-2), b2.dim(-1)]).collect();
            shape.expect_fits();
            let spread = |t: &Tensor| {
                let shape: Shape = lead.iter().chain(&t.dims()[t.rank() - 2..]).copied().collect();
                t.broadcast_to(&shape)
            };
            a.device().matmul(&spread(&a2), &spread(&b2))
        };
        let out = if a.rank() == 1 { out.squeeze(-2) } else { out };
        if b.rank() == 1 { out.squeeze(-1) } else { out }
    }
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build, dispatch, gemm};
    use crate::dtype::DType;
    use crate::layout::{Layout, Loops};

    pub fn matmul(a: &Tensor, b: &Tensor) -> Tensor {
        let rank = a.rank();
        let (m, k, n) = (a.dim(-2), a.dim(-1), b.dim(-1));
        let shape: Shape = a.dims()[..rank - 1].iter().copied().chain([n]).collect();
        let (starts_a, starts_b) = (starts(a), starts(b));
        dispatch!(a.dtype(), T => {
            let (xa, xb) = (a.raw::<T>(), b.raw::<T>());
            build(shape, a.dtype(), |out: &mut [T]| {
                gemm::gemm_batch(starts_a.len(), (m, n, k), |i| matrix(xa, starts_a[i], a), |i| matrix(xb, starts_b[i], b), out, false);
            })
        })
    }

    fn matrix<'a, T>(data: &'a [T], offset: usize, t: &Tensor) -> gemm::Mat<'a, T> {
        let s = t.strides();
        gemm::Mat { data, offset, row_stride: s[s.len() - 2] as isize, col_stride: s[s.len() - 1] as isize }
    }

    /// Where each matrix of a batch starts in storage.
    fn starts(t: &Tensor) -> Vec<usize> {
        let batch = t.rank() - 2;
        let lead = Layout { shape: t.dims()[..batch].into(), strides: t.strides()[..batch].into(), offset: t.layout().offset() };
        let loops = Loops::new([&lead]);
        let (inner, [stride]) = (loops.inner(), loops.inner_strides());
        let mut starts = Vec::with_capacity(lead.shape.numel());
        loops.for_rows(0, lead.shape.numel() / inner.max(1), |_, [at]| starts.extend((0..inner).map(|i| at + i * stride)));
        starts
    }
}
