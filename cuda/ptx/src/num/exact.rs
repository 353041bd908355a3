//! Exact arithmetic on wide integers with one rounding at the end.

use std::cmp::Ordering;

/// A direction of rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `.rn`, `.rni`: to nearest, ties to even.
    #[default]
    Nearest,
    /// `.rna`: to nearest, ties away from zero.
    NearestAway,
    /// `.rz`, `.rzi`: toward zero.
    Zero,
    /// `.rm`, `.rmi`: toward minus infinity.
    Down,
    /// `.rp`, `.rpi`: toward plus infinity.
    Up,
}

/// A binary floating-point format: one sign bit, then exponent, then mantissa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Width of the exponent field.
    pub exponent_bits: u32,
    /// Width of the stored mantissa.
    pub mantissa_bits: u32,
    /// Whether the top exponent is kept for infinities and NaNs; e4m3 uses it for numbers, all but its last pattern.
    pub has_infinity: bool,
    /// Unused low bits of the pattern: 13 for tf32, which lives in the layout of f32.
    pub padding: u32,
}

/// IEEE double precision.
pub const F64: Format = Format { exponent_bits: 11, mantissa_bits: 52, has_infinity: true, padding: 0 };
/// IEEE single precision.
pub const F32: Format = Format { exponent_bits: 8, mantissa_bits: 23, has_infinity: true, padding: 0 };
/// IEEE half precision.
pub const F16: Format = Format { exponent_bits: 5, mantissa_bits: 10, has_infinity: true, padding: 0 };
/// The upper half of an f32.
pub const BF16: Format = Format { exponent_bits: 8, mantissa_bits: 7, has_infinity: true, padding: 0 };
/// f32 with ten bits of mantissa, its low 13 bits zero.
pub const TF32: Format = Format { exponent_bits: 8, mantissa_bits: 10, has_infinity: true, padding: 13 };
/// OCP 8-bit float with range: f16 cut to its upper byte.
pub const E5M2: Format = Format { exponent_bits: 5, mantissa_bits: 2, has_infinity: true, padding: 0 };
/// OCP 8-bit float with precision: no infinity, one NaN a sign, largest number 448.
pub const E4M3: Format = Format { exponent_bits: 4, mantissa_bits: 3, has_infinity: false, padding: 0 };

impl Format {
    /// The exponent of the smallest normal number.
    const fn min_exponent(&self) -> i32 {
        2 - (1 << (self.exponent_bits - 1))
    }

    /// The magnitude field of the largest finite number, without padding.
    const fn max_finite(&self) -> u64 {
        let top = ((1u64 << self.exponent_bits) - 1) << self.mantissa_bits;
        if self.has_infinity { top - 1 } else { top + (1 << self.mantissa_bits) - 2 }
    }

    const fn sign_bit(&self) -> u64 {
        1 << (self.exponent_bits + self.mantissa_bits + self.padding)
    }

    /// The pattern of the largest finite number of that sign.
    pub const fn largest(&self, negative: bool) -> u64 {
        self.signed(self.max_finite(), negative)
    }

    /// The pattern of infinity of that sign, or of the largest number where there is none.
    pub const fn infinity(&self, negative: bool) -> u64 {
        self.signed(if self.has_infinity { self.max_finite() + 1 } else { self.max_finite() }, negative)
    }

    /// The pattern of zero of that sign.
    pub const fn zero(&self, negative: bool) -> u64 {
        self.signed(0, negative)
    }

    const fn signed(&self, magnitude: u64, negative: bool) -> u64 {
        (magnitude << self.padding) | if negative { self.sign_bit() } else { 0 }
    }

