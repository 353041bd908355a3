//! Arithmetic of f16 and bf16 by bits; the packed types are two of them.

use super::NAN16;
use super::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::single::{self, Extremum};

/// Which 16-bit format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

/// The modifiers of a half instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// `.ftz` (f16 only): subnormal operands and results become zeros of the same sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], a NaN to +0.
    pub saturate: bool,
    /// `.relu`: a negative result becomes +0, a NaN the canonical one.
    pub relu: bool,
}

const SIGN: u16 = 0x8000;

impl Kind {
    #[inline(always)]
    fn infinity(self) -> u16 {
        match self {
            Kind::F16 => 0x7c00,
            Kind::Bf16 => 0x7f80,
        }
    }

    #[inline(always)]
    fn one(self) -> u16 {
        match self {
            Kind::F16 => 0x3c00,
            Kind::Bf16 => 0x3f80,
        }
    }

    /// Its value, a NaN as the canonical one.
    #[inline(always)]
    pub fn to_f32(self, bits: u16) -> f32 {
        f32::from_bits(match self {
            Kind::F16 => f16_to_f32(bits),
            Kind::Bf16 => bf16_to_f32(bits),
        })
    }

    /// The nearest one, ties to even.
    #[inline(always)]
    pub fn of_f32(self, x: f32) -> u16 {
        match self {
            Kind::F16 => f32_to_f16(x.to_bits()),
            Kind::Bf16 => f32_to_bf16(x.to_bits()),
        }
    }

    #[inline(always)]
    fn flush(self, bits: u16, ftz: bool) -> u16 {
        if ftz && bits & self.infinity() == 0 { bits & SIGN } else { bits }
    }

    #[inline(always)]
    fn is_nan(self, bits: u16) -> bool {
        bits & !SIGN > self.infinity()
    }

    #[inline(always)]
    fn finish(self, bits: u16, mode: Mode) -> u16 {
        let bits = self.flush(bits, mode.ftz);
        let nan = self.is_nan(bits);
        if mode.saturate {
            return if nan || bits & SIGN != 0 { 0 } else { bits.min(self.one()) };
        }
        if mode.relu && !nan && bits & SIGN != 0 { 0 } else { bits }
    }

    /// `add`, and `sub` with the sign of `b` flipped. The sum in f32 has more than twice the bits, so that the second rounding
    /// is innocuous.
    #[inline]
    pub fn add(self, a: u16, b: u16, mode: Mode) -> u16 {
        let [a, b] = [a, b].map(|x| self.to_f32(self.flush(x, mode.ftz)));
        self.finish(self.of_f32(a + b), mode)
    }

    /// `mul`. The product is exact in f64, whatever the exponents.
    #[inline]
    pub fn mul(self, a: u16, b: u16, mode: Mode) -> u16 {
        let [a, b] = [a, b].map(|x| f64::from(self.to_f32(self.flush(x, mode.ftz))));
        self.finish(self.of_f64(a * b), mode)
    }

    /// `fma` with one rounding.
    #[inline]
    pub fn fma(self, a: u16, b: u16, c: u16, mode: Mode) -> u16 {
        let [a, b, c] = [a, b, c].map(|x| f64::from(self.to_f32(self.flush(x, mode.ftz))));
        self.finish(self.of_f64(single::f64_to_odd_sum(a * b, c)), mode)
    }

    /// The nearest one, ties to even, by way of the f32 next to `x` that is exact or odd, which cannot be a tie.
    #[inline(always)]
    pub fn of_f64(self, x: f64) -> u16 {
        let near = x as f32;
        let error = x - f64::from(near);
        let step = if (error > 0.0) == (x > 0.0) { 1 } else { u32::MAX };
        let odd = error.abs() > 0.0 && near.to_bits() & 1 == 0 && near.is_finite();
        self.of_f32(f32::from_bits(if odd { near.to_bits().wrapping_add(step) } else { near.to_bits() }))
    }

    /// `min` and `max`: −0 is less than +0, and two NaNs give a NaN.
    #[inline]
    pub fn extremum(self, a: u16, b: u16, how: Extremum) -> u16 {
        let [a, b] = [a, b].map(|x| self.flush(x, how.ftz));
        let [x, y] = [a, b].map(|x| if how.xorsign_abs { x & !SIGN } else { x });
        let chosen = match (self.is_nan(a), self.is_nan(b)) {
            (true, true) => return NAN16,
            (true, false) | (false, true) if how.nan => return NAN16,
            (true, false) => y,
            (false, true) => x,
            (false, false) => {
                let key = |bits: u16| (bits ^ (((bits as i16) >> 15) as u16 >> 1)) as i16;
                if how.maximum == (key(x) >= key(y)) { x } else { y }
            }
        };
        if how.xorsign_abs { chosen | ((a ^ b) & SIGN) } else { chosen }
    }

    /// `neg`.
    pub fn neg(self, a: u16, ftz: bool) -> u16 {
        self.flush(a, ftz) ^ SIGN
    }

    /// `abs`.
    pub fn abs(self, a: u16, ftz: bool) -> u16 {
        self.flush(a, ftz) & !SIGN
    }

    /// `ex2.approx`.
    pub fn ex2(self, a: u16, ftz: bool) -> u16 {
        self.finish(self.of_f32(self.to_f32(self.flush(a, ftz)).exp2()), Mode { ftz, ..Mode::default() })
    }

    /// `tanh.approx`.
    pub fn tanh(self, a: u16) -> u16 {
        self.of_f32(self.to_f32(a).tanh())
    }
}

/// Applies a function to both halves of packed operands.
#[inline(always)]
pub fn packed<const N: usize>(operands: [u32; N], f: impl Fn([u16; N]) -> u16) -> u32 {
    let low = f(operands.map(|x| x as u16));
    let high = f(operands.map(|x| (x >> 16) as u16));
    u32::from(low) | u32::from(high) << 16
}
