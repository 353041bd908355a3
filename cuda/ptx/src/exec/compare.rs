//! `setp`, `set`, `selp`, `slct`.

use super::lanes::{Decode, LaneFn, Regs, blend, lanes};
use crate::ir::{Args, Cx};
use crate::num::half::Kind;
use crate::num::single;
use crate::text::ast::Operand;
use crate::text::ast::Type::{self, *};

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "setp" => setp(cx),
        "set" => set(cx),
        "selp" => selp(cx),
        _ => slct(cx),
    }
}

/// How operands compare: which of less, equal, greater and unordered hold.
const LESS: u32 = 1;
const EQUAL: u32 = 2;
const GREATER: u32 = 4;
const UNORDERED: u32 = 8;

/// Comparison operators by the outcomes they accept. `lo`, `ls`, `hi`, `hs` are the unsigned names of integers.
const COMPARE: [(&str, u32); 18] = [
    ("eq", EQUAL),
    ("ne", LESS | GREATER),
    ("lt", LESS),
    ("le", LESS | EQUAL),
    ("gt", GREATER),
    ("ge", GREATER | EQUAL),
    ("lo", LESS),
    ("ls", LESS | EQUAL),
    ("hi", GREATER),
    ("hs", GREATER | EQUAL),
    ("equ", EQUAL | UNORDERED),
    ("neu", LESS | GREATER | UNORDERED),
    ("ltu", LESS | UNORDERED),
    ("leu", LESS | EQUAL | UNORDERED),
    ("gtu", GREATER | UNORDERED),
    ("geu", GREATER | EQUAL | UNORDERED),
    ("num", LESS | EQUAL | GREATER),
    ("nan", UNORDERED),
];

const FTZ: u32 = 16;
const AND: u32 = 32;
const OR: u32 = 64;
const XOR: u32 = 96;
const COMBINE: u32 = 96;
const NEGATED: u32 = 128;
const COMBINES: [(&str, u32); 3] = [("and", AND), ("or", OR), ("xor", XOR)];

/// What the modifiers of `setp` and `set` say.
struct Comparison {
    accept: u32,
    combine: u32,
    ftz: bool,
    operator: &'static str,
}

fn comparison(cx: &mut Cx<'_>) -> Result<Comparison, String> {
    let Some((operator, accept)) = cx.find(|p| COMPARE.iter().find(|(n, _)| *n == p)) else {
        return Err(format!("`{}` lacks a comparison", cx.inst.opcode));
    };
    let combine = cx.pick(&COMBINES).unwrap_or(0);
    let ftz = cx.eat("ftz");
    Ok(Comparison { accept: *accept, combine, ftz, operator })
}

/// Whether the operator goes with the type, and `.ftz` too.
fn check(cx: &Cx<'_>, c: &Comparison, ty: Type) -> Result<(), String> {
    let float_only = c.accept & UNORDERED != 0 || c.operator == "num";
    let unsigned_name = matches!(c.operator, "lo" | "ls" | "hi" | "hs");
    let bits_only = ty.is_bits() && !matches!(c.operator, "eq" | "ne");
    let ok = !((float_only && !ty.is_float()) || (unsigned_name && (ty.is_float() || ty.is_signed())) || bits_only)
        && (!c.ftz || matches!(ty, F32 | F16 | F16x2));
    if ok { Ok(()) } else { Err(format!("`{}`: the comparison or .ftz does not go with .{}", cx.inst.opcode, ty.name())) }
}

/// The outcome of comparing two ordered values.
#[inline(always)]
fn ordered<T: PartialOrd>(a: T, b: T) -> u32 {
    (u32::from(a < b) * LESS) | (u32::from(a == b) * EQUAL) | (u32::from(a > b) * GREATER)
}

/// The outcome for floats.
#[inline(always)]
fn floats<T: PartialOrd>(a: T, b: T) -> u32 {
    let o = ordered(a, b);
    if o == 0 { UNORDERED } else { o }
}

#[inline(always)]
fn f32_outcome(a: u32, b: u32, how: u32) -> u32 {
    let (a, b) = if how & FTZ != 0 { (single::flush(a), single::flush(b)) } else { (a, b) };
    floats(f32::from_bits(a), f32::from_bits(b))
}

#[inline(always)]
fn half_outcome(kind: Kind, a: u16, b: u16, how: u32) -> u32 {
    let flush = |x: u16| if how & FTZ != 0 && x & 0x7c00 == 0 { x & 0x8000 } else { x };
    floats(kind.to_f32(flush(a)), kind.to_f32(flush(b)))
}

/// Lanes in which the comparison holds.
macro_rules! test {
    ($t:ty, |$a:ident, $b:ident, $how:ident| $outcome:expr) => {
        |regs: &Regs, args: &Args| {
            use super::lanes::Lane;
            let (va, vb) = (<$t as Lane>::all(regs, args.a), <$t as Lane>::all(regs, args.b));
            let $how = args.how;
            let mut out = 0_u32;
            for lane in 0..32 {
                let ($a, $b) = (<$t as Lane>::one(&va, lane), <$t as Lane>::one(&vb, lane));
                out |= u32::from($outcome & $how & 15 != 0) << lane;
            }
            out
        }
    };
}

