//! [`Input`]: the values of one operand and how they lie in memory.

use crate::array::{Array, for_each_index};
use tensor::{DType, Device, Tensor};

/// How an operand lies in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Dimensions from the slowest to the fastest.
    pub order: Vec<usize>,
    /// For each dimension: elements skipped in front, distance between neighbours, elements left over behind.
    pub slices: Vec<(usize, usize, usize)>,
    /// Dimensions along which one element is repeated by a stride of 0.
    pub expanded: Vec<bool>,
}

impl Placement {
    /// Row-major without gaps.
    pub fn contiguous(rank: usize) -> Placement {
        Placement { order: (0..rank).collect(), slices: vec![(0, 1, 0); rank], expanded: vec![false; rank] }
    }
}

/// One operand of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Shape, dtype and values, each exactly representable in the dtype.
    pub array: Array,
    /// Where they lie. Along an expanded dimension all values are equal.
    pub layout: Placement,
}

impl Input {
    /// In row-major order.
    pub fn contiguous(array: Array) -> Input {
        Input { layout: Placement::contiguous(array.rank()), array }
    }

    /// The tensor: a view into memory whose other elements are poisoned (NaN, or 85 for integers), so that a kernel that reads
    /// beside the view is found out.
    pub fn tensor(&self, device: &Device) -> Tensor {
        let rank = self.array.rank();
        let base: Vec<usize> = (0..rank).map(|d| if self.layout.expanded[d] { 1 } else { self.array.shape[d] }).collect();
        let padded: Vec<usize> = (0..rank)
            .map(|d| {
                let (before, step, after) = self.layout.slices[d];
                before + base[d].checked_sub(1).map_or(0, |last| last * step + 1) + after
            })
            .collect();
        let physical: Vec<usize> = self.layout.order.iter().map(|&d| padded[d]).collect();
        let poison = match self.array.dtype {
            DType::Bool => 1.0,
            t if t.is_float() => f64::NAN,
            _ => 85.0,
        };
        let mut memory = vec![poison; physical.iter().product()];
        for_each_index(&base, |ix| {
            let at = |d: usize| self.layout.slices[d].0 + ix[d] * self.layout.slices[d].1;
            let offset = self.layout.order.iter().fold(0, |o, &d| o * padded[d] + at(d));
            memory[offset] = self.array.at(ix);
        });
        let mut t = Tensor::from_vec(memory, physical, device).to_dtype(self.array.dtype);
        let back: Vec<isize> =
            (0..rank).map(|d| self.layout.order.iter().position(|&o| o == d).expect("an order") as isize).collect();
        t = t.permute(&back);
        for (d, (&size, &(before, step, _))) in base.iter().zip(&self.layout.slices).enumerate() {
            if (before, step, padded[d]) != (0, 1, size) {
                t = t.slice(d as isize, before as isize, (before + size * step) as isize, step);
            }
        }
        t.broadcast_to(self.array.shape.clone())
    }
}
