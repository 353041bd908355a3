//! Floating-point arithmetic: f32, f64, f16, bf16 and the packed halves. The numbers themselves come from [`crate::num`].

use super::lanes::{Decode, LaneFn, Regs, V32, lanes};
use crate::ir::{Args, Cx};
use crate::num::half::{self, Kind};
use crate::num::single::{Extremum, Property};
use crate::num::{Mode, Rounding, approx, double, lanes as warp, single};
use crate::text::ast::Type::{self, *};

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "add" | "sub" | "mul" => binary(cx),
        "fma" | "mad" => fused(cx),
        "min" | "max" => extremum(cx),
        "abs" | "neg" => sign(cx),
        "div" => div(cx),
        "rcp" | "sqrt" => root(cx),
        "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => approximate(cx),
        "testp" => testp(cx),
        "copysign" => {
            let ty = cx.ty_of(&[F32, F64])?;
            let f = if ty == F32 {
                lanes!(u32 = |a: u32, b: u32| single::copysign(a, b))
            } else {
                lanes!(u64 = |a: u64, b: u64| double::copysign(a, b))
            };
            Ok((f, cx.args(ty, &[ty, ty])?))
        }
        _ => cx.unknown(),
    }
}

pub(super) const ROUNDINGS: [(&str, Rounding); 4] =
    [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];

fn rounding_bits(r: Rounding) -> u32 {
    ROUNDINGS.iter().position(|(_, x)| *x == r).unwrap_or(0) as u32
}

fn rounding_of(how: u32) -> Rounding {
    ROUNDINGS[how as usize & 3].1
}

const FTZ: u32 = 4;
const SATURATE: u32 = 8;
const RELU: u32 = 16;

/// Modifiers as [`Args::how`] holds them.
fn how(rounding: Option<Rounding>, ftz: bool, saturate: bool, relu: bool) -> u32 {
    rounding.map_or(0, rounding_bits) | (u32::from(ftz) * FTZ) | (u32::from(saturate) * SATURATE) | (u32::from(relu) * RELU)
}

fn mode(how: u32) -> Mode {
    Mode { rounding: rounding_of(how), ftz: how & FTZ != 0, saturate: how & SATURATE != 0 }
}

fn half_mode(how: u32) -> half::Mode {
    half::Mode { ftz: how & FTZ != 0, saturate: how & SATURATE != 0, relu: how & RELU != 0 }
}

/// Demands that f64 has no `.ftz` or `.sat`, bf16 neither, and halves round to nearest.
fn check(cx: &Cx<'_>, ty: Type, how: u32) -> Result<(), String> {
    let wrong = match ty {
        F64 => how & (FTZ | SATURATE | RELU) != 0,
        BF16 | BF16x2 => how & (3 | FTZ | SATURATE) != 0,
        F16 | F16x2 => how & 3 != 0,
        _ => how & RELU != 0,
    };
    if wrong { Err(format!("`{}`: a modifier does not go with .{}", cx.inst.opcode, ty.name())) } else { Ok(()) }
}

const FLOATS: [Type; 6] = [F32, F64, F16, F16x2, BF16, BF16x2];

fn single_op(f: impl Fn(&V32, &V32, Mode) -> V32, regs: &mut Regs, args: &Args, mask: u32) {
    let out = f(&regs.r32[args.a as usize], &regs.r32[args.b as usize], mode(args.how));
    regs.put32(args.d, &out, mask);
}

