//! Softmax and its logarithm.

use crate::dtype::DType;
use crate::operation::operation;
use crate::shape::resolve_dim;
use crate::tensor::Tensor;

impl Tensor {
    /// `e^(x − max) / Σ e^(x − max)` along `dim`. In f32 probabilities below 1e-38 are exactly 0.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn softmax(&self, dim: isize) -> Tensor {
        operation("softmax", || self.softmax_along(dim, false))
    }

    /// Logarithm of [`Tensor::softmax`] along `dim`, without underflow.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn log_softmax(&self, dim: isize) -> Tensor {
        operation("log_softmax", || self.softmax_along(dim, true))
    }

    fn softmax_along(&self, dim: isize, log: bool) -> Tensor {
        let dim = resolve_dim(dim, self.rank()) as isize;
        let x = if self.dtype().is_float() { self.clone() } else { self.to_dtype(DType::F32) };
        x.expect_float();
        let rows = if x.rank() == 0 { x.unsqueeze(0) } else { x.transpose(dim, -1) };
        let y = x.device().softmax(&rows, log);
        if x.rank() == 0 { y.squeeze(0) } else { y.transpose(dim, -1) }
    }
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build_rows, fold, rows};

    pub fn softmax(x: &Tensor, log: bool) -> Tensor {
        let n = x.dims()[x.rank() - 1];
        match x.dtype() {
            DType::F32 => map(x, n, if log { rows::log_softmax } else { rows::softmax }),
            _ => map(x, n, |x, y| plain(x, y, log)),
        }
    }

    fn map<T: bytemuck::Pod + Send + Sync>(x: &Tensor, n: usize, row: impl Fn(&[T], &mut [T]) + Sync) -> Tensor {
        let x = x.contiguous();
        let source = x.data::<T>();
        build_rows(x.shape().clone(), x.dtype(), n, |i, y: &mut [T]| row(&source[i * n..][..n], y))
    }

    fn plain(x: &[f64], y: &mut [f64], log: bool) {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b });
        let sum = fold::row(x, x, 0.0, |sum, v, _| sum + (v - max).exp(), |a, b| a + b);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if log { x - max - sum.ln() } else { (x - max).exp() / sum };
        }
    }
}
