//! Kernels on contiguous rows of `f32`: sums, softmax, and attention for one head.
//!
//! **Order of summation.** A row is cut into the leaves of [`fold`](super::fold), each with its accumulators: partial sums,
//! which a fixed tree adds up. The order depends on the row's length alone; a row gives the same bits whatever other rows are with it and
//! whichever instruction set of AVX2 and AVX-512 is used.
//!
//! **Subnormals** slow arithmetic down many times. Softmax's tail is full of them; they are flushed to zero here, by
//! comparison, without touching the processor's control word.

mod attention;

pub use attention::{Head, Keys, attention, attention_backward};

use super::fold::{lanes, row};
use super::simd::{dispatch, fma};
use super::vmath::{exp1, log1};

/// `Σ f(x)`.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32 + Copy) -> f32 {
    row(x, x, 0.0, |sum, x, _| sum + f(x), |a, b| a + b)
}

/// `Σ a·b`.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    row(a, b, 0.0, |sum, a, b| fma::<FMA, _>(a, b, sum), |a, b| a + b)
}

/// The largest element that is not NaN; -∞ for none.
#[inline(always)]
fn max_of(x: &[f32]) -> f32 {
    let max = |a: f32, b: f32| if b > a { b } else { a };
    lanes(x, x, f32::NEG_INFINITY, |m, x, _| max(m, x), max)
}

/// Zero in the place of a subnormal. NaN stays.
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

dispatch! {
    /// `y = exp(x - max x) / Σ exp(x - max x)`. A NaN, a +∞, or nothing but -∞ in `x` makes all of `y` NaN.
    pub fn softmax(x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        let max = max_of(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = exp1::<FMA>(x - max);
        }
        let scale = 1.0 / sum_of(y, |e| e);
        y.iter_mut().for_each(|y| *y = flush(*y * scale));
    }

    /// `y = x - max x - ln Σ exp(x - max x)`.
    pub fn log_softmax(x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        let max = max_of(x);
        let log = log1::<FMA>(sum_of(x, |x| exp1::<FMA>(x - max)));
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x - max - log);
    }
}

#[cfg(test)]
pub(crate) mod tests;
