//! Matrix products. With `C = A·B`: `dA = dC·Bᵀ`, `dB = Aᵀ·dC`. Of half types they are computed in f32, so that nothing is rounded
//! before it is summed over what was broadcast.

use crate::graph::Like;
use crate::var::Var;
use tensor::{Tensor, operation};

impl Var {
    /// Matrix product with NumPy's rules: vectors are promoted and demoted again, leading dimensions broadcast.
    /// `[…, m, k] × […, k, n] → […, m, n]`.
    ///
    /// # Panics
    /// If an operand is 0-d, inner sizes, dtypes or devices differ, or leading dimensions do not broadcast.
    #[track_caller]
    pub fn matmul(&self, rhs: &Var) -> Var {
        self.product("matmul", rhs, self.value().matmul(&rhs.value()))
    }

    /// Matrix product of two matrices; see [`Var::matmul`].
    ///
    /// # Panics
    /// If one of them does not have two dimensions.
    #[track_caller]
    pub fn mm(&self, rhs: &Var) -> Var {
        self.product("mm", rhs, self.value().mm(&rhs.value()))
    }

    /// Products of two batches of matrices `[b, m, k] × [b, k, n]`; see [`Var::matmul`].
    ///
    /// # Panics
    /// If one of them does not have three dimensions or the batch sizes differ.
    #[track_caller]
    pub fn bmm(&self, rhs: &Var) -> Var {
        self.product("bmm", rhs, self.value().bmm(&rhs.value()))
    }

    #[track_caller]
    fn product(&self, name: &'static str, rhs: &Var, value: Tensor) -> Var {
        let (a, b) = (self.value(), rhs.value());
        let like = [Like::of(&a), Like::of(&b)];
        Var::op_edges(name, value, [self.edge(), rhs.edge()], move |g, needs| {
            // Vectors as matrices: a row on the left, a column on the right.
            let (row, column) = (a.rank() == 1, b.rank() == 1);
            let a = if row { a.unsqueeze(0) } else { a.clone() };
            let b = if column { b.unsqueeze(1) } else { b.clone() };
            let g = if column { g.unsqueeze(-1) } else { g.clone() };
            let g = if row { g.unsqueeze(-2) } else { g };
            let da = || {
                let d = g.matmul(&b.t().to_accumulator());
                like[0].fit(&if row { d.squeeze(-2) } else { d })
            };
            let db = || {
                // One matrix for a whole batch of rows: one product over all of them, instead of one each and a sum.
                let a = a.to_accumulator();
                let d = if b.rank() == 2 { rows(&a).t().matmul(&rows(&g)) } else { a.t().matmul(&g) };
                like[1].fit(&if column { d.squeeze(-1) } else { d })
            };
            [needs[0].then(da), needs[1].then(db)]
        })
    }

    /// `x·Wᵀ + b` for `x` `[…, in]`, `weight` `[out, in]` (or `[in]`) and `bias` `[out]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn linear(&self, weight: &Var, bias: Option<&Var>) -> Var {
        if weight.rank() != 2 {
            return operation("linear", || {
                let y = self.product("linear", weight, self.value().linear(&weight.value(), None));
                bias.map_or(y.clone(), |b| y.add(b))
            });
        }
        let (x, w, b) = (self.value(), weight.value(), bias.map(Var::value));
        let value = x.linear(&w, b.as_ref());
        let like = b.as_ref().map(Like::of);
        let edges = [self.edge(), weight.edge(), bias.and_then(Var::edge)];
        Var::op_edges("linear", value, edges, move |g, needs| {
            let dx = || g.matmul(&w.to_accumulator());
            let dw = || rows(g).t().matmul(&rows(&x.to_accumulator()));
            let db = || like.as_ref().expect("only a bias that was given needs a gradient").fit(g);
            [needs[0].then(dx), needs[1].then(dw), needs[2].then(db)]
        })
    }
}

/// All dimensions but the last merged: `[…, n] → [rows, n]`.
fn rows(t: &Tensor) -> Tensor {
    match t.rank() {
        1 => t.unsqueeze(0),
        2 => t.clone(),
        _ => t.flatten(0, -2),
    }
}
