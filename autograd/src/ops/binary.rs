//! Elementwise operations of two operands, with broadcasting and promotion, `where_` and clamping.

use super::unrounded;
use crate::graph::Like;
use crate::operand::{Value, VarOperand};
use crate::var::Var;
use tensor::{BinaryOp, DType, Operand, Scalar, Tensor};

/// Records an operation of two operands. The rule gives gradients in the result's shape and dtype; they are summed over what
/// was broadcast and converted to the operands' dtypes here, once for all.
#[track_caller]
fn binary(
    name: &'static str,
    (a, b): (&Var, VarOperand<'_>),
    value: Tensor,
    rule: impl Fn(&Tensor, [bool; 2]) -> [Option<Tensor>; 2] + Send + Sync + 'static,
) -> Var {
    let like = [Some(Like { shape: a.shape(), dtype: a.dtype() }), b.value().like()];
    Var::op_edges(name, value, [a.edge(), b.edge()], move |g, needs| fit(&like, rule(g, needs)))
}

fn fit<const N: usize>(like: &[Option<Like>; N], mut grads: [Option<Tensor>; N]) -> [Option<Tensor>; N] {
    for (like, grad) in like.iter().zip(&mut grads) {
        *grad = match (like, grad.take()) {
            (Some(like), Some(g)) => Some(like.fit(&g)),
            _ => None,
        };
    }
    grads
}

impl Var {
    /// `a + b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn add<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let b = rhs.into();
        binary("add", (self, b), self.value().add(&b.value()), |g, needs| needs.map(|need| need.then(|| g.clone())))
    }

    /// `a − b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn sub<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let b = rhs.into();
        let value = self.value().sub(&b.value());
        binary("sub", (self, b), value, |g, needs| [needs[0].then(|| g.clone()), needs[1].then(|| g.neg())])
    }

    /// `a + alpha·b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn add_alpha<'a>(&self, rhs: impl Into<VarOperand<'a>>, alpha: impl Into<Scalar>) -> Var {
        let (b, alpha) = (rhs.into(), alpha.into());
        let value = self.value().add_alpha(&b.value(), alpha);
        binary("add_alpha", (self, b), value, move |g, needs| [needs[0].then(|| g.clone()), needs[1].then(|| g.mul(alpha))])
    }

    /// `a − alpha·b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn sub_alpha<'a>(&self, rhs: impl Into<VarOperand<'a>>, alpha: impl Into<Scalar>) -> Var {
        let (b, alpha) = (rhs.into(), alpha.into());
        let value = self.value().sub_alpha(&b.value(), alpha);
        binary("sub_alpha", (self, b), value, move |g, needs| [needs[0].then(|| g.clone()), needs[1].then(|| g.mul(alpha).neg())])
    }

    /// `a·b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn mul<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let rhs = rhs.into();
        let (a, b) = (self.value(), rhs.value());
        let value = a.mul(&b);
        // Each is kept only if the other one's gradient needs it.
        let (a, b) = (rhs.requires_grad().then_some(a), self.requires_grad().then_some(b));
        binary("mul", (self, rhs), value, move |g, _| [b.as_ref().map(|b| g.mul(b)), a.as_ref().map(|a| g.mul(a))])
    }

    /// `a / b`; integers divide to f32.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn div<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let rhs = rhs.into();
        let (a, b) = (self.value(), rhs.value());
        let value = a.div(&b);
        let a = rhs.requires_grad().then_some(a);
        binary("div", (self, rhs), value, move |g, needs| {
            let b = b.to_accumulator();
            let scaled = g.div(&b);
            // The quotient is formed again instead of being kept.
            let db = a.as_ref().map(|a| scaled.mul(&a.to_accumulator().div(&b)).neg());
            [needs[0].then_some(scaled), db]
        })
    }

    /// `a` to the power `b`. As in PyTorch an exponent of 0 gives the base no gradient, and a base of 0 gives an exponent from 0
    /// up none.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn pow<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let rhs = rhs.into();
        let (a, b) = (self.value(), rhs.value());
        let value = a.pow(&b);
        let exponent = b.to_accumulator();
        let result = unrounded(a.clone(), &value, move |a| a.pow(&exponent));
        binary("pow", (self, rhs), value, move |g, needs| {
            let x = a.to_accumulator();
            let base = || match &b {
                Value::Scalar(s) if s.as_f64() == 0.0 => g.zeros_like(),
                Value::Scalar(s) => x.pow(s.as_f64() - 1.0).mul(s.as_f64()).mul(g),
                Value::Tensor(b) => {
                    let b = b.to_dtype(g.dtype());
                    let slope = x.pow(&b.sub(1.0)).mul(&b).mul(g);
                    Tensor::where_(&b.eq(0.0), 0.0, &slope)
                }
            };
            let exponent = |b: &Tensor| {
                let flat = x.eq(0.0).logical_and(&b.ge(0.0));
                Tensor::where_(&flat, 0.0, &result().mul(&x.log()).mul(g))
            };
            let exponent = match &b {
                Value::Tensor(b) if needs[1] => Some(exponent(b)),
                _ => None, // a number has no gradient
            };
            [needs[0].then(base), exponent]
        })
    }

    /// The larger; a tie shares the gradient half and half. NaN wins, and then both have the gradient.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn maximum<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let b = rhs.into();
        self.extreme("maximum", b, self.value().maximum(&b.value()), [BinaryOp::Lt, BinaryOp::Gt])
    }

    /// The smaller; a tie shares the gradient half and half. NaN wins, and then both have the gradient.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn minimum<'a>(&self, rhs: impl Into<VarOperand<'a>>) -> Var {
        let b = rhs.into();
        self.extreme("minimum", b, self.value().minimum(&b.value()), [BinaryOp::Gt, BinaryOp::Lt])
    }

    #[track_caller]
    fn extreme(&self, name: &'static str, rhs: VarOperand<'_>, value: Tensor, [less, greater]: [BinaryOp; 2]) -> Var {
        let (a, b) = (self.value(), rhs.value());
        binary(name, (self, rhs), value, move |g, needs| {
            let shared = Tensor::where_(&a.eq(&b), &g.mul(0.5), g);
            let but = |lost: Tensor| shared.masked_fill(&lost, 0.0);
            [needs[0].then(|| but(a.binary(less, (&b).into()))), needs[1].then(|| but(a.binary(greater, (&b).into())))]
        })
    }

    /// The larger of `x` and a lower bound; `x` has the gradient where it is at least the bound, else the bound has it.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn clamp_min<'a>(&self, lo: impl Into<VarOperand<'a>>) -> Var {
        let lo = lo.into();
        self.limited("clamp_min", self.value().clamp_min(&lo.value()), [Some(lo), None])
    }

    /// The smaller of `x` and an upper bound; `x` has the gradient where it is at most the bound, else the bound has it.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn clamp_max<'a>(&self, hi: impl Into<VarOperand<'a>>) -> Var {
        let hi = hi.into();
        self.limited("clamp_max", self.value().clamp_max(&hi.value()), [None, Some(hi)])
    }

    /// Limited to `lo..=hi`; where `lo > hi` the result is `hi`. At a bound the gradient is `x`'s. As in PyTorch the lower bound
    /// has a gradient only where it lies below the upper one.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn clamp<'a, 'b>(&self, lo: impl Into<VarOperand<'a>>, hi: impl Into<VarOperand<'b>>) -> Var {
        let (lo, hi) = (lo.into(), hi.into());
        self.limited("clamp", self.value().clamp(&lo.value(), &hi.value()), [Some(lo), Some(hi)])
    }

    /// Where one of them is NaN, and so is the result, none goes without a gradient that has one otherwise: `x` does unless it
    /// lies beyond a bound, a bound does where it is NaN.
    #[track_caller]
    fn limited(&self, name: &'static str, value: Tensor, [lo, hi]: [Option<VarOperand<'_>>; 2]) -> Var {
        let x = self.value();
        let edges = [self.edge(), lo.and_then(|b| b.edge()), hi.and_then(|b| b.edge())];
        let bounds = [lo, hi].map(|b| b.map(|b| b.value()));
        let like = [Some(Like::of(&x)), bounds[0].as_ref().and_then(Value::like), bounds[1].as_ref().and_then(Value::like)];
        Var::op_edges(name, value, edges, move |g, needs| {
            let [lo, hi] = [&bounds[0], &bounds[1]].map(|b| b.as_ref().map(Operand::from));
            let never = Tensor::scalar(false, DType::Bool, g.device());
            let or_never = |b: Option<Tensor>| b.unwrap_or(never.clone());
            let (below, above) = (or_never(lo.map(|lo| x.lt(lo))), or_never(hi.map(|hi| x.gt(hi))));
            let dx = || g.masked_fill(&below.logical_or(&above), 0.0);
            let dlo = || {
                let Some(Operand::Tensor(lo)) = lo else { unreachable!("a number has no gradient") };
                let idle = or_never(hi.map(|hi| lo.ge(hi)));
                Tensor::where_(&below.logical_or(&lo.ne(lo)).logical_and(&idle.logical_not()), g, 0.0)
            };
            let dhi = || {
                let Some(Operand::Tensor(hi)) = hi else { unreachable!("a number has no gradient") };
                let crossed = or_never(lo.map(|lo| hi.lt(lo)));
                Tensor::where_(&above.logical_or(&hi.ne(hi)).logical_or(&crossed), g, 0.0)
            };
            fit(&like, [needs[0].then(dx), needs[1].then(dlo), needs[2].then(dhi)])
        })
    }

    /// `a` where `condition` holds, else `b`; all three broadcast.
    ///
    /// # Panics
    /// If the condition is not bool, shapes do not broadcast, or devices differ.
    #[track_caller]
    pub fn where_<'a, 'b>(condition: &Tensor, a: impl Into<VarOperand<'a>>, b: impl Into<VarOperand<'b>>) -> Var {
        let (a, b, condition) = (a.into(), b.into(), condition.clone());
        let (va, vb) = (a.value(), b.value());
        let value = Tensor::where_(&condition, &va, &vb);
        let like = [va.like(), vb.like()];
        Var::op_edges("where_", value, [a.edge(), b.edge()], move |g, needs| {
            let grads = [needs[0].then(|| Tensor::where_(&condition, g, 0.0)), needs[1].then(|| g.masked_fill(&condition, 0.0))];
            fit(&like, grads)
        })
    }

    /// `value` (a number or a 0-d tensor) where `mask` (bool) holds; value and mask broadcast to each other.
    ///
    /// # Panics
    /// If the mask is not bool, the shapes do not broadcast, or the value has dimensions.
    #[track_caller]
    pub fn masked_fill<'a>(&self, mask: &Tensor, value: impl Into<VarOperand<'a>>) -> Var {
        let (fill, mask) = (value.into(), mask.clone());
        let value = self.value().masked_fill(&mask, &fill.value());
        binary("masked_fill", (self, fill), value, move |g, needs| {
            [needs[0].then(|| g.masked_fill(&mask, 0.0)), needs[1].then(|| Tensor::where_(&mask, g, 0.0))]
        })
    }
}
