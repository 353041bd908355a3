//! The instructions that PTX only bounds. Each is computed to within an ulp or so of f32, well inside its bound, through the
//! host's mathematics library; a card's own bits differ within the same bound.
//!
//! Documented bounds: `rcp`, `sqrt`: 1 ulp; `rsqrt`: 2^−22.9 relative; `ex2`: 2 ulp; `lg2`: 2^−22 absolute in (0.5, 2), else
//! 2 ulp; `sin`, `cos`: 2^−20.5 absolute in ±2π; `tanh`: 2^−11 relative; `div.approx`, `div.full`: 2 ulp.

use super::single::{canonical, flush};

fn unary(a: u32, ftz: bool, f: impl Fn(f32) -> f32) -> u32 {
    let x = f32::from_bits(if ftz { flush(a) } else { a });
    let result = canonical(f(x));
    if ftz { flush(result) } else { result }
}

/// `rcp.approx`.
pub fn rcp(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, |x| 1.0 / x)
}

/// `sqrt.approx`.
pub fn sqrt(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, f32::sqrt)
}

/// `rsqrt.approx`.
pub fn rsqrt(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, |x| (1.0 / f64::from(x).sqrt()) as f32)
}

/// `ex2.approx`.
pub fn ex2(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, f32::exp2)
}

/// `lg2.approx`.
pub fn lg2(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, f32::log2)
}

/// `sin.approx`.
pub fn sin(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, f32::sin)
}

/// `cos.approx`.
pub fn cos(a: u32, ftz: bool) -> u32 {
    unary(a, ftz, f32::cos)
}

/// `tanh.approx`.
pub fn tanh(a: u32) -> u32 {
    unary(a, false, f32::tanh)
}

/// `div.full`: the quotient over the full range.
pub fn div_full(a: u32, b: u32, ftz: bool) -> u32 {
    let b = if ftz { flush(b) } else { b };
    unary(a, ftz, |x| x / f32::from_bits(b))
}

/// `div.approx`: as [`div_full`], but for a divisor above 2^126 it gives 0, or a NaN for an infinite dividend, as documented.
pub fn div_approx(a: u32, b: u32, ftz: bool) -> u32 {
    let magnitude = b & 0x7fff_ffff;
    if magnitude > 0x7e80_0000 && magnitude < 0x7f80_0000 {
        return unary(a, ftz, |x| x * 0f32.copysign(f32::from_bits(b)));
    }
    div_full(a, b, ftz)
}

/// Works on the upper half of an f64 alone: the lower half of the operand is ignored, of the result zero; subnormals flush.
fn upper_half(a: u64, f: impl Fn(f64) -> f64) -> u64 {
    let flush = |bits: u64| if bits & 0x7ff0_0000_0000_0000 == 0 { bits & 1 << 63 } else { bits };
    let upper = a >> 32 << 32;
    let x = f64::from_bits(flush(upper));
    // A NaN whose payload lies in the lower half must not turn into an infinity.
    let result = if f64::from_bits(a).is_nan() { f64::NAN } else { f(x) };
    if result.is_nan() { 0x7fff_ffff_0000_0000 } else { flush(result.to_bits()) >> 32 << 32 }
}

/// `rcp.approx.ftz.f64`.
pub fn rcp64(a: u64) -> u64 {
    upper_half(a, |x| 1.0 / x)
}

/// `rsqrt.approx.f64` and its `.ftz` form.
pub fn rsqrt64(a: u64) -> u64 {
    upper_half(a, |x| 1.0 / x.sqrt())
}
