//! Softmax and its logarithm.

use super::unrounded;
use crate::var::Var;

impl Var {
    /// `e^(x − max) / Σ e^(x − max)` along `dim`.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn softmax(&self, dim: isize) -> Var {
        let x = self.value();
        let y = x.softmax(dim);
        let result = unrounded(x, &y, move |x| x.softmax(dim));
        Var::op_edges("softmax", y, [self.edge()], move |g, _| {
            let y = result();
            let along = g.mul(&y).sum(dim, true);
            [Some(g.sub(&along).mul(&y))]
        })
    }

    /// Logarithm of [`Var::softmax`] along `dim`, without underflow.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn log_softmax(&self, dim: isize) -> Var {
        let x = self.value();
        let y = x.log_softmax(dim);
        let result = unrounded(x, &y, move |x| x.log_softmax(dim));
        Var::op_edges("log_softmax", y, [self.edge()], move |g, _| {
            let along = g.sum(dim, true);
            [Some(g.sub(&result().exp().mul(&along)))]
        })
    }
}
