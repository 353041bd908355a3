//! Elementwise operations of two operands with broadcasting and promotion, [`Tensor::where_`] and clamping.

use crate::dtype::{DType, Scalar};
use crate::op::{BinaryOp, binary_operations};
use crate::operation::operation;
use crate::refuse;
use crate::tensor::Tensor;

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:ident;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Panics
            /// If the shapes do not broadcast or the devices differ.
            #[track_caller]
            pub fn $name<'a>(&self, rhs: impl Into<Operand<'a>>) -> Tensor {
                self.binary(BinaryOp::$op, rhs.into())
            }
        )*}
    };
}
binary_operations!(methods);

/// The other operand: a tensor, or a number that takes the tensor's dtype where its kind allows (as in PyTorch).
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// A tensor.
    Tensor(&'a Tensor),
    /// A number.
    Scalar(Scalar),
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(t: &'a Tensor) -> Self {
        Operand::Tensor(t)
    }
}

/// The dtype of an operation between a tensor and an operand: PyTorch's rule in which a number, or a 0-d tensor beside one
/// with dimensions, decides only if its kind (bool < integer < float) is the higher one.
fn result_dtype(a: &Tensor, b: Operand<'_>) -> DType {
    let weak = |strong: DType, other: DType, default: DType| if other.category() > strong.category() { default } else { strong };
    match b {
        Operand::Scalar(s) => weak(a.dtype(), s.default_dtype(), s.default_dtype()),
        Operand::Tensor(b) => match (a.rank(), b.rank()) {
            (0, r) if r > 0 => weak(b.dtype(), a.dtype(), a.dtype()),
            (r, 0) if r > 0 => weak(a.dtype(), b.dtype(), b.dtype()),
            _ => a.dtype().promote(b.dtype()),
        },
    }
}

/// Both operands broadcast to one shape and converted to `dtype`.
fn align(a: &Tensor, b: Operand<'_>, dtype: DType) -> (Tensor, Tensor) {
    if dtype == DType::F8E4M3 {
        refuse!("f8e4m3 is for storage only (cast first)");
    }
    let b = match b {
        Operand::Tensor(b) => b.to_dtype(dtype),
        Operand::Scalar(s) => Tensor::scalar(s, dtype, a.device()),
    };
    if a.device() != b.device() {
        refuse!("operands on {} and {}", a.device(), b.device());
    }
    let a = a.to_dtype(dtype);
    if a.shape() == b.shape() {
        return (a, b);
    }
    match a.shape().broadcast(b.shape()) {
        Some(shape) => (a.broadcast_to(&shape), b.broadcast_to(&shape)),
        None => refuse!("shapes {} and {} do not broadcast", a.shape(), b.shape()),
    }
}

