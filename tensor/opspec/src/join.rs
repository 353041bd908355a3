//! Joining and splitting.

use crate::array::{Array, Expected, axis};
use crate::case::{ALL, Spec};
use crate::family::{Family, operations};
use crate::{Op, Source};
use tensor::Tensor;

operations! {
    /// Joining tensors, or cutting one.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Join {
        /// All operands along an existing dimension.
        Cat(isize) = "cat",
        /// All operands along a new dimension.
        Stack(isize) = "stack",
        /// `[x]` in pieces of a size along a dimension.
        Split(usize, isize) = "split",
        /// `[x]` in a number of pieces along a dimension.
        Chunk(usize, isize) = "chunk",
    }
}

use Join::*;

impl Family for Join {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        match *self {
            Cat(dim) => vec![Tensor::cat(x, dim)],
            Stack(dim) => vec![Tensor::stack(x, dim)],
            Split(size, dim) => x[0].split(size, dim),
            Chunk(chunks, dim) => x[0].chunk(chunks, dim),
        }
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let arrays = match *self {
            Cat(dim) => vec![cat(x, axis(dim, x[0].rank()))],
            Stack(dim) => {
                let d = axis(dim, x[0].rank() + 1);
                let lifted: Vec<Array> = x
                    .iter()
                    .map(|a| {
                        let mut shape = a.shape.clone();
                        shape.insert(d, 1);
                        a.reshaped(&shape)
                    })
                    .collect();
                vec![cat(&lifted, d)]
            }
            Split(size, dim) => cut(&x[0], size, axis(dim, x[0].rank())),
            Chunk(chunks, dim) => {
                let d = axis(dim, x[0].rank());
                match x[0].shape[d] {
                    0 => vec![x[0].clone(); chunks],
                    n => cut(&x[0], n.div_ceil(chunks), d),
                }
            }
        };
        arrays.into_iter().map(Expected::exact).collect()
    }

    fn differentiable(&self) -> Vec<usize> {
        match self {
            Cat(_) | Stack(_) => (0..MOST).collect(),
            Split(..) | Chunk(..) => vec![0],
        }
    }

    fn flops(&self, _: &[Array], _: &[Expected]) -> u64 {
        0
    }
}

/// The most operands that are joined.
const MOST: usize = 4;

fn cat(parts: &[Array], d: usize) -> Array {
    let mut shape = parts[0].shape.clone();
    shape[d] = parts.iter().map(|p| p.shape[d]).sum();
    Array::from_fn(parts[0].dtype, &shape, |ix| {
        let mut at = ix.to_vec();
        let part = parts.iter().find(|p| {
            let inside = at[d] < p.shape[d];
            if !inside {
                at[d] -= p.shape[d];
            }
            inside
        });
        part.expect("a part").at(&at)
    })
}

fn cut(x: &Array, size: usize, d: usize) -> Vec<Array> {
    let n = x.shape[d];
    (0..n.div_ceil(size).max(1))
        .map(|i| {
            let mut shape = x.shape.clone();
            shape[d] = size.min(n - i * size);
            Array::from_fn(x.dtype, &shape, |ix| {
                let mut at = ix.to_vec();
                at[d] += i * size;
                x.at(&at)
            })
        })
        .collect()
}

pub(crate) fn specs() -> Vec<Spec> {
    let cut = |name, make: fn(usize, isize) -> Join| {
        Spec::new(name, ALL, move |s: &mut Source| {
            let shape = s.shape(1, 4);
            let dim = s.dim(shape.len());
            (Op::Join(make(1 + s.pick(6), dim)), vec![s.input(&shape, -10.0, 10.0)])
        })
    };
    vec![
        Spec::new("cat", ALL, |s| {
            let shape = s.shape(1, 4);
            let dim = s.dim(shape.len());
            let inputs = (0..1 + s.pick(MOST))
                .map(|_| {
                    let mut shape = shape.clone();
                    let d = axis(dim, shape.len());
                    shape[d] = s.size();
                    s.input(&shape, -10.0, 10.0)
                })
                .collect();
            (Op::Join(Cat(dim)), inputs)
        }),
        Spec::new("stack", ALL, |s| {
            let shape = s.shape(0, 3);
            let dim = s.dim(shape.len() + 1);
            let inputs = (0..1 + s.pick(MOST)).map(|_| s.input(&shape, -10.0, 10.0)).collect();
            (Op::Join(Stack(dim)), inputs)
        }),
        cut("split", Split),
        cut("chunk", Chunk),
    ]
}
