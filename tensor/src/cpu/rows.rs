//! Kernels on contiguous rows of `f32`: softmax, RMSNorm, SwiGLU, and attention for one head.
//!
//! **Order of summation.** A row has the accumulators of a leaf of [`fold`](super::fold), whatever its length: partial sums,
//! which a fixed tree adds up. The order depends on the row's length alone; a row gives the same bits whatever other rows are with it and
//! whichever instruction set of AVX2 and AVX-512 is used.
//!
//! **Subnormals** slow arithmetic down many times. Softmax's tail is full of them; they are flushed to zero here, by
//! comparison, without touching the processor's control word.

mod attention;

pub use attention::{Head, Keys, attention, attention_backward};

use super::fold::lanes;
use super::simd::{dispatch, fma};
use super::vmath::{exp1, log1, sigmoid1};

/// `Σ f(x)`.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    lanes(x, x, 0.0, |sum, x, _| sum + f(x), |a, b| a + b)
}

/// `Σ a·b`.
#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, 0.0, |sum, a, b| fma::<FMA, _>(a, b, sum), |a, b| a + b)
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

    /// `y = x · rstd · weight` with `rstd = 1 / √(mean x² + eps)`, which it returns (Zhang and Sennrich, 2019).
    pub fn rms_norm(x: &[f32], weight: Option<&[f32]>, eps: f32, y: &mut [f32]) -> f32 {
        assert_eq!(x.len(), y.len());
        let rstd = 1.0 / (dot::<FMA>(x, x) / x.len() as f32 + eps).sqrt();
        match weight {
            Some(weight) => {
                assert_eq!(x.len(), weight.len());
                for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * rstd * w;
                }
            }
            None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * rstd),
        }
        rstd
    }

    /// With `g = grad · weight` and `n = x · rstd`: writes `dx = rstd · (g - n · mean(g · n))` and adds `grad · n` to
    /// `dweight`, so that rows must come in a fixed order.
    pub fn rms_norm_backward(
        grad: &[f32],
        x: &[f32],
        weight: Option<&[f32]>,
        rstd: f32,
        dx: &mut [f32],
        dweight: Option<&mut [f32]>,
    ) {
        assert!(grad.len() == x.len() && dx.len() == x.len());
        match weight {
            Some(weight) => {
                assert_eq!(x.len(), weight.len());
                dx.iter_mut().zip(grad).zip(weight).for_each(|((dx, &g), &w)| *dx = g * w);
            }
            None => dx.copy_from_slice(grad),
        }
        let mean = dot::<FMA>(dx, x) * rstd / x.len() as f32;
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = rstd * fma::<FMA, _>(-x * rstd, mean, *dx);
        }
        if let Some(dweight) = dweight {
            assert_eq!(x.len(), dweight.len());
            for ((dw, &g), &x) in dweight.iter_mut().zip(grad).zip(x) {
                *dw = fma::<FMA, _>(g, x * rstd, *dw);
            }
        }
    }

    /// `out = silu(gate) · up` (Shazeer, 2020).
    pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == out.len() && up.len() == out.len());
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid1::<FMA>(gate) * up;
        }
    }

    /// The gradients of [`swiglu`]: `dup = grad · silu(gate)` and `dgate = grad · up · silu'(gate)`.
    pub fn swiglu_backward(grad: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let n = grad.len();
        assert!(gate.len() == n && up.len() == n && dgate.len() == n && dup.len() == n);
        let inputs = grad.iter().zip(gate).zip(up);
        for ((dgate, dup), ((&grad, &gate), &up)) in dgate.iter_mut().zip(dup).zip(inputs) {
            let s = sigmoid1::<FMA>(gate);
            let silu = gate * s;
            *dup = grad * silu;
            *dgate = grad * up * fma::<FMA, _>(silu, 1.0 - s, s);
        }
    }
}

#[cfg(test)]
mod tests;
