//! How a tensor's elements lie in its storage: shape, strides and offset. Every view is arithmetic on these.

use crate::operation::operation;
use crate::shape::Shape;
use smallvec::SmallVec;

/// Strides in elements, one a dimension. Never negative: a reversal copies.
pub type Strides = SmallVec<[usize; 6]>;

/// Element `[i, j, …]` of a tensor lies at `offset + i·strides[0] + j·strides[1] + …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) shape: Shape,
    pub(crate) strides: Strides,
    pub(crate) offset: usize,
}

impl Layout {
    /// Row-major from the start of the storage.
    ///
    /// # Panics
    /// If no memory could hold that many elements.
    #[track_caller]
    pub fn contiguous(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        operation("contiguous", || shape.expect_fits());
        Layout { strides: shape.contiguous_strides(), shape, offset: 0 }
    }

    /// Sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Strides in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Where the first element lies, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie in row-major order without gaps (the offset may be anything).
    pub fn is_contiguous(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return false;
            }
            expected *= size;
        }
        true
    }

    pub(crate) fn narrow(&self, dim: usize, start: usize, len: usize, step: usize) -> Layout {
        let mut out = self.clone();
        out.offset += start * self.strides[dim];
        out.shape.0[dim] = len;
        if len > 1 {
            out.strides[dim] *= step;
        }
        if out.shape.contains(&0) {
            out.offset = 0; // an empty view behind the end would point outside its storage
        }
        out
    }

    pub(crate) fn permute(&self, dims: &[usize]) -> Layout {
        Layout {
            shape: dims.iter().map(|&d| self.shape[d]).collect(),
            strides: dims.iter().map(|&d| self.strides[d]).collect(),
            offset: self.offset,
        }
    }

    pub(crate) fn insert(&self, dim: usize) -> Layout {
        let mut out = self.clone();
        out.shape.0.insert(dim, 1);
        out.strides.insert(dim, 1);
        out
    }

    pub(crate) fn remove(&self, dim: usize) -> Layout {
        let mut out = self.clone();
        out.shape.0.remove(dim);
        out.strides.remove(dim);
        out
    }

    /// Repeats dimensions of size 1 by a stride of 0; `None` where a size differs and is not 1.
    pub(crate) fn expand(&self, shape: &Shape) -> Option<Layout> {
        let lead = shape.len().checked_sub(self.shape.len())?;
        let mut strides: Strides = SmallVec::from_elem(0, shape.len());
        for (i, (&from, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            strides[lead + i] = match (from, shape[lead + i]) {
                (a, b) if a == b => stride,
                (1, _) => 0,
                _ => return None,
            };
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }

    /// The same elements under another shape without moving them, if strides allow it.
    pub(crate) fn reshape(&self, shape: &Shape) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout { strides: shape.contiguous_strides(), shape: shape.clone(), offset: self.offset });
        }
        // Each maximal run of old dimensions that lies evenly in memory must be a product of new ones.
        let old: SmallVec<[(usize, usize); 6]> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).filter(|&(size, _)| size != 1).collect();
        let mut strides: Strides = SmallVec::from_elem(1, shape.len());
        let (mut new_end, mut old_end) = (shape.len(), old.len());
        while old_end > 0 {
            let stride = old[old_end - 1].1;
            let (mut size, mut start) = (old[old_end - 1].0, old_end - 1);
            while start > 0 && old[start - 1].1 == stride * size {
                start -= 1;
                size *= old[start].0;
            }
            let mut covered = 1;
            while covered < size || (new_end > 0 && shape[new_end - 1] == 1) {
                new_end = new_end.checked_sub(1)?;
                strides[new_end] = stride * covered;
                covered *= shape[new_end];
            }
            if covered != size {
                return None;
            }
            old_end = start;
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }
}

/// The dimensions of several operands of one shape, merged where all of them allow it: the fewer, longer loops that a kernel runs.
///
/// ```
/// use tensor::layout::Loops;
/// let loops = Loops::over(&[2, 1, 3, 4], [&[12, 7, 4, 1], &[0, 9, 4, 1]]);
/// assert_eq!((&loops.sizes[..], &loops.strides[1][..]), (&[2, 12][..], &[0, 1][..]));
/// ```
#[derive(Clone, Debug)]
pub struct Loops<const N: usize> {
    /// Sizes, outermost first; at least one.
    pub sizes: Shape,
    /// Strides of each operand, in elements.
    pub strides: [Strides; N],
    offsets: [usize; N],
}

impl<const N: usize> Loops<N> {
    /// The loops over layouts of one shape.
    pub fn new(layouts: [&Layout; N]) -> Self {
        let offsets = layouts.map(|l| l.offset);
        Loops { offsets, ..Loops::over(&layouts[0].shape, layouts.map(|l| &l.strides[..])) }
    }

    /// The loops over dimensions of `sizes`, in which the operands have these strides (in elements).
    pub fn over(sizes: &[usize], operands: [&[usize]; N]) -> Self {
        let mut out = Loops { sizes: Shape::from(()), strides: std::array::from_fn(|_| Strides::new()), offsets: [0; N] };
        for (d, &size) in sizes.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let last = out.sizes.len().wrapping_sub(1);
            if !out.sizes.is_empty() && (0..N).all(|k| out.strides[k][last] == operands[k][d] * size) {
                out.sizes.0[last] *= size;
                (0..N).for_each(|k| out.strides[k][last] = operands[k][d]);
            } else {
                out.sizes.0.push(size);
                (0..N).for_each(|k| out.strides[k].push(operands[k][d]));
            }
        }
        if out.sizes.is_empty() {
            out.sizes.0.push(1);
            out.strides.iter_mut().for_each(|s| s.push(1));
        }
        out
    }

    /// Size of the innermost loop.
    pub fn inner(&self) -> usize {
        self.sizes[self.sizes.len() - 1]
    }

    /// Strides of the innermost loop.
    pub fn inner_strides(&self) -> [usize; N] {
        std::array::from_fn(|k| self.strides[k][self.sizes.len() - 1])
    }

    /// The storage offsets at which inner loop number `row` starts, for rows `start..end`.
    pub(crate) fn for_rows(&self, start: usize, end: usize, mut f: impl FnMut(usize, [usize; N])) {
        if start >= end {
            return; // an empty tensor has no position to start from
        }
        let outer = self.sizes.len() - 1;
        let mut index = Strides::from_elem(0, outer);
        let mut at = self.offsets;
        let mut rest = start;
        for d in (0..outer).rev() {
            index[d] = rest % self.sizes[d];
            rest /= self.sizes[d];
            for (k, a) in at.iter_mut().enumerate() {
                *a += index[d] * self.strides[k][d];
            }
        }
        for row in start..end {
            f(row, at);
            for d in (0..outer).rev() {
                index[d] += 1;
                for (k, a) in at.iter_mut().enumerate() {
                    *a += self.strides[k][d];
                }
                if index[d] < self.sizes[d] {
                    break;
                }
                for (k, a) in at.iter_mut().enumerate() {
                    *a -= self.sizes[d] * self.strides[k][d];
                }
                index[d] = 0;
            }
        }
    }
}
