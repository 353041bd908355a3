//! Elementwise operations of one operand.

use crate::array::{Array, Expected};
use crate::case::{ALL, FLOATS, NUMBERS, Spec};
use crate::family::{Family, Named, elements, nearest};
use crate::precision::Precision;
use crate::{Op, Source};
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use tensor::UnaryOp::*;
use tensor::{DType, Tensor, UnaryOp};

impl Named for UnaryOp {
    fn name(&self) -> &'static str {
        UnaryOp::name(*self)
    }
}

impl Family for UnaryOp {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        vec![x[0].unary(*self)]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let x = &x[0];
        let dtype = match self {
            LogicalNot => DType::Bool,
            Neg | Abs | Relu | Square | Sign | Floor => x.dtype,
            _ => x.float(),
        };
        let p = Precision::of(dtype);
        vec![Expected::from_fn(dtype, &x.shape, |ix| {
            let x = x.at(ix);
            let y = value(*self, x);
            // Of the size of a roundoff first: a few times the largest number is none.
            let roundoff = if y == 0.0 { 0.0 } else { (p.u * y.abs()).max(f64::MIN_POSITIVE) };
            (y, units(*self, x, roundoff) + cancelled(*self, x))
        })]
    }

    fn differentiable(&self) -> Vec<usize> {
        if matches!(self, LogicalNot) { vec![] } else { vec![0] }
    }

    fn kink(&self, x: &[Array]) -> f64 {
        let to = |point: f64| nearest(x[0].data.iter().map(|v| (v - point).abs()));
        match *self {
            Abs | Relu | Sign => to(0.0),
            Floor => nearest(x[0].data.iter().map(|v| (v - v.round()).abs())),
            Softplus { beta, threshold } => to(threshold / beta),
            _ => f64::INFINITY,
        }
    }

    fn flops(&self, _: &[Array], out: &[Expected]) -> u64 {
        elements(out)
    }
}

fn value(op: UnaryOp, x: f64) -> f64 {
    match op {
        Neg => 0.0 - x,
        Abs => x.abs(),
        Exp => x.exp(),
        Log => x.ln(),
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Sin => x.sin(),
        Cos => x.cos(),
        Tanh => x.tanh(),
        Sigmoid => sigmoid(x),
        Silu => x * sigmoid(x),
        Gelu(tensor::Gelu::None) => x * normal_cdf(x),
        Gelu(tensor::Gelu::Tanh) => x * sigmoid(2.0 * tanh_argument(x)),
        Relu if x < 0.0 => 0.0,
        Relu => x,
        Softplus { beta, threshold } if beta * x > threshold => x,
        Softplus { beta, .. } if beta * x > 0.0 => x + (-beta * x).exp().ln_1p() / beta,
        Softplus { beta, .. } => (beta * x).exp().ln_1p() / beta,
        Reciprocal => 1.0 / x,
        Square => x * x,
        Sign if x == 0.0 => 0.0,
        Sign => x.signum(),
        Floor => x.floor(),
        Erf => erf(x),
        LogicalNot => (x == 0.0) as u8 as f64,
    }
}

/// The error allowed where a unit roundoff of the result is `u`: 4 of them for an elementary function (2 units in the last
/// place), and one more for each operation around it.
fn units(op: UnaryOp, x: f64, u: f64) -> f64 {
    match op {
        Neg | Abs | Relu | Sign | Floor | LogicalNot => 0.0,
        Sqrt | Reciprocal | Square => u,
        Rsqrt => 3.0 * u,
        Exp | Log | Sin | Cos | Tanh => 4.0 * u,
        // As much for the reference's series, about twenty roundings of it, as for the function itself.
        Erf => 14.0 * u,
        // e⁻ˣ, one sum, one quotient, one product; the argument of the exponential is exact.
        Sigmoid | Silu => 7.0 * u,
        // The distribution function's argument takes two roundings (the constant's and the product's), which its slope
        // multiplies in the lower tail; then the function and two products. Three, for the reference squares its argument too.
        Gelu(tensor::Gelu::None) => (12.0 + 3.0 * steepness(x)) * u,
        // The sigmoid's argument takes seven: the cubic term four, the sum and the product with a constant three.
        Gelu(tensor::Gelu::Tanh) => {
            let z = tanh_argument(x);
            let slope = (2.0 * z).abs() * sigmoid(-2.0 * z);
            // At the ends the sigmoid has long arrived.
            if slope.is_finite() { (9.0 + 7.0 * slope) * u } else { 9.0 * u }
        }
        // log1p of a relative error of 5 units in its argument, which it does not amplify.
        Softplus { .. } => 10.0 * u,
    }
}

