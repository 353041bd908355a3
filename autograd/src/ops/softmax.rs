//! Softmax and its logarithm.

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
            let (y, g32) = (y.to_accumulator(), g.to_accumulator());
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
            let g32 = g.to_accumulator();
            let along = g32.sum(dim, true);
            [Some(g32.sub(&y.to_accumulator().exp().mul(&along)).to_dtype(g.dtype()))]
        })
    }
}
