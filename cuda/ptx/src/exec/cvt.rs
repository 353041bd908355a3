//! `cvt`: every pair of types, every rounding. The numbers come from [`crate::num::convert`].

use super::lanes::{Decode, LaneFn, lanes};
use crate::ir::{Args, Class, Cx};
use crate::num::convert::{How, Type as Num, convert};
use crate::num::{Rounding, lanes as warp};
use crate::text::ast::Type::{self, *};

const ROUNDINGS: [Rounding; 5] = [Rounding::Nearest, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up];

/// Rounding modifiers: rounding, and whether the result is integral.
const MODIFIERS: [(&str, (Rounding, bool)); 9] = [
    ("rn", (Rounding::Nearest, false)),
    ("rna", (Rounding::NearestAway, false)),
    ("rz", (Rounding::Zero, false)),
    ("rm", (Rounding::Down, false)),
    ("rp", (Rounding::Up, false)),
    ("rni", (Rounding::Nearest, true)),
    ("rzi", (Rounding::Zero, true)),
    ("rmi", (Rounding::Down, true)),
    ("rpi", (Rounding::Up, true)),
];

/// Scalar types, by the number that stands for each in [`Args::how`].
const TYPES: [(Type, Num); 13] = [
    (U8, Num::Int { bits: 8, signed: false }),
    (U16, Num::Int { bits: 16, signed: false }),
    (U32, Num::Int { bits: 32, signed: false }),
    (U64, Num::Int { bits: 64, signed: false }),
    (S8, Num::Int { bits: 8, signed: true }),
    (S16, Num::Int { bits: 16, signed: true }),
    (S32, Num::Int { bits: 32, signed: true }),
    (S64, Num::Int { bits: 64, signed: true }),
    (F16, Num::F16),
    (BF16, Num::Bf16),
    (TF32, Num::Tf32),
    (F32, Num::F32),
    (F64, Num::F64),
];

fn number(ty: Type) -> Option<u32> {
    TYPES.iter().position(|(t, _)| *t == ty).map(|i| i as u32)
}

/// Modifiers in bits 0..9 of [`Args::how`]: rounding, integral, ftz, saturate, satfinite, relu.
fn pack(h: How) -> u32 {
    let rounding = ROUNDINGS.iter().position(|r| *r == h.rounding).unwrap_or(0) as u32;
    rounding
        | u32::from(h.integral) << 3
        | u32::from(h.ftz) << 4
        | u32::from(h.saturate) << 5
        | u32::from(h.satfinite) << 6
        | u32::from(h.relu) << 7
}

fn unpack(how: u32) -> How {
    let bit = |i: u32| how >> i & 1 != 0;
    How {
        rounding: ROUNDINGS[(how & 7) as usize % 5],
        integral: bit(3),
        ftz: bit(4),
        saturate: bit(5),
        satfinite: bit(6),
        relu: bit(7),
    }
}

const TO: u32 = 8;
const FROM: u32 = 12;

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    if cx.lead("pack") {
        return decode_pack(cx);
    }
    let rounding = cx.pick(&MODIFIERS);
    let mut how =
        How { rounding: rounding.map_or(Rounding::Nearest, |r| r.0), integral: rounding.is_some_and(|r| r.1), ..How::default() };
    (how.ftz, how.saturate) = (cx.eat("ftz"), cx.eat("sat"));
    (how.satfinite, how.relu) = (cx.eat("satfinite"), cx.eat("relu"));
    let (to, from) = (cx.ty()?, cx.ty()?);
    match (to, from) {
        (F16x2 | BF16x2, F32) => pair_of_floats(cx, to, how, rounding),
        (E4M3x2 | E5M2x2, F32 | F16x2) | (F16x2, E4M3x2 | E5M2x2) => bytes(cx, to, from, how, rounding),
        _ => scalar(cx, to, from, how, rounding),
    }
}