/// The error that does not shrink with the result: `1 + tanh z`, taken in f64 or finer, loses what `tanh z` rounds off, even
/// where it is nearly −1.
fn cancelled(op: UnaryOp, x: f64) -> f64 {
    if op == Gelu(tensor::Gelu::Tanh) { 2.0 * f64::EPSILON * x.abs() } else { 0.0 }
}

fn tanh_argument(x: f64) -> f64 {
    (2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))
}

/// How many times larger a relative error of `x` is in the normal distribution function: `x·φ(x)/Φ(x)`, towards `x²` below;
/// 0 where both have vanished.
fn steepness(x: f64) -> f64 {
    (x.abs() * (-x * x / 2.0).exp() / (2.0 * PI).sqrt() / normal_cdf(x)).max(0.0)
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// The error function: near zero its series of positive terms (Abramowitz and Stegun 7.1.6), beyond the continued fraction of
/// erfc.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= 2.0 * x * x / (2 * n + 1) as f64;
            sum += term;
        }
        sum * (-x * x).exp() * 2.0 / PI.sqrt()
    } else {
        (1.0 - erfc_tail(x.abs())) * x.signum()
    }
}

/// `erfc(x)` for `x ≥ 0.5` by its continued fraction, from the inside out; what is cut off falls as `exp(−2x·√(2n))`.
fn erfc_tail(x: f64) -> f64 {
    let mut f = x;
    for n in (1..20 + (250.0 / (x * x)) as usize).rev() {
        f = x + n as f64 / 2.0 / f;
    }
    (-x * x).exp() / PI.sqrt() / f
}

/// The standard normal distribution function.
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() * FRAC_1_SQRT_2;
    let tail = if z < 0.5 { 0.5 * (1.0 - erf(z)) } else { 0.5 * erfc_tail(z) };
    if x < 0.0 { tail } else { 1.0 - tail }
}

pub(crate) fn specs() -> Vec<Spec> {
    let spec = |op: UnaryOp, dtypes, lo: f64, hi: f64| {
        Spec::new(op.name(), dtypes, move |s: &mut Source| {
            let shape = s.shape(0, 4);
            (Op::Unary(op), vec![s.input(&shape, lo, hi)])
        })
    };
    vec![
        spec(Neg, NUMBERS, -10.0, 10.0),
        spec(Abs, NUMBERS, -10.0, 10.0),
        spec(Exp, ALL, -12.0, 12.0),
        spec(Log, FLOATS, 0.01, 20.0),
        spec(Sqrt, FLOATS, 0.01, 100.0),
        spec(Rsqrt, FLOATS, 0.01, 100.0),
        spec(Sin, ALL, -10.0, 10.0),
        spec(Cos, ALL, -10.0, 10.0),
        spec(Tanh, ALL, -10.0, 10.0),
        spec(Sigmoid, ALL, -20.0, 20.0),
        spec(Silu, FLOATS, -20.0, 20.0),
        Spec::new("gelu", FLOATS, |s| {
            let shape = s.shape(0, 4);
            let approximate = if s.coin() { tensor::Gelu::Tanh } else { tensor::Gelu::None };
            (Op::Unary(UnaryOp::Gelu(approximate)), vec![s.input(&shape, -6.0, 6.0)])
        }),
        spec(Relu, NUMBERS, -10.0, 10.0),
        Spec::new("softplus", FLOATS, |s| {
            let shape = s.shape(0, 4);
            let (beta, threshold) = ([1.0, 3.0, 0.5][s.pick(3)], [20.0, 0.2, 2.0][s.pick(3)]);
            (Op::Unary(Softplus { beta, threshold }), vec![s.input(&shape, -10.0, 10.0)])
        }),
        spec(Reciprocal, FLOATS, 0.1, 10.0),
        spec(Square, NUMBERS, -10.0, 10.0),
        spec(Sign, NUMBERS, -3.0, 3.0),
        spec(Floor, FLOATS, -5.0, 5.0),
        spec(Erf, FLOATS, -4.0, 4.0),
        spec(LogicalNot, ALL, -1.0, 1.0),
    ]
}
