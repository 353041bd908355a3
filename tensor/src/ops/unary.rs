//! Elementwise operations of one operand.

use crate::dtype::DType;
use crate::op::{Gelu, UnaryOp, unary_operations};
use crate::operation::operation;
use crate::refuse;
use crate::tensor::Tensor;

macro_rules! methods {
    (plain { $($(#[$doc:meta])+ $name:ident => $op:ident;)* } with_arguments $others:tt) => {
        impl Tensor {$(
            $(#[$doc])+
            ///
            /// # Panics
            /// If the dtype is f8e4m3, which is for storage only.
            #[track_caller]
            pub fn $name(&self) -> Tensor {
                self.unary(UnaryOp::$op)
            }
        )*}
    };
}
unary_operations!(methods);

impl UnaryOp {
    /// Whether the result is a float even for integers.
    fn makes_float(self) -> bool {
        use UnaryOp::*;
        !matches!(self, Neg | Abs | Relu | Square | Sign | Floor | LogicalNot)
    }
}

impl Tensor {
    /// Gaussian error linear unit.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, which is for storage only.
    #[track_caller]
    pub fn gelu(&self, approximate: Gelu) -> Tensor {
        self.unary(UnaryOp::Gelu(approximate))
    }

    /// `log(1 + e^(beta·x))/beta`, and `x` itself where `beta·x` exceeds `threshold`.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, which is for storage only, `beta` is 0 or not finite, or `threshold` is NaN.
    #[track_caller]
    pub fn softplus(&self, beta: f64, threshold: f64) -> Tensor {
        self.unary(UnaryOp::Softplus { beta, threshold })
    }

    /// Applies an elementwise operation. Integers become f32 first where the result is not an integer.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, or bool for [`UnaryOp::Neg`].
    #[track_caller]
    pub fn unary(&self, op: UnaryOp) -> Tensor {
        operation(op.name(), || {
            if self.dtype() == DType::F8E4M3 || (self.dtype() == DType::Bool && op == UnaryOp::Neg) {
                refuse!("not defined for {} tensors (cast first)", self.dtype());
            }
            if let UnaryOp::Softplus { beta, threshold } = op
                && (beta == 0.0 || !beta.is_finite() || threshold.is_nan())
            {
                refuse!("beta {beta} and threshold {threshold}, expected a finite beta but 0, and a number");
            }
            let x = if op.makes_float() && !self.dtype().is_float() { self.to_dtype(DType::F32) } else { self.clone() };
            self.device().unary(op, &x)
        })
    }
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build, par_chunks, vmath};

    pub fn unary(op: UnaryOp, x: &Tensor) -> Tensor {
        if op == UnaryOp::LogicalNot {
            let zero = Tensor::scalar(0, x.dtype(), x.device());
            return x.eq(&zero);
        }
        let x = x.contiguous();
        match x.dtype() {
            DType::F32 => map(&x, |x: &[f32], y| float32(op, x, y)),
            DType::F64 => map(&x, |x: &[f64], y| float64(op, x, y)),
            DType::I64 => map(&x, |x: &[i64], y| integer(op, x, y)),
            DType::I32 => map(&x, |x: &[i32], y| integer(op, x, y)),
            _ => map(&x, |x: &[u8], y| integer(op, x, y)),
        }
    }

    fn map<T: bytemuck::Pod + Send + Sync>(x: &Tensor, f: impl Fn(&[T], &mut [T]) + Sync) -> Tensor {
        let source = x.data::<T>();
        build(x.shape().clone(), x.dtype(), |out: &mut [T]| {
            par_chunks(out, 1, |start, out| f(&source[start..][..out.len()], out));
        })
    }

    fn each<T: Copy>(x: &[T], y: &mut [T], f: impl Fn(T) -> T) {
        x.iter().zip(y).for_each(|(&x, y)| *y = f(x));
    }

    fn sign<T: num_traits::Zero + num_traits::One + PartialOrd + std::ops::Sub<Output = T>>(x: T) -> T {
        let one = |b: bool| if b { T::one() } else { T::zero() };
        one(x > T::zero()) - one(x < T::zero())
    }

    fn float32(op: UnaryOp, x: &[f32], y: &mut [f32]) {
        use UnaryOp::*;
        match op {
            Neg => each(x, y, |x| -x),
            Abs => each(x, y, f32::abs),
            Exp => vmath::exp(x, y),
            Log => vmath::log(x, y),
            Sqrt => each(x, y, f32::sqrt),
            Rsqrt => each(x, y, |x| 1.0 / x.sqrt()),
            Sin => each(x, y, f32::sin),
            Cos => each(x, y, f32::cos),
            Tanh => vmath::tanh(x, y),
            Sigmoid => vmath::sigmoid(x, y),
            Silu => vmath::silu(x, y),
            Gelu(super::Gelu::None) => vmath::gelu(x, y),
            Relu => each(x, y, |x| if x < 0.0 { 0.0 } else { x }),
            Reciprocal => each(x, y, |x| 1.0 / x),
            Square => each(x, y, |x| x * x),
            Sign => each(x, y, |x| if x.is_nan() { x } else { sign(x) }),
            Floor => each(x, y, f32::floor),
            Erf => each(x, y, libm::erff),
            // Seldom used: f64 arithmetic rounded once.
            Gelu(super::Gelu::Tanh) | Softplus { .. } => each(x, y, |x| scalar64(op, x as f64) as f32),
            LogicalNot => unreachable!("handled as a comparison"),
        }
    }

    fn float64(op: UnaryOp, x: &[f64], y: &mut [f64]) {
        each(x, y, |x| scalar64(op, x));
    }

    fn scalar64(op: UnaryOp, x: f64) -> f64 {
        use UnaryOp::*;
        match op {
            Neg => -x,
            Abs => x.abs(),
            Exp => x.exp(),
            Log => x.ln(),
            Sqrt => x.sqrt(),
            Rsqrt => 1.0 / x.sqrt(),
            Sin => x.sin(),
            Cos => x.cos(),
            Tanh => x.tanh(),
            Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Silu => x / (1.0 + (-x).exp()),
            Gelu(super::Gelu::None) => 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Gelu(super::Gelu::Tanh) => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Relu if x < 0.0 => 0.0,
            Relu => x,
            Softplus { beta, threshold } => {
                let product = x * beta;
                let tail = (-product.abs()).exp().ln_1p() / beta;
                match () {
                    _ if product > threshold => x,
                    _ if product > 0.0 => x + tail, // where the exponential would overflow
                    _ => tail,
                }
            }
            Reciprocal => 1.0 / x,
            Square => x * x,
            Sign if x.is_nan() => x,
            Sign => sign(x),
            Floor => x.floor(),
            Erf => libm::erf(x),
            LogicalNot => unreachable!("handled as a comparison"),
        }
    }

    fn integer<T>(op: UnaryOp, x: &[T], y: &mut [T])
    where
        T: num_traits::PrimInt + num_traits::WrappingSub + num_traits::WrappingMul,
    {
        use UnaryOp::*;
        let zero = T::zero();
        match op {
            Neg => each(x, y, |x| zero.wrapping_sub(&x)),
            Abs => each(x, y, |x| if x < zero { zero.wrapping_sub(&x) } else { x }),
            Relu => each(x, y, |x| x.max(zero)),
            Square => each(x, y, |x| x.wrapping_mul(&x)),
            Sign => each(x, y, |x| if x < zero { zero.wrapping_sub(&T::one()) } else { x.min(T::one()) }),
            Floor => y.copy_from_slice(x),
            other => unreachable!("{other:?} of integers is computed in f32"),
        }
    }
}
