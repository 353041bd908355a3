//! Integer arithmetic.

use super::lanes::{Decode, LaneFn, Regs, lanes};
use crate::ir::{Args, Class, Cx, Reg};
use crate::text::ast::Type;
use Type::*;

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "add" | "sub" | "addc" | "subc" => add_sub(cx),
        "mul" => mul(cx),
        "mad" | "madc" => mad(cx),
        "mul24" | "mad24" => mul24(cx),
        "div" | "rem" => div_rem(cx),
        "min" | "max" => min_max(cx),
        "abs" | "neg" => abs_neg(cx),
        "sad" => sad(cx),
        "dp4a" | "dp2a" => dot(cx),
        _ => cx.unknown(),
    }
}

impl Cx<'_> {
    /// The predicate register that stands for the condition code's carry.
    fn carry(&mut self) -> u16 {
        self.scopes.numbering.carry()
    }
}

fn add_sub(cx: &mut Cx<'_>) -> Decode {
    let head = cx.head();
    let reads = head.ends_with('c');
    let sub = head.starts_with("sub");
    let saturate = !reads && cx.eat("sat");
    let writes = cx.eat("cc");
    let ty = cx.ty()?;
    if reads || writes {
        if !matches!(ty, U32 | S32 | B32 | U64 | S64) || saturate {
            return cx.unknown();
        }
        return with_carry(cx, ty, reads, writes, sub);
    }
    let f = match (ty, sub, saturate) {
        (U16 | S16, false, false) => lanes!(u16 = |a: u16, b: u16| a.wrapping_add(b)),
        (U32 | S32, false, false) => lanes!(u32 = |a: u32, b: u32| a.wrapping_add(b)),
        (U64 | S64, false, false) => lanes!(u64 = |a: u64, b: u64| a.wrapping_add(b)),
        (U16x2 | S16x2, false, false) => lanes!(u32 = |a: u32, b: u32| halves(a, b, u16::wrapping_add)),
        (S32, false, true) => lanes!(i32 = |a: i32, b: i32| a.saturating_add(b)),
        (U16 | S16, true, false) => lanes!(u16 = |a: u16, b: u16| a.wrapping_sub(b)),
        (U32 | S32, true, false) => lanes!(u32 = |a: u32, b: u32| a.wrapping_sub(b)),
        (U64 | S64, true, false) => lanes!(u64 = |a: u64, b: u64| a.wrapping_sub(b)),
        (S32, true, true) => lanes!(i32 = |a: i32, b: i32| a.saturating_sub(b)),
        _ => return cx.unknown(),
    };
    Ok((f, cx.args(ty, &[ty, ty])?))
}

/// `f` on both halves.
#[inline(always)]
fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

const READS: u32 = 1;
const WRITES: u32 = 2;
const SUBTRACTS: u32 = 4;
const HIGH: u32 = 8;
const SIGNED: u32 = 16;

/// Arithmetic that reads or writes the carry. `args.e` is its predicate; for a subtraction it is a borrow.
fn with_carry(cx: &mut Cx<'_>, ty: Type, reads: bool, writes: bool, sub: bool) -> Decode {
    let mut args = cx.args(ty, &[ty, ty])?;
    args.e = note_carry(cx, reads, writes);
    args.how = (u32::from(reads) * READS) | (u32::from(writes) * WRITES) | (u32::from(sub) * SUBTRACTS);
    let f: LaneFn = if ty.bits() == 32 { add32 } else { add64 };
    Ok((f, args))
}

fn note_carry(cx: &mut Cx<'_>, reads: bool, writes: bool) -> u16 {
    let index = cx.carry();
    let reg = Reg { class: Class::Pred, index };
    if reads {
        cx.note_use(reg);
    }
    if writes {
        cx.note_def(reg);
    }
    index
}

