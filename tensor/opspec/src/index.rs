//! Reading and writing at positions.

use crate::array::{Array, Expected, axis, broadcast, for_each_index};
use crate::case::{ALL, FLOATS, NUMBERS, Spec};
use crate::family::{Family, operations};
use crate::precision::{IN_TURN, Precision};
use crate::{Input, Op, Source};
use tensor::{DType, Tensor};

operations! {
    /// Reading or writing at positions.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Index {
        /// `[x, index]` along a dimension.
        Gather(isize) = "gather",
        /// `[x, index, src]` along a dimension. Positions do not repeat.
        Scatter(isize) = "scatter",
        /// `[x, index]` along a dimension, with a number written.
        ScatterNumber(isize, f64) = "scatter",
        /// `[x, index, src]` along a dimension.
        ScatterAdd(isize) = "scatter_add",
        /// `[x, index]` along a dimension.
        IndexSelect(isize) = "index_select",
        /// `[x, index, src]` along a dimension, `src` multiplied by a number.
        IndexAdd(isize, f64) = "index_add",
        /// `[x, index]` along a dimension, or of the flattened tensors.
        TakeAlongDim(Option<isize>) = "take_along_dim",
        /// `[weight, ids]`.
        Embedding = "embedding",
        /// `[x]`, each element repeated equally often along a dimension, or of the flattened tensor.
        RepeatInterleave(usize, Option<isize>) = "repeat_interleave",
        /// `[x, counts]` along a dimension, or of the flattened tensor.
        RepeatInterleaveCounts(Option<isize>) = "repeat_interleave",
    }
}

use Index::*;

