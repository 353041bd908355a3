//! Logic, shifts, bit fields and bit counts.

use super::lanes::{Decode, LaneFn, Regs, lanes};
use crate::ir::{Args, Cx};
use crate::text::ast::Type;
use Type::*;

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "and" | "or" | "xor" | "not" | "cnot" => logic(cx),
        "lop3" => lop3(cx),
        "shl" | "shr" => shift(cx),
        "shf" => funnel(cx),
        "prmt" => prmt(cx),
        "bfe" | "bfi" | "bfind" => field(cx),
        "brev" | "clz" | "popc" => count(cx),
        "fns" => {
            cx.ty_of(&[B32])?;
            Ok((lanes!(u32 = |a: u32, b: u32, c: i32| fns(a, b, c)), cx.args(U32, &[B32, B32, S32])?))
        }
        "szext" | "bmsk" => extend_mask(cx),
        _ => cx.unknown(),
    }
}

fn logic(cx: &mut Cx<'_>) -> Decode {
    let ty = cx.ty_of(&[Pred, B16, B32, B64])?;
    let head = cx.head();
    if matches!(head, "not" | "cnot") {
        let f = match (head, ty) {
            ("not", Pred) => lanes!(bool = |a: bool| !a),
            ("not", B16) => lanes!(u16 = |a: u16| !a),
            ("not", B32) => lanes!(u32 = |a: u32| !a),
            ("not", _) => lanes!(u64 = |a: u64| !a),
            (_, B16) => lanes!(u16 = |a: u16| u16::from(a == 0)),
            (_, B32) => lanes!(u32 = |a: u32| u32::from(a == 0)),
            (_, B64) => lanes!(u64 = |a: u64| u64::from(a == 0)),
            _ => return cx.unknown(),
        };
        return Ok((f, cx.args(ty, &[ty])?));
    }
    if ty == Pred {
        cx.end(3)?;
        let mut args = Args { d: cx.dst(0, Pred)?, ..Args::default() };
        let ((a, not_a), (b, not_b)) = (cx.predicate(cx.operand(1)?)?, cx.predicate(cx.operand(2)?)?);
        (args.a, args.b, args.how) = (a, b, u32::from(not_a) | u32::from(not_b) << 1);
        let f: LaneFn = match head {
            "and" => |r, x, m| predicates(r, x, m, |a, b| a & b),
            "or" => |r, x, m| predicates(r, x, m, |a, b| a | b),
            _ => |r, x, m| predicates(r, x, m, |a, b| a ^ b),
        };
        return Ok((f, args));
    }
    let f: LaneFn = match (head, ty) {
        ("and", B64) => lanes!(u64 = |a: u64, b: u64| a & b),
        ("or", B64) => lanes!(u64 = |a: u64, b: u64| a | b),
        ("xor", B64) => lanes!(u64 = |a: u64, b: u64| a ^ b),
        ("and", _) => lanes!(u32 = |a: u32, b: u32| a & b),
        ("or", _) => lanes!(u32 = |a: u32, b: u32| a | b),
        _ => lanes!(u32 = |a: u32, b: u32| a ^ b),
    };
    Ok((f, cx.args(ty, &[ty, ty])?))
}

/// Combines two predicates, each negated if `how` says so.
#[inline(always)]
fn predicates(regs: &mut Regs, args: &Args, mask: u32, f: impl Fn(u32, u32) -> u32) {
    let of = |index: u16, negated: u32| regs.pred[index as usize] ^ 0_u32.wrapping_sub(negated & 1);
    let value = f(of(args.a, args.how), of(args.b, args.how >> 1));
    regs.put_pred(args.d, value, mask);
}

/// The function of three bits whose truth table is `lut`, on all bits at once.
#[inline(always)]
fn lut3(a: u32, b: u32, c: u32, lut: u32) -> u32 {
    // The table as a tree of selections: by c, then b, then a.
    let bit = |i: u32| 0_u32.wrapping_sub(lut >> i & 1);
    let select = |s: u32, one: u32, zero: u32| (s & one) | (!s & zero);
    let by_c = |i: u32| select(c, bit(i + 1), bit(i));
    select(a, select(b, by_c(6), by_c(4)), select(b, by_c(2), by_c(0)))
}

