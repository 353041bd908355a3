//! `cvt`: between floating-point formats, and between them and integers.

use super::exact::{BF16, E4M3, E5M2, Exact, F16, F32, F64, Format, Rounding, TF32, Value};
use super::{NAN16, NAN32, single};

/// A scalar type that `cvt` reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// An integer of that many bits.
    Int {
        /// 8, 16, 32 or 64.
        bits: u8,
        /// Two's complement rather than unsigned.
        signed: bool,
    },
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// f32 with ten bits of mantissa.
    Tf32,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
    /// OCP e4m3.
    E4m3,
    /// OCP e5m2.
    E5m2,
}

impl Type {
    /// The floating-point format; `None` for an integer.
    pub fn format(self) -> Option<Format> {
        Some(match self {
            Type::Int { .. } => return None,
            Type::F16 => F16,
            Type::Bf16 => BF16,
            Type::Tf32 => TF32,
            Type::F32 => F32,
            Type::F64 => F64,
            Type::E4m3 => E4M3,
            Type::E5m2 => E5M2,
        })
    }

    /// The NaN that a conversion to this type gives.
    fn nan(self) -> u64 {
        match self {
            Type::F64 => 0x7fff_ffff_e000_0000,
            Type::F32 | Type::Tf32 => NAN32.into(),
            Type::F16 | Type::Bf16 => NAN16.into(),
            Type::E4m3 | Type::E5m2 => 0x7f,
            Type::Int { .. } => 0,
        }
    }
}

/// The modifiers of a `cvt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct How {
    /// The direction; exact conversions ignore it.
    pub rounding: Rounding,
    /// `.rni`, `.rzi`, `.rmi`, `.rpi` between floats: the result is integral. To an integer it always is.
    pub integral: bool,
    /// `.ftz`: subnormal f32 operands and results become zeros.
    pub ftz: bool,
    /// `.sat`: to [0, 1] for a float, to the type's range for an integer.
    pub saturate: bool,
    /// `.satfinite`: what is too large becomes the largest finite number.
    pub satfinite: bool,
    /// `.relu`: a negative result becomes 0.
    pub relu: bool,
}

/// One conversion. The operand is in the low bits of `bits`; so is the result, zero-extended.
pub fn convert(bits: u64, from: Type, to: Type, how: How) -> u64 {
    match (from, to) {
        (Type::Int { .. }, Type::Int { bits: width, signed }) => {
            integer_to_integer(integer(bits, from), width, signed, how.saturate)
        }
        (Type::Int { .. }, _) => integer_to_float(integer(bits, from), to, how),
        (_, Type::Int { bits: width, signed }) => float_to_integer(bits, from, width, signed, how),
        _ => float_to_float(bits, from, to, how),
    }
}

/// The value of an integer operand.
fn integer(bits: u64, of: Type) -> i128 {
    let Type::Int { bits: width, signed } = of else { return bits.into() };
    let unused = 64 - u32::from(width);
    if signed { ((bits << unused) as i64 >> unused).into() } else { (bits << unused >> unused).into() }
}

fn range(width: u8, signed: bool) -> (i128, i128) {
    if signed { (-(1 << (width - 1)), (1 << (width - 1)) - 1) } else { (0, (1 << width) - 1) }
}

fn low_bits(value: i128, width: u8) -> u64 {
    (value as u64) << (64 - width) >> (64 - width)
}

fn integer_to_integer(value: i128, width: u8, signed: bool, saturate: bool) -> u64 {
    let (least, most) = range(width, signed);
    low_bits(if saturate { value.clamp(least, most) } else { value }, width)
}

fn integer_to_float(value: i128, to: Type, how: How) -> u64 {
    let Some(format) = to.format() else { return 0 };
    let bits = Exact::integer(value).map_or(0, |exact| exact.encode(format, how.rounding, how.satfinite));
    if how.saturate { saturated(bits, format) } else { bits }
}

/// PTX clamps to the destination's range, with or without `.sat`. A NaN gives 0, or the top bit alone where either side has
/// 64 bits.
fn float_to_integer(bits: u64, from: Type, width: u8, signed: bool, how: How) -> u64 {
    let x = to_f64(flushed(bits, from, how.ftz), from);
    if x.is_nan() {
        let wide = from == Type::F64 || width == 64;
        return if wide { 1 << (width - 1) } else { 0 };
    }
    let (least, most) = range(width, signed);
    low_bits((round_integral(x, how.rounding) as i128).clamp(least, most), width)
}

fn float_to_float(bits: u64, from: Type, to: Type, how: How) -> u64 {
    let (Some(source), Some(target)) = (from.format(), to.format()) else { return 0 };
    let bits = flushed(bits, from, how.ftz);
    let value = match source.decode(bits) {
        Value::Finite(_) if how.integral => F64.decode(round_integral(to_f64(bits, from), how.rounding).to_bits()),
        value => value,
    };
    let result = match value {
        // `.sat` turns a NaN into +0.
        Value::Nan => return if how.saturate { 0 } else { to.nan() },
        Value::Infinity { negative } if how.satfinite => target.largest(negative),
        Value::Infinity { negative } => target.infinity(negative),
        Value::Zero { negative } => target.zero(negative),
        Value::Finite(exact) => exact.encode(target, how.rounding, how.satfinite),
    };
    let result = flushed(result, to, how.ftz);
    if how.saturate {
        saturated(result, target)
    } else if how.relu && result & target.zero(true) != 0 {
        0
    } else {
        result
    }
}

