//! Views and rearrangements.

use crate::dtype::DType;
use crate::operation::operation;
use crate::ops::index::Repeats;
use crate::refuse;
use crate::shape::{Dims, Shape, resolve_dim};
use crate::tensor::Tensor;
use smallvec::SmallVec;

/// A position of which negative ones count from the end of `size`; `None` before the front.
fn from_front(position: isize, size: usize) -> Option<usize> {
    if position < 0 { size.checked_sub(position.unsigned_abs()) } else { Some(position as usize) }
}

impl Tensor {
    /// The same elements in row-major order under another shape; one size may be −1 and is inferred. A view where the
    /// strides allow it, else a copy.
    ///
    /// # Panics
    /// If the number of elements differs, or −1 cannot be inferred.
    #[track_caller]
    pub fn reshape(&self, shape: &[isize]) -> Tensor {
        operation("reshape", || {
            let given = || shape.iter().filter(|&&s| s != -1);
            let known = given().try_fold(1usize, |n, &s| n.checked_mul(usize::try_from(s).ok()?));
            let inferred = match shape.len() - given().count() {
                0 => Some(0),
                1 => known.and_then(|known| self.numel().checked_div(known)),
                _ => None,
            };
            let size = |s: isize| if s == -1 { inferred } else { usize::try_from(s).ok() };
            match shape.iter().map(|&s| size(s)).collect::<Option<Shape>>() {
                Some(sizes) if sizes.fits() && sizes.numel() == self.numel() => self.reshape_to(&sizes),
                _ => refuse!("{} elements of shape {} do not make {shape:?}", self.numel(), self.shape()),
            }
        })
    }

    pub(crate) fn reshape_to(&self, shape: &Shape) -> Tensor {
        match self.layout().reshape(shape) {
            Some(layout) => self.view(layout),
            None => {
                let x = self.contiguous();
                let layout = x.layout().reshape(shape).expect("a contiguous tensor takes any shape");
                x.view(layout)
            }
        }
    }

    /// Dimensions in another order: dimension `i` of the result is `dims[i]` of this tensor. A view.
    ///
    /// # Panics
    /// If `dims` is not an order of all dimensions.
    #[track_caller]
    pub fn permute(&self, dims: &[isize]) -> Tensor {
        operation("permute", || {
            let front = |&d: &isize| if self.rank() == 0 { usize::MAX } else { resolve_dim(d, self.rank()) };
            let order: SmallVec<[usize; 6]> = dims.iter().map(front).collect();
            let mut seen = order.clone();
            seen.sort_unstable();
            if !seen.iter().copied().eq(0..self.rank()) {
                refuse!("{dims:?} is not an order of the {} dimensions of shape {}", self.rank(), self.shape());
            }
            self.view(self.layout().permute(&order))
        })
    }