type Test = fn(&Regs, &Args) -> u32;

/// Applies the Boolean operation with predicate `q` to `value`.
#[inline(always)]
fn combined(regs: &Regs, args: &Args, value: u32) -> u32 {
    if args.how & COMBINE == 0 {
        return value;
    }
    let q = regs.pred[args.c as usize] ^ if args.how & NEGATED != 0 { u32::MAX } else { 0 };
    match args.how & COMBINE {
        AND => value & q,
        OR => value | q,
        _ => value ^ q,
    }
}

/// `setp`: `d` and, if wanted, `e` (the complement) from a test; `f` says whether there is an `e`.
macro_rules! setp {
    ($test:expr) => {{
        fn run(regs: &mut Regs, args: &Args, mask: u32) {
            let test: Test = $test;
            let value = test(regs, args);
            let (yes, no) = (combined(regs, args, value), combined(regs, args, !value));
            regs.put_pred(args.d, yes, mask);
            if args.f != 0 {
                regs.put_pred(args.e, no, mask);
            }
        }
        run as LaneFn
    }};
}

macro_rules! setp_packed {
    ($kind:expr) => {{
        fn run(regs: &mut Regs, args: &Args, mask: u32) {
            let (low, high) = packed_test($kind, regs, args);
            let (low, high) = (combined(regs, args, low), combined(regs, args, high));
            regs.put_pred(args.d, low, mask);
            regs.put_pred(args.e, high, mask);
        }
        run as LaneFn
    }};
}

macro_rules! set {
    ($test:expr) => {{
        fn run(regs: &mut Regs, args: &Args, mask: u32) {
            let test: Test = $test;
            let value = combined(regs, args, test(regs, args));
            let truth = regs.r32[args.e as usize][0];
            let out = std::array::from_fn(|l| if value >> l & 1 != 0 { truth } else { 0 });
            regs.put32(args.d, &out, mask);
        }
        run as LaneFn
    }};
}

macro_rules! set_packed {
    ($kind:expr) => {{
        fn run(regs: &mut Regs, args: &Args, mask: u32) {
            let (low, high) = packed_test($kind, regs, args);
            let (low, high) = (combined(regs, args, low), combined(regs, args, high));
            let truth = regs.r32[args.e as usize][0];
            let half = |v: u32, l: usize| if v >> l & 1 != 0 { truth } else { 0 };
            let out = std::array::from_fn(|l| half(low, l) | half(high, l) << 16);
            regs.put32(args.d, &out, mask);
        }
        run as LaneFn
    }};
}

/// What a macro makes of the comparison of a scalar type; an integer's operators get loops of their own.
macro_rules! by_type {
    ($ty:expr, $make:ident) => {
        match $ty {
            U16 | B16 => $make!(test!(u16, |a, b, _how| ordered(a, b))),
            U32 | B32 => $make!(test!(u32, |a, b, _how| ordered(a, b))),
            U64 | B64 => $make!(test!(u64, |a, b, _how| ordered(a, b))),
            S16 => $make!(test!(i16, |a, b, _how| ordered(a, b))),
            S32 => $make!(test!(i32, |a, b, _how| ordered(a, b))),
            S64 => $make!(test!(i64, |a, b, _how| ordered(a, b))),
            F32 => $make!(test!(u32, |a, b, how| f32_outcome(a, b, how))),
            F64 => $make!(test!(f64, |a, b, _how| floats(a, b))),
            F16 => $make!(test!(u16, |a, b, how| half_outcome(Kind::F16, a, b, how))),
            BF16 => $make!(test!(u16, |a, b, how| half_outcome(Kind::Bf16, a, b, how))),
            _ => return Err(format!(".{} is not compared", $ty.name())),
        }
    };
}

/// Operands 1 and 2, and the predicate of a combination.
fn operands(cx: &mut Cx<'_>, c: &Comparison, ty: Type, args: &mut Args) -> Result<(), String> {
    args.a = cx.src(1, ty)?;
    args.b = cx.src(2, ty)?;
    args.how = c.accept | c.combine | (u32::from(c.ftz) * FTZ);
    if c.combine != 0 {
        let (q, negated) = cx.predicate(cx.operand(3)?)?;
        args.c = q;
        args.how |= u32::from(negated) * NEGATED;
    }
    Ok(())
}

fn setp(cx: &mut Cx<'_>) -> Decode {
    let c = comparison(cx)?;
    let ty = cx.ty()?;
    check(cx, &c, ty)?;
    cx.end(if c.combine != 0 { 4 } else { 3 })?;
    let (p, q) = cx.pair(0)?;
    let packed = matches!(ty, F16x2 | BF16x2);
    let mut args = Args { d: cx.dst_of(p, Pred)?, ..Args::default() };
    // Two halves have two results, wanted or not.
    if let Some(q) = q.or(packed.then_some(&Operand::Sink)) {
        args.e = cx.dst_of(q, Pred)?;
        args.f = 1;
    }
    operands(cx, &c, ty, &mut args)?;
    let f = match ty {
        F16x2 => setp_packed!(Kind::F16),
        BF16x2 => setp_packed!(Kind::Bf16),
        _ => by_type!(ty, setp),
    };
    Ok((f, args))
}

