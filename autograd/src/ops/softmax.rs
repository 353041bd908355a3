//! Softmax and its logarithm.

use super::wide;
use crate::var::Var;

impl Var {
    /// `e^(x − max) / Σ e^(x − max)` along `dim`.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn softmax(&self, dim: isize) -> Var {
        let y = self.value().softmax(dim);
        Var::op("softmax", y.clone(), [self], move |g, _| {
            let (y, g32) = (wide(&y), wide(g));
            let along = g32.mul(&y).sum(dim, true);
            [Some(g32.sub(&along).mul(&y).to_dtype(g.dtype()))]
        })
    }

    /// Logarithm of [`Var::softmax`] along `dim`, without underflow.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn log_softmax(&self, dim: isize) -> Var {
        let y = self.value().log_softmax(dim);
        Var::op("log_softmax", y.clone(), [self], move |g, _| {
            let g32 = wide(g);
            let along = g32.sum(dim, true);
            [Some(g32.sub(&wide(&y).exp().mul(&along)).to_dtype(g.dtype()))]
        })
    }
}