fn lop3(cx: &mut Cx<'_>) -> Decode {
    let combine = cx.pick(&[("or", true), ("and", false)]);
    cx.ty_of(&[B32])?;
    let or = match combine {
        None => {
            cx.end(5)?;
            let lut = lut_operand(cx)?;
            let args = Args { d: cx.dst(0, B32)?, how: lut, ..sources(cx)? };
            return Ok((lanes!(how; u32 = |a: u32, b: u32, c: u32| lut3(a, b, c, how)), args));
        }
        Some(or) => or,
    };
    cx.end(6)?;
    let lut = lut_operand(cx)?;
    let (d, Some(p)) = cx.pair(0)? else { return Err("lop3 with a Boolean operation writes `d|p`".into()) };
    let mut args = Args { d: cx.dst_of(d, B32)?, e: cx.dst_of(p, Pred)?, how: lut | u32::from(or) << 8, ..sources(cx)? };
    let (f, negated) = cx.predicate(cx.operand(5)?)?;
    args.f = f;
    args.how |= u32::from(negated) << 9;
    fn run(regs: &mut Regs, args: &Args, mask: u32) {
        let [a, b, c] = [args.a, args.b, args.c].map(|i| regs.r32[i as usize]);
        let mut out = [0; 32];
        for lane in 0..32 {
            out[lane] = lut3(a[lane], b[lane], c[lane], args.how & 0xff);
        }
        let nonzero = out.iter().enumerate().fold(0, |m, (l, v)| m | u32::from(*v != 0) << l);
        let q = regs.pred[args.f as usize] ^ if args.how >> 9 & 1 != 0 { u32::MAX } else { 0 };
        regs.put32(args.d, &out, mask);
        regs.put_pred(args.e, if args.how >> 8 & 1 != 0 { nonzero | q } else { nonzero & q }, mask);
    }
    Ok((run, args))
}

fn sources(cx: &mut Cx<'_>) -> Result<Args, String> {
    Ok(Args { a: cx.src(1, B32)?, b: cx.src(2, B32)?, c: cx.src(3, B32)?, ..Args::default() })
}

fn lut_operand(cx: &Cx<'_>) -> Result<u32, String> {
    let lut = cx.int(4)?;
    u8::try_from(lut).map(u32::from).map_err(|_| format!("lop3: a truth table has 8 bits, not {lut:#x}"))
}

fn shift(cx: &mut Cx<'_>) -> Decode {
    let left = cx.head() == "shl";
    let ty = if left { cx.ty_of(&[B16, B32, B64])? } else { cx.ty_of(&[B16, B32, B64, U16, U32, U64, S16, S32, S64])? };
    // Amounts beyond the width shift everything out.
    let f = match (left, ty) {
        (true, B16) => lanes!(u16 = |a: u16, b: u32| (u32::from(a).checked_shl(b).unwrap_or(0)) as u16),
        (true, B32) => lanes!(u32 = |a: u32, b: u32| if b > 31 { 0 } else { a << (b & 31) }),
        (true, _) => lanes!(u64 = |a: u64, b: u32| a.checked_shl(b).unwrap_or(0)),
        (false, B16 | U16) => lanes!(u16 = |a: u16, b: u32| u32::from(a).checked_shr(b).unwrap_or(0) as u16),
        (false, B32 | U32) => lanes!(u32 = |a: u32, b: u32| if b > 31 { 0 } else { a >> (b & 31) }),
        (false, B64 | U64) => lanes!(u64 = |a: u64, b: u32| a.checked_shr(b).unwrap_or(0)),
        (false, S16) => lanes!(i16 = |a: i16, b: u32| a >> b.min(15)),
        (false, S32) => lanes!(i32 = |a: i32, b: u32| a >> b.min(31)),
        (false, _) => lanes!(i64 = |a: i64, b: u32| a >> b.min(63)),
    };
    Ok((f, cx.args(ty, &[ty, U32])?))
}

/// Amounts beyond the width are taken as the width, or modulo it.
const CLAMP: [(&str, bool); 2] = [("clamp", true), ("wrap", false)];

