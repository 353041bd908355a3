//! Roundoff, and the errors that follow from it (Higham, "Accuracy and stability of numerical algorithms", 2002).

use tensor::DType;

/// What one rounding costs in the arithmetic of a dtype. bf16 and f16 compute in f32 and round once at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Unit roundoff of the arithmetic: 2⁻²⁴ in f32 (and for half types), 2⁻⁵³ in f64.
    pub u: f64,
    /// Unit roundoff of storing a result; 0 where the arithmetic's type is stored.
    pub store: f64,
    /// Absolute error of storing: half the spacing of the denormals, or the smallest normal where they may be flushed.
    pub tiny: f64,
    /// Largest finite value.
    pub max: f64,
}

impl Precision {
    /// Of a dtype; integers are exact.
    pub fn of(dtype: DType) -> Precision {
        let (u32, u64) = (f32::EPSILON as f64 / 2.0, f64::EPSILON / 2.0);
        let normal32 = f32::MIN_POSITIVE as f64;
        match dtype {
            DType::F64 => Precision { u: u64, store: 0.0, tiny: f64::MIN_POSITIVE, max: f64::MAX },
            DType::F32 => Precision { u: u32, store: 0.0, tiny: normal32, max: f32::MAX as f64 },
            DType::BF16 => Precision { u: u32, store: 2f64.powi(-8), tiny: normal32, max: 3.389_531_389_251_535_5e38 },
            DType::F16 => Precision { u: u32, store: 2f64.powi(-11), tiny: 2f64.powi(-25), max: 65504.0 },
            DType::F8E4M3 => Precision { u: u32, store: 2f64.powi(-4), tiny: 2f64.powi(-10), max: 448.0 },
            _ => Precision { u: 0.0, store: 0.0, tiny: 0.0, max: f64::INFINITY },
        }
    }

    /// The values of a float dtype at the ends of its range: infinities, largest, least normal and subnormal ones, NaN.
    pub fn extremes(dtype: DType) -> [f64; 11] {
        let (digits, least) = match dtype {
            DType::F64 => (53, -1022),
            DType::BF16 => (8, -126),
            DType::F16 => (11, -14),
            _ => (24, -126),
        };
        let normal = 2f64.powi(least);
        let subnormal = 2f64.powi(least + 1 - digits);
        let positive = [f64::INFINITY, Precision::of(dtype).max, normal, normal - subnormal, subnormal];
        std::array::from_fn(|i| positive.get(i % 6).map_or(f64::NAN, |x| if i < 6 { *x } else { -x }))
    }

    /// What the arithmetic loses where a result is next to 0: half its least subnormal number, times `factor`, by which the
    /// result is multiplied afterwards.
    pub fn underflow(self, factor: f64) -> f64 {
        let least = if self.max == f64::MAX { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() };
        self.u * factor.abs() * least
    }

    /// A step's result as the arithmetic holds it: rounded, infinite or 0 beyond its range, which for half types is f32's.
    pub fn held(self, x: f64) -> f64 {
        if self.max < f64::MAX { f64::from(x as f32) } else { x }
    }

    /// Relative error of an elementary function (exp, log, tanh, …): within 2 units in the last place, and as much for the
    /// f64 reference itself where the dtype is f64.
    pub fn function(self) -> f64 {
        4.0 * self.u
    }

    /// Relative error, against the sum of magnitudes, of adding `n` numbers: at most [`summands`]`(n)` roundings meet any one
    /// of them.
    pub fn sum(self, n: usize) -> f64 {
        gamma(summands(n), self.u)
    }

    /// The same where the `n` terms are products and added in a row, as in a matrix product.
    pub fn dot(self, n: usize) -> f64 {
        gamma(n + 1, self.u)
    }
}

/// Terms that an operation adds one after the other in f32; more are added up in f64.
pub(crate) const IN_TURN: usize = 1024;

/// Higham's γₙ: the relative error of `n` successive roundings.
pub fn gamma(n: usize, u: f64) -> f64 {
    let nu = n as f64 * u;
    nu / (1.0 - nu)
}

/// Additions that a term of a reduction passes through: 256 in a row, then one a block of 256. A tree passes through fewer.
pub fn summands(n: usize) -> usize {
    n.min(256 + n.div_ceil(256))
}

/// The nearest of the floats with `digits` binary digits whose least normal exponent is `least`; of two the even one, and
/// beyond half a step above `max` infinity.
fn nearest(x: f64, digits: i32, least: i32, max: f64) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let step = 2f64.powi(exponent.max(least) + 1 - digits);
    let rounded = (x / step).round_ties_even() * step;
    if rounded.abs() > max { rounded.signum() * f64::INFINITY } else { rounded }
}

/// Rounds to the nearest value of a dtype; integers truncate and wrap.
pub fn round_to(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F64 => x,
        DType::F32 => x as f32 as f64,
        DType::BF16 => nearest(x, 8, -126, f64::from(tensor::bf16::MAX)),
        DType::F16 => nearest(x, 11, -14, f64::from(tensor::f16::MAX)),
        // No infinity: what rounds beyond the largest is NaN.
        DType::F8E4M3 => Some(nearest(x, 4, -6, 448.0)).filter(|y| y.is_finite()).unwrap_or(f64::NAN),
        DType::I64 => x as i64 as f64,
        DType::I32 => x as i64 as i32 as f64,
        DType::U8 => x as i64 as u8 as f64,
        DType::Bool => (x != 0.0) as u8 as f64,
    }
}