impl Tensor {
    /// Applies an elementwise operation of two operands. Where the result is of a half type, a number (or a tensor of another
    /// dtype) is not rounded to it first: the operation is done in f32 and rounded once. A comparison does round it, as in PyTorch.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn binary(&self, op: BinaryOp, rhs: Operand<'_>) -> Tensor {
        operation(op.name(), || {
            let mut dtype = result_dtype(self, rhs);
            match op {
                BinaryOp::Div if !dtype.is_float() => dtype = DType::F32,
                BinaryOp::Sub | BinaryOp::Pow if dtype == DType::Bool => {
                    refuse!("not defined for bool tensors (cast first)")
                }
                _ => {}
            }
            let other = match rhs {
                Operand::Scalar(_) => true,
                Operand::Tensor(b) => b.dtype() != self.dtype(),
            };
            let wide = if other && dtype.is_float() && !op.is_predicate() { dtype.accumulator() } else { dtype };
            let (a, b) = align(self, rhs, wide);
            let y = a.device().binary(op, &a, &b);
            if wide == dtype { y } else { y.to_dtype(dtype) }
        })
    }

    /// `a + alpha·b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn add_alpha<'a>(&self, rhs: impl Into<Operand<'a>>, alpha: impl Into<Scalar>) -> Tensor {
        operation("add_alpha", || self.with_scaled(BinaryOp::Add, rhs.into(), alpha.into()))
    }

    /// `a − alpha·b`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn sub_alpha<'a>(&self, rhs: impl Into<Operand<'a>>, alpha: impl Into<Scalar>) -> Tensor {
        operation("sub_alpha", || self.with_scaled(BinaryOp::Sub, rhs.into(), alpha.into()))
    }

    /// `a op alpha·b`. Half types compute both operations in f32 and round once.
    fn with_scaled(&self, op: BinaryOp, rhs: Operand<'_>, alpha: Scalar) -> Tensor {
        let dtype = result_dtype(self, rhs);
        let wide = if dtype.is_float() { dtype.accumulator() } else { dtype };
        let b = match rhs {
            Operand::Tensor(b) => b.to_dtype(wide),
            Operand::Scalar(s) => Tensor::scalar(s, wide, self.device()),
        };
        let y = self.to_dtype(wide).binary(op, (&b.mul(alpha)).into());
        if dtype.is_float() { y.to_dtype(dtype) } else { y }
    }

    /// The larger of `x` and a lower bound.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn clamp_min<'a>(&self, lo: impl Into<Operand<'a>>) -> Tensor {
        operation("clamp_min", || self.maximum(lo))
    }

    /// The smaller of `x` and an upper bound.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn clamp_max<'a>(&self, hi: impl Into<Operand<'a>>) -> Tensor {
        operation("clamp_max", || self.minimum(hi))
    }

    /// Limited to `lo..=hi`; where `lo > hi` the result is `hi`.
    ///
    /// # Panics
    /// If the shapes do not broadcast or the devices differ.
    #[track_caller]
    pub fn clamp<'a, 'b>(&self, lo: impl Into<Operand<'a>>, hi: impl Into<Operand<'b>>) -> Tensor {
        operation("clamp", || self.maximum(lo).minimum(hi))
    }

    /// `a` where `condition` holds, else `b`; all three broadcast.
    ///
    /// # Panics
    /// If the condition is not bool, shapes do not broadcast, or devices differ.
    #[track_caller]
    pub fn where_<'a, 'b>(condition: &Tensor, a: impl Into<Operand<'a>>, b: impl Into<Operand<'b>>) -> Tensor {
        operation("where_", || {
            if condition.dtype() != DType::Bool {
                refuse!("the condition is {}, not bool", condition.dtype());
            }
            let (a, b) = match (a.into(), b.into()) {
                (Operand::Tensor(a), b) => align(a, b, result_dtype(a, b)),
                (Operand::Scalar(a), Operand::Tensor(b)) => {
                    let (b, a) = align(b, Operand::Scalar(a), result_dtype(b, Operand::Scalar(a)));
                    (a, b)
                }
                (Operand::Scalar(a), b) => {
                    let a = Tensor::scalar(a, a.default_dtype(), condition.device());
                    align(&a, b, result_dtype(&a, b))
                }
            };
            if condition.device() != a.device() {
                refuse!("operands on {} and {}", condition.device(), a.device());
            }
            let Some(shape) = condition.shape().broadcast(a.shape()) else {
                refuse!("shapes {} and {} do not broadcast", condition.shape(), a.shape());
            };
            let at = |t: &Tensor| t.broadcast_to(&shape);
            a.device().where_(&at(condition), &at(&a), &at(&b))
        })
    }

    /// `value` (a number or a 0-d tensor) where `mask` (bool) holds; tensor and mask broadcast to each other.
    ///
    /// # Panics
    /// If the mask is not bool, the shapes do not broadcast, or the value has dimensions.
    #[track_caller]
    pub fn masked_fill<'a>(&self, mask: &Tensor, value: impl Into<Operand<'a>>) -> Tensor {
        operation("masked_fill", || {
            let value = match value.into() {
                Operand::Tensor(t) if t.rank() > 0 => {
                    refuse!("the value has shape {}, expected a number or a 0-d tensor", t.shape())
                }
                Operand::Tensor(t) => t.to_dtype(self.dtype()),
                Operand::Scalar(s) => Tensor::scalar(s, self.dtype(), self.device()),
            };
            Tensor::where_(mask, &value, self)
        })
    }
}

