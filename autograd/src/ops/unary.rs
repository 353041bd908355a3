//! Elementwise operations of one operand.

use super::unrounded;
use crate::var::Var;
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use tensor::{DType, Gelu, Tensor};

/// Whose slope is a function of the operand: `grad · slope(x)`.
macro_rules! by_input {
    ($($(#[$doc:meta])+ $name:ident: |$x:ident| $slope:expr;)*) => {$(
        $(#[$doc])+
        ///
        /// # Panics
        /// If the dtype is f8e4m3, which is for storage only.
        #[track_caller]
        pub fn $name(&self) -> Var {
            let x = self.value();
            let y = x.$name();
            self.elementwise(stringify!($name), y, move || x.to_accumulator(), |$x| $slope)
        }
    )*};
}

/// Whose slope is a function of the result: `grad · slope(y)`.
macro_rules! by_output {
    ($($(#[$doc:meta])+ $name:ident: |$y:ident| $slope:expr;)*) => {$(
        $(#[$doc])+
        ///
        /// # Panics
        /// If the dtype is f8e4m3, which is for storage only.
        #[track_caller]
        pub fn $name(&self) -> Var {
            let x = self.value();
            let y = x.$name();
            let result = unrounded(x, &y, |x| x.$name());
            self.elementwise(stringify!($name), y, result, |$y| $slope)
        }
    )*};
}

impl Var {
    by_input! {
        /// `|x|`; slope 0 at 0.
        abs: |x| x.sign();
        /// Natural logarithm.
        log: |x| x.reciprocal();
        /// Sine of radians.
        sin: |x| x.cos();
        /// Cosine of radians.
        cos: |x| x.sin().neg();
        /// `x·sigmoid(x)`, also called swish.
        silu: |x| {
            let s = x.sigmoid();
            let rest = x.mul(&s.neg().add(1.0));
            rest.add(1.0).mul(&s)
        };
        /// `x²`.
        square: |x| x.mul(2.0);
        /// −1, 0 or 1; flat everywhere.
        sign: |x| x.zeros_like();
        /// The largest integer not above `x`; flat everywhere.
        floor: |x| x.zeros_like();
        /// The error function `2/√π ∫₀ˣ e^(−t²) dt`.
        erf: |x| x.square().neg().exp().mul(2.0 / PI.sqrt());
    }

    by_output! {
        /// `eˣ`.
        exp: |y| y.clone();
        /// Square root.
        sqrt: |y| y.mul(2.0).reciprocal();
        /// `1/√x`.
        rsqrt: |y| y.square().mul(y).mul(-0.5);
        /// Hyperbolic tangent.
        tanh: |y| y.square().neg().add(1.0);
        /// `1/(1 + e⁻ˣ)`.
        sigmoid: |y| y.neg().add(1.0).mul(y);
        /// `1/x`.
        reciprocal: |y| y.square().neg();
    }

    /// `−x`.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, which is for storage only.
    #[track_caller]
    pub fn neg(&self) -> Var {
        Var::op_edges("neg", self.value().neg(), [self.edge()], |g, _| [Some(g.neg())])
    }

    /// `max(x, 0)`; slope 0 at 0. NaN stays NaN.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, which is for storage only.
    #[track_caller]
    pub fn relu(&self) -> Var {
        let y = self.value().relu();
        // `masked_fill` rather than a product: an infinite gradient of a clipped element is 0, not NaN.
        Var::op_edges("relu", y.clone(), [self.edge()], move |g, _| [Some(g.masked_fill(&y.le(0.0), 0.0))])
    }

    /// Gaussian error linear unit.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, which is for storage only.
    #[track_caller]
    pub fn gelu(&self, approximate: Gelu) -> Var {
        let x = self.value();
        let y = x.gelu(approximate);
        self.elementwise(
            "gelu",
            y,
            move || x.to_accumulator(),
            move |x| match approximate {
                Gelu::None => {
                    let cdf = x.mul(FRAC_1_SQRT_2).erf().add(1.0).mul(0.5);
                    let pdf = x.square().mul(-0.5).exp().mul(1.0 / (2.0 * PI).sqrt());
                    x.mul(&pdf).add(&cdf)
                }
                Gelu::Tanh => {
                    let (root, cubic) = ((2.0 / PI).sqrt(), 0.044715);
                    let square = x.square();
                    let t = square.mul(cubic).add(1.0).mul(x).mul(root).tanh();
                    let inner = square.mul(3.0 * cubic).add(1.0).mul(root);
                    let bend = t.square().neg().add(1.0).mul(x).mul(&inner);
                    t.add(1.0).add(&bend).mul(0.5)
                }
            },
        )
    }

    /// `log(1 + e^(beta·x))/beta`, and `x` itself where `beta·x` exceeds `threshold`.
    ///
    /// # Panics
    /// If the dtype is f8e4m3, which is for storage only, `beta` is 0 or not finite, or `threshold` is NaN.
    #[track_caller]
    pub fn softplus(&self, beta: f64, threshold: f64) -> Var {
        let x = self.value();
        let y = x.softplus(beta, threshold);
        self.elementwise(
            "softplus",
            y,
            move || x.to_accumulator(),
            move |x| {
                let scaled = x.mul(beta);
                Tensor::where_(&scaled.gt(threshold), 1.0, &scaled.sigmoid())
            },
        )
    }

    /// The values converted; the gradient is converted back.
    ///
    /// # Panics
    /// If a gradient is needed and the new type is not f32, f64, bf16 or f16.
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Var {
        let from = self.dtype();
        if dtype == from {
            return self.clone();
        }
        Var::op_edges("to_dtype", self.value().to_dtype(dtype), [self.edge()], move |g, _| [Some(g.to_dtype(from.accumulator()))])
    }

    /// `y` with gradient `grad · slope(saved())`.
    #[track_caller]
    fn elementwise(
        &self,
        name: &'static str,
        y: Tensor,
        saved: impl Fn() -> Tensor + Send + Sync + 'static,
        slope: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static,
    ) -> Var {
        Var::op_edges(name, y, [self.edge()], move |g, _| [Some(slope(&saved()).mul(g))])
    }
}
