//! Reductions, positions of extremes and running sums.

use crate::array::{Array, Expected, axes, axis, for_each_index};
use crate::case::{ALL, FLOATS, NUMBERS, Spec};
use crate::family::{Family, nearest, operations};
use crate::precision::Precision;
use crate::source::for_each_line;
use crate::{Draw, Op, Source};
use tensor::{DType, Tensor};

operations! {
    /// A reduction of `[x]`. An empty list of dimensions means all of them.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Reduce {
        /// Over dimensions, kept with size 1 or not.
        Sum(Vec<isize>, bool) = "sum",
        /// Over dimensions, kept with size 1 or not.
        Mean(Vec<isize>, bool) = "mean",
        /// Over dimensions, kept with size 1 or not.
        Amax(Vec<isize>, bool) = "amax",
        /// Over dimensions, kept with size 1 or not.
        Amin(Vec<isize>, bool) = "amin",
        /// Over dimensions, with a correction, kept with size 1 or not.
        Var(Vec<isize>, f64, bool) = "var",
        /// Over dimensions, kept with size 1 or not.
        Logsumexp(Vec<isize>, bool) = "logsumexp",
        /// Along one dimension or the flattened tensor.
        Argmax(Option<isize>, bool) = "argmax",
        /// Along one dimension or the flattened tensor.
        Argmin(Option<isize>, bool) = "argmin",
        /// Along one dimension.
        Cumsum(isize) = "cumsum",
    }
}

use Reduce::*;