    /// What a pattern stands for. Padding is ignored.
    pub fn decode(&self, bits: u64) -> Value {
        let negative = bits & self.sign_bit() != 0;
        let magnitude = (bits & (self.sign_bit() - 1)) >> self.padding;
        if magnitude > self.max_finite() {
            return if self.has_infinity && magnitude == self.max_finite() + 1 {
                Value::Infinity { negative }
            } else {
                Value::Nan
            };
        }
        let field = (magnitude >> self.mantissa_bits) as i32;
        let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
        let hidden = if field == 0 { 0 } else { 1 << self.mantissa_bits };
        if mantissa + hidden == 0 {
            return Value::Zero { negative };
        }
        let exponent = self.min_exponent() + (field - 1).max(0) - self.mantissa_bits as i32;
        Value::Finite(Exact { negative, significand: u128::from(mantissa + hidden), exponent, sticky: false })
    }
}

/// What a floating-point pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Not a number.
    Nan,
    /// An infinity.
    Infinity {
        /// Its sign.
        negative: bool,
    },
    /// A zero.
    Zero {
        /// Its sign.
        negative: bool,
    },
    /// Any other number.
    Finite(Exact),
}

/// A non-zero number: ± (`significand` + tail) · 2^`exponent`, where the tail is zero, or between 0 and 1 when `sticky`.
///
/// The functions here keep at least 60 significant bits before the tail, enough for one correct rounding to f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// Its sign.
    pub negative: bool,
    /// Its leading bits.
    pub significand: u128,
    /// The weight of the significand's last bit.
    pub exponent: i32,
    /// Whether there is more below the last bit.
    pub sticky: bool,
}

impl Exact {
    /// An integer; `None` for zero.
    pub fn integer(value: i128) -> Option<Exact> {
        let significand = value.unsigned_abs();
        (significand != 0).then_some(Exact { negative: value < 0, significand, exponent: 0, sticky: false })
    }

    /// The same number with `significand`'s top bit at position `top`, bits that fall out below kept as the sticky one.
    fn with_top(self, top: u32) -> Exact {
        let position = 127 - self.significand.leading_zeros();
        let shift = top as i32 - position as i32;
        let exponent = self.exponent - shift;
        if shift >= 0 {
            return Exact { significand: self.significand << shift, exponent, ..self };
        }
        self.shifted_right((-shift) as u32)
    }

    fn shifted_right(self, shift: u32) -> Exact {
        let (significand, lost) = if shift >= 128 {
            (0, self.significand)
        } else {
            (self.significand >> shift, self.significand & ((1u128 << shift) - 1))
        };
        Exact { significand, exponent: self.exponent + shift as i32, sticky: self.sticky || lost != 0, ..self }
    }

    /// The product of two exact numbers of at most 64 bits.
    pub fn times(self, other: Exact) -> Exact {
        debug_assert!(!self.sticky && !other.sticky);
        Exact {
            negative: self.negative != other.negative,
            significand: self.significand * other.significand,
            exponent: self.exponent + other.exponent,
            sticky: false,
        }
    }

    /// The sum of two exact numbers of at most 120 bits; `None` when they cancel.
    pub fn plus(self, other: Exact) -> Option<Exact> {
        debug_assert!(!self.sticky && !other.sticky);
        // Both tops at bit 125, then the smaller one slides down: a carry fits, and only a difference in exponent of more than
        // a few bits can push bits out, in which case cancellation takes at most one leading bit.
        let (mut large, mut small) = (self.with_top(125), other.with_top(125));
        if (large.exponent, large.significand) < (small.exponent, small.significand) {
            (large, small) = (small, large);
        }
        let small = small.shifted_right((large.exponent - small.exponent) as u32);
        let significand = if large.negative == small.negative {
            large.significand + small.significand
        } else {
            // large − (small + tail) = (large − small − 1) + (1 − tail).
            large.significand - small.significand - u128::from(small.sticky)
        };
        (significand != 0).then_some(Exact { significand, sticky: small.sticky, ..large })
    }

