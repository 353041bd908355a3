//! Shapes, dimension lists and broadcasting.

use crate::operation::operation;
use crate::refuse;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Deref;

/// The most elements a tensor may have, repeated ones included: the bytes of an address space. Counts of bytes, and of a few
/// operands together, are then far from wrapping.
const MOST_ELEMENTS: usize = 1 << 47;

/// The sizes of a tensor's dimensions; empty for a 0-d tensor.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub(crate) SmallVec<[usize; 6]>);

impl Shape {
    /// Number of elements: the product of the sizes, 1 for a 0-d tensor.
    ///
    /// # Panics
    /// If no memory could hold them, even where one memory cell stands for many.
    #[track_caller]
    pub fn numel(&self) -> usize {
        operation("numel", || self.expect_fits());
        self.0.iter().product()
    }

    /// Whether the sizes that are not 0 multiply to what some memory holds, so that no product of some of them wraps.
    pub fn fits(&self) -> bool {
        let product = self.0.iter().try_fold(1usize, |n, &size| n.checked_mul(size.max(1)));
        product.is_some_and(|n| n <= MOST_ELEMENTS)
    }

    /// Refuses a shape that does not fit.
    pub(crate) fn expect_fits(&self) {
        if !self.fits() {
            refuse!("shape {self} has more elements than any memory holds");
        }
    }

    /// The strides, in elements, of a row-major tensor of this shape.
    pub fn contiguous_strides(&self) -> SmallVec<[usize; 6]> {
        let mut strides: SmallVec<[usize; 6]> = self.0.iter().map(|_| 1).collect();
        for i in (1..self.0.len()).rev() {
            strides[i - 1] = strides[i] * self.0[i].max(1);
        }
        strides
    }

    /// The shape with `sizes[dim]` replaced.
    pub(crate) fn with(&self, dim: usize, size: usize) -> Shape {
        let mut s = self.clone();
        s.0[dim] = size;
        s
    }

    /// The common shape of two operands (NumPy's rule: aligned at the end, sizes equal or one of them 1).
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.len().max(other.len());
        let at = |s: &Shape, i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
        (0..rank)
            .map(|i| match (at(self, i), at(other, i)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<SmallVec<_>>>()
            .map(Shape)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0[..])
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0[..])
    }
}

/// What may be given where a [`Shape`] or [`Dims`] is wanted.
macro_rules! from {
    ($target:ty: $($source:ty, $x:pat => $made:expr;)*) => {$(
        impl From<$source> for $target {
            fn from($x: $source) -> Self {
                $made
            }
        }
    )*};
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(s: [usize; N]) -> Self {
        Shape(SmallVec::from_slice(&s))
    }
}
from! { Shape:
    &[usize], s => Shape(SmallVec::from_slice(s));
    Vec<usize>, s => Shape(SmallVec::from_vec(s));
    &Vec<usize>, s => Shape(SmallVec::from_slice(s));
    usize, s => Shape(SmallVec::from_slice(&[s]));
    (), () => Shape::default();
    &Shape, s => s.clone();
}
impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Self {
        Shape(iter.into_iter().collect())
    }
}

/// The dimensions an operation works along; negative ones count from the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dims {
    /// Every dimension.
    All,
    /// These.
    List(SmallVec<[isize; 6]>),
}

impl Dims {
    /// Sorted, non-negative dimensions. Like `torch.sum`, an empty list means all of them.
    ///
    /// # Panics
    /// If a dimension is out of range or named twice.
    #[track_caller]
    pub fn resolve(&self, rank: usize) -> SmallVec<[usize; 6]> {
        operation("resolve", || match self {
            Dims::List(list) if !list.is_empty() => {
                let mut dims: SmallVec<[usize; 6]> = list.iter().map(|&d| resolve_dim(d, rank)).collect();
                dims.sort_unstable();
                if rank > 0 && dims.windows(2).any(|w| w[0] == w[1]) {
                    refuse!("a dimension is named twice in {list:?}");
                }
                dims.retain(|d| *d < rank); // a 0-d tensor accepts 0 and -1
                dims
            }
            _ => (0..rank).collect(),
        })
    }
}

impl<const N: usize> From<[isize; N]> for Dims {
    fn from(d: [isize; N]) -> Self {
        Dims::List(SmallVec::from_slice(&d))
    }
}
from! { Dims:
    (), () => Dims::All;
    isize, d => Dims::List(SmallVec::from_slice(&[d]));
    i32, d => Dims::from(d as isize);
    &[isize], d => Dims::List(SmallVec::from_slice(d));
    Vec<isize>, d => Dims::List(SmallVec::from_vec(d));
}

/// A dimension counted from the front. A 0-d tensor accepts 0 and -1, as in PyTorch. Refuses what is not in `-rank..rank`.
pub(crate) fn resolve_dim(dim: isize, rank: usize) -> usize {
    let r = rank.max(1) as isize;
    if dim < -r || dim >= r {
        refuse!("dimension {dim} is out of range for a tensor of {rank} dimensions (expected {} to {})", -r, r - 1);
    }
    dim.rem_euclid(r) as usize
}
