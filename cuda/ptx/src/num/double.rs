//! Arithmetic of f64 by bits. There is no `.ftz` and no `.sat`; a NaN operand keeps its payload.

use super::NAN64;
use super::exact::{self, F64, Rounding};
use super::single::{Extremum, Property};

const SIGN: u64 = 1 << 63;
const INFINITY: u64 = 0x7ff0_0000_0000_0000;
const QUIET: u64 = 1 << 51;

fn is_nan(bits: u64) -> bool {
    bits & !SIGN > INFINITY
}

/// The first NaN among the operands, made quiet, or the NaN of an invalid operation.
fn nan_of(operands: &[u64]) -> u64 {
    operands.iter().copied().find(|&bits| is_nan(bits)).map_or(NAN64, |bits| bits | QUIET)
}

fn finish(result: Option<u64>, operands: &[u64]) -> u64 {
    match result {
        Some(bits) if !is_nan(bits) => bits,
        _ => nan_of(operands),
    }
}

/// `add`, and `sub` with the sign of `b` flipped.
pub fn add(a: u64, b: u64, rounding: Rounding) -> u64 {
    let result = match rounding {
        Rounding::Nearest => Some((f64::from_bits(a) + f64::from_bits(b)).to_bits()),
        _ => exact::add(a, b, F64, rounding),
    };
    finish(result, &[a, b])
}

/// `mul`.
pub fn mul(a: u64, b: u64, rounding: Rounding) -> u64 {
    let result = match rounding {
        Rounding::Nearest => Some((f64::from_bits(a) * f64::from_bits(b)).to_bits()),
        _ => exact::mul(a, b, F64, rounding),
    };
    finish(result, &[a, b])
}

/// `fma`: `a·b + c` with one rounding.
pub fn fma(a: u64, b: u64, c: u64, rounding: Rounding) -> u64 {
    let result = match rounding {
        Rounding::Nearest => Some(f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits()),
        _ => exact::fma(a, b, c, F64, rounding),
    };
    finish(result, &[a, b, c])
}

/// `div`.
pub fn div(a: u64, b: u64, rounding: Rounding) -> u64 {
    let result = match rounding {
        Rounding::Nearest => Some((f64::from_bits(a) / f64::from_bits(b)).to_bits()),
        _ => exact::div(a, b, F64, rounding),
    };
    finish(result, &[a, b])
}

/// `rcp`.
pub fn rcp(a: u64, rounding: Rounding) -> u64 {
    div(1f64.to_bits(), a, rounding)
}

/// `sqrt`.
pub fn sqrt(a: u64, rounding: Rounding) -> u64 {
    let result = match rounding {
        Rounding::Nearest => Some(f64::from_bits(a).sqrt().to_bits()),
        _ => exact::sqrt(a, F64, rounding),
    };
    finish(result, &[a])
}

/// `min` and `max`: −0 is less than +0; a NaN loses, and two give the first.
pub fn extremum(a: u64, b: u64, how: Extremum) -> u64 {
    let key = |bits: u64| (bits ^ (((bits as i64) >> 63) as u64 >> 1)) as i64;
    match (is_nan(a), is_nan(b)) {
        (true, true) => a | QUIET,
        (true, false) => b,
        (false, true) => a,
        (false, false) if how.maximum == (key(a) >= key(b)) => a,
        _ => b,
    }
}

/// `testp.f64`.
pub fn testp(a: u64, property: Property) -> bool {
    let magnitude = a & !SIGN;
    match property {
        Property::Finite => magnitude < INFINITY,
        Property::Infinite => magnitude == INFINITY,
        Property::Number => magnitude <= INFINITY,
        Property::NotANumber => magnitude > INFINITY,
        Property::Normal => (1 << 52..INFINITY).contains(&magnitude),
        Property::Subnormal => magnitude < 1 << 52,
    }
}

/// `copysign`: the magnitude of `b` with the sign of `a`.
pub fn copysign(a: u64, b: u64) -> u64 {
    (a & SIGN) | (b & !SIGN)
}
