//! The hot instructions over a warp's 32 lanes. All lanes are computed, the inactive ones for nothing: a loop without
//! branches costs less than a mask.

use super::Mode;
use super::convert::{self, How, Type};
use super::exact::Rounding;
use super::single::{self, Extremum};

/// A 32-bit register of a warp.
pub type Lanes = [u32; 32];

/// What a lane's function does to subnormals and to the result's range, known to the compiler.
#[inline(always)]
fn finish<const FTZ: bool, const SATURATE: bool>(x: f32) -> u32 {
    let bits = single::canonical(x);
    let bits = if FTZ { single::flush(bits) } else { bits };
    if SATURATE { single::saturate(bits) } else { bits }
}

#[inline(always)]
fn read<const FTZ: bool>(bits: u32) -> f32 {
    f32::from_bits(if FTZ { single::flush(bits) } else { bits })
}

/// Monomorphic loops for the four combinations of `.ftz` and `.sat`.
macro_rules! by_mode {
    ($mode:expr, $run:ident ( $($argument:expr),* )) => {
        match ($mode.ftz, $mode.saturate) {
            (false, false) => $run::<false, false>($($argument),*),
            (true, false) => $run::<true, false>($($argument),*),
            (false, true) => $run::<false, true>($($argument),*),
            (true, true) => $run::<true, true>($($argument),*),
        }
    };
}

fn add_nearest<const FTZ: bool, const SATURATE: bool>(a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|i| finish::<FTZ, SATURATE>(read::<FTZ>(a[i]) + read::<FTZ>(b[i])))
}

fn mul_nearest<const FTZ: bool, const SATURATE: bool>(a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|i| finish::<FTZ, SATURATE>(read::<FTZ>(a[i]) * read::<FTZ>(b[i])))
}

fn fma_nearest<const FTZ: bool, const SATURATE: bool>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    // The sum of the exact product and c, rounded to f64 and then to f32, is right unless the first result lies in the
    // middle between two f32. That is rare enough to look for it in all lanes at once, and to redo them all if it happens.
    let sums: [f64; 32] =
        std::array::from_fn(|i| f64::from(read::<FTZ>(a[i])) * f64::from(read::<FTZ>(b[i])) + f64::from(read::<FTZ>(c[i])));
    if sums.iter().fold(false, |any, &sum| any | may_be_a_tie(sum)) {
        return std::array::from_fn(|i| {
            finish::<FTZ, SATURATE>(single::fma_nearest(read::<FTZ>(a[i]), read::<FTZ>(b[i]), read::<FTZ>(c[i])))
        });
    }
    std::array::from_fn(|i| finish::<FTZ, SATURATE>(sums[i] as f32))
}

/// Whether an f64 may lie in the middle between two f32: normal ones differ in bit 29, subnormal ones further up. In halves,
/// because SSE2 compares no 64-bit integers.
#[inline(always)]
fn may_be_a_tie(x: f64) -> bool {
    let (high, low) = ((x.to_bits() >> 32) as u32 & 0x7fff_ffff, x.to_bits() as u32);
    let smallest_normal = ((f32::MIN_POSITIVE as f64).to_bits() >> 32) as u32;
    (low & 0x1fff_ffff == 0x1000_0000) | ((high < smallest_normal) & (high | low != 0))
}

/// `add.f32`.
pub fn add(a: &Lanes, b: &Lanes, mode: Mode) -> Lanes {
    if mode.rounding == Rounding::Nearest {
        by_mode!(mode, add_nearest(a, b))
    } else {
        std::array::from_fn(|i| single::add(a[i], b[i], mode))
    }
}

/// `sub.f32`.
pub fn sub(a: &Lanes, b: &Lanes, mode: Mode) -> Lanes {
    add(a, &b.map(|b| b ^ 0x8000_0000), mode)
}

/// `mul.f32`.
pub fn mul(a: &Lanes, b: &Lanes, mode: Mode) -> Lanes {
    if mode.rounding == Rounding::Nearest {
        by_mode!(mode, mul_nearest(a, b))
    } else {
        std::array::from_fn(|i| single::mul(a[i], b[i], mode))
    }
}

/// `fma.f32`.
pub fn fma(a: &Lanes, b: &Lanes, c: &Lanes, mode: Mode) -> Lanes {
    if mode.rounding == Rounding::Nearest {
        by_mode!(mode, fma_nearest(a, b, c))
    } else {
        std::array::from_fn(|i| single::fma(a[i], b[i], c[i], mode))
    }
}

/// `min.f32` and `max.f32`.
pub fn extremum(a: &Lanes, b: &Lanes, how: Extremum) -> Lanes {
    // The common forms get loops of their own.
    let plain = Extremum { maximum: how.maximum, ..Extremum::default() };
    if how == plain && how.maximum {
        std::array::from_fn(|i| single::extremum(a[i], b[i], Extremum { maximum: true, ..Extremum::default() }))
    } else if how == plain {
        std::array::from_fn(|i| single::extremum(a[i], b[i], Extremum::default()))
    } else {
        std::array::from_fn(|i| single::extremum(a[i], b[i], how))
    }
}

/// A `cvt` whose operand and result both live in 32-bit registers.
pub fn convert32(a: &Lanes, from: Type, to: Type, how: How) -> Lanes {
    const S32: Type = Type::Int { bits: 32, signed: true };
    const U32: Type = Type::Int { bits: 32, signed: false };
    let nearest = how == How::default();
    let truncate = how == How { rounding: Rounding::Zero, integral: how.integral, ..How::default() };
    match (from, to) {
        (Type::F32, Type::F16) if nearest => a.map(|x| convert::f32_to_f16(x).into()),
        (Type::F32, Type::Bf16) if nearest => a.map(|x| convert::f32_to_bf16(x).into()),
        (Type::F16, Type::F32) if nearest => a.map(|x| convert::f16_to_f32(x as u16)),
        (Type::Bf16, Type::F32) if nearest => a.map(|x| convert::bf16_to_f32(x as u16)),
        (S32, Type::F32) if nearest => a.map(|x| (x as i32 as f32).to_bits()),
        (U32, Type::F32) if nearest => a.map(|x| (x as f32).to_bits()),
        (Type::F32, S32) if truncate => a.map(|x| f32::from_bits(x) as i32 as u32),
        (Type::F32, U32) if truncate => a.map(|x| f32::from_bits(x) as u32),
        _ => a.map(|x| convert::convert(x.into(), from, to, how) as u32),
    }
}

/// `cvt.rn.f16x2.f32` and `cvt.rn.bf16x2.f32` with their modifiers: `a` goes to the upper half.
pub fn pack_halves(a: &Lanes, b: &Lanes, to: Type, how: How) -> Lanes {
    let (upper, lower) = (convert32(a, Type::F32, to, how), convert32(b, Type::F32, to, how));
    std::array::from_fn(|i| upper[i] << 16 | lower[i])
}