macro_rules! add_with_carry {
    ($name:ident, $file:ident, $put:ident, $t:ty) => {
        fn $name(regs: &mut Regs, args: &Args, mask: u32) {
            let (a, b, c) = (regs.$file[args.a as usize], regs.$file[args.b as usize], regs.pred[args.e as usize]);
            let (reads, subtracts) = (args.how & READS != 0, args.how & SUBTRACTS != 0);
            let (mut out, mut carry) = ([0; 32], 0_u32);
            for lane in 0..32 {
                let c = <$t>::from(reads && c >> lane & 1 != 0);
                let (first, second) = if subtracts {
                    let (x, o) = a[lane].overflowing_sub(b[lane]);
                    let (y, p) = x.overflowing_sub(c);
                    (y, o | p)
                } else {
                    let (x, o) = a[lane].overflowing_add(b[lane]);
                    let (y, p) = x.overflowing_add(c);
                    (y, o | p)
                };
                out[lane] = first;
                carry |= u32::from(second) << lane;
            }
            regs.$put(args.d, &out, mask);
            if args.how & WRITES != 0 {
                regs.put_pred(args.e, carry, mask);
            }
        }
    };
}
add_with_carry!(add32, r32, put32, u32);
add_with_carry!(add64, r64, put64, u64);

fn mul(cx: &mut Cx<'_>) -> Decode {
    let part = cx.part("hi, lo or wide")?;
    let ty = cx.ty_of(&[U16, U32, U64, S16, S32, S64])?;
    let (d, f) = match (part, ty) {
        ("lo", U16 | S16) => (ty, lanes!(u16 = |a: u16, b: u16| a.wrapping_mul(b))),
        ("lo", U32 | S32) => (ty, lanes!(u32 = |a: u32, b: u32| a.wrapping_mul(b))),
        ("lo", U64 | S64) => (ty, lanes!(u64 = |a: u64, b: u64| a.wrapping_mul(b))),
        ("hi", U16) => (ty, lanes!(u16 = |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16)),
        ("hi", S16) => (ty, lanes!(i16 = |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16)),
        ("hi", U32) => (ty, lanes!(u32 = |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32)),
        ("hi", S32) => (ty, lanes!(i32 = |a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32)),
        ("hi", U64) => (ty, lanes!(u64 = |a: u64, b: u64| high_unsigned(a, b))),
        ("hi", S64) => (ty, lanes!(i64 = |a: i64, b: i64| high_signed(a, b))),
        ("wide", U16) => (U32, lanes!(u32 = |a: u16, b: u16| u32::from(a) * u32::from(b))),
        ("wide", S16) => (S32, lanes!(i32 = |a: i16, b: i16| i32::from(a) * i32::from(b))),
        ("wide", U32) => (U64, lanes!(u64 = |a: u32, b: u32| u64::from(a) * u64::from(b))),
        ("wide", S32) => (S64, lanes!(i64 = |a: i32, b: i32| i64::from(a) * i64::from(b))),
        _ => return cx.unknown(),
    };
    Ok((f, cx.args(d, &[ty, ty])?))
}

fn high_unsigned(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn high_signed(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

fn mad(cx: &mut Cx<'_>) -> Decode {
    let reads = cx.head() == "madc";
    let part = cx.part("hi, lo or wide")?;
    let saturate = cx.eat("sat");
    let writes = cx.eat("cc");
    let ty = cx.ty_of(&[U16, U32, U64, S16, S32, S64])?;
    if reads || writes {
        if !matches!(part, "hi" | "lo") || ty.bits() < 32 || saturate {
            return cx.unknown();
        }
        let mut args = cx.args(ty, &[ty, ty, ty])?;
        args.e = note_carry(cx, reads, writes);
        args.how = (u32::from(reads) * READS)
            | (u32::from(writes) * WRITES)
            | (u32::from(part == "hi") * HIGH)
            | (u32::from(ty.is_signed()) * SIGNED);
        let f: LaneFn = if ty.bits() == 32 { mad32 } else { mad64 };
        return Ok((f, args));
    }
    let (wide, f) = match (part, ty, saturate) {
        ("lo", U16 | S16, false) => (ty, lanes!(u16 = |a: u16, b: u16, c: u16| a.wrapping_mul(b).wrapping_add(c))),
        ("lo", U32 | S32, false) => (ty, lanes!(u32 = |a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c))),
        ("lo", U64 | S64, false) => (ty, lanes!(u64 = |a: u64, b: u64, c: u64| a.wrapping_mul(b).wrapping_add(c))),
        ("hi", U16, false) => {
            (ty, lanes!(u16 = |a: u16, b: u16, c: u16| (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c)))
        }
        ("hi", S16, false) => {
            (ty, lanes!(i16 = |a: i16, b: i16, c: i16| (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c)))
        }
        ("hi", U32, false) => {
            (ty, lanes!(u32 = |a: u32, b: u32, c: u32| (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)))
        }
        ("hi", S32, false) => {
            (ty, lanes!(i32 = |a: i32, b: i32, c: i32| (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)))
        }
        ("hi", S32, true) => {
            (ty, lanes!(i32 = |a: i32, b: i32, c: i32| (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c)))
        }
        ("hi", U64, false) => (ty, lanes!(u64 = |a: u64, b: u64, c: u64| high_unsigned(a, b).wrapping_add(c))),
        ("hi", S64, false) => (ty, lanes!(i64 = |a: i64, b: i64, c: i64| high_signed(a, b).wrapping_add(c))),
        ("wide", U16, false) => (U32, lanes!(u32 = |a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))),
        ("wide", S16, false) => (S32, lanes!(i32 = |a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c))),
        ("wide", U32, false) => (U64, lanes!(u64 = |a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))),
        ("wide", S32, false) => (S64, lanes!(i64 = |a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c))),
        _ => return cx.unknown(),
    };
    Ok((f, cx.args(wide, &[ty, ty, wide])?))
}