/// The operators of a type that has the methods, and what may stand on their right: also numbers.
#[doc(hidden)]
#[macro_export]
macro_rules! operators {
    ($type:ident, $operand:ident) => {
        $crate::operators!($type, $operand: Add add, Sub sub, Mul mul, Div div);
        $crate::operators!(numbers of $operand: f64, f32, i64, i32, usize, bool, $crate::Scalar);
    };
    ($type:ident, $operand:ident: $($trait:ident $method:ident),*) => {
        $crate::operators!(of &$type, $type, $operand: $($trait $method),*);
        $crate::operators!(of $type, $type, $operand: $($trait $method),*);
    };
    (of $self:ty, $type:ident, $operand:ident: $($trait:ident $method:ident),*) => {
        $(impl<'a, R: Into<$operand<'a>>> std::ops::$trait<R> for $self {
            type Output = $type;
            #[track_caller]
            fn $method(self, rhs: R) -> $type {
                $type::$method(&self, rhs)
            }
        })*
        impl std::ops::Neg for $self {
            type Output = $type;
            #[track_caller]
            fn neg(self) -> $type {
                $type::neg(&self)
            }
        }
    };
    (numbers of $operand:ident: $($number:ty),*) => {$(
        impl From<$number> for $operand<'_> {
            fn from(x: $number) -> Self {
                $operand::Scalar(x.into())
            }
        }
    )*};
}
operators!(Tensor, Operand);

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build, build_looped, dispatch, dispatch_bits, par_chunks};
    use crate::layout::{Layout, Loops};
    use bytemuck::Pod;

    pub fn binary(op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        match a.dtype() {
            DType::Bool if !op.is_predicate() => {
                let (a, b) = (a.reinterpret(DType::U8), b.reinterpret(DType::U8));
                let op = match op {
                    BinaryOp::Add | BinaryOp::Maximum => BinaryOp::Maximum,
                    BinaryOp::Mul | BinaryOp::Minimum => BinaryOp::Minimum,
                    other => unreachable!("{other:?} of bools is refused"),
                };
                binary(op, &a, &b).reinterpret(DType::Bool)
            }
            t if op.is_predicate() => dispatch!(t, T => predicate::<T>(op, a, b)),
            t => dispatch!(t, T => arithmetic::<T>(op, a, b)),
        }
    }

    /// Arithmetic as each type means it: integers wrap, floats follow IEEE with NaN winning a maximum.
    trait Arithmetic: Pod + Send + Sync + PartialOrd {
        fn add(self, b: Self) -> Self;
        fn sub(self, b: Self) -> Self;
        fn mul(self, b: Self) -> Self;
        fn div(self, b: Self) -> Self;
        fn pow(self, b: Self) -> Self;
        fn is_nan(self) -> bool;
    }
    macro_rules! float {
        ($($t:ty),*) => {$(
            impl Arithmetic for $t {
                #[inline(always)] fn add(self, b: Self) -> Self { self + b }
                #[inline(always)] fn sub(self, b: Self) -> Self { self - b }
                #[inline(always)] fn mul(self, b: Self) -> Self { self * b }
                #[inline(always)] fn div(self, b: Self) -> Self { self / b }
                #[inline(always)] fn pow(self, b: Self) -> Self { self.powf(b) }
                #[inline(always)] fn is_nan(self) -> bool { self != self }
            }
        )*};
    }
    macro_rules! int {
        ($($t:ty),*) => {$(
            impl Arithmetic for $t {
                #[inline(always)] fn add(self, b: Self) -> Self { self.wrapping_add(b) }
                #[inline(always)] fn sub(self, b: Self) -> Self { self.wrapping_sub(b) }
                #[inline(always)] fn mul(self, b: Self) -> Self { self.wrapping_mul(b) }
                fn div(self, _: Self) -> Self { unreachable!("integers divide in f32") }
                // A negative power of an integer is 0, except for ±1.
                #[allow(unused_comparisons)] // u8 has no negative powers
                fn pow(self, b: Self) -> Self {
                    if b < 0 {
                        return if self == 1 { 1 } else if self.wrapping_add(1) == 0 { if b % 2 == 0 { 1 } else { self } } else { 0 };
                    }
                    let (mut base, mut rest, mut power) = (self, b, 1 as Self);
                    while rest > 0 {
                        if rest % 2 == 1 {
                            power = power.wrapping_mul(base);
                        }
                        base = base.wrapping_mul(base);
                        rest /= 2;
                    }
                    power
                }
                #[inline(always)] fn is_nan(self) -> bool { false }
            }
        )*};
    }
    float!(f32, f64);
    int!(i64, i32, u8);

    fn arithmetic<T: Arithmetic>(op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        let t = a.dtype();
        match op {
            BinaryOp::Add => zip(a, b, t, T::add),
            BinaryOp::Sub => zip(a, b, t, T::sub),
            BinaryOp::Mul => zip(a, b, t, T::mul),
            BinaryOp::Div => zip(a, b, t, T::div),
            BinaryOp::Pow => zip(a, b, t, T::pow),
            BinaryOp::Maximum => zip(a, b, t, |a: T, b: T| if a > b || a.is_nan() { a } else { b }),
            BinaryOp::Minimum => zip(a, b, t, |a: T, b: T| if a < b || a.is_nan() { a } else { b }),
            other => unreachable!("{other:?} is a predicate"),
        }
    }

    fn predicate<T: Arithmetic + Default>(op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        let zero = T::default();
        let run = |f: fn(T, T) -> bool| zip(a, b, DType::Bool, move |a, b| f(a, b) as u8);
        match op {
            BinaryOp::Eq => run(|a, b| a == b),
            BinaryOp::Ne => run(|a, b| a != b),
            BinaryOp::Lt => run(|a, b| a < b),
            BinaryOp::Le => run(|a, b| a <= b),
            BinaryOp::Gt => run(|a, b| a > b),
            BinaryOp::Ge => run(|a, b| a >= b),
            BinaryOp::LogicalAnd => zip(a, b, DType::Bool, move |a: T, b: T| (a != zero && b != zero) as u8),
            BinaryOp::LogicalOr => zip(a, b, DType::Bool, move |a: T, b: T| (a != zero || b != zero) as u8),
            other => unreachable!("{other:?} is arithmetic"),
        }
    }

    /// `f` over two operands of one shape in any layout.
    fn zip<A: Pod + Sync, O: Pod + Send>(a: &Tensor, b: &Tensor, dtype: DType, f: impl Fn(A, A) -> O + Sync) -> Tensor {
        let loops = Loops::new([a.layout(), b.layout()]);
        let (xa, xb) = (a.raw::<A>(), b.raw::<A>());
        let [sa, sb] = loops.inner_strides();
        if loops.sizes.len() > 1 || sa > 1 || sb > 1 {
            return build_looped(a.shape(), dtype, &loops, |[ia, ib], out| inner(&xa[ia..], sa, &xb[ib..], sb, out, &f));
        }
        // One long loop: cut it anywhere.
        let mut start = [0, 0];
        loops.for_rows(0, 1, |_, at| start = at);
        build(a.shape().clone(), dtype, |out: &mut [O]| {
            par_chunks(out, 1, |i, out| inner(&xa[start[0] + i * sa..], sa, &xb[start[1] + i * sb..], sb, out, &f));
        })
    }

    #[inline(always)]
    fn inner<A: Copy, O>(a: &[A], sa: usize, b: &[A], sb: usize, out: &mut [O], f: &impl Fn(A, A) -> O) {
        match (sa, sb) {
            _ if out.is_empty() => {}
            (1, 1) => out.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| *o = f(a, b)),
            (1, 0) => {
                let b = b[0];
                out.iter_mut().zip(a).for_each(|(o, &a)| *o = f(a, b));
            }
            (0, 1) => {
                let a = a[0];
                out.iter_mut().zip(b).for_each(|(o, &b)| *o = f(a, b));
            }
            _ => out.iter_mut().enumerate().for_each(|(i, o)| *o = f(a[i * sa], b[i * sb])),
        }
    }

    pub fn where_(condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        dispatch_bits!(a.dtype(), T => select::<T>(condition, a, b))
    }

    fn select<T: Pod + Send + Sync>(condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        let loops: Loops<3> = Loops::new([condition.layout(), a.layout(), b.layout()] as [&Layout; 3]);
        let (c, xa, xb) = (condition.raw::<u8>(), a.raw::<T>(), b.raw::<T>());
        let [sc, sa, sb] = loops.inner_strides();
        build_looped(a.shape(), a.dtype(), &loops, |[ic, ia, ib], out: &mut [T]| {
            for (j, o) in out.iter_mut().enumerate() {
                *o = if c[ic + j * sc] != 0 { xa[ia + j * sa] } else { xb[ib + j * sb] };
            }
        })
    }
}
