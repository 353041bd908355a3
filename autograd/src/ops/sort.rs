//! Sorting and choosing the largest: values carry gradients, positions are plain tensors.

use crate::var::Var;
use tensor::Tensor;

impl Var {
    /// Values along `dim` in order, with their positions (i64). Stable in both directions; NaN counts as the largest.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn sort(&self, dim: isize, descending: bool) -> (Var, Tensor) {
        let (values, positions) = self.value().sort(dim, descending);
        (self.moved("sort", dim, values, &positions), positions)
    }

    /// The `k` largest (or smallest) elements along `dim` and their positions (i64); see [`Tensor::topk`].
    ///
    /// # Panics
    /// If there are fewer than `k`.
    #[track_caller]
    pub fn topk(&self, k: usize, dim: isize, largest: bool, sorted: bool) -> (Var, Tensor) {
        let (values, positions) = self.value().topk(k, dim, largest, sorted);
        (self.moved("topk", dim, values, &positions), positions)
    }

    /// Elements taken from different positions, each of which gets its gradient back.
    #[track_caller]
    fn moved(&self, name: &'static str, dim: isize, values: Tensor, positions: &Tensor) -> Var {
        let (shape, positions) = (self.shape(), positions.clone());
        Var::op_edges(name, values, [self.edge()], move |g, _| {
            [Some(Tensor::zeros(shape.clone(), g.dtype(), g.device()).scatter(dim, &positions, g))]
        })
    }
}