macro_rules! mad_with_carry {
    ($name:ident, $file:ident, $put:ident, $t:ty, $signed:ty, $wide:ty, $wide_signed:ty, $bits:expr) => {
        fn $name(regs: &mut Regs, args: &Args, mask: u32) {
            let [a, b, c] = [args.a, args.b, args.c].map(|i| regs.$file[i as usize]);
            let carry_in = if args.how & READS != 0 { regs.pred[args.e as usize] } else { 0 };
            let (mut out, mut carry) = ([0; 32], 0_u32);
            for lane in 0..32 {
                let product = if args.how & SIGNED != 0 {
                    (<$wide_signed>::from(a[lane] as $signed) * <$wide_signed>::from(b[lane] as $signed)) as $wide
                } else {
                    <$wide>::from(a[lane]) * <$wide>::from(b[lane])
                };
                let half = if args.how & HIGH != 0 { (product >> $bits) as $t } else { product as $t };
                let (x, o) = half.overflowing_add(c[lane]);
                let (y, p) = x.overflowing_add(<$t>::from(carry_in >> lane & 1 != 0));
                out[lane] = y;
                carry |= u32::from(o | p) << lane;
            }
            regs.$put(args.d, &out, mask);
            if args.how & WRITES != 0 {
                regs.put_pred(args.e, carry, mask);
            }
        }
    };
}
mad_with_carry!(mad32, r32, put32, u32, i32, u64, i64, 32);
mad_with_carry!(mad64, r64, put64, u64, i64, u128, i128, 64);

fn mul24(cx: &mut Cx<'_>) -> Decode {
    let add = cx.head() == "mad24";
    let high = match cx.part("hi or lo")? {
        "hi" => true,
        "lo" => false,
        _ => return cx.unknown(),
    };
    let saturate = add && cx.eat("sat");
    let ty = cx.ty_of(&[U32, S32])?;
    let f = match (ty, high, saturate) {
        (U32, false, false) => lanes!(u32 = |a: u32, b: u32, c: u32| (product24(a, b) as u32).wrapping_add(c)),
        (U32, true, false) => lanes!(u32 = |a: u32, b: u32, c: u32| ((product24(a, b) >> 16) as u32).wrapping_add(c)),
        (S32, false, false) => lanes!(i32 = |a: i32, b: i32, c: i32| (signed_product24(a, b) as i32).wrapping_add(c)),
        (S32, true, false) => lanes!(i32 = |a: i32, b: i32, c: i32| ((signed_product24(a, b) >> 16) as i32).wrapping_add(c)),
        (S32, true, true) => lanes!(i32 = |a: i32, b: i32, c: i32| ((signed_product24(a, b) >> 16) as i32).saturating_add(c)),
        _ => return cx.unknown(),
    };
    if add {
        return Ok((f, cx.args(ty, &[ty, ty, ty])?));
    }
    let zero = cx.constant(ty, 0);
    let args = cx.args(ty, &[ty, ty])?;
    Ok((f, Args { c: zero, ..args }))
}