    /// The quotient of two exact numbers of at most 64 bits.
    pub fn over(self, divisor: Exact) -> Exact {
        debug_assert!(!self.sticky && !divisor.sticky);
        let dividend = self.with_top(127);
        Exact {
            negative: self.negative != divisor.negative,
            significand: dividend.significand / divisor.significand,
            exponent: dividend.exponent - divisor.exponent,
            sticky: !dividend.significand.is_multiple_of(divisor.significand),
        }
    }

    /// The square root of a positive exact number of at most 64 bits.
    pub fn root(self) -> Exact {
        debug_assert!(!self.sticky && !self.negative);
        let mut radicand = self.with_top(126);
        if radicand.exponent % 2 != 0 {
            radicand = self.with_top(125);
        }
        let significand = radicand.significand.isqrt();
        Exact {
            negative: false,
            significand,
            exponent: radicand.exponent / 2,
            sticky: significand * significand != radicand.significand,
        }
    }

    /// The nearest multiple of 2^`unit` in that direction, as a count of units (at most 2^127).
    pub fn round_to_unit(self, unit: i32, rounding: Rounding) -> u128 {
        let shift = unit - self.exponent;
        if shift <= 0 {
            // A number with a tail has more bits than any format keeps.
            debug_assert!(!self.sticky);
            return self.significand << -shift;
        }
        let cut = self.shifted_right(shift as u32);
        let lost = if shift >= 128 { 0 } else { self.significand & ((1u128 << shift) - 1) };
        let to_half = match shift {
            1..=127 => lost.cmp(&(1u128 << (shift - 1))),
            128 => self.significand.cmp(&(1u128 << 127)),
            _ => Ordering::Less,
        };
        let up = match rounding {
            Rounding::Nearest => match to_half {
                Ordering::Less => false,
                Ordering::Equal => self.sticky || cut.significand & 1 == 1,
                Ordering::Greater => true,
            },
            Rounding::NearestAway => to_half != Ordering::Less,
            _ => cut.sticky && away(self.negative, rounding),
        };
        cut.significand + u128::from(up)
    }

    /// The number's pattern in a format. What is too large becomes infinity, or the largest number where the direction says so,
    /// or always when `satfinite`.
    pub fn encode(self, format: Format, rounding: Rounding, satfinite: bool) -> u64 {
        let magnitude_exponent = self.exponent + 127 - self.significand.leading_zeros() as i32;
        let unit = magnitude_exponent.max(format.min_exponent()) - format.mantissa_bits as i32;
        let kept = self.round_to_unit(unit, rounding) as u64;
        // The hidden bit of `kept` adds one to the exponent field, as does a carry out of the mantissa.
        let field = unit + format.mantissa_bits as i32 - format.min_exponent();
        if field >= 1 << format.exponent_bits {
            return self.overflow(format, rounding, satfinite);
        }
        let magnitude = ((field as u64) << format.mantissa_bits) + kept;
        if magnitude > format.max_finite() {
            return self.overflow(format, rounding, satfinite);
        }
        format.signed(magnitude, self.negative)
    }

    fn overflow(self, format: Format, rounding: Rounding, satfinite: bool) -> u64 {
        let nearest = matches!(rounding, Rounding::Nearest | Rounding::NearestAway);
        if !satfinite && (nearest || away(self.negative, rounding)) {
            format.infinity(self.negative)
        } else {
            format.largest(self.negative)
        }
    }
}

/// Whether a directed rounding moves a number of that sign away from zero.
fn away(negative: bool, rounding: Rounding) -> bool {
    match rounding {
        Rounding::Up => !negative,
        Rounding::Down => negative,
        _ => false,
    }
}

/// The sign of an exact zero that a sum of x and −x gives.
fn cancelled(rounding: Rounding) -> bool {
    rounding == Rounding::Down
}

/// What an operation gives before it is rounded.
fn encode(value: Value, format: Format, rounding: Rounding) -> Option<u64> {
    match value {
        Value::Nan => None,
        Value::Infinity { negative } => Some(format.infinity(negative)),
        Value::Zero { negative } => Some(format.zero(negative)),
        Value::Finite(exact) => Some(exact.encode(format, rounding, false)),
    }
}

