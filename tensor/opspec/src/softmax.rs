//! Softmax, its logarithm and cross-entropy.

use crate::array::{Array, Expected, axis};
use crate::case::{FLOATS, Spec};
use crate::family::{Family, elements, operations};
use crate::precision::Precision;
use crate::reduce::{exponential_sum, magnitude};
use crate::source::for_each_line;
use crate::{Draw, Op, Source};
use tensor::{CrossEntropy, DType, Reduction, Tensor};

operations! {
    /// Softmax and what is made of it.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Softmax {
        /// `[x]` along a dimension.
        Softmax(isize) = "softmax",
        /// `[x]` along a dimension.
        LogSoftmax(isize) = "log_softmax",
        /// `[logits, target]` or `[logits, target, weight]`; the target holds class indices or, as floats, probabilities.
        CrossEntropy {
            /// Targets of this value count for nothing.
            ignore_index: i64,
            /// What becomes of the losses.
            reduction: Reduction,
            /// Share of each target spread over all classes.
            label_smoothing: f64,
        } = "cross_entropy",
    }
}

impl Family for Softmax {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        vec![match *self {
            Softmax::Softmax(dim) => x[0].softmax(dim),
            Softmax::LogSoftmax(dim) => x[0].log_softmax(dim),
            Softmax::CrossEntropy { ignore_index, reduction, label_smoothing } => {
                x[0].cross_entropy(&x[1], &CrossEntropy { weight: x.get(2), ignore_index, reduction, label_smoothing })
            }
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        vec![match *self {
            Softmax::Softmax(dim) => along(&x[0], dim, softmax),
            Softmax::LogSoftmax(dim) => along(&x[0], dim, log_softmax),
            Softmax::CrossEntropy { ignore_index, reduction, label_smoothing } => {
                cross_entropy(x, ignore_index, reduction, label_smoothing)
            }
        }]
    }

    fn differentiable(&self) -> Vec<usize> {
        vec![0]
    }

    fn flops(&self, x: &[Array], out: &[Expected]) -> u64 {
        // Maximum, difference, exponential, sum; then a quotient, or a difference and (for the loss) a product.
        4 * x[0].numel() as u64 + elements(out)
    }
}

fn along(x: &Array, dim: isize, f: impl Fn(&[f64], Precision) -> Vec<(f64, f64)>) -> Expected {
    let p = Precision::of(x.dtype);
    let lifted = if x.rank() == 0 { x.reshaped(&[1]) } else { x.clone() };
    let mut out = Expected::exact(lifted.clone());
    for_each_line(&lifted.shape, axis(dim, lifted.rank()), |line| {
        let values: Vec<f64> = line.iter().map(|ix| lifted.at(ix)).collect();
        for (ix, (value, bound)) in line.iter().zip(f(&values, p)) {
            let offset = lifted.shape.iter().zip(ix).fold(0, |o, (n, i)| o * n + i);
            (out.array.data[offset], out.bound[offset]) = (value, bound);
        }
    });
    out.array.shape = x.shape.clone();
    out
}

/// The exponential turns the rounding of its argument into a relative error; the sum's comes on top, and the quotient's.
pub(crate) fn softmax(x: &[f64], p: Precision) -> Vec<(f64, f64)> {
    let (shift, sum, relative) = exponential_sum(x, p);
    let each = |x: f64| {
        let y = (x - shift).exp() / sum;
        let argument = if x.is_finite() { p.u * (x - shift).abs() } else { 0.0 };
        // Flushed to 0 where it is below the smallest normal number.
        (y, y * (argument + p.function() + relative + 2.0 * p.u) + p.tiny)
    };
    x.iter().map(|&x| each(x)).collect()
}

/// `(x − max) − log Σ`: the logarithm's error is absolute.
pub(crate) fn log_softmax(x: &[f64], p: Precision) -> Vec<(f64, f64)> {
    let (shift, sum, relative) = exponential_sum(x, p);
    let each = |x: f64| {
        let y = x - shift - sum.ln();
        (y, p.u * (x - shift).abs() + relative + p.function() * sum.ln().abs() + p.u * y.abs())
    };
    x.iter().map(|&x| each(x)).collect()
}

fn cross_entropy(x: &[Array], ignore_index: i64, reduction: Reduction, smoothing: f64) -> Expected {
    let (logits, target) = (&x[0], &x[1]);
    let p = Precision::of(logits.dtype);
    let dim = if logits.rank() == 1 { 0 } else { 1 };
    let classes = logits.shape[dim];
    let weight = |c: usize| x.get(2).map_or(1.0, |w| w.data[c]);
    let (mut losses, mut errors, mut divisor) = (Vec::new(), Vec::new(), 0.0);
    for_each_line(&logits.shape, dim, |line| {
        let values: Vec<f64> = line.iter().map(|ix| logits.at(ix)).collect();
        let mut sample = line[0].clone();
        sample.remove(dim);
        let coefficient = |c: usize| match target.dtype.is_float() {
            true => (target.at(&line[c]) * (1.0 - smoothing) + smoothing / classes as f64) * weight(c),
            false => {
                let label = target.at(&sample);
                let hot = if label == c as f64 { (1.0 - smoothing) * weight(c) } else { 0.0 };
                if label == ignore_index as f64 { 0.0 } else { hot + smoothing / classes as f64 * weight(c) }
            }
        };
        let terms: Vec<(f64, f64)> =
            log_softmax(&values, p).into_iter().enumerate().map(|(c, (l, e))| (coefficient(c) * l, coefficient(c) * e)).collect();
        let values: Vec<f64> = terms.iter().map(|t| t.0).collect();
        losses.push(-values.iter().sum::<f64>());
        // The coefficient takes five roundings to make, its product with the logarithm one more.
        errors.push(terms.iter().map(|t| t.1).sum::<f64>() + (6.0 * p.u + p.sum(classes)) * magnitude(&values));
        divisor += match target.dtype.is_float() {
            true => 1.0,
            false if target.at(&sample) == ignore_index as f64 => 0.0,
            false => weight(target.at(&sample) as usize),
        };
    });
    let mut shape = logits.shape.clone();
    shape.remove(dim);
    let n = losses.len();
    let (total, error) = (losses.iter().sum::<f64>(), errors.iter().sum::<f64>() + p.sum(n * classes) * magnitude(&losses));
    match reduction {
        Reduction::None => Expected { array: Array::new(logits.dtype, shape, losses), bound: errors },
        Reduction::Sum => Expected { array: Array::new(logits.dtype, [], vec![total]), bound: vec![error] },
        Reduction::Mean => {
            let mean = total / divisor;
            let bound = error / divisor + (p.sum(n * classes) + p.u) * mean.abs();
            Expected { array: Array::new(logits.dtype, [], vec![mean]), bound: vec![bound] }
        }
    }
}

pub(crate) fn specs() -> Vec<Spec> {
    let along = |name, make: fn(isize) -> Softmax| {
        Spec::new(name, FLOATS, move |s: &mut Source| {
            let shape = s.shape(0, 4);
            (Op::Softmax(make(s.dim(shape.len().max(1)))), vec![s.input(&shape, -10.0, 10.0)])
        })
    };
    vec![
        along("softmax", Softmax::Softmax),
        along("log_softmax", Softmax::LogSoftmax),
        Spec::new("cross_entropy", FLOATS, |s| {
            let mut shape = s.shape(1, 4);
            let dim = if shape.len() == 1 { 0 } else { 1 };
            shape[dim] = shape[dim].max(1);
            let classes = shape[dim];
            let reduction = [Reduction::Mean, Reduction::Sum, Reduction::None][s.pick(3)];
            let label_smoothing = [0.0, 0.25][s.pick(2)];
            // A mean may be over nothing, which makes it NaN; not where differences are taken.
            let may_ignore = reduction != Reduction::Mean || s.draw != Draw::Smooth;
            let ignore_index = if classes > 1 && may_ignore && s.one_in(3) { 1 } else { -100 };
            let logits = s.input(&shape, -8.0, 8.0);
            let target = if s.one_in(3) {
                s.input(&shape, 0.0, 1.0)
            } else {
                let mut samples = shape.clone();
                samples.remove(dim);
                let layout = s.dense_layout(samples.len());
                let mut index = s.index(&samples, classes);
                // An ignored target may be any number, and -100 is the usual one.
                if ignore_index == -100 && may_ignore && s.coin() && !index.array.data.is_empty() {
                    index = crate::Input { layout, array: Array { dtype: DType::I64, ..index.array } };
                    index.array.data[0] = -100.0;
                }
                index
            };
            let mut inputs = vec![logits, target];
            if s.coin() {
                inputs.push(s.input(&[classes], 0.25, 2.0));
            }
            (Op::Softmax(Softmax::CrossEntropy { ignore_index, reduction, label_smoothing }), inputs)
        }),
    ]
}