fn binary(cx: &mut Cx<'_>) -> Decode {
    let head = cx.head();
    let rounding = cx.pick(&ROUNDINGS);
    let ftz = cx.eat("ftz");
    let saturate = cx.eat("sat");
    let ty = cx.ty_of(&FLOATS)?;
    let how = how(rounding, ftz, saturate, false);
    check(cx, ty, how)?;
    let mut args = cx.args(ty, &[ty, ty])?;
    args.how = how;
    // `sub` of halves: the sign of b flips. PTX defines it so but for NaNs, which have no sign.
    let f: LaneFn = match (head, ty) {
        ("add", F32) => |r, x, m| single_op(warp::add, r, x, m),
        ("sub", F32) => |r, x, m| single_op(warp::sub, r, x, m),
        (_, F32) => |r, x, m| single_op(warp::mul, r, x, m),
        ("add", F64) => lanes!(how; u64 = |a: u64, b: u64| double::add(a, b, rounding_of(how))),
        ("sub", F64) => lanes!(how; u64 = |a: u64, b: u64| double::add(a, b ^ 1 << 63, rounding_of(how))),
        (_, F64) => lanes!(how; u64 = |a: u64, b: u64| double::mul(a, b, rounding_of(how))),
        ("add", F16) => lanes!(how; u16 = |a: u16, b: u16| Kind::F16.add(a, b, half_mode(how))),
        ("sub", F16) => lanes!(how; u16 = |a: u16, b: u16| Kind::F16.add(a, b ^ 0x8000, half_mode(how))),
        (_, F16) => lanes!(how; u16 = |a: u16, b: u16| Kind::F16.mul(a, b, half_mode(how))),
        ("add", BF16) => lanes!(u16 = |a: u16, b: u16| Kind::Bf16.add(a, b, half_mode(0))),
        ("sub", BF16) => lanes!(u16 = |a: u16, b: u16| Kind::Bf16.add(a, b ^ 0x8000, half_mode(0))),
        (_, BF16) => lanes!(u16 = |a: u16, b: u16| Kind::Bf16.mul(a, b, half_mode(0))),
        ("add", F16x2) => lanes!(how; u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::F16.add(a, b, half_mode(how)))),
        ("sub", F16x2) => {
            lanes!(how; u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::F16.add(a, b ^ 0x8000, half_mode(how))))
        }
        (_, F16x2) => lanes!(how; u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::F16.mul(a, b, half_mode(how)))),
        ("add", _) => lanes!(u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::Bf16.add(a, b, half_mode(0)))),
        ("sub", _) => lanes!(u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::Bf16.add(a, b ^ 0x8000, half_mode(0)))),
        _ => lanes!(u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::Bf16.mul(a, b, half_mode(0)))),
    };
    Ok((f, args))
}

fn fused(cx: &mut Cx<'_>) -> Decode {
    let rounding = cx.pick(&ROUNDINGS);
    let ftz = cx.eat("ftz");
    let saturate = cx.eat("sat");
    let relu = cx.eat("relu");
    let oob = cx.eat("oob");
    let ty = cx.ty_of(&FLOATS)?;
    if oob && (!matches!(ty, F16 | F16x2 | BF16 | BF16x2) || ftz || saturate) {
        return cx.unknown();
    }
    if rounding.is_none() || (cx.head() == "mad" && !matches!(ty, F32 | F64)) {
        return Err(format!("`{}` needs a rounding mode and a type that takes it", cx.inst.opcode));
    }
    let how = how(rounding, ftz, saturate, relu);
    check(cx, ty, how)?;
    if relu && saturate {
        return cx.unknown();
    }
    let mut args = cx.args(ty, &[ty, ty, ty])?;
    args.how = how;
    let f: LaneFn = match ty {
        F16 if oob => lanes!(how; u16 = |a: u16, b: u16, c: u16| oob_fma(Kind::F16, a, b, c, how)),
        BF16 if oob => lanes!(how; u16 = |a: u16, b: u16, c: u16| oob_fma(Kind::Bf16, a, b, c, how)),
        F16x2 if oob => lanes!(how; u32 = |a: u32, b: u32, c: u32| {
            half::packed([a, b, c], |[a, b, c]| oob_fma(Kind::F16, a, b, c, how))
        }),
        BF16x2 if oob => lanes!(how; u32 = |a: u32, b: u32, c: u32| {
            half::packed([a, b, c], |[a, b, c]| oob_fma(Kind::Bf16, a, b, c, how))
        }),
        F32 => |r, x, m| {
            let [a, b, c] = [x.a, x.b, x.c].map(|i| &r.r32[i as usize]);
            let out = warp::fma(a, b, c, mode(x.how));
            r.put32(x.d, &out, m);
        },
        F64 => lanes!(how; u64 = |a: u64, b: u64, c: u64| double::fma(a, b, c, rounding_of(how))),
        F16 => lanes!(how; u16 = |a: u16, b: u16, c: u16| Kind::F16.fma(a, b, c, half_mode(how))),
        BF16 => lanes!(how; u16 = |a: u16, b: u16, c: u16| Kind::Bf16.fma(a, b, c, half_mode(how))),
        F16x2 => lanes!(how; u32 = |a: u32, b: u32, c: u32| {
            half::packed([a, b, c], |[a, b, c]| Kind::F16.fma(a, b, c, half_mode(how)))
        }),
        _ => lanes!(how; u32 = |a: u32, b: u32, c: u32| {
            half::packed([a, b, c], |[a, b, c]| Kind::Bf16.fma(a, b, c, half_mode(how)))
        }),
    };
    Ok((f, args))
}