fn product24(a: u32, b: u32) -> u64 {
    u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)
}

fn signed_product24(a: i32, b: i32) -> i64 {
    i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)
}

/// A division by zero has all bits set as its quotient, and the dividend as its remainder.
fn div_rem(cx: &mut Cx<'_>) -> Decode {
    let div = cx.head() == "div";
    let ty = cx.ty_of(&[U16, U32, U64, S16, S32, S64])?;
    let f = match (ty, div) {
        (U16, true) => lanes!(u16 = |a: u16, b: u16| a.checked_div(b).unwrap_or(u16::MAX)),
        (U32, true) => lanes!(u32 = |a: u32, b: u32| a.checked_div(b).unwrap_or(u32::MAX)),
        (U64, true) => lanes!(u64 = |a: u64, b: u64| a.checked_div(b).unwrap_or(u64::MAX)),
        (S16, true) => lanes!(i16 = |a: i16, b: i16| if b == 0 { -1 } else { a.wrapping_div(b) }),
        (S32, true) => lanes!(i32 = |a: i32, b: i32| if b == 0 { -1 } else { a.wrapping_div(b) }),
        (S64, true) => lanes!(i64 = |a: i64, b: i64| if b == 0 { -1 } else { a.wrapping_div(b) }),
        (U16, false) => lanes!(u16 = |a: u16, b: u16| a.checked_rem(b).unwrap_or(a)),
        (U32, false) => lanes!(u32 = |a: u32, b: u32| a.checked_rem(b).unwrap_or(a)),
        (U64, false) => lanes!(u64 = |a: u64, b: u64| a.checked_rem(b).unwrap_or(a)),
        (S16, false) => lanes!(i16 = |a: i16, b: i16| if b == 0 { a } else { a.wrapping_rem(b) }),
        (S32, false) => lanes!(i32 = |a: i32, b: i32| if b == 0 { a } else { a.wrapping_rem(b) }),
        _ => lanes!(i64 = |a: i64, b: i64| if b == 0 { a } else { a.wrapping_rem(b) }),
    };
    Ok((f, cx.args(ty, &[ty, ty])?))
}

fn min_max(cx: &mut Cx<'_>) -> Decode {
    let max = cx.head() == "max";
    let relu = cx.eat("relu");
    let ty = cx.ty()?;
    let f = match (ty, max, relu) {
        (U16, false, false) => lanes!(u16 = |a: u16, b: u16| a.min(b)),
        (U32, false, false) => lanes!(u32 = |a: u32, b: u32| a.min(b)),
        (U64, false, false) => lanes!(u64 = |a: u64, b: u64| a.min(b)),
        (S16, false, false) => lanes!(i16 = |a: i16, b: i16| a.min(b)),
        (S32, false, false) => lanes!(i32 = |a: i32, b: i32| a.min(b)),
        (S64, false, false) => lanes!(i64 = |a: i64, b: i64| a.min(b)),
        (U16, true, false) => lanes!(u16 = |a: u16, b: u16| a.max(b)),
        (U32, true, false) => lanes!(u32 = |a: u32, b: u32| a.max(b)),
        (U64, true, false) => lanes!(u64 = |a: u64, b: u64| a.max(b)),
        (S16, true, false) => lanes!(i16 = |a: i16, b: i16| a.max(b)),
        (S32, true, false) => lanes!(i32 = |a: i32, b: i32| a.max(b)),
        (S64, true, false) => lanes!(i64 = |a: i64, b: i64| a.max(b)),
        (S32, false, true) => lanes!(i32 = |a: i32, b: i32| a.min(b).max(0)),
        (S32, true, true) => lanes!(i32 = |a: i32, b: i32| a.max(b).max(0)),
        (U16x2, false, false) => lanes!(u32 = |a: u32, b: u32| halves(a, b, u16::min)),
        (U16x2, true, false) => lanes!(u32 = |a: u32, b: u32| halves(a, b, u16::max)),
        (S16x2, false, false) => lanes!(u32 = |a: u32, b: u32| halves(a, b, |x, y| (x as i16).min(y as i16) as u16)),
        (S16x2, true, false) => lanes!(u32 = |a: u32, b: u32| halves(a, b, |x, y| (x as i16).max(y as i16) as u16)),
        (S16x2, false, true) => lanes!(u32 = |a: u32, b: u32| halves(a, b, |x, y| (x as i16).min(y as i16).max(0) as u16)),
        (S16x2, true, true) => lanes!(u32 = |a: u32, b: u32| halves(a, b, |x, y| (x as i16).max(y as i16).max(0) as u16)),
        _ => return cx.unknown(),
    };
    Ok((f, cx.args(ty, &[ty, ty])?))
}

