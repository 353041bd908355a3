//! Views and rearrangements, held to index arithmetic, and casts.

use crate::array::{Array, Expected, axis};
use crate::case::{ALL, Spec};
use crate::family::{Family, operations};
use crate::precision::round_to;
use crate::{Op, Source};
use tensor::{DType, Tensor};

operations! {
    /// The elements of `[x]` in another arrangement or dtype.
    #[derive(Clone, Debug, PartialEq)]
    pub enum View {
        /// To another dtype.
        ToDtype(DType) = "to_dtype",
        /// To memory in row-major order.
        Contiguous = "contiguous",
        /// Another shape, one size possibly −1.
        Reshape(Vec<isize>) = "reshape",
        /// Dimensions in another order.
        Permute(Vec<isize>) = "permute",
        /// Two dimensions swapped.
        Transpose(isize, isize) = "transpose",
        /// The last two dimensions swapped.
        T = "t",
        /// A dimension of size 1 inserted.
        Unsqueeze(isize) = "unsqueeze",
        /// Dimensions of size 1 removed.
        Squeeze(Vec<isize>) = "squeeze",
        /// Dimensions of size 1 repeated; −1 keeps a size.
        Expand(Vec<isize>) = "expand",
        /// Broadcast to a shape.
        BroadcastTo(Vec<usize>) = "broadcast_to",
        /// Dimensions from the first to the second merged.
        Flatten(isize, isize) = "flatten",
        /// Dimension, start (possibly negative), length.
        Narrow(isize, isize, usize) = "narrow",
        /// Dimension, start, end, step, as in Python.
        Slice(isize, isize, isize, usize) = "slice",
        /// Dimension, position.
        Select(isize, isize) = "select",
        /// Order reversed along dimensions.
        Flip(Vec<isize>) = "flip",
        /// Shifts and their dimensions; in the flattened tensor without dimensions.
        Roll(Vec<isize>, Vec<isize>) = "roll",
        /// The whole repeated along each dimension.
        Repeat(Vec<usize>) = "repeat",
        /// Zeros above a diagonal.
        Tril(i64) = "tril",
        /// Zeros below a diagonal.
        Triu(i64) = "triu",
    }
}

use View::*;