/// `fma.oob`: a factor that is the NaN which copies of tensors fill with makes the result zero.
#[inline(always)]
fn oob_fma(kind: Kind, a: u16, b: u16, c: u16, how: u32) -> u16 {
    const OUT_OF_BOUNDS: u16 = 0x7fff;
    if a == OUT_OF_BOUNDS || b == OUT_OF_BOUNDS { 0 } else { kind.fma(a, b, c, half_mode(how)) }
}

const MAXIMUM: u32 = 1;
const NAN: u32 = 2;
const XORSIGN: u32 = 8;

fn extremum_of(how: u32) -> Extremum {
    Extremum { maximum: how & MAXIMUM != 0, ftz: how & FTZ != 0, nan: how & NAN != 0, xorsign_abs: how & XORSIGN != 0 }
}

fn extremum(cx: &mut Cx<'_>) -> Decode {
    let maximum = cx.head() == "max";
    let ftz = cx.eat("ftz");
    let nan = cx.eat("NaN");
    let xorsign = cx.eat("xorsign");
    if xorsign && !cx.eat("abs") {
        return cx.unknown();
    }
    let ty = cx.ty_of(&FLOATS)?;
    if (ty == F64 && (ftz || nan || xorsign)) || (ftz && matches!(ty, BF16 | BF16x2)) {
        return cx.unknown();
    }
    // Three operands (PTX 8.8) are for newer cards only.
    let mut args = cx.args(ty, &[ty, ty])?;
    args.how = (u32::from(maximum) * MAXIMUM) | (u32::from(nan) * NAN) | (u32::from(ftz) * FTZ) | (u32::from(xorsign) * XORSIGN);
    let f: LaneFn = match ty {
        F32 => |r, x, m| {
            let out = warp::extremum(&r.r32[x.a as usize], &r.r32[x.b as usize], extremum_of(x.how));
            r.put32(x.d, &out, m);
        },
        F64 => lanes!(how; u64 = |a: u64, b: u64| double::extremum(a, b, extremum_of(how))),
        F16 => lanes!(how; u16 = |a: u16, b: u16| Kind::F16.extremum(a, b, extremum_of(how))),
        BF16 => lanes!(how; u16 = |a: u16, b: u16| Kind::Bf16.extremum(a, b, extremum_of(how))),
        F16x2 => {
            lanes!(how; u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::F16.extremum(a, b, extremum_of(how))))
        }
        _ => lanes!(how; u32 = |a: u32, b: u32| half::packed([a, b], |[a, b]| Kind::Bf16.extremum(a, b, extremum_of(how)))),
    };
    Ok((f, args))
}

