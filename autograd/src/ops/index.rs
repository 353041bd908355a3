//! Reading and writing at positions given by integer tensors. Reading and adding are each other's gradients.

use super::reshape_to;
use crate::graph::Like;
use crate::operand::{Value, VarOperand};
use crate::var::Var;
use tensor::{DType, Repeats, Scalar, Shape, Tensor, operation};

/// Zeros of a gradient's dtype and device.
fn zeros(shape: &Shape, g: &Tensor) -> Tensor {
    Tensor::zeros(shape.clone(), g.dtype(), g.device())
}

/// A gradient of the part of `src` that an operation used, its corner of the index's shape, with zeros for the rest.
fn pad(corner: Tensor, shape: &Shape) -> Tensor {
    if corner.shape() == shape {
        return corner;
    }
    if corner.rank() != shape.len() {
        return reshape_to(&corner, shape);
    }
    (0..corner.rank()).fold(corner, |t, d| {
        let missing = shape[d] - t.dims()[d];
        if missing == 0 {
            return t;
        }
        let rest: Shape = t.dims().iter().enumerate().map(|(i, &s)| if i == d { missing } else { s }).collect();
        Tensor::cat(&[t.clone(), zeros(&rest, &t)], d as isize)
    })
}

impl Var {
    /// `out[i][j] = x[index[i][j]][j]` for `dim` 0, and likewise for the others. The result has the shape of `index`.
    ///
    /// # Panics
    /// If `index` is not an integer tensor of as many dimensions, is larger than `x` in another dimension, or holds a position
    /// that does not exist.
    #[track_caller]
    pub fn gather(&self, dim: isize, index: &Tensor) -> Var {
        let (shape, index) = (self.shape(), index.clone());
        Var::op_edges("gather", self.value().gather(dim, &index), [self.edge()], move |g, _| {
            [Some(zeros(&shape, g).scatter_add(dim, &index, g))]
        })
    }

    /// `x` with `src` (a tensor, or one number for all) written at `index`: `out[index[i][j]][j] = src[i][j]` for `dim` 0. Where
    /// positions repeat, the last one wins, and it alone has a gradient.
    ///
    /// # Panics
    /// If `index` is larger than `x` (outside `dim`) or than `src`, dtypes differ, or a position does not exist.
    #[track_caller]
    pub fn scatter<'a>(&self, dim: isize, index: &Tensor, src: impl Into<VarOperand<'a>>) -> Var {
        let (src, index) = (src.into(), index.clone());
        let edges = [self.edge(), src.edge()];
        let src = src.value();
        let (x, like) = (self.value(), src.like());
        let value = match &src {
            Value::Tensor(src) => x.scatter(dim, &index, src),
            Value::Scalar(s) => x.scatter(dim, &index, *s),
        };
        Var::op_edges("scatter", value, edges, move |g, needs| {
            let dx = || g.scatter(dim, &index, 0);
            let dsrc = || {
                let written = Tensor::arange(0, index.numel() as i64, 1, DType::I64, g.device());
                let written = reshape_to(&written, index.shape());
                let last =
                    Tensor::zeros(g.shape().clone(), DType::I64, g.device()).scatter(dim, &index, &written).gather(dim, &index);
                let kept = Tensor::where_(&last.eq(&written), &g.gather(dim, &index), 0.0);
                pad(kept, &like.as_ref().expect("only a tensor needs a gradient").shape)
            };
            [needs[0].then(dx), needs[1].then(dsrc)]
        })
    }

    /// `x` with `src` added at `index`, in ascending order of `src`'s elements: deterministic.
    ///
    /// # Panics
    /// As [`Var::scatter`].
    #[track_caller]
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Var) -> Var {
        let (index, shape) = (index.clone(), src.shape());
        Var::op_edges(
            "scatter_add",
            self.value().scatter_add(dim, &index, &src.value()),
            [self.edge(), src.edge()],
            move |g, needs| [needs[0].then(|| g.clone()), needs[1].then(|| pad(g.gather(dim, &index), &shape))],
        )
    }

    /// The slices of `x` along `dim` at the positions of a 1-d (or 0-d) integer `index`.
    ///
    /// # Panics
    /// If `index` is not such a tensor or holds a position that does not exist.
    #[track_caller]
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Var {
        let (shape, index) = (self.shape(), index.clone());
        Var::op_edges("index_select", self.value().index_select(dim, &index), [self.edge()], move |g, _| {
            [Some(zeros(&shape, g).index_add(dim, &index, g, 1))]
        })
    }

    /// `x` with `alpha` times the slices of `src` added along `dim` at the positions of a 1-d (or 0-d) integer `index`, in
    /// ascending order: deterministic.
    ///
    /// # Panics
    /// If the shapes of `x` and `src` differ outside `dim`, `src` does not have one slice a position, dtypes differ, or a
    /// position does not exist.
    #[track_caller]
    pub fn index_add(&self, dim: isize, index: &Tensor, src: &Var, alpha: impl Into<Scalar>) -> Var {
        let (index, alpha, shape) = (index.clone(), alpha.into(), src.shape());
        let value = self.value().index_add(dim, &index, &src.value(), alpha);
        Var::op_edges("index_add", value, [self.edge(), src.edge()], move |g, needs| {
            let dsrc = || {
                let d = g.index_select(dim, &index);
                let d = if alpha.as_f64() == 1.0 { d } else { d.mul(alpha) };
                reshape_to(&d, &shape)
            };
            [needs[0].then(|| g.clone()), needs[1].then(dsrc)]
        })
    }

    /// As [`Var::gather`], with `x` and `index` broadcast to each other outside `dim`; on the flattened tensors for `None`. Negative
    /// positions count from the end.
    ///
    /// # Panics
    /// As [`Var::gather`].
    #[track_caller]
    pub fn take_along_dim(&self, index: &Tensor, dim: Option<isize>) -> Var {
        operation("take_along_dim", || {
            let Some(dim) = dim else {
                return self.flatten(0, -1).take_along_dim(&index.flatten(0, -1), Some(0));
            };
            let (wide, index) = self.value().align_along(dim, index);
            self.broadcast_to(wide.shape()).gather(dim, &index)
        })
    }

    /// Rows of `weight` `[vocabulary, dim]` at integer `ids` of any shape: `[…ids, dim]`.
    ///
    /// # Panics
    /// If `weight` is not a matrix, or an id does not exist.
    #[track_caller]
    pub fn embedding(weight: &Var, ids: &Tensor) -> Var {
        let (like, ids) = (Like::of(&weight.value()), ids.clone());
        Var::op_edges("embedding", Tensor::embedding(&weight.value(), &ids), [weight.edge()], move |g, _| {
            let rows = g.reshape(&[ids.numel() as isize, like.shape[1] as isize]);
            [Some(zeros(&like.shape, g).index_add(0, &ids.flatten(0, -1), &rows, 1))]
        })
    }

    /// Each element (slice along `dim`; of the flattened tensor for `None`) repeated in place: all equally often, or as often
    /// as a 1-d integer tensor says.
    ///
    /// # Panics
    /// If the counts are not one an element, or negative.
    #[track_caller]
    pub fn repeat_interleave<'a>(&self, repeats: impl Into<Repeats<'a>>, dim: Option<isize>) -> Var {
        operation("repeat_interleave", || {
            let (x, d) = match dim {
                Some(d) if self.rank() > 0 => (self.clone(), d),
                _ => (self.flatten(0, -1), 0),
            };
            x.index_select(d, &repeats.into().positions(x.dim(d), &self.device()))
        })
    }
}