impl Family for View {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        let x = &x[0];
        vec![match self {
            ToDtype(dtype) => x.to_dtype(*dtype),
            Contiguous => x.contiguous(),
            Reshape(shape) => x.reshape(shape),
            Permute(dims) => x.permute(dims),
            Transpose(a, b) => x.transpose(*a, *b),
            T => x.t(),
            Unsqueeze(dim) => x.unsqueeze(*dim),
            Squeeze(dims) => x.squeeze(&dims[..]),
            Expand(shape) => x.expand(shape),
            BroadcastTo(shape) => x.broadcast_to(&shape[..]),
            Flatten(start, end) => x.flatten(*start, *end),
            Narrow(dim, start, len) => x.narrow(*dim, *start, *len),
            Slice(dim, start, end, step) => x.slice(*dim, *start, *end, *step),
            Select(dim, index) => x.select(*dim, *index),
            Flip(dims) => x.flip(dims),
            Roll(shifts, dims) => x.roll(shifts, dims),
            Repeat(counts) => x.repeat(counts),
            Tril(k) => x.tril(*k),
            Triu(k) => x.triu(*k),
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        vec![Expected::exact(arrange(self, &x[0]))]
    }

    fn differentiable(&self) -> Vec<usize> {
        vec![0]
    }

    fn flops(&self, _: &[Array], _: &[Expected]) -> u64 {
        0
    }
}

fn arrange(view: &View, x: &Array) -> Array {
    let (rank, shape) = (x.rank(), &x.shape);
    let swapped = |a: usize, b: usize| {
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(a, b);
        order
    };
    match view {
        ToDtype(dtype) => Array::new(*dtype, shape.clone(), x.data.iter().map(|&v| round_to(*dtype, v)).collect()),
        Contiguous => x.clone(),
        Reshape(sizes) => {
            let known: usize = sizes.iter().filter(|&&s| s != -1).map(|&s| s as usize).product();
            let sizes: Vec<usize> = sizes.iter().map(|&s| if s == -1 { x.numel() / known } else { s as usize }).collect();
            x.reshaped(&sizes)
        }
        Permute(dims) => permute(x, &dims.iter().map(|&d| axis(d, rank)).collect::<Vec<_>>()),
        Transpose(..) if rank == 0 => x.clone(),
        Transpose(a, b) => permute(x, &swapped(axis(*a, rank), axis(*b, rank))),
        T if rank < 2 => x.clone(),
        T => permute(x, &swapped(rank - 2, rank - 1)),
        Unsqueeze(dim) => {
            let mut sizes = shape.clone();
            sizes.insert(axis(*dim, rank + 1), 1);
            x.reshaped(&sizes)
        }
        Squeeze(dims) => {
            let dims: Vec<usize> = dims.iter().map(|&d| axis(d, rank)).collect();
            x.reshaped(&(0..rank).filter(|d| !(dims.contains(d) && shape[*d] == 1)).map(|d| shape[d]).collect::<Vec<_>>())
        }
        Expand(sizes) => {
            let lead = sizes.len() - rank;
            let sizes: Vec<usize> =
                sizes.iter().enumerate().map(|(i, &s)| if s == -1 { shape[i - lead] } else { s as usize }).collect();
            Array::from_fn(x.dtype, &sizes, |ix| x.at(ix))
        }
        BroadcastTo(sizes) => Array::from_fn(x.dtype, sizes, |ix| x.at(ix)),
        Flatten(..) if rank == 0 => x.reshaped(&[1]),
        Flatten(start, end) => {
            let (s, e) = (axis(*start, rank), axis(*end, rank));
            x.reshaped(&[&shape[..s], &[shape[s..=e].iter().product()], &shape[e + 1..]].concat())
        }
        Narrow(dim, start, len) => {
            let d = axis(*dim, rank);
            let start = if *start < 0 { start + shape[d] as isize } else { *start };
            strided(x, d, start as usize, *len, 1)
        }
        Slice(dim, start, end, step) => {
            let d = axis(*dim, rank);
            let n = shape[d] as isize;
            let bound = |i: isize| if i < 0 { (i + n).max(0) } else { i.min(n) };
            let positions = (bound(*start)..bound(*end)).step_by(*step).count();
            strided(x, d, bound(*start) as usize, positions, *step)
        }
        Select(dim, index) => {
            let d = axis(*dim, rank);
            let mut y = strided(x, d, axis(*index, shape[d]), 1, 1);
            y.shape.remove(d);
            y
        }
        Flip(dims) => {
            let dims: Vec<usize> = dims.iter().map(|&d| axis(d, rank)).collect();
            moved(x, |d, i| if dims.contains(&d) { shape[d] - 1 - i } else { i })
        }
        Roll(shifts, dims) if dims.is_empty() => {
            let n = x.numel() as isize;
            let at = |i: usize| x.data[(i as isize - shifts[0]).rem_euclid(n) as usize];
            Array::new(x.dtype, shape.clone(), (0..x.numel()).map(at).collect())
        }
        Roll(shifts, dims) => moved(x, |d, i| {
            let back: isize = dims.iter().zip(shifts).filter(|&(&r, _)| axis(r, rank) == d).map(|(_, &s)| s).sum();
            (i as isize - back).rem_euclid(shape[d] as isize) as usize
        }),
        Repeat(counts) => {
            let lead = counts.len() - rank;
            let sizes: Vec<usize> =
                counts.iter().enumerate().map(|(i, &c)| c * if i < lead { 1 } else { shape[i - lead] }).collect();
            Array::from_fn(x.dtype, &sizes, |ix| x.at(&(0..rank).map(|d| ix[lead + d] % shape[d]).collect::<Vec<_>>()))
        }
        Tril(k) => triangle(x, |row, column| column - row <= *k),
        Triu(k) => triangle(x, |row, column| column - row >= *k),
    }
}

fn permute(x: &Array, order: &[usize]) -> Array {
    let shape: Vec<usize> = order.iter().map(|&d| x.shape[d]).collect();
    Array::from_fn(x.dtype, &shape, |ix| {
        let mut at = vec![0; order.len()];
        order.iter().zip(ix).for_each(|(&d, &i)| at[d] = i);
        x.at(&at)
    })
}

fn strided(x: &Array, d: usize, start: usize, len: usize, step: usize) -> Array {
    let mut shape = x.shape.clone();
    shape[d] = len;
    Array::from_fn(x.dtype, &shape, |ix| {
        let mut at = ix.to_vec();
        at[d] = start + ix[d] * step;
        x.at(&at)
    })
}

/// Each element from another position of the same shape, dimension by dimension.
fn moved(x: &Array, from: impl Fn(usize, usize) -> usize) -> Array {
    Array::from_fn(x.dtype, &x.shape, |ix| x.at(&ix.iter().enumerate().map(|(d, &i)| from(d, i)).collect::<Vec<_>>()))
}

fn triangle(x: &Array, keep: impl Fn(i64, i64) -> bool) -> Array {
    let rank = x.rank();
    Array::from_fn(x.dtype, &x.shape, |ix| if keep(ix[rank - 2] as i64, ix[rank - 1] as i64) { x.at(ix) } else { 0.0 })
}

pub(crate) fn specs() -> Vec<Spec> {
    // Draws a shape of `lo` to 4 dimensions and what is done with it.
    let spec = |name, lo: usize, make: fn(&mut Source, &[usize]) -> View| {
        Spec::new(name, ALL, move |s: &mut Source| {
            let mut shape = s.shape(lo, 4);
            if matches!(name, "squeeze" | "expand" | "broadcast_to") {
                shape.iter_mut().for_each(|n| *n = if s.coin() { 1 } else { *n });
            }
            let view = make(s, &shape);
            (Op::View(view), vec![s.input(&shape, -10.0, 10.0)])
        })
    };
    vec![
        Spec::new("to_dtype", ALL, |s| {
            let shape = s.shape(0, 4);
            let x = s.input(&shape, -10.0, 10.0);
            // A negative float has no u8, and a truncated one no derivative.
            let dtypes = [DType::F64, DType::F32, DType::BF16, DType::F16, DType::I64, DType::I32, DType::Bool, DType::F8E4M3];
            let n = if s.draw == crate::Draw::Smooth { 1 } else { dtypes.len() };
            (Op::View(ToDtype(dtypes[s.pick(n)])), vec![x])
        }),
        spec("contiguous", 0, |_, _| Contiguous),
        spec("reshape", 0, |s, shape| {
            // Cut the flattened tensor at random divisors.
            let mut left: usize = shape.iter().product();
            let mut sizes = vec![];
            while left > 1 && sizes.len() < 4 {
                let divisors: Vec<usize> = (1..=left).filter(|d| left.is_multiple_of(*d)).collect();
                let size = divisors[divisors.len() - 1 - s.pick(divisors.len())];
                sizes.push(size as isize);
                left /= size;
            }
            if left != 1 || s.coin() {
                sizes.push(left as isize);
            }
            if left != 0 && s.coin() && !sizes.is_empty() {
                let d = s.pick(sizes.len());
                sizes[d] = -1;
            }
            Reshape(sizes)
        }),
        spec("permute", 0, |s, shape| {
            let mut order: Vec<isize> = (0..shape.len() as isize).collect();
            for i in (1..order.len()).rev() {
                order.swap(i, s.pick(i + 1));
            }
            Permute(order.into_iter().map(|d| if s.coin() { d - shape.len() as isize } else { d }).collect())
        }),
        spec("transpose", 0, |s, shape| {
            let rank = shape.len().max(1);
            Transpose(s.dim(rank), s.dim(rank))
        }),
        spec("t", 0, |_, _| T),
        spec("unsqueeze", 0, |s, shape| Unsqueeze(s.dim(shape.len() + 1))),
        spec("squeeze", 0, |s, shape| Squeeze(s.dims(shape.len()))),
        spec("expand", 0, |s, shape| {
            let lead: Vec<isize> = (0..s.pick(3)).map(|_| s.size() as isize).collect();
            let rest = shape.iter().map(|&n| {
                if s.coin() {
                    -1
                } else if n == 1 {
                    s.size() as isize
                } else {
                    n as isize
                }
            });
            Expand(lead.into_iter().chain(rest.collect::<Vec<_>>()).collect())
        }),
        spec("broadcast_to", 0, |s, shape| {
            let lead: Vec<usize> = (0..s.pick(3)).map(|_| s.size()).collect();
            let rest = shape.iter().map(|&n| if n == 1 { s.size() } else { n });
            BroadcastTo(lead.into_iter().chain(rest.collect::<Vec<_>>()).collect())
        }),
        spec("flatten", 0, |s, shape| {
            if shape.is_empty() {
                return Flatten(0, -1);
            }
            let start = s.pick(shape.len());
            let end = start + s.pick(shape.len() - start);
            Flatten(start as isize, end as isize - if s.coin() { shape.len() as isize } else { 0 })
        }),
        spec("narrow", 1, |s, shape| {
            let dim = s.dim(shape.len());
            let n = shape[axis(dim, shape.len())];
            let start = s.pick(n + 1);
            let len = s.pick(n - start + 1);
            Narrow(dim, if s.coin() && start < n { start as isize - n as isize } else { start as isize }, len)
        }),
        spec("slice", 1, |s, shape| {
            let dim = s.dim(shape.len());
            let n = shape[axis(dim, shape.len())];
            // Beyond both ends too.
            let bound = |s: &mut Source| s.pick(2 * n + 5) as isize - n as isize - 2;
            Slice(dim, bound(s), bound(s), 1 + s.pick(3))
        }),
        Spec::new("select", ALL, |s| {
            let mut shape = s.shape(1, 4);
            let (rank, dim) = (shape.len(), s.dim(shape.len()));
            let chosen = &mut shape[axis(dim, rank)];
            *chosen = (*chosen).max(1);
            let index = s.dim(*chosen);
            (Op::View(Select(dim, index)), vec![s.input(&shape, -10.0, 10.0)])
        }),
        spec("flip", 0, |s, shape| Flip(if shape.is_empty() { vec![] } else { s.dims(shape.len()) })),
        spec("roll", 0, |s, shape| {
            let shift = |s: &mut Source| s.pick(15) as isize - 7;
            let dims = s.dims(shape.len());
            Roll(if dims.is_empty() { vec![shift(s)] } else { dims.iter().map(|_| shift(s)).collect() }, dims)
        }),
        spec("repeat", 0, |s, shape| Repeat((0..shape.len() + s.pick(2)).map(|_| s.pick(4)).collect())),
        spec("tril", 2, |s, _| Tril(s.pick(9) as i64 - 4)),
        spec("triu", 2, |s, _| Triu(s.pick(9) as i64 - 4)),
    ]
}