fn funnel(cx: &mut Cx<'_>) -> Decode {
    let left = match cx.part("l or r")? {
        "l" => true,
        "r" => false,
        _ => return cx.unknown(),
    };
    let Some(clamp) = cx.pick(&CLAMP) else { return cx.unknown() };
    cx.ty_of(&[B32])?;
    // `a` is the low word, `b` the high one.
    let f = match (left, clamp) {
        (true, true) => lanes!(u32 = |a: u32, b: u32, c: u32| (pair(a, b) << c.min(32) >> 32) as u32),
        (true, false) => lanes!(u32 = |a: u32, b: u32, c: u32| (pair(a, b) << (c & 31) >> 32) as u32),
        (false, true) => lanes!(u32 = |a: u32, b: u32, c: u32| (pair(a, b) >> c.min(32)) as u32),
        (false, false) => lanes!(u32 = |a: u32, b: u32, c: u32| (pair(a, b) >> (c & 31)) as u32),
    };
    Ok((f, cx.args(B32, &[B32, B32, U32])?))
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn prmt(cx: &mut Cx<'_>) -> Decode {
    cx.ty_of(&[B32])?;
    let mode = cx.pick(&[("f4e", 1), ("b4e", 2), ("rc8", 3), ("ecl", 4), ("ecr", 5), ("rc16", 6)]).unwrap_or(0);
    let mut args = cx.args(B32, &[B32, B32, B32])?;
    args.how = mode;
    Ok((lanes!(how; u32 = |a: u32, b: u32, c: u32| permute(a, b, c, how)), args))
}

#[inline(always)]
fn permute(a: u32, b: u32, c: u32, mode: u32) -> u32 {
    let bytes = pair(a, b);
    let byte = |i: u32| (bytes >> (8 * (i & 7))) as u32 & 0xff;
    if mode == 0 {
        return (0..4).fold(0, |r, i| {
            let s = c >> (4 * i);
            let v = byte(s);
            // The selector's top bit replicates the byte's sign.
            let v = if s & 8 != 0 { 0_u32.wrapping_sub(v >> 7) & 0xff } else { v };
            r | v << (8 * i)
        });
    }
    let s = c & 3;
    let pick: [u32; 4] = match mode {
        1 => [s, s + 1, s + 2, s + 3],
        2 => [s, s.wrapping_sub(1), s.wrapping_sub(2), s.wrapping_sub(3)],
        3 => [s; 4],
        4 => [s, s.max(1), s.max(2), 3],
        5 => [0, s.min(1), s.min(2), s],
        _ => [2 * (s & 1), 2 * (s & 1) + 1, 2 * (s & 1), 2 * (s & 1) + 1],
    };
    pick.iter().rev().fold(0, |r, &i| r << 8 | byte(i))
}

fn field(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "bfe" => {
            let ty = cx.ty_of(&[U32, U64, S32, S64])?;
            let f = match ty {
                U32 => lanes!(u32 = |a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, false) as u32),
                S32 => lanes!(u32 = |a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, true) as u32),
                U64 => lanes!(u64 = |a: u64, b: u32, c: u32| extract(a, b, c, 64, false)),
                _ => lanes!(u64 = |a: u64, b: u32, c: u32| extract(a, b, c, 64, true)),
            };
            Ok((f, cx.args(ty, &[ty, U32, U32])?))
        }
        "bfi" => {
            let ty = cx.ty_of(&[B32, B64])?;
            let f = match ty {
                B32 => lanes!(u32 = |a: u32, b: u32, c: u32, f: u32| insert(u64::from(a), u64::from(b), c, f, 32) as u32),
                _ => lanes!(u64 = |a: u64, b: u64, c: u32, f: u32| insert(a, b, c, f, 64)),
            };
            Ok((f, cx.args(ty, &[ty, ty, U32, U32])?))
        }
        _ => {
            let amount = cx.eat("shiftamt");
            let ty = cx.ty_of(&[U32, U64, S32, S64])?;
            let mut args = cx.args(U32, &[ty])?;
            args.how = u32::from(amount);
            let f = match ty {
                U32 => lanes!(how; u32 = |a: u32| find(u64::from(a), 32, how)),
                S32 => lanes!(how; u32 = |a: u32| find(u64::from(if (a as i32) < 0 { !a } else { a }), 32, how)),
                U64 => lanes!(how; u32 = |a: u64| find(a, 64, how)),
                _ => lanes!(how; u32 = |a: u64| find(if (a as i64) < 0 { !a } else { a }, 64, how)),
            };
            Ok((f, args))
        }
    }
}