fn sign(cx: &mut Cx<'_>) -> Decode {
    let abs = cx.head() == "abs";
    let ftz = cx.eat("ftz");
    let ty = cx.ty_of(&FLOATS)?;
    if ftz && matches!(ty, F64 | BF16 | BF16x2) {
        return cx.unknown();
    }
    let mut args = cx.args(ty, &[ty])?;
    args.how = u32::from(ftz);
    let f = match (ty, abs) {
        (F32, true) => lanes!(how; u32 = |a: u32| (if how != 0 { single::flush(a) } else { a }) & 0x7fff_ffff),
        (F32, false) => lanes!(how; u32 = |a: u32| (if how != 0 { single::flush(a) } else { a }) ^ 0x8000_0000),
        (F64, true) => lanes!(u64 = |a: u64| a & !(1 << 63)),
        (F64, false) => lanes!(u64 = |a: u64| a ^ 1 << 63),
        (F16, true) => lanes!(how; u16 = |a: u16| Kind::F16.abs(a, how != 0)),
        (F16, false) => lanes!(how; u16 = |a: u16| Kind::F16.neg(a, how != 0)),
        (BF16, true) => lanes!(u16 = |a: u16| Kind::Bf16.abs(a, false)),
        (BF16, false) => lanes!(u16 = |a: u16| Kind::Bf16.neg(a, false)),
        (F16x2, true) => lanes!(how; u32 = |a: u32| half::packed([a], |[a]| Kind::F16.abs(a, how != 0))),
        (F16x2, false) => lanes!(how; u32 = |a: u32| half::packed([a], |[a]| Kind::F16.neg(a, how != 0))),
        (_, true) => lanes!(u32 = |a: u32| half::packed([a], |[a]| Kind::Bf16.abs(a, false))),
        (_, false) => lanes!(u32 = |a: u32| half::packed([a], |[a]| Kind::Bf16.neg(a, false))),
    };
    Ok((f, args))
}

fn div(cx: &mut Cx<'_>) -> Decode {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Approx,
        Full,
        Exact(Rounding),
    }
    let rounding = cx.pick(&ROUNDINGS).map(Kind::Exact);
    let kind = match rounding.or_else(|| cx.pick(&[("approx", Kind::Approx), ("full", Kind::Full)])) {
        Some(kind) => kind,
        None => return Err(format!("`{}` needs approx, full or a rounding mode", cx.inst.opcode)),
    };
    let ftz = cx.eat("ftz");
    let ty = cx.ty_of(&[F32, F64])?;
    let mut args = cx.args(ty, &[ty, ty])?;
    let f = match (kind, ty) {
        (Kind::Approx, F32) => lanes!(how; u32 = |a: u32, b: u32| approx::div_approx(a, b, how & FTZ != 0)),
        (Kind::Full, F32) => lanes!(how; u32 = |a: u32, b: u32| approx::div_full(a, b, how & FTZ != 0)),
        (Kind::Exact(_), F32) => lanes!(how; u32 = |a: u32, b: u32| single::div(a, b, mode(how))),
        (Kind::Exact(_), F64) if !ftz => lanes!(how; u64 = |a: u64, b: u64| double::div(a, b, rounding_of(how))),
        _ => return cx.unknown(),
    };
    let rounding = if let Kind::Exact(r) = kind { Some(r) } else { None };
    args.how = how(rounding, ftz, false, false);
    Ok((f, args))
}

fn root(cx: &mut Cx<'_>) -> Decode {
    let rcp = cx.head() == "rcp";
    let rounding = cx.pick(&ROUNDINGS);
    let approximate = rounding.is_none() && cx.eat("approx");
    if rounding.is_none() && !approximate {
        return Err(format!("`{}` needs approx or a rounding mode", cx.inst.opcode));
    }
    let ftz = cx.eat("ftz");
    let ty = cx.ty_of(&[F32, F64])?;
    let mut args = cx.args(ty, &[ty])?;
    args.how = how(rounding, ftz, false, false);
    let f = match (rcp, ty, approximate) {
        (true, F32, true) => lanes!(how; u32 = |a: u32| approx::rcp(a, how & FTZ != 0)),
        (false, F32, true) => lanes!(how; u32 = |a: u32| approx::sqrt(a, how & FTZ != 0)),
        (true, F64, true) if ftz => lanes!(u64 = |a: u64| approx::rcp64(a)),
        (true, F32, false) => lanes!(how; u32 = |a: u32| single::rcp(a, mode(how))),
        (false, F32, false) => lanes!(how; u32 = |a: u32| single::sqrt(a, mode(how))),
        (true, F64, false) if !ftz => lanes!(how; u64 = |a: u64| double::rcp(a, rounding_of(how))),
        (false, F64, false) if !ftz => lanes!(how; u64 = |a: u64| double::sqrt(a, rounding_of(how))),
        _ => return cx.unknown(),
    };
    Ok((f, args))
}

