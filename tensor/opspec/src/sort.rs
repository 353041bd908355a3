//! Sorting and choosing. Sorting is stable and choosing takes the first of equals, so positions are exact.

use crate::array::{Array, Expected, axis};
use crate::case::{NUMBERS, Spec};
use crate::family::{Family, operations};
use crate::reduce::smallest_gap;
use crate::source::for_each_line;
use crate::{Draw, Op, Source};
use std::cmp::Ordering;
use tensor::{DType, Tensor};

operations! {
    /// An order of `[x]` along a dimension.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Order {
        /// Values and positions.
        Sort {
            /// Along this dimension.
            dim: isize,
            /// Largest first.
            descending: bool,
        } = "sort",
        /// Positions.
        Argsort {
            /// Along this dimension.
            dim: isize,
            /// Largest first.
            descending: bool,
        } = "argsort",
        /// Values and positions of the first few.
        Topk {
            /// How many.
            k: usize,
            /// Along this dimension.
            dim: isize,
            /// Largest or smallest.
            largest: bool,
        } = "topk",
    }
}

use Order::*;

impl Family for Order {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        let (values, positions) = match *self {
            Sort { dim, descending } => x[0].sort(dim, descending),
            Argsort { dim, descending } => return vec![x[0].argsort(dim, descending)],
            Topk { k, dim, largest } => x[0].topk(k, dim, largest, true),
        };
        vec![values, positions]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        match *self {
            Sort { dim, descending } => sorted(&x[0], dim, descending, usize::MAX),
            Argsort { dim, descending } => sorted(&x[0], dim, descending, usize::MAX).split_off(1),
            Topk { k, dim, largest } => sorted(&x[0], dim, largest, k),
        }
    }

    fn differentiable(&self) -> Vec<usize> {
        if matches!(self, Argsort { .. }) { vec![] } else { vec![0] }
    }

    fn kink(&self, x: &[Array]) -> f64 {
        let (Sort { dim, .. } | Argsort { dim, .. } | Topk { dim, .. }) = *self;
        let mut distance = f64::INFINITY;
        if x[0].rank() > 0 {
            for_each_line(&x[0].shape, axis(dim, x[0].rank()), |line| {
                let values: Vec<f64> = line.iter().map(|ix| x[0].at(ix)).collect();
                distance = distance.min(smallest_gap(&values) / 2.0);
            });
        }
        distance
    }

    fn flops(&self, x: &[Array], _: &[Expected]) -> u64 {
        // Comparisons of a merge sort.
        let (Sort { dim, .. } | Argsort { dim, .. } | Topk { dim, .. }) = *self;
        let n = if x[0].rank() == 0 { 1 } else { x[0].shape[axis(dim, x[0].rank())] };
        (x[0].numel() * n.max(1).ilog2() as usize) as u64
    }
}

/// Values and positions of the first `k` of every line; NaN counts as the largest.
fn sorted(x: &Array, dim: isize, descending: bool, k: usize) -> Vec<Expected> {
    if x.rank() == 0 {
        let n = Array::new(DType::I64, [], vec![0.0]);
        return vec![Expected::exact(x.clone()), Expected::exact(n)];
    }
    let d = axis(dim, x.rank());
    let mut shape = x.shape.clone();
    shape[d] = shape[d].min(k);
    let mut values = Array::from_fn(x.dtype, &shape, |_| 0.0);
    let mut positions = Array::from_fn(DType::I64, &shape, |_| 0.0);
    for_each_line(&x.shape, d, |line| {
        let mut order: Vec<usize> = (0..line.len()).collect();
        let up = |a: f64, b: f64| a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal));
        order.sort_by(|&i, &j| {
            let (a, b) = (x.at(&line[i]), x.at(&line[j]));
            if descending { up(b, a) } else { up(a, b) }
        });
        for (to, &from) in line.iter().zip(&order).take(shape[d]) {
            let offset = shape.iter().zip(to).fold(0, |o, (n, i)| o * n + i);
            values.data[offset] = x.at(&line[from]);
            positions.data[offset] = from as f64;
        }
    });
    vec![Expected::exact(values), Expected::exact(positions)]
}

pub(crate) fn specs() -> Vec<Spec> {
    let draw = |s: &mut Source| {
        let shape = if s.draw == Draw::Smooth { s.shape(0, 3) } else { s.shape(0, 4) };
        let dim = s.dim(shape.len().max(1));
        let x = s.input(&shape, -10.0, 10.0);
        (shape, dim, x)
    };
    vec![
        Spec::new("sort", NUMBERS, move |s| {
            let (_, dim, x) = draw(s);
            (Op::Order(Sort { dim, descending: s.coin() }), vec![x])
        }),
        Spec::new("argsort", NUMBERS, move |s| {
            let (_, dim, x) = draw(s);
            (Op::Order(Argsort { dim, descending: s.coin() }), vec![x])
        }),
        Spec::new("topk", NUMBERS, move |s| {
            let (shape, dim, x) = draw(s);
            let n = if shape.is_empty() { 1 } else { shape[axis(dim, shape.len())] };
            let k = n - s.pick(n.max(1)).min(n);
            (Op::Order(Topk { k, dim, largest: !s.coin() }), vec![x])
        }),
    ]
}