/// `bfe`: positions and lengths are taken modulo 256; bits beyond the word are the sign's.
fn extract(a: u64, pos: u32, len: u32, width: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let last = (u64::from(pos) + u64::from(len)).saturating_sub(1).min(u64::from(width - 1)) as u32;
    let sign = signed && len != 0 && a >> last & 1 != 0;
    let field = if pos >= width { 0 } else { a >> pos };
    // Bits of the field that come from the word.
    let real = len.min(width.saturating_sub(pos));
    let keep = if real >= 64 { u64::MAX } else { (1 << real) - 1 };
    let whole = if width == 64 { u64::MAX } else { 0xffff_ffff };
    let fill = if sign { whole & !keep } else { 0 };
    (field & keep) | fill
}

/// `bfi`: inserts the low `len` bits of `a` into `b` at `pos`.
fn insert(a: u64, b: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (pos, len) = (pos & 0xff, (len & 0xff).min(width));
    if pos >= width {
        return b;
    }
    let ones = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    let mask = ones << pos;
    (b & !mask) | (a << pos & mask)
}

/// `bfind`: the highest set bit, or the shift that would bring it to the top; all ones if there is none.
fn find(a: u64, width: u32, amount: u32) -> u32 {
    if a == 0 {
        return u32::MAX;
    }
    let position = 63 - a.leading_zeros();
    if amount != 0 { width - 1 - position } else { position }
}

fn count(cx: &mut Cx<'_>) -> Decode {
    let ty = cx.ty_of(&[B32, B64])?;
    let (d, f) = match (cx.head(), ty) {
        ("brev", B32) => (ty, lanes!(u32 = |a: u32| a.reverse_bits())),
        ("brev", _) => (ty, lanes!(u64 = |a: u64| a.reverse_bits())),
        ("clz", B32) => (U32, lanes!(u32 = |a: u32| a.leading_zeros())),
        ("clz", _) => (U32, lanes!(u32 = |a: u64| a.leading_zeros())),
        (_, B32) => (U32, lanes!(u32 = |a: u32| a.count_ones())),
        _ => (U32, lanes!(u32 = |a: u64| a.count_ones())),
    };
    Ok((f, cx.args(d, &[ty])?))
}

/// `fns`: the n-th set bit from `base`, upwards for a positive n (which counts from 1), downwards for a negative one.
fn fns(mask: u32, base: u32, n: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    if n == 0 {
        return if mask >> base & 1 != 0 { base } else { u32::MAX };
    }
    let mut left = n.unsigned_abs();
    let mut at = base as i32;
    while (0..32).contains(&at) {
        if mask >> at & 1 != 0 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += n.signum();
    }
    u32::MAX
}

fn extend_mask(cx: &mut Cx<'_>) -> Decode {
    let extend = cx.head() == "szext";
    let Some(clamp) = cx.pick(&CLAMP) else { return cx.unknown() };
    let ty = if extend { cx.ty_of(&[U32, S32])? } else { cx.ty_of(&[B32])? };
    let mut args = cx.args(ty, &[ty, U32])?;
    args.how = u32::from(clamp) | u32::from(ty == S32) << 1;
    let f = if extend {
        lanes!(how; u32 = |a: u32, b: u32| {
            let bits = if how & 1 != 0 { b.min(32) } else { b & 31 };
            match bits {
                0 => 0,
                32 => a,
                n if how & 2 != 0 => ((a << (32 - n)) as i32 >> (32 - n)) as u32,
                n => a << (32 - n) >> (32 - n),
            }
        })
    } else {
        // Ones from bit `a`, `b` of them.
        lanes!(how; u32 = |a: u32, b: u32| {
            let (pos, len) = if how & 1 != 0 { (a.min(32), b.min(32)) } else { (a & 31, b & 31) };
            (((1_u64 << len) - 1) << pos) as u32
        })
    };
    Ok((f, args))
}
