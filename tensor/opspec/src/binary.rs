//! Elementwise operations of two or three operands.

use crate::array::{Array, Expected, broadcast};
use crate::case::{ALL, FLOATS, NUMBERS, Spec};
use crate::family::{Family, Named, elements, nearest, operations};
use crate::precision::{Precision, round_to};
use crate::{Op, Source};
use tensor::BinaryOp::*;
use tensor::{BinaryOp, DType, Tensor};

operations! {
    /// An elementwise operation of two or three operands.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Binary {
        /// `[a, b]`, broadcast.
        Plain(BinaryOp),
        /// `[a]`, with a number on the right.
        Scalar(BinaryOp, f64),
        /// `[a, b]`: `a + alpha·b`.
        AddAlpha(f64),
        /// `[a, b]`: `a − alpha·b`.
        SubAlpha(f64),
        /// `[x]` between two numbers; `clamp_min` or `clamp_max` where one is missing.
        Clamp(Option<f64>, Option<f64>),
        /// `[x, lo, hi]`, broadcast.
        ClampTensor,
        /// `[condition, a, b]`, broadcast.
        Where,
        /// `[x, mask]` and the value put where the mask holds.
        MaskedFill(f64),
    }
}

use Binary::*;

impl Named for Binary {
    fn name(&self) -> &'static str {
        match self {
            Plain(op) | Scalar(op, _) => op.name(),
            AddAlpha(_) => "add_alpha",
            SubAlpha(_) => "sub_alpha",
            Clamp(..) | ClampTensor => "clamp",
            Where => "where",
            MaskedFill(_) => "masked_fill",
        }
    }
}