impl Family for Index {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        vec![match *self {
            Gather(dim) => x[0].gather(dim, &x[1]),
            Scatter(dim) => x[0].scatter(dim, &x[1], &x[2]),
            ScatterNumber(dim, value) => x[0].scatter(dim, &x[1], value),
            ScatterAdd(dim) => x[0].scatter_add(dim, &x[1], &x[2]),
            IndexSelect(dim) => x[0].index_select(dim, &x[1]),
            IndexAdd(dim, alpha) => x[0].index_add(dim, &x[1], &x[2], alpha),
            TakeAlongDim(dim) => x[0].take_along_dim(&x[1], dim),
            Embedding => Tensor::embedding(&x[0], &x[1]),
            RepeatInterleave(n, dim) => x[0].repeat_interleave(n, dim),
            RepeatInterleaveCounts(dim) => x[0].repeat_interleave(&x[1], dim),
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let dtype = x[0].dtype;
        vec![match *self {
            Gather(dim) => gather(&x[0], &x[1], dim),
            Scatter(dim) => write(&x[0], &x[1], dim, |ix| x[2].at(ix), false),
            ScatterNumber(dim, value) => write(&x[0], &x[1], dim, |_| value, false),
            ScatterAdd(dim) => write(&x[0], &x[1], dim, |ix| x[2].at(ix), true),
            IndexSelect(dim) => select(&x[0], &x[1].data, dim),
            IndexAdd(dim, alpha) => {
                let d = axis(dim, x[0].rank().max(1));
                let index = Array::from_fn(DType::I64, &x[2].shape, |ix| x[1].data[ix.get(d).copied().unwrap_or(0)]);
                write(&x[0], &index, dim, |ix| alpha * x[2].at(ix), true)
            }
            TakeAlongDim(None) => gather(&x[0].reshaped(&[x[0].numel()]), &x[1].reshaped(&[x[1].numel()]), 0),
            TakeAlongDim(Some(dim)) => {
                let d = axis(dim, x[0].rank());
                let without =
                    |t: &Array| t.shape.iter().enumerate().map(|(i, &n)| if i == d { 1 } else { n }).collect::<Vec<_>>();
                let common = broadcast(&without(&x[0]), &without(&x[1]));
                let spread = |t: &Array| {
                    let mut shape = common.clone();
                    shape[d] = t.shape[d];
                    Array::from_fn(t.dtype, &shape, |ix| t.at(ix))
                };
                gather(&spread(&x[0]), &spread(&x[1]), dim)
            }
            Embedding => {
                let width = x[0].shape[1];
                let shape = [&x[1].shape[..], &[width]].concat();
                Expected::exact(Array::from_fn(dtype, &shape, |ix| {
                    let (column, id) = ix.split_last().expect("a column");
                    x[0].at(&[x[1].at(id) as usize, *column])
                }))
            }
            RepeatInterleave(n, dim) => repeat(&x[0], |_| n, dim),
            RepeatInterleaveCounts(dim) => repeat(&x[0], |i| x[1].data[if x[1].numel() == 1 { 0 } else { i }] as usize, dim),
        }]
    }

    fn differentiable(&self) -> Vec<usize> {
        match self {
            Scatter(_) | ScatterAdd(_) | IndexAdd(..) => vec![0, 2],
            _ => vec![0],
        }
    }

    fn flops(&self, x: &[Array], _: &[Expected]) -> u64 {
        match self {
            ScatterAdd(_) => x[1].numel() as u64,
            IndexAdd(..) => 2 * x[2].numel() as u64,
            _ => 0,
        }
    }
}

fn gather(x: &Array, index: &Array, dim: isize) -> Expected {
    if x.rank() == 0 {
        return Expected::exact(Array::from_fn(x.dtype, &index.shape, |_| x.data[0]));
    }
    let d = axis(dim, x.rank());
    Expected::exact(Array::from_fn(x.dtype, &index.shape, |ix| {
        let mut at = ix.to_vec();
        at[d] = index.at(ix) as usize;
        x.at(&at)
    }))
}

fn select(x: &Array, positions: &[f64], dim: isize) -> Expected {
    if x.rank() == 0 {
        return Expected::exact(x.clone());
    }
    let d = axis(dim, x.rank());
    let mut shape = x.shape.clone();
    shape[d] = positions.len();
    Expected::exact(Array::from_fn(x.dtype, &shape, |ix| {
        let mut at = ix.to_vec();
        at[d] = positions[ix[d]] as usize;
        x.at(&at)
    }))
}

/// `x` with values put or added; `n` values added in a row to one make `n + 1` roundings (each value may be a product). Beyond
/// [`IN_TURN`] positions they are those of f64, which together make less than one of f32.
fn write(x: &Array, index: &Array, dim: isize, src: impl Fn(&[usize]) -> f64, add: bool) -> Expected {
    let p = Precision::of(x.dtype);
    let most = if x.dtype == DType::F64 { usize::MAX } else { IN_TURN };
    let mut out = Expected::exact(x.clone());
    if x.rank() == 0 {
        out.array.data[0] = if add { x.data[0] + src(&[]) } else { src(&[]) };
        out.bound[0] = if add { p.dot(1) * (x.data[0].abs() + src(&[]).abs()) } else { 0.0 };
        return out;
    }
    let d = axis(dim, x.rank());
    let mut size: Vec<f64> = x.data.iter().map(|v| v.abs()).collect();
    let mut count = vec![0; x.numel()];
    for_each_index(&index.shape, |ix| {
        let mut at = ix.to_vec();
        at[d] = index.at(ix) as usize;
        let offset = x.shape.iter().zip(&at).fold(0, |o, (n, i)| o * n + i);
        let value = src(ix);
        if add {
            out.array.data[offset] += value;
            size[offset] += value.abs();
            count[offset] += 1;
            out.bound[offset] = p.dot(count[offset].min(most)) * size[offset];
        } else {
            out.array.data[offset] = value;
        }
    });
    out
}

fn repeat(x: &Array, count: impl Fn(usize) -> usize, dim: Option<isize>) -> Expected {
    let (x, dim) = match dim {
        Some(dim) if x.rank() > 0 => (x.clone(), dim),
        _ => (x.reshaped(&[x.numel()]), 0),
    };
    let n = x.shape[axis(dim, x.rank())];
    let positions: Vec<f64> = (0..n).flat_map(|i| vec![i as f64; count(i)]).collect();
    select(&x, &positions, dim)
}

/// A shape, and a dimension of it counted from either end and from the front. A 0-d tensor has one dimension here.
fn along(s: &mut Source, lo: usize) -> (Vec<usize>, isize, usize) {
    let shape = s.shape(lo, 4);
    let rank = shape.len().max(1);
    let dim = s.dim(rank);
    (shape, dim, axis(dim, rank))
}

/// The size of dimension `d`; a 0-d tensor holds one element.
fn length(shape: &[usize], d: usize) -> usize {
    shape.get(d).copied().unwrap_or(1)
}

/// How many positions may be chosen among `n`: any number, but none of nothing.
fn choices(s: &mut Source, n: usize) -> usize {
    s.size() * n.min(1)
}

/// A shape of positions into `shape`: no larger outside `d`, any size along it.
fn positions(s: &mut Source, shape: &[usize], d: usize) -> Vec<usize> {
    let part = |s: &mut Source, n: usize| if n == 0 { 0 } else { 1 + s.pick(n) };
    (0..shape.len()).map(|i| if i == d { choices(s, shape[i]) } else { part(s, shape[i]) }).collect()
}

/// A shape at least as large, and now and then larger.
fn no_smaller(s: &mut Source, shape: &[usize]) -> Vec<usize> {
    shape.iter().map(|&n| n + s.pick(2)).collect()
}

pub(crate) fn specs() -> Vec<Spec> {
    let any = (-10.0, 10.0);
    vec![
        Spec::new("gather", ALL, move |s| {
            let (shape, dim, d) = along(s, 0);
            let mut at = positions(s, &shape, d);
            // The one element of a 0-d tensor may be taken several times.
            if shape.is_empty() && s.coin() {
                at = vec![s.size()];
            }
            let x = s.input(&shape, any.0, any.1);
            (Op::Index(Gather(dim)), vec![x, s.index(&at, length(&shape, d))])
        }),
        Spec::new("scatter", ALL, move |s| {
            let (shape, dim, d) = along(s, 0);
            let n = length(&shape, d);
            let mut at = positions(s, &shape, d);
            at.get_mut(d).into_iter().for_each(|k| *k = (*k).min(n));
            let x = s.input(&shape, any.0, any.1);
            // Positions that do not repeat along a line (a rotation), so that the result does not depend on an order.
            let turn = s.pick(n.max(1));
            let layout = s.dense_layout(at.len());
            let index = Array::from_fn(DType::I64, &at, |ix| ix.get(d).map_or(0.0, |i| ((i + turn) % n) as f64));
            let index = Input { array: index, layout };
            if s.coin() && s.dtype.is_float() {
                return (Op::Index(ScatterNumber(dim, 2.5)), vec![x, index]);
            }
            let src = no_smaller(s, &at);
            (Op::Index(Scatter(dim)), vec![x, index, s.input(&src, any.0, any.1)])
        }),
        Spec::new("scatter_add", NUMBERS, move |s| {
            let (shape, dim, d) = along(s, 0);
            let at = positions(s, &shape, d);
            let src = no_smaller(s, &at);
            let x = s.input(&shape, any.0, any.1);
            let index = s.index(&at, length(&shape, d));
            (Op::Index(ScatterAdd(dim)), vec![x, index, s.input(&src, -2.0, 2.0)])
        }),
        Spec::new("index_select", ALL, move |s| {
            let (shape, dim, d) = along(s, 0);
            let n = if shape.is_empty() { 1 } else { choices(s, shape[d]) };
            let x = s.input(&shape, any.0, any.1);
            (Op::Index(IndexSelect(dim)), vec![x, s.index(&[n], length(&shape, d))])
        }),
        Spec::new("index_add", FLOATS, move |s| {
            let (shape, dim, d) = along(s, 0);
            let mut src = shape.clone();
            src.get_mut(d).into_iter().for_each(|n| *n = choices(s, *n));
            let alpha = [1.0, -1.0, 0.0, 2.5][s.pick(4)];
            let x = s.input(&shape, any.0, any.1);
            let index = s.index(&[length(&src, d)], length(&shape, d));
            (Op::Index(IndexAdd(dim, alpha)), vec![x, index, s.input(&src, any.0, any.1)])
        }),
        Spec::new("take_along_dim", ALL, move |s| {
            let (shape, dim, d) = along(s, 1);
            if s.one_in(4) {
                let n = shape.iter().product();
                let at = if n == 0 { vec![0] } else { s.shape(0, 2) };
                let x = s.input(&shape, any.0, any.1);
                return (Op::Index(TakeAlongDim(None)), vec![x, s.index(&at, n)]);
            }
            let one = |s: &mut Source, n: usize| if s.one_in(4) { 1 } else { n };
            let mut x: Vec<usize> = shape.iter().map(|&n| one(s, n)).collect();
            let mut at: Vec<usize> = shape.iter().map(|&n| one(s, n)).collect();
            (x[d], at[d]) = (shape[d], choices(s, shape[d]));
            let x = s.input(&x, any.0, any.1);
            (Op::Index(TakeAlongDim(Some(dim))), vec![x, s.index(&at, shape[d])])
        }),
        Spec::new("embedding", FLOATS, move |s| {
            let (rows, width) = (s.some(), s.size());
            let ids = s.shape(0, 3);
            let weight = s.input(&[rows, width], any.0, any.1);
            (Op::Index(Embedding), vec![weight, s.index(&ids, rows)])
        }),
        Spec::new("repeat_interleave", ALL, move |s| {
            let shape = s.shape(0, 3);
            let dim = if s.coin() { Some(s.dim(shape.len().max(1))) } else { None };
            let x = s.input(&shape, any.0, any.1);
            if s.coin() {
                return (Op::Index(RepeatInterleave(s.pick(4), dim)), vec![x]);
            }
            let n = match dim {
                Some(d) if !shape.is_empty() => shape[axis(d, shape.len())],
                _ => shape.iter().product(),
            };
            (Op::Index(RepeatInterleaveCounts(dim)), vec![x, s.index(&[n], 4)])
        }),
    ]
}