fn approximate(cx: &mut Cx<'_>) -> Decode {
    if !cx.eat("approx") {
        return Err(format!("`{}` exists as .approx only", cx.inst.opcode));
    }
    let head = cx.head();
    let ftz = cx.eat("ftz");
    let ty = cx.ty()?;
    let mut args = cx.args(ty, &[ty])?;
    args.how = u32::from(ftz);
    let f = match (head, ty) {
        ("rsqrt", F32) => lanes!(how; u32 = |a: u32| approx::rsqrt(a, how != 0)),
        ("rsqrt", F64) => lanes!(u64 = |a: u64| approx::rsqrt64(a)),
        ("sin", F32) => lanes!(how; u32 = |a: u32| approx::sin(a, how != 0)),
        ("cos", F32) => lanes!(how; u32 = |a: u32| approx::cos(a, how != 0)),
        ("lg2", F32) => lanes!(how; u32 = |a: u32| approx::lg2(a, how != 0)),
        ("ex2", F32) => lanes!(how; u32 = |a: u32| approx::ex2(a, how != 0)),
        ("ex2", F16) => lanes!(how; u16 = |a: u16| Kind::F16.ex2(a, how != 0)),
        ("ex2", F16x2) => lanes!(how; u32 = |a: u32| half::packed([a], |[a]| Kind::F16.ex2(a, how != 0))),
        ("ex2", BF16) if ftz => lanes!(u16 = |a: u16| Kind::Bf16.ex2(a, true)),
        ("ex2", BF16x2) if ftz => lanes!(u32 = |a: u32| half::packed([a], |[a]| Kind::Bf16.ex2(a, true))),
        ("tanh", F32) if !ftz => lanes!(u32 = |a: u32| approx::tanh(a)),
        ("tanh", F16) if !ftz => lanes!(u16 = |a: u16| Kind::F16.tanh(a)),
        ("tanh", F16x2) if !ftz => lanes!(u32 = |a: u32| half::packed([a], |[a]| Kind::F16.tanh(a))),
        ("tanh", BF16) if !ftz => lanes!(u16 = |a: u16| Kind::Bf16.tanh(a)),
        ("tanh", BF16x2) if !ftz => lanes!(u32 = |a: u32| half::packed([a], |[a]| Kind::Bf16.tanh(a))),
        _ => return cx.unknown(),
    };
    Ok((f, args))
}

fn testp(cx: &mut Cx<'_>) -> Decode {
    const PROPERTIES: [Property; 6] =
        [Property::Finite, Property::Infinite, Property::Number, Property::NotANumber, Property::Normal, Property::Subnormal];
    let names = [("finite", 0), ("infinite", 1), ("number", 2), ("notanumber", 3), ("normal", 4), ("subnormal", 5)];
    let Some(property) = cx.pick(&names) else { return cx.unknown() };
    let ty = cx.ty_of(&[F32, F64])?;
    let mut args = cx.args(Pred, &[ty])?;
    args.how = property;
    let f = if ty == F32 {
        lanes!(how; bool = |a: u32| single::testp(a, PROPERTIES[how as usize]))
    } else {
        lanes!(how; bool = |a: u64| double::testp(a, PROPERTIES[how as usize]))
    };
    Ok((f, args))
}