fn abs_neg(cx: &mut Cx<'_>) -> Decode {
    let abs = cx.head() == "abs";
    let ty = cx.ty_of(&[S16, S32, S64])?;
    let f = match (ty, abs) {
        (S16, true) => lanes!(i16 = |a: i16| a.wrapping_abs()),
        (S32, true) => lanes!(i32 = |a: i32| a.wrapping_abs()),
        (S64, true) => lanes!(i64 = |a: i64| a.wrapping_abs()),
        (S16, false) => lanes!(i16 = |a: i16| a.wrapping_neg()),
        (S32, false) => lanes!(i32 = |a: i32| a.wrapping_neg()),
        _ => lanes!(i64 = |a: i64| a.wrapping_neg()),
    };
    Ok((f, cx.args(ty, &[ty])?))
}

fn sad(cx: &mut Cx<'_>) -> Decode {
    let ty = cx.ty_of(&[U16, U32, U64, S16, S32, S64])?;
    let f = match ty {
        U16 => lanes!(u16 = |a: u16, b: u16, c: u16| a.abs_diff(b).wrapping_add(c)),
        U32 => lanes!(u32 = |a: u32, b: u32, c: u32| a.abs_diff(b).wrapping_add(c)),
        U64 => lanes!(u64 = |a: u64, b: u64, c: u64| a.abs_diff(b).wrapping_add(c)),
        S16 => lanes!(u16 = |a: i16, b: i16, c: u16| a.abs_diff(b).wrapping_add(c)),
        S32 => lanes!(u32 = |a: i32, b: i32, c: u32| a.abs_diff(b).wrapping_add(c)),
        _ => lanes!(u64 = |a: i64, b: i64, c: u64| a.abs_diff(b).wrapping_add(c)),
    };
    Ok((f, cx.args(ty, &[ty, ty, ty])?))
}

fn dot(cx: &mut Cx<'_>) -> Decode {
    let four = cx.head() == "dp4a";
    let high = if four {
        false
    } else {
        match cx.part("lo or hi")? {
            "lo" => false,
            "hi" => true,
            _ => return cx.unknown(),
        }
    };
    let (ta, tb) = (cx.ty_of(&[U32, S32])?, cx.ty_of(&[U32, S32])?);
    let acc = if ta == S32 || tb == S32 { S32 } else { U32 };
    let mut args = cx.args(acc, &[ta, tb, acc])?;
    args.how = u32::from(ta == S32) | u32::from(tb == S32) << 1 | u32::from(high) << 2;
    let f = if four {
        lanes!(how; u32 = |a: u32, b: u32, c: u32| (0..4).fold(c, |s, i| {
            s.wrapping_add(byte(a, i, how & 1).wrapping_mul(byte(b, i, how & 2)))
        }))
    } else {
        lanes!(how; u32 = |a: u32, b: u32, c: u32| (0..2).fold(c, |s, i| {
            let half = (a >> (16 * i)) as u16;
            let half = if how & 1 != 0 { half as i16 as u32 } else { u32::from(half) };
            s.wrapping_add(half.wrapping_mul(byte(b, i + (how >> 1 & 2), how & 2)))
        }))
    };
    Ok((f, args))
}

#[inline(always)]
fn byte(v: u32, i: u32, signed: u32) -> u32 {
    let b = (v >> (8 * i)) as u8;
    if signed != 0 { b as i8 as u32 } else { u32::from(b) }
}