/// `set`: all ones or zero, or 1.0 or 0.0.
fn set(cx: &mut Cx<'_>) -> Decode {
    let c = comparison(cx)?;
    let d = cx.ty_of(&[U32, S32, F32, F16, BF16, U16, S16, F16x2, BF16x2])?;
    let ty = cx.ty()?;
    check(cx, &c, ty)?;
    cx.end(if c.combine != 0 { 4 } else { 3 })?;
    let mut args = Args { d: cx.dst(0, d)?, ..Args::default() };
    operands(cx, &c, ty, &mut args)?;
    // What true looks like, in the low and in the high half.
    let (truth, packed) = match (d, ty) {
        (F16x2, F16x2) => (0x3c00, true),
        (BF16x2, BF16x2) => (0x3f80, true),
        (U32 | S32, F16x2 | BF16x2) => (0xffff, true),
        (U32 | S32, _) => (u32::MAX, false),
        (F32, _) if !matches!(ty, F16x2 | BF16x2) => (0x3f80_0000, false),
        (U16 | S16, F16 | BF16) => (0xffff, false),
        (F16, _) if !matches!(ty, F16x2 | BF16x2) => (0x3c00, false),
        (BF16, _) if !matches!(ty, F16x2 | BF16x2) => (0x3f80, false),
        _ => return cx.unknown(),
    };
    args.e = cx.constant(U32, u64::from(truth));
    let f = match ty {
        F16x2 => set_packed!(Kind::F16),
        BF16x2 => set_packed!(Kind::Bf16),
        _ if packed => return cx.unknown(),
        _ => by_type!(ty, set),
    };
    Ok((f, args))
}

/// The two halves' tests of packed operands.
fn packed_test(kind: Kind, regs: &Regs, args: &Args) -> (u32, u32) {
    let (a, b) = (regs.r32[args.a as usize], regs.r32[args.b as usize]);
    let half = |shift: u32| {
        (0..32).fold(0, |m, l| {
            let outcome = half_outcome(kind, (a[l] >> shift) as u16, (b[l] >> shift) as u16, args.how);
            m | u32::from(outcome & args.how & 15 != 0) << l
        })
    };
    (half(0), half(16))
}

fn selp(cx: &mut Cx<'_>) -> Decode {
    let ty = cx.ty_of(&[B16, B32, B64, U16, U32, U64, S16, S32, S64, F32, F64])?;
    cx.end(4)?;
    let mut args = Args { d: cx.dst(0, ty)?, a: cx.src(1, ty)?, b: cx.src(2, ty)?, ..Args::default() };
    let (p, negated) = cx.predicate(cx.operand(3)?)?;
    args.c = p;
    args.how = u32::from(negated);
    fn choose(regs: &Regs, args: &Args) -> u32 {
        regs.pred[args.c as usize] ^ if args.how != 0 { u32::MAX } else { 0 }
    }
    fn run32(regs: &mut Regs, args: &Args, mask: u32) {
        let p = choose(regs, args);
        let mut out = regs.r32[args.b as usize];
        blend(&mut out, &regs.r32[args.a as usize], p);
        regs.put32(args.d, &out, mask);
    }
    fn run64(regs: &mut Regs, args: &Args, mask: u32) {
        let p = choose(regs, args);
        let mut out = regs.r64[args.b as usize];
        blend(&mut out, &regs.r64[args.a as usize], p);
        regs.put64(args.d, &out, mask);
    }
    Ok((if ty.bits() == 64 { run64 } else { run32 }, args))
}

/// `slct`: `a` where `c` is not negative, else `b`; a NaN chooses `b`.
fn slct(cx: &mut Cx<'_>) -> Decode {
    let ftz = cx.eat("ftz");
    let ty = cx.ty_of(&[B16, B32, B64, U16, U32, U64, S16, S32, S64, F32, F64])?;
    let c = cx.ty_of(&[S32, F32])?;
    if ftz && c != F32 {
        return cx.unknown();
    }
    let mut args = cx.args(ty, &[ty, ty, c])?;
    args.how = u32::from(ftz) * FTZ;
    let f = match (ty.bits() == 64, c) {
        (false, S32) => lanes!(u32 = |a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (true, S32) => lanes!(u64 = |a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (false, _) => {
            lanes!(how; u32 = |a: u32, b: u32, c: u32| if f32_outcome(c, 0, how) & (EQUAL | GREATER) != 0 { a } else { b })
        }
        _ => lanes!(how; u64 = |a: u64, b: u64, c: u32| if f32_outcome(c, 0, how) & (EQUAL | GREATER) != 0 { a } else { b }),
    };
    Ok((f, args))
}