impl Family for Binary {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        vec![match *self {
            Plain(op) => x[0].binary(op, (&x[1]).into()),
            Scalar(op, s) => x[0].binary(op, s.into()),
            AddAlpha(alpha) => x[0].add_alpha(&x[1], alpha),
            SubAlpha(alpha) => x[0].sub_alpha(&x[1], alpha),
            Clamp(Some(lo), Some(hi)) => x[0].clamp(lo, hi),
            Clamp(Some(lo), None) => x[0].clamp_min(lo),
            Clamp(None, Some(hi)) => x[0].clamp_max(hi),
            Clamp(None, None) => x[0].clone(),
            ClampTensor => x[0].clamp(&x[1], &x[2]),
            Where => Tensor::where_(&x[0], &x[1], &x[2]),
            MaskedFill(value) => x[0].masked_fill(&x[1], value),
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        let shape = x.iter().fold(vec![], |s, a| broadcast(&s, &a.shape));
        let first = if *self == Where { &x[1] } else { &x[0] };
        let dtype = match self {
            Plain(op) | Scalar(op, _) if op.is_predicate() => DType::Bool,
            Plain(Div) | Scalar(..) => first.float(),
            _ => first.dtype,
        };
        let p = Precision::of(dtype);
        vec![Expected::from_fn(dtype, &shape, |ix| match *self {
            Plain(op) => arithmetic(op, x[0].at(ix), x[1].at(ix), dtype, p),
            // A comparison rounds the number, as PyTorch does; arithmetic does not.
            Scalar(op, s) if op.is_predicate() => arithmetic(op, x[0].at(ix), round_to(first.dtype, s), dtype, p),
            Scalar(op, s) => arithmetic(op, x[0].at(ix), s, dtype, p),
            AddAlpha(alpha) => scaled(x[0].at(ix), alpha, x[1].at(ix), p),
            SubAlpha(alpha) => scaled(x[0].at(ix), -alpha, x[1].at(ix), p),
            Clamp(lo, hi) => {
                let (lo, hi) = (lo.unwrap_or(f64::NEG_INFINITY), hi.unwrap_or(f64::INFINITY));
                (smaller(larger(x[0].at(ix), lo), hi), 0.0)
            }
            ClampTensor => (smaller(larger(x[0].at(ix), x[1].at(ix)), x[2].at(ix)), 0.0),
            Where => (if x[0].at(ix) != 0.0 { x[1].at(ix) } else { x[2].at(ix) }, 0.0),
            MaskedFill(value) => (if x[1].at(ix) != 0.0 { value } else { x[0].at(ix) }, 0.0),
        })]
    }

    fn differentiable(&self) -> Vec<usize> {
        match self {
            Plain(op) | Scalar(op, _) if op.is_predicate() => vec![],
            Plain(_) | AddAlpha(_) | SubAlpha(_) => vec![0, 1],
            Scalar(..) | Clamp(..) | MaskedFill(_) => vec![0],
            ClampTensor => vec![0, 1, 2],
            Where => vec![1, 2],
        }
    }

    fn kink(&self, x: &[Array]) -> f64 {
        let shape = x.iter().fold(vec![], |s, a| broadcast(&s, &a.shape));
        let gap =
            |a: usize, b: usize| nearest(Array::from_fn(DType::F64, &shape, |ix| (x[a].at(ix) - x[b].at(ix)).abs()).data) / 2.0;
        let to = |point: f64| nearest(x[0].data.iter().map(|v| (v - point).abs()));
        match *self {
            Plain(Maximum | Minimum) => gap(0, 1),
            Scalar(Maximum | Minimum, s) => to(s),
            Clamp(lo, hi) => nearest(lo.into_iter().chain(hi).map(to)),
            ClampTensor => nearest([gap(0, 1), gap(0, 2), gap(1, 2)]),
            _ => f64::INFINITY,
        }
    }

    fn flops(&self, _: &[Array], out: &[Expected]) -> u64 {
        elements(out) * if matches!(self, AddAlpha(_) | SubAlpha(_)) { 2 } else { 1 }
    }
}

/// The larger of two; NaN wins.
fn larger(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller of two; NaN wins.
fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}

/// `a + alpha·b`: one product, which may overflow by itself, and one sum.
fn scaled(a: f64, alpha: f64, b: f64, p: Precision) -> (f64, f64) {
    let y = a + p.held(alpha * b);
    (y, 2.0 * p.u * (alpha * b).abs() + p.u * y.abs())
}

fn arithmetic(op: BinaryOp, a: f64, b: f64, dtype: DType, p: Precision) -> (f64, f64) {
    let truth = |t: bool| (t as u8 as f64, 0.0);
    let rounded = |y: f64| (y, p.u * y.abs());
    // Bools add as "or" and multiply as "and": as numbers, capped at 1.
    let boolean = |y: f64| if dtype == DType::Bool { (y.min(1.0), 0.0) } else { rounded(y) };
    match op {
        Add => boolean(a + b),
        Sub => rounded(a - b),
        Mul => boolean(a * b),
        Div => rounded(a / b),
        Pow => (a.powf(b), p.function() * a.powf(b).abs()),
        Maximum => (larger(a, b), 0.0),
        Minimum => (smaller(a, b), 0.0),
        Eq => truth(a == b),
        Ne => truth(a != b),
        Lt => truth(a < b),
        Le => truth(a <= b),
        Gt => truth(a > b),
        Ge => truth(a >= b),
        LogicalAnd => truth(a != 0.0 && b != 0.0),
        LogicalOr => truth(a != 0.0 || b != 0.0),
    }
}

/// Two shapes that broadcast to a third.
fn shapes(s: &mut Source) -> (Vec<usize>, Vec<usize>) {
    let shape = s.shape(0, 4);
    match s.pick(3) {
        0 => (shape.clone(), shape),
        1 => (shape.clone(), s.broadcastable(&shape)),
        _ => (s.broadcastable(&shape), s.broadcastable(&shape)),
    }
}

/// A number in a range, of f32's digits: more than a half type has.
fn number(s: &mut Source, (lo, hi): (f64, f64)) -> f64 {
    let (value, more) = (s.value(lo, hi), s.pick(3) as f64 / 2048.0);
    round_to(DType::F32, (value * (1.0 - more)).clamp(lo, hi))
}

pub(crate) fn specs() -> Vec<Spec> {
    let spec = |op: BinaryOp, dtypes, a: (f64, f64), b: (f64, f64)| {
        Spec::new(op.name(), dtypes, move |s: &mut Source| {
            let (first, second) = shapes(s);
            let x = s.input(&first, a.0, a.1);
            // A number on the right would promote integers.
            if s.dtype.is_float() && s.one_in(5) {
                return (Op::Binary(Scalar(op, number(s, b))), vec![x]);
            }
            (Op::Binary(Plain(op)), vec![x, s.input(&second, b.0, b.1)])
        })
    };
    let (any, nonzero) = ((-10.0, 10.0), (0.5, 9.0));
    let alpha = |name, make: fn(f64) -> Binary| {
        Spec::new(name, FLOATS, move |s: &mut Source| {
            let (first, second) = shapes(s);
            let alpha = [2.0, -3.125, 0.5, 0.1f32 as f64][s.pick(4)];
            (Op::Binary(make(alpha)), vec![s.input(&first, -10.0, 10.0), s.input(&second, -10.0, 10.0)])
        })
    };
    vec![
        spec(Add, ALL, any, any),
        spec(Sub, NUMBERS, (20.0, 40.0), any),
        spec(Mul, ALL, any, any),
        spec(Div, ALL, any, nonzero),
        spec(Pow, FLOATS, (0.1, 4.0), (-3.0, 3.0)),
        spec(Maximum, ALL, any, any),
        spec(Minimum, ALL, any, any),
        spec(Eq, ALL, (-2.0, 2.0), (-2.0, 2.0)),
        spec(Ne, ALL, (-2.0, 2.0), (-2.0, 2.0)),
        spec(Lt, ALL, any, any),
        spec(Le, ALL, any, any),
        spec(Gt, ALL, any, any),
        spec(Ge, ALL, any, any),
        spec(LogicalAnd, ALL, (-1.0, 1.0), (-1.0, 1.0)),
        spec(LogicalOr, ALL, (-1.0, 1.0), (-1.0, 1.0)),
        alpha("add_alpha", AddAlpha),
        alpha("sub_alpha", SubAlpha),
        Spec::new("clamp", NUMBERS, |s| {
            let shape = s.shape(0, 4);
            // A float would promote integers.
            if s.coin() || !s.dtype.is_float() {
                let (lo, hi) = (s.broadcastable(&shape), s.broadcastable(&shape));
                let x = vec![s.input(&shape, 0.0, 9.0), s.input(&lo, 1.0, 6.0), s.input(&hi, 3.0, 9.0)];
                return (Op::Binary(ClampTensor), x);
            }
            let (lo, hi) = [(Some(1.0), Some(3.0)), (Some(2.0), None), (None, Some(2.0)), (Some(4.0), Some(2.0))][s.pick(4)];
            (Op::Binary(Clamp(lo, hi)), vec![s.input(&shape, 0.0, 5.0)])
        }),
        Spec::new("where", ALL, |s| {
            let shape = s.shape(0, 4);
            let (c, a, b) = (s.broadcastable(&shape), s.broadcastable(&shape), s.broadcastable(&shape));
            (Op::Binary(Where), vec![s.bools(&c), s.input(&a, -10.0, 10.0), s.input(&b, -10.0, 10.0)])
        }),
        Spec::new("masked_fill", ALL, |s| {
            let shape = s.shape(0, 4);
            let mask = s.broadcastable(&shape);
            let value = [0.0, 1.0, 10.0][s.pick(3)];
            (Op::Binary(MaskedFill(value)), vec![s.input(&shape, -10.0, 10.0), s.bools(&mask)])
        }),
    ]
}