/// `a + b` in a format, `None` for a NaN.
pub fn add(a: u64, b: u64, format: Format, rounding: Rounding) -> Option<u64> {
    encode(sum(format.decode(a), format.decode(b), rounding), format, rounding)
}

/// `a · b` in a format, `None` for a NaN.
pub fn mul(a: u64, b: u64, format: Format, rounding: Rounding) -> Option<u64> {
    encode(product(format.decode(a), format.decode(b)), format, rounding)
}

/// `a · b + c` with one rounding, `None` for a NaN.
pub fn fma(a: u64, b: u64, c: u64, format: Format, rounding: Rounding) -> Option<u64> {
    encode(sum(product(format.decode(a), format.decode(b)), format.decode(c), rounding), format, rounding)
}

/// `a / b` in a format, `None` for a NaN.
pub fn div(a: u64, b: u64, format: Format, rounding: Rounding) -> Option<u64> {
    let value = match (format.decode(a), format.decode(b)) {
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Infinity { .. }, Value::Infinity { .. }) | (Value::Zero { .. }, Value::Zero { .. }) => Value::Nan,
        (a @ (Value::Infinity { .. } | Value::Zero { .. }), b) => with_sign(a, sign(a) != sign(b)),
        (a, b @ Value::Infinity { .. }) => Value::Zero { negative: sign(a) != sign(b) },
        (a, b @ Value::Zero { .. }) => Value::Infinity { negative: sign(a) != sign(b) },
        (Value::Finite(a), Value::Finite(b)) => Value::Finite(a.over(b)),
    };
    encode(value, format, rounding)
}

/// The square root in a format, `None` for a NaN.
pub fn sqrt(a: u64, format: Format, rounding: Rounding) -> Option<u64> {
    let value = match format.decode(a) {
        Value::Infinity { negative: true } => Value::Nan,
        Value::Finite(a) if a.negative => Value::Nan,
        Value::Finite(a) => Value::Finite(a.root()),
        other => other,
    };
    encode(value, format, rounding)
}

fn sign(value: Value) -> bool {
    match value {
        Value::Nan => false,
        Value::Infinity { negative } | Value::Zero { negative } => negative,
        Value::Finite(exact) => exact.negative,
    }
}

fn with_sign(value: Value, negative: bool) -> Value {
    match value {
        Value::Nan => Value::Nan,
        Value::Infinity { .. } => Value::Infinity { negative },
        Value::Zero { .. } => Value::Zero { negative },
        Value::Finite(exact) => Value::Finite(Exact { negative, ..exact }),
    }
}

fn product(a: Value, b: Value) -> Value {
    let negative = sign(a) != sign(b);
    match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Infinity { .. }, Value::Zero { .. }) | (Value::Zero { .. }, Value::Infinity { .. }) => Value::Nan,
        (Value::Infinity { .. }, _) | (_, Value::Infinity { .. }) => Value::Infinity { negative },
        (Value::Zero { .. }, _) | (_, Value::Zero { .. }) => Value::Zero { negative },
        (Value::Finite(a), Value::Finite(b)) => Value::Finite(a.times(b)),
    }
}

fn sum(a: Value, b: Value, rounding: Rounding) -> Value {
    match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Infinity { negative: x }, Value::Infinity { negative: y }) if x != y => Value::Nan,
        (infinity @ Value::Infinity { .. }, _) | (_, infinity @ Value::Infinity { .. }) => infinity,
        (Value::Zero { negative: x }, Value::Zero { negative: y }) => {
            Value::Zero { negative: if x == y { x } else { cancelled(rounding) } }
        }
        (Value::Zero { .. }, other) | (other, Value::Zero { .. }) => other,
        (Value::Finite(a), Value::Finite(b)) => match a.plus(b) {
            Some(exact) => Value::Finite(exact),
            None => Value::Zero { negative: cancelled(rounding) },
        },
    }
}