    /// Two dimensions swapped. A view.
    ///
    /// # Panics
    /// If a dimension is out of range.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Tensor {
        operation("transpose", || {
            let (a, b) = (resolve_dim(a, self.rank()), resolve_dim(b, self.rank()));
            let mut order: SmallVec<[usize; 6]> = (0..self.rank()).collect();
            if self.rank() > 0 {
                order.swap(a, b);
            }
            self.view(self.layout().permute(&order))
        })
    }

    /// The last two dimensions swapped; a vector or 0-d tensor is returned as it is. A view.
    pub fn t(&self) -> Tensor {
        if self.rank() < 2 { self.clone() } else { self.transpose(-2, -1) }
    }

    /// A dimension of size 1 inserted before `dim` (−1: at the end). A view.
    ///
    /// # Panics
    /// If `dim` is out of range.
    #[track_caller]
    pub fn unsqueeze(&self, dim: isize) -> Tensor {
        operation("unsqueeze", || self.view(self.layout().insert(resolve_dim(dim, self.rank() + 1))))
    }

    /// Without the dimensions of size 1 among `dims` (all of them for `()`, none for an empty list). A view.
    ///
    /// # Panics
    /// If a dimension is out of range.
    #[track_caller]
    pub fn squeeze(&self, dims: impl Into<Dims>) -> Tensor {
        let dims = match dims.into() {
            Dims::List(list) if list.is_empty() => return self.clone(),
            dims => operation("squeeze", || dims.resolve(self.rank())),
        };
        let ones: SmallVec<[usize; 6]> = dims.into_iter().filter(|&d| self.dims()[d] == 1).collect();
        self.squeeze_resolved(&ones)
    }

    pub(crate) fn squeeze_resolved(&self, dims: &[usize]) -> Tensor {
        self.view(dims.iter().rev().fold(self.layout().clone(), |l, &d| l.remove(d)))
    }

    /// Dimensions of size 1 repeated to the given sizes without copying; −1 keeps a size, new dimensions come in front.
    ///
    /// # Panics
    /// If a size differs where this tensor's is not 1, or the shape has more elements than any memory holds.
    #[track_caller]
    pub fn expand(&self, shape: &[isize]) -> Tensor {
        operation("expand", || {
            let lead = shape.len() as isize - self.rank() as isize;
            let sizes: Option<Shape> = shape
                .iter()
                .enumerate()
                .map(|(i, &s)| match s {
                    -1 => (i as isize).checked_sub(lead).filter(|&j| j >= 0).map(|j| self.dims()[j as usize]),
                    s => usize::try_from(s).ok(),
                })
                .collect();
            match sizes.as_ref().and_then(|s| self.layout().expand(s)) {
                Some(layout) => {
                    layout.shape().expect_fits();
                    self.view(layout)
                }
                None => refuse!("shape {} cannot become {shape:?}", self.shape()),
            }
        })
    }

    /// As [`Tensor::expand`] with every size given.
    ///
    /// # Panics
    /// If the shape does not broadcast to it, or it has more elements than any memory holds.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Tensor {
        operation("broadcast_to", || {
            let shape = shape.into();
            shape.expect_fits();
            match self.layout().expand(&shape) {
                Some(layout) => self.view(layout),
                None => refuse!("shape {} cannot become {shape}", self.shape()),
            }
        })
    }

    /// Dimensions `start..=end` merged into one. A view where the strides allow it.
    ///
    /// # Panics
    /// If a dimension is out of range or `start` lies behind `end`.
    #[track_caller]
    pub fn flatten(&self, start: isize, end: isize) -> Tensor {
        operation("flatten", || {
            if self.rank() == 0 {
                return self.unsqueeze(0);
            }
            let (s, e) = (resolve_dim(start, self.rank()), resolve_dim(end, self.rank()));
            if s > e {
                refuse!("dimension {start} lies behind {end}");
            }
            let d = self.dims();
            let merged = d[s..=e].iter().product();
            self.reshape_to(&d[..s].iter().copied().chain([merged]).chain(d[e + 1..].iter().copied()).collect())
        })
    }

    /// `len` elements along `dim` from `start` (negative counts from the end). A view.
    ///
    /// # Panics
    /// If they are not all there.
    #[track_caller]
    pub fn narrow(&self, dim: isize, start: isize, len: usize) -> Tensor {
        operation("narrow", || {
            let size = self.dim(dim);
            let d = resolve_dim(dim, self.rank());
            match from_front(start, size) {
                Some(from) if len <= size && from <= size - len => self.view(self.layout().narrow(d, from, len, 1)),
                _ => refuse!("{len} elements from {start} do not fit dimension {dim} of shape {}", self.shape()),
            }
        })
    }

    /// Every `step`-th element along `dim` from `start` up to but without `end`; bounds are clamped and negative ones count
    /// from the end, as in Python. A view.
    ///
    /// # Panics
    /// If `step` is 0 or the dimension is out of range.
    #[track_caller]
    pub fn slice(&self, dim: isize, start: isize, end: isize, step: usize) -> Tensor {
        operation("slice", || {
            if step == 0 {
                refuse!("step is 0");
            }
            let size = self.dim(dim) as isize;
            let d = resolve_dim(dim, self.rank());
            let clamp = |i: isize| (if i < 0 { i + size } else { i }).clamp(0, size) as usize;
            let (start, end) = (clamp(start), clamp(end));
            self.view(self.layout().narrow(d, start, end.saturating_sub(start).div_ceil(step), step))
        })
    }

    /// The slice at one position of `dim`, without that dimension. A view.
    ///
    /// # Panics
    /// If there is no such position.
    #[track_caller]
    pub fn select(&self, dim: isize, index: isize) -> Tensor {
        operation("select", || {
            let d = resolve_dim(dim, self.rank());
            let size = self.dims().get(d).copied().unwrap_or(0);
            match from_front(index, size) {
                Some(at) if at < size => self.view(self.layout().narrow(d, at, 1, 1).remove(d)),
                _ => refuse!("position {index} does not exist in dimension {dim} of shape {}", self.shape()),
            }
        })
    }

    /// Pieces of `size` along `dim`, the last one may be shorter. Views.
    ///
    /// # Panics
    /// If `size` is 0 and the dimension is not empty.
    #[track_caller]
    pub fn split(&self, size: usize, dim: isize) -> Vec<Tensor> {
        operation("split", || {
            let n = self.dim(dim);
            if size == 0 && n > 0 {
                refuse!("pieces of 0 do not make up {n}");
            }
            (0..n.div_ceil(size.max(1)).max(1)).map(|i| self.narrow(dim, (i * size) as isize, size.min(n - i * size))).collect()
        })
    }

    /// At most `chunks` pieces of one size along `dim`, the last one may be shorter. Views.
    ///
    /// # Panics
    /// If `chunks` is 0.
    #[track_caller]
    pub fn chunk(&self, chunks: usize, dim: isize) -> Vec<Tensor> {
        operation("chunk", || match (self.dim(dim), chunks) {
            (_, 0) => refuse!("0 pieces"),
            (0, _) => vec![self.clone(); chunks],
            (n, _) => self.split(n.div_ceil(chunks), dim),
        })
    }

    /// The order of elements reversed along `dims`. A copy: strides are never negative.
    ///
    /// # Panics
    /// If a dimension is out of range.
    #[track_caller]
    pub fn flip(&self, dims: &[isize]) -> Tensor {
        operation("flip", || {
            let mut x = self.clone();
            for &d in dims {
                let d = resolve_dim(d, x.rank());
                if x.rank() > 0 {
                    let backwards = Tensor::arange(x.dims()[d] as i64 - 1, -1, -1, DType::I64, x.device());
                    x = x.index_select(d as isize, &backwards);
                }
            }
            x
        })
    }

    /// Elements shifted along `dims`, those pushed out coming in at the other end; without `dims`, in the flattened tensor.
    ///
    /// # Panics
    /// If there is not one shift a dimension.
    #[track_caller]
    pub fn roll(&self, shifts: &[isize], dims: &[isize]) -> Tensor {
        operation("roll", || {
            if dims.is_empty() {
                return self.flatten(0, -1).roll(shifts, &[0]).reshape_to(self.shape());
            }
            if shifts.len() != dims.len() {
                refuse!("{} shifts for {} dimensions", shifts.len(), dims.len());
            }
            let mut x = self.clone();
            for (&shift, &d) in shifts.iter().zip(dims) {
                let axis = resolve_dim(d, x.rank());
                if x.numel() > 0 && x.rank() > 0 {
                    let n = x.dims()[axis];
                    let cut = n - shift.rem_euclid(n as isize) as usize;
                    x = Tensor::cat(&[x.narrow(d, cut as isize, n - cut), x.narrow(d, 0, cut)], d);
                }
            }
            x
        })
    }

    /// The whole tensor repeated `counts[d]` times along each dimension; more counts than dimensions add dimensions in front.
    ///
    /// # Panics
    /// If there are fewer counts than dimensions, or no memory could hold the result.
    #[track_caller]
    pub fn repeat(&self, counts: &[usize]) -> Tensor {
        operation("repeat", || {
            let lead = counts.len().checked_sub(self.rank());
            let Some(lead) = lead else { refuse!("{} counts for shape {}", counts.len(), self.shape()) };
            let sizes: SmallVec<[usize; 6]> =
                (0..counts.len()).map(|d| d.checked_sub(lead).map_or(1, |i| self.dims()[i])).collect();
            let pairs =
                |count: &dyn Fn(usize) -> usize| -> Shape { (0..counts.len()).flat_map(|d| [count(d), sizes[d]]).collect() };
            let spread = pairs(&|d| counts[d]);
            spread.expect_fits();
            let wide = self.reshape_to(&pairs(&|_| 1)).broadcast_to(spread);
            wide.reshape_to(&(0..counts.len()).map(|d| counts[d] * sizes[d]).collect())
        })
    }

    /// Each element (slice along `dim`; of the flattened tensor for `None`) repeated in place: all equally often, or as often
    /// as a 1-d integer tensor says.
    ///
    /// # Panics
    /// If the counts are not one an element, or negative.
    #[track_caller]
    pub fn repeat_interleave<'a>(&self, repeats: impl Into<Repeats<'a>>, dim: Option<isize>) -> Tensor {
        operation("repeat_interleave", || {
            let (x, d) = match dim {
                Some(d) if self.rank() > 0 => (self.clone(), d),
                _ => (self.flatten(0, -1), 0),
            };
            x.index_select(d, &repeats.into().positions(x.dim(d), self.device()))
        })
    }
}