fn scalar(cx: &mut Cx<'_>, to: Type, from: Type, how: How, rounding: Option<(Rounding, bool)>) -> Decode {
    let (Some(t), Some(f)) = (number(to), number(from)) else { return cx.unknown() };
    let wrong = |why: &str| Err(format!("`{}`: {why}", cx.inst.opcode));
    let away = how.rounding == Rounding::NearestAway;
    match (to.is_float(), from.is_float()) {
        _ if from == TF32 || (to == TF32 && from != F32) => return cx.unknown(),
        (false, false) if rounding.is_some() => return wrong("integers take no rounding mode"),
        (false, true) if !how.integral => return wrong("a float becomes an integer by .rni, .rzi, .rmi or .rpi"),
        (true, false) if rounding.is_none() || how.integral || away => {
            return wrong("an integer becomes a float by .rn, .rz, .rm or .rp");
        }
        (true, true) => {
            let narrows = to.bits() < from.bits() || to == TF32 || (to, from) == (F16, BF16) || (to, from) == (BF16, F16);
            if narrows && (rounding.is_none() || how.integral) {
                return wrong("this conversion needs .rn, .rz, .rm, .rp or .rna");
            }
            if !narrows && to != from && rounding.is_some_and(|r| !r.1) && to != BF16 && from != BF16 {
                return wrong("this conversion is exact and takes no rounding mode");
            }
            if away && to != TF32 {
                return wrong(".rna is for .tf32");
            }
        }
        _ => {}
    }
    if (how.ftz && to != F32 && from != F32) || (how.saturate && to == TF32) {
        return wrong(".ftz or .sat does not go with these types");
    }
    if how.relu && (!matches!(to, F16 | BF16 | TF32) || from != F32) {
        return wrong(".relu does not go with these types");
    }
    if how.satfinite && (!matches!(to, F16 | BF16 | TF32) || from != F32) {
        return wrong(".satfinite does not go with these types");
    }
    cx.end(2)?;
    let d = cx.dst_wide(cx.operand(0)?, register_type(to))?;
    let a = cx.src_wide(cx.operand(1)?, register_type(from))?;
    let args = Args { d: d.index, a: a.index, how: pack(how) | t << TO | f << FROM, ..Args::default() };
    let plain = how == How { integral: how.integral, rounding: how.rounding, ..How::default() };
    if plain && let Some(f) = quick(to, from, d.class, a.class) {
        return Ok((f, args));
    }
    let f: LaneFn = match (d.class, a.class) {
        (Class::B32, Class::B32) if !to.is_signed() || to == S32 => |r, x, m| {
            let out = warp::convert32(&r.r32[x.a as usize], from_of(x.how), to_of(x.how), unpack(x.how));
            r.put32(x.d, &out, m);
        },
        (Class::B32, Class::B32) => lanes!(how; u32 = |a: u32| wide(how, u64::from(a)) as u32),
        (Class::B32, _) => lanes!(how; u32 = |a: u64| wide(how, a) as u32),
        (_, Class::B32) => lanes!(how; u64 = |a: u32| wide(how, u64::from(a))),
        _ => lanes!(how; u64 = |a: u64| wide(how, a)),
    };
    Ok((f, args))
}

/// tf32 and 8-bit numbers live in registers of untyped bits.
fn register_type(ty: Type) -> Type {
    if ty == TF32 { B32 } else { ty }
}

#[inline(always)]
fn to_of(how: u32) -> Num {
    TYPES[(how >> TO & 15) as usize].1
}

#[inline(always)]
fn from_of(how: u32) -> Num {
    TYPES[(how >> FROM & 15) as usize].1
}

/// A conversion whose result is extended to 64 bits as its type says.
fn wide(how: u32, a: u64) -> u64 {
    let to = to_of(how);
    let bits = convert(a, from_of(how), to, unpack(how));
    match to {
        Num::Int { bits: n, signed: true } => ((bits << (64 - n)) as i64 >> (64 - n)) as u64,
        _ => bits,
    }
}

/// The conversions between integers that compilers emit most.
fn quick(to: Type, from: Type, d: Class, a: Class) -> Option<LaneFn> {
    Some(match (to, from, d, a) {
        (U64 | S64, U32, Class::B64, Class::B32) => lanes!(u64 = |a: u32| u64::from(a)),
        (U64 | S64, S32, Class::B64, Class::B32) => lanes!(i64 = |a: i32| i64::from(a)),
        (U32 | S32, U64 | S64, Class::B32, Class::B64) => lanes!(u32 = |a: u64| a as u32),
        (U32 | S32, U32 | S32, Class::B32, Class::B32) => lanes!(u32 = |a: u32| a),
        (U32 | S32, U16, Class::B32, Class::B32) => lanes!(u32 = |a: u16| u32::from(a)),
        (U32 | S32, S16, Class::B32, Class::B32) => lanes!(u32 = |a: i16| a as u32),
        (U16, U32 | S32 | U16 | S16, Class::B32, Class::B32) => lanes!(u16 = |a: u16| a),
        (U32 | S32 | U16, U8, Class::B32, Class::B32) => lanes!(u32 = |a: u8| u32::from(a)),
        _ => return None,
    })
}

