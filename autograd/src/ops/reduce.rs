//! Reductions and running sums.

use super::{chosen, unrounded};
use crate::var::Var;
use smallvec::SmallVec;
use tensor::{Dims, Shape, Tensor};

/// Which dimensions a reduction went over, to undo what it did to the shape.
struct Reduced {
    shape: Shape,
    dims: SmallVec<[usize; 6]>,
    keepdim: bool,
}

impl Reduced {
    /// Of a reduction that was done.
    fn new(x: &Var, dims: &Dims, keepdim: bool) -> Reduced {
        let shape = x.shape();
        Reduced { dims: dims.resolve(shape.len()), shape, keepdim }
    }

    /// How many elements went into each result.
    fn count(&self) -> usize {
        self.dims.iter().map(|&d| self.shape[d]).product()
    }

    /// A reduction's result (or its gradient) with the reduced dimensions kept with size 1.
    fn keep(&self, t: &Tensor) -> Tensor {
        if self.keepdim {
            return t.clone();
        }
        self.dims.iter().fold(t.clone(), |t, &d| t.unsqueeze(d as isize))
    }

    /// The reduced dimensions repeated to their size, without copying.
    fn spread(&self, t: &Tensor) -> Tensor {
        self.keep(t).broadcast_to(&self.shape)
    }

    fn axes(&self) -> Dims {
        Dims::List(self.dims.iter().map(|&d| d as isize).collect())
    }
}

impl Var {
    /// Sum over `dims` (all of them for `()` or an empty list).
    ///
    /// # Panics
    /// If a dimension is out of range or named twice.
    #[track_caller]
    pub fn sum(&self, dims: impl Into<Dims>, keepdim: bool) -> Var {
        let dims = dims.into();
        let value = self.value().sum(dims.clone(), keepdim);
        let reduced = Reduced::new(self, &dims, keepdim);
        Var::op_edges("sum", value, [self.edge()], move |g, _| [Some(reduced.spread(g))])
    }

    /// Mean over `dims`; NaN of nothing.
    ///
    /// # Panics
    /// If the dtype is not a float, or a dimension is out of range or named twice.
    #[track_caller]
    pub fn mean(&self, dims: impl Into<Dims>, keepdim: bool) -> Var {
        let dims = dims.into();
        let value = self.value().mean(dims.clone(), keepdim);
        let reduced = Reduced::new(self, &dims, keepdim);
        Var::op_edges("mean", value, [self.edge()], move |g, _| [Some(reduced.spread(&g.div(reduced.count() as f64)))])
    }

    /// Largest element over `dims`; equals share the gradient evenly. NaN wins.
    ///
    /// # Panics
    /// If there is nothing to choose from, or a dimension is out of range or named twice.
    #[track_caller]
    pub fn amax(&self, dims: impl Into<Dims>, keepdim: bool) -> Var {
        let dims = dims.into();
        self.extremum("amax", self.value().amax(dims.clone(), keepdim), &dims, keepdim)
    }

    /// Smallest element over `dims`; equals share the gradient evenly. NaN wins.
    ///
    /// # Panics
    /// If there is nothing to choose from, or a dimension is out of range or named twice.
    #[track_caller]
    pub fn amin(&self, dims: impl Into<Dims>, keepdim: bool) -> Var {
        let dims = dims.into();
        self.extremum("amin", self.value().amin(dims.clone(), keepdim), &dims, keepdim)
    }

    #[track_caller]
    fn extremum(&self, name: &'static str, y: Tensor, dims: &Dims, keepdim: bool) -> Var {
        let (x, reduced) = (self.value(), Reduced::new(self, dims, keepdim));
        Var::op_edges(name, y.clone(), [self.edge()], move |g, _| {
            if reduced.dims.is_empty() {
                return [Some(g.clone())];
            }
            let chosen = chosen(&x, &reduced.keep(&y));
            let shared = reduced.keep(g).div(&chosen.sum(reduced.axes(), true));
            [Some(Tensor::where_(&chosen, &shared, 0.0))]
        })
    }

    /// Variance over `dims`: the squared distances from the mean, summed and divided by `n − correction` (at least 0).
    ///
    /// # Panics
    /// If the dtype is not a float, or a dimension is out of range or named twice.
    #[track_caller]
    pub fn var(&self, dims: impl Into<Dims>, correction: f64, keepdim: bool) -> Var {
        let (dims, x) = (dims.into(), self.value());
        let value = x.var(dims.clone(), correction, keepdim);
        let reduced = Reduced::new(self, &dims, keepdim);
        Var::op_edges("var", value, [self.edge()], move |g, _| {
            let x = x.to_accumulator();
            let centred = x.sub(&x.mean(reduced.axes(), true));
            let freedom = reduced.count() as f64 - correction;
            let slope = match freedom > 0.0 {
                true => centred.mul(2.0 / freedom),
                // As in PyTorch: a variance of no degrees of freedom is undefined at the mean and steep everywhere else.
                false => Tensor::where_(&centred.eq(0.0), f64::NAN, &centred.full_like(f64::INFINITY)),
            };
            [Some(slope.mul(&reduced.keep(g)))]
        })
    }

    /// `log Σ eˣ` over `dims`, without overflow. Where everything is −∞ the gradient is 0.
    ///
    /// # Panics
    /// If a dimension is out of range or named twice.
    #[track_caller]
    pub fn logsumexp(&self, dims: impl Into<Dims>, keepdim: bool) -> Var {
        let (dims, x) = (dims.into(), self.value());
        let y = x.logsumexp(dims.clone(), keepdim);
        let reduced = Reduced::new(self, &dims, keepdim);
        let result = unrounded(x.clone(), &y, move |x| x.logsumexp(dims.clone(), keepdim));
        Var::op_edges("logsumexp", y, [self.edge()], move |g, _| {
            let shift = reduced.keep(&result());
            let shift = shift.masked_fill(&shift.eq(f64::NEG_INFINITY), 0.0);
            [Some(x.to_accumulator().sub(&shift).exp().mul(&reduced.keep(g)))]
        })
    }

    /// Running sum along `dim`.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn cumsum(&self, dim: isize) -> Var {
        Var::op_edges("cumsum", self.value().cumsum(dim), [self.edge()], move |g, _| {
            [Some(g.flip(&[dim]).cumsum(dim).flip(&[dim]))]
        })
    }
}
