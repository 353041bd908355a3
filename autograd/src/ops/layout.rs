//! Views, rearrangements and joining.

use crate::graph::Like;
use crate::var::Var;
use tensor::{DType, Device, Dims, Shape, Tensor};

/// The gradient of a part of a tensor: zeros before and behind it along `dim`.
pub(crate) fn zero_pad(g: &Tensor, dim: usize, before: usize, size: usize) -> Tensor {
    let zeros = |n: usize| {
        let shape: Shape = g.dims().iter().enumerate().map(|(i, &s)| if i == dim { n } else { s }).collect();
        Tensor::zeros(shape, g.dtype(), g.device())
    };
    let after = size - before - g.dims()[dim];
    let parts: Vec<Tensor> = match (before, after) {
        (0, 0) => return g.clone(),
        (0, n) => vec![g.clone(), zeros(n)],
        (n, 0) => vec![zeros(n), g.clone()],
        (n, m) => vec![zeros(n), g.clone(), zeros(m)],
    };
    Tensor::cat(&parts, dim as isize)
}

fn resolve(dim: isize, rank: usize) -> usize {
    dim.rem_euclid(rank.max(1) as isize) as usize
}

impl Var {
    /// A view of the same elements in the same number: the gradient is given this shape back.
    #[track_caller]
    fn reshaped(&self, name: &'static str, value: Tensor) -> Var {
        let like = Like { shape: self.shape(), dtype: self.dtype() };
        Var::op_edges(name, value, [self.edge()], move |g, _| [Some(like.reshape(g))])
    }

    /// A value that was broadcast: the gradient is summed.
    #[track_caller]
    fn broadcasted(&self, name: &'static str, value: Tensor) -> Var {
        let like = Like { shape: self.shape(), dtype: self.dtype() };
        Var::op_edges(name, value, [self.edge()], move |g, _| [Some(like.fit(g))])
    }

    /// The same elements in row-major order under another shape; one size may be −1 and is inferred.
    ///
    /// # Panics
    /// If the number of elements differs, or −1 cannot be inferred.
    #[track_caller]
    pub fn reshape(&self, shape: &[isize]) -> Var {
        self.reshaped("reshape", self.value().reshape(shape))
    }

    /// Dimensions `start..=end` merged into one.
    ///
    /// # Panics
    /// If a dimension is out of range or `start` lies behind `end`.
    #[track_caller]
    pub fn flatten(&self, start: isize, end: isize) -> Var {
        self.reshaped("flatten", self.value().flatten(start, end))
    }

    /// A dimension of size 1 inserted before `dim` (−1: at the end).
    ///
    /// # Panics
    /// If `dim` is out of range.
    #[track_caller]
    pub fn unsqueeze(&self, dim: isize) -> Var {
        self.reshaped("unsqueeze", self.value().unsqueeze(dim))
    }

    /// Without the dimensions of size 1 among `dims` (all of them for `()`, none for an empty list).
    ///
    /// # Panics
    /// If a dimension is out of range.
    #[track_caller]
    pub fn squeeze(&self, dims: impl Into<Dims>) -> Var {
        self.reshaped("squeeze", self.value().squeeze(dims))
    }

    /// The same values in row-major order; no copy where they are already.
    ///
    /// # Panics
    /// If there is no memory for a copy.
    #[track_caller]
    pub fn contiguous(&self) -> Var {
        let value = self.value();
        if value.is_contiguous() {
            self.clone()
        } else {
            Var::op_edges("contiguous", value.contiguous(), [self.edge()], |g, _| [Some(g.clone())])
        }
    }