/// `cvt.f16x2.f32` and `cvt.bf16x2.f32`: the first operand goes to the upper half.
fn pair_of_floats(cx: &mut Cx<'_>, to: Type, how: How, rounding: Option<(Rounding, bool)>) -> Decode {
    if !matches!(rounding, Some((Rounding::Nearest | Rounding::Zero, false))) || how.saturate || how.ftz {
        return cx.unknown();
    }
    let mut args = cx.args(B32, &[F32, F32])?;
    args.how = pack(how);
    let f: LaneFn = if to == F16x2 {
        |r, x, m| {
            let out = warp::pack_halves(&r.r32[x.a as usize], &r.r32[x.b as usize], Num::F16, unpack(x.how));
            r.put32(x.d, &out, m);
        }
    } else {
        |r, x, m| {
            let out = warp::pack_halves(&r.r32[x.a as usize], &r.r32[x.b as usize], Num::Bf16, unpack(x.how));
            r.put32(x.d, &out, m);
        }
    };
    Ok((f, args))
}

/// Conversions from and to pairs of 8-bit floats.
fn bytes(cx: &mut Cx<'_>, to: Type, from: Type, how: How, rounding: Option<(Rounding, bool)>) -> Decode {
    let widens = to == F16x2;
    if rounding != Some((Rounding::Nearest, false)) || how.satfinite == widens || how.saturate || how.ftz {
        return Err(format!("`{}`: to 8 bits by .rn.satfinite, from 8 bits by .rn", cx.inst.opcode));
    }
    let two = from == F32;
    let mut args = match (widens, two) {
        (true, _) => cx.args(B32, &[B16])?,
        (_, true) => cx.args(B16, &[F32, F32])?,
        _ => cx.args(B16, &[B32])?,
    };
    let e5m2 = to == E5M2x2 || from == E5M2x2;
    args.how = pack(how) | u32::from(e5m2) << 8;
    fn byte(how: u32) -> Num {
        if how >> 8 & 1 != 0 { Num::E5m2 } else { Num::E4m3 }
    }
    let f = match (widens, two) {
        (true, _) => lanes!(how; u32 = |a: u16| {
            let one = |b: u8| convert(u64::from(b), byte(how), Num::F16, unpack(how)) as u32;
            one(a as u8) | one((a >> 8) as u8) << 16
        }),
        (_, true) => lanes!(how; u16 = |a: u32, b: u32| {
            let one = |v: u32| convert(u64::from(v), Num::F32, byte(how), unpack(how)) as u16;
            one(b) | one(a) << 8
        }),
        _ => lanes!(how; u16 = |a: u32| {
            let one = |v: u16| convert(u64::from(v), Num::F16, byte(how), unpack(how)) as u16;
            one(a as u16) | one((a >> 16) as u16) << 8
        }),
    };
    Ok((f, args))
}

/// `cvt.pack.sat`: two integers clamped and packed, over the low part of `c` if there is one.
fn decode_pack(cx: &mut Cx<'_>) -> Decode {
    cx.expect(&["sat"])?;
    let to = cx.ty_of(&[U8, S8, U16, S16])?;
    cx.ty_of(&[S32])?;
    let third = cx.eat("b32");
    if third != (to.bits() == 8) {
        return cx.unknown();
    }
    let mut args = if third { cx.args(U32, &[S32, S32, B32])? } else { cx.args(U32, &[S32, S32])? };
    if !third {
        args.c = cx.constant(U32, 0);
    }
    let f = match to {
        U8 => lanes!(u32 = |a: i32, b: i32, c: u32| c << 16 | (a.clamp(0, 255) as u32) << 8 | b.clamp(0, 255) as u32),
        S8 => lanes!(
            u32 = |a: i32, b: i32, c: u32| {
                c << 16 | u32::from(a.clamp(-128, 127) as u8) << 8 | u32::from(b.clamp(-128, 127) as u8)
            }
        ),
        U16 => lanes!(u32 = |a: i32, b: i32, _c: u32| (a.clamp(0, 65_535) as u32) << 16 | b.clamp(0, 65_535) as u32),
        _ => lanes!(
            u32 = |a: i32, b: i32, _c: u32| {
                u32::from(a.clamp(-32_768, 32_767) as u16) << 16 | u32::from(b.clamp(-32_768, 32_767) as u16)
            }
        ),
    };
    Ok((f, args))
}