/// `.ftz` concerns f32 alone.
fn flushed(bits: u64, of: Type, ftz: bool) -> u64 {
    if ftz && of == Type::F32 { single::flush(bits as u32).into() } else { bits }
}

fn saturated(bits: u64, format: Format) -> u64 {
    let one = Exact { negative: false, significand: 1, exponent: 0, sticky: false }.encode(format, Rounding::Nearest, false);
    // Positive patterns are in the order of their numbers.
    if bits & format.zero(true) != 0 { 0 } else { bits.min(one) }
}

/// A float of any format as an f64, which holds them all; any NaN as a NaN.
pub fn to_f64(bits: u64, from: Type) -> f64 {
    match from {
        Type::F64 => f64::from_bits(bits),
        Type::F32 | Type::Tf32 => f64::from(f32::from_bits(bits as u32)),
        Type::F16 => f64::from(f32::from_bits(f16_to_f32(bits as u16))),
        Type::Bf16 => f64::from(f32::from_bits(bf16_to_f32(bits as u16))),
        Type::E4m3 => f64::from(e4m3_to_f32(bits as u8)),
        Type::E5m2 => f64::from(e5m2_to_f32(bits as u8)),
        Type::Int { .. } => bits as f64,
    }
}

/// The nearest integer in that direction; the sign of a zero stays.
pub fn round_integral(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::NearestAway => x.round(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// An f16 as an f32; a NaN becomes the canonical one.
#[inline(always)]
pub fn f16_to_f32(half: u16) -> u32 {
    let magnitude = u32::from(half & 0x7fff);
    // Read as an f32 the pattern is 2^112 too small, subnormal or not; the product is exact.
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000)).to_bits();
    let bits = if magnitude >= 0x7c00 { 0x7f80_0000 } else { finite };
    if magnitude > 0x7c00 { NAN32 } else { bits | u32::from(half & 0x8000) << 16 }
}

/// A bf16 as an f32; a NaN becomes the canonical one.
#[inline(always)]
pub fn bf16_to_f32(half: u16) -> u32 {
    if half & 0x7fff > 0x7f80 { NAN32 } else { u32::from(half) << 16 }
}

/// An f32 as an f16, to nearest even; a NaN becomes the canonical one.
#[inline(always)]
pub fn f32_to_f16(bits: u32) -> u16 {
    let magnitude = bits & 0x7fff_ffff;
    // The bias differs by 112; adding just under half a unit, or half where the last kept bit is odd, rounds ties to even.
    let normal = magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // A unit in the last place of numbers in [0.5, 1) is that of the subnormal f16: the addition itself rounds.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal.min(0x7c00) };
    let result = if magnitude >= 0x4780_0000 { 0x7c00 } else { finite };
    if magnitude > 0x7f80_0000 { NAN16 } else { (result | bits >> 16 & 0x8000) as u16 }
}

/// An f32 as a bf16, to nearest even; a NaN becomes the canonical one.
#[inline(always)]
pub fn f32_to_bf16(bits: u32) -> u16 {
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { NAN16 } else { rounded as u16 }
}

const E4M3_VALUES: [f32; 256] = eight_bit_values(4, 3, false);
const E5M2_VALUES: [f32; 256] = eight_bit_values(5, 2, true);

/// The value of an e4m3.
#[inline(always)]
pub fn e4m3_to_f32(bits: u8) -> f32 {
    E4M3_VALUES[usize::from(bits)]
}

/// The value of an e5m2.
#[inline(always)]
pub fn e5m2_to_f32(bits: u8) -> f32 {
    E5M2_VALUES[usize::from(bits)]
}

const fn eight_bit_values(exponent_bits: u32, mantissa_bits: u32, has_infinity: bool) -> [f32; 256] {
    let mut values = [0.0; 256];
    let bias = (1 << (exponent_bits - 1)) - 1;
    let mut pattern = 0u32;
    while pattern < 256 {
        let magnitude = pattern & 0x7f;
        let field = magnitude >> mantissa_bits;
        let mantissa = magnitude & ((1 << mantissa_bits) - 1);
        // The weight of the mantissa's last bit, as an f32.
        let exponent = if field == 0 { 1 } else { field } + 127 - bias - mantissa_bits;
        let hidden = if field == 0 { 0 } else { 1 << mantissa_bits };
        let top = field == (1 << exponent_bits) - 1;
        let value = if top && has_infinity && mantissa == 0 {
            f32::INFINITY
        } else if top && (has_infinity || mantissa == (1 << mantissa_bits) - 1) {
            f32::from_bits(NAN32)
        } else {
            (mantissa + hidden) as f32 * f32::from_bits(exponent << 23)
        };
        values[pattern as usize] = if pattern >= 128 && !value.is_nan() { -value } else { value };
        pattern += 1;
    }
    values
}
