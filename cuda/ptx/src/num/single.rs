//! Arithmetic of f32, one lane at a time and by bits.

use super::exact::{self, F32, Rounding};
use super::{Mode, NAN32};

const SIGN: u32 = 0x8000_0000;
const INFINITY: u32 = 0x7f80_0000;

/// A subnormal becomes a zero of its sign.
#[inline(always)]
pub fn flush(bits: u32) -> u32 {
    if bits & INFINITY == 0 { bits & SIGN } else { bits }
}

/// Clamps to [0, 1]; a NaN and −0 become +0.
#[inline(always)]
pub fn saturate(bits: u32) -> u32 {
    let x = f32::from_bits(bits);
    let clamped = if x < 1.0 { x } else { 1.0 };
    if x > 0.0 { clamped.to_bits() } else { 0 }
}

/// A NaN becomes *the* NaN.
#[inline(always)]
pub fn canonical(x: f32) -> u32 {
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

#[inline(always)]
fn flush_if(bits: u32, ftz: bool) -> u32 {
    if ftz { flush(bits) } else { bits }
}

#[inline(always)]
fn finish(bits: u32, mode: Mode) -> u32 {
    let bits = flush_if(bits, mode.ftz);
    if mode.saturate { saturate(bits) } else { bits }
}

fn or_nan(bits: Option<u64>) -> u32 {
    bits.map_or(NAN32, |bits| bits as u32)
}

/// `a·b + c` rounded once to nearest, from f64 operations alone.
///
/// The product of two f32 is exact in f64. Their sum with `c` is rounded to *odd*: if it is inexact its last bit is set, so
/// that the second rounding, to f32, sees on which side of a tie it lies. A host without a fused instruction needs no call,
/// and the loop over lanes vectorises.
#[inline(always)]
pub fn fma_nearest(a: f32, b: f32, c: f32) -> f32 {
    f64_to_odd_sum(f64::from(a) * f64::from(b), f64::from(c)) as f32
}

/// The f64 next to `p + c` that is exact or has its last bit set.
#[inline(always)]
pub(super) fn f64_to_odd_sum(p: f64, c: f64) -> f64 {
    let sum = p + c;
    let part = sum - p;
    let error = (p - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // `error` is NaN where the sum is not finite.
    let inexact = error.abs() > 0.0;
    let step = if (error > 0.0) == (sum > 0.0) { 1 } else { u64::MAX };
    f64::from_bits(if inexact && bits & 1 == 0 { bits.wrapping_add(step) } else { bits })
}

/// `add`, and `sub` with the sign of `b` flipped.
pub fn add(a: u32, b: u32, mode: Mode) -> u32 {
    let (a, b) = (flush_if(a, mode.ftz), flush_if(b, mode.ftz));
    let bits = match mode.rounding {
        Rounding::Nearest => canonical(f32::from_bits(a) + f32::from_bits(b)),
        rounding => or_nan(exact::add(a.into(), b.into(), F32, rounding)),
    };
    finish(bits, mode)
}

/// `mul`.
pub fn mul(a: u32, b: u32, mode: Mode) -> u32 {
    let (a, b) = (flush_if(a, mode.ftz), flush_if(b, mode.ftz));
    let bits = match mode.rounding {
        Rounding::Nearest => canonical(f32::from_bits(a) * f32::from_bits(b)),
        rounding => or_nan(exact::mul(a.into(), b.into(), F32, rounding)),
    };
    finish(bits, mode)
}

/// `fma`: `a·b + c` with one rounding.
pub fn fma(a: u32, b: u32, c: u32, mode: Mode) -> u32 {
    let [a, b, c] = [a, b, c].map(|x| flush_if(x, mode.ftz));
    let bits = match mode.rounding {
        Rounding::Nearest => canonical(fma_nearest(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c))),
        rounding => or_nan(exact::fma(a.into(), b.into(), c.into(), F32, rounding)),
    };
    finish(bits, mode)
}

/// `div` with a rounding mode; the approximate ones are in [`super::approx`].
pub fn div(a: u32, b: u32, mode: Mode) -> u32 {
    let (a, b) = (flush_if(a, mode.ftz), flush_if(b, mode.ftz));
    let bits = match mode.rounding {
        Rounding::Nearest => canonical(f32::from_bits(a) / f32::from_bits(b)),
        rounding => or_nan(exact::div(a.into(), b.into(), F32, rounding)),
    };
    finish(bits, mode)
}

/// `rcp` with a rounding mode.
pub fn rcp(a: u32, mode: Mode) -> u32 {
    div(1f32.to_bits(), a, mode)
}

/// `sqrt` with a rounding mode.
pub fn sqrt(a: u32, mode: Mode) -> u32 {
    let a = flush_if(a, mode.ftz);
    let bits = match mode.rounding {
        Rounding::Nearest => canonical(f32::from_bits(a).sqrt()),
        rounding => or_nan(exact::sqrt(a.into(), F32, rounding)),
    };
    finish(bits, mode)
}

/// The modifiers of `min` and `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extremum {
    /// `max` rather than `min`.
    pub maximum: bool,
    /// `.ftz`.
    pub ftz: bool,
    /// `.NaN`: a NaN operand gives a NaN; without it the other operand wins.
    pub nan: bool,
    /// `.xorsign.abs`: the extremum of the magnitudes, with the product of the signs.
    pub xorsign_abs: bool,
}

/// `min` and `max`: −0 is less than +0, and two NaNs give a NaN.
#[inline(always)]
pub fn extremum(a: u32, b: u32, how: Extremum) -> u32 {
    let (a, b) = (flush_if(a, how.ftz), flush_if(b, how.ftz));
    let sign = (a ^ b) & SIGN;
    let (a, b) = if how.xorsign_abs { (a & !SIGN, b & !SIGN) } else { (a, b) };
    let (a_nan, b_nan) = (a & !SIGN > INFINITY, b & !SIGN > INFINITY);
    // As an integer whose order is that of the numbers.
    let key = |bits: u32| (bits ^ (((bits as i32) >> 31) as u32 >> 1)) as i32;
    let first = if how.maximum { key(a) >= key(b) } else { key(a) <= key(b) };
    let chosen = if b_nan || (first && !a_nan) { a } else { b };
    let chosen = if how.xorsign_abs { chosen | sign } else { chosen };
    if (a_nan && b_nan) || (how.nan && (a_nan || b_nan)) { NAN32 } else { chosen }
}

/// What `testp` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Neither an infinity nor a NaN.
    Finite,
    /// An infinity.
    Infinite,
    /// Not a NaN.
    Number,
    /// A NaN.
    NotANumber,
    /// Neither zero, subnormal, infinite nor NaN.
    Normal,
    /// Subnormal; zero counts, as PTX has it.
    Subnormal,
}

/// `testp.f32`.
pub fn testp(a: u32, property: Property) -> bool {
    let magnitude = a & !SIGN;
    match property {
        Property::Finite => magnitude < INFINITY,
        Property::Infinite => magnitude == INFINITY,
        Property::Number => magnitude <= INFINITY,
        Property::NotANumber => magnitude > INFINITY,
        Property::Normal => (0x0080_0000..INFINITY).contains(&magnitude),
        Property::Subnormal => magnitude < 0x0080_0000,
    }
}

/// `copysign`: the magnitude of `b` with the sign of `a`.
pub fn copysign(a: u32, b: u32) -> u32 {
    (a & SIGN) | (b & !SIGN)
}