    /// A copy on another device; the gradient comes back to this one.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_device(&self, device: &Device) -> Var {
        let from = self.device();
        Var::op_edges("to_device", self.value().to_device(device), [self.edge()], move |g, _| [Some(g.to_device(&from))])
    }

    /// Dimensions in another order: dimension `i` of the result is `dims[i]` of this one.
    ///
    /// # Panics
    /// If `dims` is not an order of all dimensions.
    #[track_caller]
    pub fn permute(&self, dims: &[isize]) -> Var {
        let value = self.value().permute(dims);
        let mut back = vec![0isize; dims.len()];
        for (i, &d) in dims.iter().enumerate() {
            back[resolve(d, dims.len())] = i as isize;
        }
        Var::op_edges("permute", value, [self.edge()], move |g, _| [Some(g.permute(&back))])
    }

    /// Two dimensions swapped.
    ///
    /// # Panics
    /// If a dimension is out of range.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Var {
        Var::op_edges("transpose", self.value().transpose(a, b), [self.edge()], move |g, _| [Some(g.transpose(a, b))])
    }

    /// The last two dimensions swapped; a vector or 0-d value is returned as it is.
    pub fn t(&self) -> Var {
        if self.rank() < 2 { self.clone() } else { self.transpose(-2, -1) }
    }

    /// Dimensions of size 1 repeated to the given sizes without copying; −1 keeps a size, new dimensions come in front.
    ///
    /// # Panics
    /// If a size differs where this value's is not 1, or the shape has more elements than any memory holds.
    #[track_caller]
    pub fn expand(&self, shape: &[isize]) -> Var {
        self.broadcasted("expand", self.value().expand(shape))
    }

    /// As [`Var::expand`] with every size given.
    ///
    /// # Panics
    /// If the shape does not broadcast to it, or it has more elements than any memory holds.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Var {
        self.broadcasted("broadcast_to", self.value().broadcast_to(shape))
    }

    /// `len` elements along `dim` from `start` (negative counts from the end). To cut a value into several pieces, use
    /// [`Var::split`] or [`Var::split_with_sizes`]: their gradients are joined once.
    ///
    /// # Panics
    /// If they are not all there.
    #[track_caller]
    pub fn narrow(&self, dim: isize, start: isize, len: usize) -> Var {
        let x = self.value();
        let value = x.narrow(dim, start, len);
        let d = resolve(dim, x.rank());
        let size = x.dims()[d];
        let before = if start < 0 { start + size as isize } else { start } as usize;
        Var::op_edges("narrow", value, [self.edge()], move |g, _| [Some(zero_pad(g, d, before, size))])
    }

    /// Every `step`-th element along `dim` from `start` up to but without `end`; bounds are clamped and negative ones count
    /// from the end, as in Python.
    ///
    /// # Panics
    /// If `step` is 0 or the dimension is out of range.
    #[track_caller]
    pub fn slice(&self, dim: isize, start: isize, end: isize, step: usize) -> Var {
        let x = self.value();
        let value = x.slice(dim, start, end, step);
        let d = resolve(dim, x.rank());
        let (size, len) = (x.dims()[d], value.dims()[d]);
        let step = step.min(size.max(1));
        let from = if start < 0 { start + size as isize } else { start }.clamp(0, size as isize) as usize;
        let shape = x.shape().clone();
        Var::op_edges("slice", value, [self.edge()], move |g, _| {
            if step == 1 || len == 0 {
                return [Some(zero_pad(g, d, from, size))];
            }
            let index = Tensor::arange(from as i64, (from + len * step) as i64, step as i64, DType::I64, g.device());
            [Some(Tensor::zeros(shape.clone(), g.dtype(), g.device()).index_add(d as isize, &index, g, 1))]
        })
    }

    /// The slice at one position of `dim`, without that dimension.
    ///
    /// # Panics
    /// If there is no such position.
    #[track_caller]
    pub fn select(&self, dim: isize, index: isize) -> Var {
        let x = self.value();
        let value = x.select(dim, index);
        let d = resolve(dim, x.rank());
        let size = x.dims()[d];
        let at = index.rem_euclid(size as isize) as usize;
        Var::op_edges("select", value, [self.edge()], move |g, _| [Some(zero_pad(&g.unsqueeze(d as isize), d, at, size))])
    }

    /// The order of elements reversed along `dims`.
    ///
    /// # Panics
    /// If a dimension is out of range.
    #[track_caller]
    pub fn flip(&self, dims: &[isize]) -> Var {
        let back = dims.to_vec();
        Var::op_edges("flip", self.value().flip(dims), [self.edge()], move |g, _| [Some(g.flip(&back))])
    }

    /// Elements shifted along `dims`, those pushed out coming in at the other end; without `dims`, in the flattened value.
    ///
    /// # Panics
    /// If there is not one shift a dimension.
    #[track_caller]
    pub fn roll(&self, shifts: &[isize], dims: &[isize]) -> Var {
        let (back, along): (Vec<isize>, _) = (shifts.iter().map(|s| -s).collect(), dims.to_vec());
        Var::op_edges("roll", self.value().roll(shifts, dims), [self.edge()], move |g, _| [Some(g.roll(&back, &along))])
    }

    /// The whole value repeated `counts[d]` times along each dimension; more counts than dimensions add dimensions in front.
    ///
    /// # Panics
    /// If there are fewer counts than dimensions.
    #[track_caller]
    pub fn repeat(&self, counts: &[usize]) -> Var {
        let (like, counts) = (Like { shape: self.shape(), dtype: self.dtype() }, counts.to_vec());
        Var::op_edges("repeat", self.value().repeat(&counts), [self.edge()], move |g, _| {
            // Each dimension as [repetitions, size], the repetitions summed.
            let lead = counts.len() - like.shape.len();
            let size = |d: usize| d.checked_sub(lead).map_or(1, |i| like.shape[i]);
            let pairs: Vec<isize> = (0..counts.len()).flat_map(|d| [counts[d] as isize, size(d) as isize]).collect();
            let repetitions: Vec<isize> = (0..counts.len()).map(|d| 2 * d as isize).collect();
            let sum = if counts.is_empty() { g.clone() } else { g.reshape(&pairs).sum(repetitions, false) };
            [Some(like.reshape(&sum))]
        })
    }

    /// Keeps the elements on and below the `k`-th diagonal of the last two dimensions; zeroes the rest.
    ///
    /// # Panics
    /// If there are fewer than two dimensions.
    #[track_caller]
    pub fn tril(&self, k: i64) -> Var {
        Var::op_edges("tril", self.value().tril(k), [self.edge()], move |g, _| [Some(g.tril(k))])
    }

    /// Keeps the elements on and above the `k`-th diagonal of the last two dimensions; zeroes the rest.
    ///
    /// # Panics
    /// If there are fewer than two dimensions.
    #[track_caller]
    pub fn triu(&self, k: i64) -> Var {
        Var::op_edges("triu", self.value().triu(k), [self.edge()], move |g, _| [Some(g.triu(k))])
    }
}