impl Family for Reduce {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        let x = &x[0];
        vec![match self {
            Sum(dims, keep) => x.sum(&dims[..], *keep),
            Mean(dims, keep) => x.mean(&dims[..], *keep),
            Amax(dims, keep) => x.amax(&dims[..], *keep),
            Amin(dims, keep) => x.amin(&dims[..], *keep),
            Var(dims, correction, keep) => x.var(&dims[..], *correction, *keep),
            Logsumexp(dims, keep) => x.logsumexp(&dims[..], *keep),
            Argmax(dim, keep) => x.argmax(*dim, *keep),
            Argmin(dim, keep) => x.argmin(*dim, *keep),
            Cumsum(dim) => x.cumsum(*dim),
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let x = &x[0];
        let p = Precision::of(x.float());
        let integral = if x.dtype.is_float() { x.dtype } else { DType::I64 };
        vec![match self {
            Sum(dims, keep) => {
                over(x, dims, *keep, integral, |g| (g.iter().sum(), Precision::of(integral).sum(g.len()) * magnitude(g)))
            }
            Mean(dims, keep) => over(x, dims, *keep, x.dtype, |g| {
                let (mean, error) = mean(g, p);
                (mean, error + p.u * mean.abs())
            }),
            Amax(dims, keep) => over(x, dims, *keep, x.dtype, |g| (g.iter().copied().fold(f64::NEG_INFINITY, f64::max), 0.0)),
            Amin(dims, keep) => over(x, dims, *keep, x.dtype, |g| (g.iter().copied().fold(f64::INFINITY, f64::min), 0.0)),
            Var(dims, correction, keep) => over(x, dims, *keep, x.dtype, |g| variance(g, *correction, p)),
            Logsumexp(dims, keep) => over(x, dims, *keep, x.float(), |g| logsumexp(g, p)),
            Argmax(dim, keep) => extreme(x, *dim, *keep, |a, b| a > b),
            Argmin(dim, keep) => extreme(x, *dim, *keep, |a, b| a < b),
            Cumsum(dim) => {
                if x.rank() == 0 {
                    return vec![Expected::exact(Array { dtype: integral, ..x.clone() })];
                }
                running(x, axis(*dim, x.rank()), integral)
            }
        }]
    }

    fn differentiable(&self) -> Vec<usize> {
        if matches!(self, Argmax(..) | Argmin(..)) { vec![] } else { vec![0] }
    }

    fn kink(&self, x: &[Array]) -> f64 {
        match self {
            Amax(dims, _) | Amin(dims, _) => {
                let mut distance = f64::INFINITY;
                over(&x[0], dims, true, DType::F64, |g| {
                    distance = distance.min(smallest_gap(g) / 2.0);
                    (0.0, 0.0)
                });
                distance
            }
            _ => f64::INFINITY,
        }
    }

    fn flops(&self, x: &[Array], _: &[Expected]) -> u64 {
        let each = match self {
            Sum(..) | Mean(..) | Amax(..) | Amin(..) | Argmax(..) | Argmin(..) | Cumsum(_) => 1,
            Var(..) => 4,
            Logsumexp(..) => 4,
        };
        each * x[0].numel() as u64
    }
}

/// Running sums. However many terms there are, few roundings meet one of them: f32 is carried in f64, and f64 with what it loses (on a
/// GPU after the five additions that join 32 of them).
fn running(x: &Array, d: usize, dtype: DType) -> Expected {
    let p = Precision::of(dtype);
    let mut out = Expected::exact(Array { dtype, ..x.clone() });
    for_each_line(&x.shape, d, |line| {
        let (mut sum, mut lost, mut size) = (0.0f64, 0.0, 0.0);
        for (n, ix) in line.iter().enumerate() {
            let term = x.at(ix);
            // Neumaier's sum: of the two the larger one keeps its digits.
            let next = sum + term;
            lost += if f64::abs(sum) >= term.abs() { (sum - next) + term } else { (term - next) + sum };
            sum = next;
            size += term.abs();
            let at = x.shape.iter().zip(ix).fold(0, |o, (n, i)| o * n + i);
            (out.array.data[at], out.bound[at]) = (sum + lost, p.sum((n + 1).min(8)) * size);
        }
    });
    out
}

/// Sum of magnitudes.
pub(crate) fn magnitude(terms: &[f64]) -> f64 {
    terms.iter().map(|t| t.abs()).sum()
}

/// The smallest difference between two of the values.
pub(crate) fn smallest_gap(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    nearest(sorted.windows(2).map(|w| w[1] - w[0]))
}

/// Applies `f` to the elements of `x` that meet in each element of the result.
pub(crate) fn over(x: &Array, dims: &[isize], keepdim: bool, dtype: DType, mut f: impl FnMut(&[f64]) -> (f64, f64)) -> Expected {
    let over = axes(dims, x.rank());
    let kept: Vec<usize> = (0..x.rank()).map(|d| if over.contains(&d) { 1 } else { x.shape[d] }).collect();
    let inner: Vec<usize> = over.iter().map(|&d| x.shape[d]).collect();
    let mut result = Expected::from_fn(dtype, &kept, |ix| {
        let mut at = ix.to_vec();
        let mut group = Vec::with_capacity(inner.iter().product());
        for_each_index(&inner, |i| {
            over.iter().zip(i).for_each(|(&d, &i)| at[d] = i);
            group.push(x.at(&at));
        });
        f(&group)
    });
    if !keepdim {
        result.array.shape = (0..x.rank()).filter(|d| !over.contains(d)).map(|d| x.shape[d]).collect();
    }
    result
}

fn extreme(x: &Array, dim: Option<isize>, keepdim: bool, better: impl Fn(f64, f64) -> bool) -> Expected {
    let position = |g: &[f64]| ((1..g.len()).fold(0, |best, i| if better(g[i], g[best]) { i } else { best }) as f64, 0.0);
    match dim {
        Some(_) if x.rank() == 0 => Expected::exact(Array::new(DType::I64, [], vec![0.0])),
        Some(dim) => over(x, &[dim], keepdim, DType::I64, position),
        None => over(x, &[], keepdim, DType::I64, position),
    }
}

/// The mean and its error.
fn mean(g: &[f64], p: Precision) -> (f64, f64) {
    let (n, mean) = (g.len() as f64, g.iter().sum::<f64>() / g.len() as f64);
    (mean, p.sum(g.len()) * magnitude(g) / n + p.u * mean.abs())
}

/// The mean's error `e` moves every distance `d` by `e`, its square by `2·d·e + e²`; then squaring, adding up and dividing round.
fn variance(g: &[f64], correction: f64, p: Precision) -> (f64, f64) {
    let (mean, shift) = mean(g, p);
    let divisor = (g.len() as f64 - correction).max(0.0);
    let (mut sum, mut moved) = (0.0, 0.0);
    for x in g {
        let (d, e) = (x - mean, shift + p.u * (x - mean).abs());
        sum += d * d;
        moved += 2.0 * d.abs() * e + e * e;
    }
    (sum / divisor, (moved + (p.sum(g.len()) + 3.0 * p.u) * sum) / divisor)
}

/// Relative error of `Σ e^(x − max)`: each term's exponential turns the rounding of its argument `x − max` into a relative
/// error, weighted by the term's share; then the sum's own.
pub(crate) fn exponential_sum(g: &[f64], p: Precision) -> (f64, f64, f64) {
    let max = g.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shift = if max.is_finite() { max } else { 0.0 };
    let sum: f64 = g.iter().map(|x| (x - shift).exp()).sum();
    let spread: f64 = g.iter().filter(|x| x.is_finite()).map(|x| (x - shift).exp() / sum * (x - shift).abs()).sum();
    (shift, sum, p.u * spread + p.function() + p.sum(g.len()))
}

/// The logarithm turns the sum's relative error into an absolute one.
fn logsumexp(g: &[f64], p: Precision) -> (f64, f64) {
    if g.is_empty() {
        return (f64::NEG_INFINITY, 0.0);
    }
    let (shift, sum, relative) = exponential_sum(g, p);
    let y = sum.ln() + shift;
    (y, relative + p.function() * sum.ln().abs() + p.u * y.abs())
}

pub(crate) fn specs() -> Vec<Spec> {
    let spec = |name, dtypes, of_nothing: bool, make: fn(&mut Source, Vec<isize>, bool) -> Reduce| {
        Spec::new(name, dtypes, move |s: &mut Source| {
            let mut shape = s.shape(0, 4);
            // Now and then long enough for the blocks of a sum.
            if s.draw != Draw::Smooth && s.one_in(12) {
                shape = [vec![1500 + s.pick(1200)], vec![700, 3], vec![2, 600]][s.pick(3)].clone();
            }
            let (dims, keep) = (s.dims(shape.len()), s.coin());
            if !of_nothing {
                axes(&dims, shape.len()).into_iter().for_each(|d| shape[d] = shape[d].max(1));
            }
            let op = make(s, dims, keep);
            (Op::Reduce(op), vec![s.input(&shape, -10.0, 10.0)])
        })
    };
    let arg = |name, make: fn(Option<isize>, bool) -> Reduce| {
        Spec::new(name, NUMBERS, move |s: &mut Source| {
            let mut shape = s.shape(0, 4);
            let dim = if s.coin() { Some(s.dim(shape.len().max(1))) } else { None };
            let over = match dim {
                Some(dim) if !shape.is_empty() => vec![axis(dim, shape.len())],
                _ => (0..shape.len()).collect(),
            };
            over.into_iter().for_each(|d| shape[d] = shape[d].max(1));
            (Op::Reduce(make(dim, s.coin())), vec![s.input(&shape, -10.0, 10.0)])
        })
    };
    vec![
        spec("sum", ALL, true, |_, dims, keep| Sum(dims, keep)),
        spec("mean", FLOATS, true, |_, dims, keep| Mean(dims, keep)),
        spec("amax", ALL, false, |_, dims, keep| Amax(dims, keep)),
        spec("amin", ALL, false, |_, dims, keep| Amin(dims, keep)),
        // A correction of at most 0.75, one element being there: of a divisor of 0 any error would do.
        spec("var", FLOATS, true, |s, dims, keep| Var(dims, [0.0, -1.0, 0.5, 0.75][s.pick(4)], keep)),
        spec("logsumexp", FLOATS, true, |_, dims, keep| Logsumexp(dims, keep)),
        arg("argmax", Argmax),
        arg("argmin", Argmin),
        Spec::new("cumsum", ALL, |s| {
            let shape = s.shape(0, 4);
            (Op::Reduce(Cumsum(s.dim(shape.len().max(1)))), vec![s.input(&shape, -10.0, 10.0)])
        }),
    ]
}
