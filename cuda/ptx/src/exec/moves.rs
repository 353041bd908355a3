//! `mov` with its packing and unpacking; address conversions: `cvta`, `isspacep`, `mapa`, `getctarank`.

use super::lanes::{Decode, LaneFn, Regs, lanes};
use crate::ir::{Args, Class, Constant, Cx};
use crate::mem::{GLOBAL_BASE, LOCAL_BASE, SHARED_BASE, WINDOW};
use crate::text::ast::{Operand, Type};

/// The most bytes of parameters that a kernel takes.
const MAX_PARAMS: u64 = 32_764;

/// `mov`, with packing and unpacking.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    let ty = cx.ty()?;
    if let Some(n) = cx.pick(&[("v2", 2), ("v4", 4)]) {
        return move_vector(cx, ty, n);
    }
    cx.end(2)?;
    match (cx.operand(0)?, cx.operand(1)?) {
        (Operand::Vector(d), source) => unpack(cx, ty, d, source),
        (_, Operand::Vector(s)) => pack(cx, ty, s),
        _ => {
            let args = cx.args(ty, &[ty])?;
            Ok((
                match ty.bits() {
                    1 => lanes!(bool = |a: bool| a),
                    8..=32 => lanes!(u32 = |a: u32| a),
                    64 => lanes!(u64 = |a: u64| a),
                    _ => mov128,
                },
                args,
            ))
        }
    }
}

/// `mov.v2`, `mov.v4`: element by element, all read before any is written.
fn move_vector(cx: &mut Cx<'_>, ty: Type, n: usize) -> Decode {
    cx.end(2)?;
    if !matches!(ty.bits(), 8..=64) || ty.bits() as usize * n > 128 {
        return cx.unknown();
    }
    let (mut d, mut s) = ([0; 4], [0; 4]);
    for (i, (to, from)) in cx.vector(0, n)?.iter().zip(cx.vector(1, n)?).enumerate() {
        (d[i], s[i]) = (cx.dst_of(to, ty)?, cx.src_of(from, ty)?);
    }
    let [a, b, c, f] = s;
    // The last two destinations lie where modifiers would.
    let args = Args { d: d[0], e: d[1], a, b, c, f, how: u32::from(d[2]) | u32::from(d[3]) << 16 };
    let f: LaneFn = match (ty.bits(), n) {
        (64, _) => |r, x, m| {
            let (a, b) = (r.r64[x.a as usize], r.r64[x.b as usize]);
            r.put64(x.d, &a, m);
            r.put64(x.e, &b, m);
        },
        (_, 2) => |r, x, m| {
            let (a, b) = (r.r32[x.a as usize], r.r32[x.b as usize]);
            r.put32(x.d, &a, m);
            r.put32(x.e, &b, m);
        },
        _ => |r, x, m| {
            let values = [x.a, x.b, x.c, x.f].map(|i| r.r32[i as usize]);
            for (d, v) in [x.d, x.e, x.how as u16, (x.how >> 16) as u16].into_iter().zip(&values) {
                r.put32(d, v, m);
            }
        },
    };
    Ok((f, args))
}

fn mov128(regs: &mut Regs, args: &Args, mask: u32) {
    for i in 0..2 {
        let v = regs.r64[args.a as usize + i];
        regs.put64(args.d + i as u16, &v, mask);
    }
}

fn pack(cx: &mut Cx<'_>, ty: Type, parts: &[Operand]) -> Decode {
    let element = element_type(cx, ty, parts.len())?;
    let d = cx.dst(0, ty)?;
    let mut s = [0; 4];
    for (i, p) in parts.iter().enumerate() {
        s[i] = cx.src_of(p, element)?;
    }
    let args = Args { d, a: s[0], b: s[1], c: s[2], f: s[3], ..Args::default() };
    let f: LaneFn = match (ty.bits(), parts.len()) {
        (16, 2) => lanes!(u16 = |a: u8, b: u8| u16::from_le_bytes([a, b])),
        (32, 2) => lanes!(u32 = |a: u16, b: u16| u32::from(a) | u32::from(b) << 16),
        (32, 4) => lanes!(u32 = |a: u8, b: u8, c: u8, f: u8| u32::from_le_bytes([a, b, c, f])),
        (64, 2) => lanes!(u64 = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32),
        (64, 4) => lanes!(
            u64 = |a: u16, b: u16, c: u16, f: u16| u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(f) << 48
        ),
        (128, 4) => |regs, args, mask| {
            let words = [args.a, args.b, args.c, args.f].map(|i| regs.r32[i as usize]);
            for half in 0..2 {
                let [low, high] = [&words[2 * half], &words[2 * half + 1]];
                let value = std::array::from_fn(|l| u64::from(low[l]) | u64::from(high[l]) << 32);
                regs.put64(args.d + half as u16, &value, mask);
            }
        },
        (128, 2) => |regs, args, mask| {
            let (a, b) = (regs.r64[args.a as usize], regs.r64[args.b as usize]);
            regs.put64(args.d, &a, mask);
            regs.put64(args.d + 1, &b, mask);
        },
        _ => return cx.unknown(),
    };
    Ok((f, args))
}

fn unpack(cx: &mut Cx<'_>, ty: Type, parts: &[Operand], source: &Operand) -> Decode {
    let element = element_type(cx, ty, parts.len())?;
    let a = cx.src_of(source, ty)?;
    let mut d = [0; 4];
    for (i, p) in parts.iter().enumerate() {
        d[i] = cx.dst_of(p, element)?;
    }
    let args = Args { a, d: d[0], e: d[1], b: d[2], c: d[3], ..Args::default() };
    let f: LaneFn = match (ty.bits(), parts.len()) {
        (16, 2) => |r, x, m| split32(r, x.a, &[x.d, x.e], 8, m),
        (32, 2) => |r, x, m| split32(r, x.a, &[x.d, x.e], 16, m),
        (32, 4) => |r, x, m| split32(r, x.a, &[x.d, x.e, x.b, x.c], 8, m),
        (64, 2) => |r, x, m| split64(r, x.a, &[x.d, x.e], 32, m),
        (64, 4) => |r, x, m| split64(r, x.a, &[x.d, x.e, x.b, x.c], 16, m),
        (128, 4) => |r, x, m| {
            let words = [r.r64[x.a as usize], r.r64[x.a as usize + 1]];
            for (i, d) in [x.d, x.e, x.b, x.c].into_iter().enumerate() {
                r.put32(d, &words[i / 2].map(|w| (w >> (32 * (i % 2))) as u32), m);
            }
        },
        (128, 2) => |r, x, m| {
            let (lo, hi) = (r.r64[x.a as usize], r.r64[x.a as usize + 1]);
            r.put64(x.d, &lo, m);
            r.put64(x.e, &hi, m);
        },
        _ => return cx.unknown(),
    };
    Ok((f, args))
}

fn split32(regs: &mut Regs, a: u16, d: &[u16], bits: u32, mask: u32) {
    let a = regs.r32[a as usize];
    for (i, d) in d.iter().enumerate() {
        regs.put32(*d, &a.map(|a| a >> (i as u32 * bits) & ((1 << bits) - 1)), mask);
    }
}

fn split64(regs: &mut Regs, a: u16, d: &[u16], bits: u32, mask: u32) {
    let a = regs.r64[a as usize];
    for (i, d) in d.iter().enumerate() {
        regs.put32(*d, &a.map(|a| (a >> (i as u32 * bits)) as u32 & (u32::MAX >> (32 - bits))), mask);
    }
}

fn element_type(cx: &Cx<'_>, ty: Type, n: usize) -> Result<Type, String> {
    match (ty.bits() as usize).checked_div(n) {
        Some(8) => Ok(Type::B8),
        Some(16) => Ok(Type::B16),
        Some(32) => Ok(Type::B32),
        Some(64) => Ok(Type::B64),
        _ => Err(format!("`{}` cannot take {n} elements", cx.inst.opcode)),
    }
}

/// `createpolicy`: a cache policy is an opaque number, and nothing here depends on it.
pub fn decode_policy(cx: &mut Cx<'_>) -> Decode {
    const POLICY: u64 = 0x14f0_0000_0000_0000;
    let kind = cx.part("fractional, range or cvt")?;
    // The first priority, and one for the rest.
    const FIRST: [&str; 4] = ["L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"];
    const SECOND: [&str; 2] = ["L2::evict_first", "L2::evict_unchanged"];
    let priority = |cx: &mut Cx<'_>, of: &[&str]| cx.find(|p| of.contains(&p).then_some(())).is_some();
    let sources = match kind {
        "cvt" if cx.eat("L2") => 1,
        "fractional" | "range" if priority(cx, &FIRST) => {
            priority(cx, &SECOND);
            let _ = kind == "range" && cx.eat("global");
            if kind == "range" { 3 } else { cx.count().saturating_sub(1).min(1) }
        }
        _ => return cx.unknown(),
    };
    cx.ty_of(&[Type::B64])?;
    cx.end(1 + sources)?;
    let d = cx.dst(0, Type::B64)?;
    let a = cx.constant(Type::B64, POLICY);
    Ok((lanes!(u64 = |a: u64| a), Args { d, a, ..Args::default() }))
}

/// `cvta`, `isspacep`, `mapa`, `getctarank`.
pub fn decode_address(cx: &mut Cx<'_>) -> Decode {
    let u = [Type::U64];
    match cx.head() {
        "cvta" => {
            let to = cx.lead("to");
            let space = cx.part("a space")?;
            cx.ty_of(&u)?;
            let args = cx.args(Type::U64, &[Type::U64])?;
            let f = match (space, to) {
                ("global" | "const", _) => lanes!(u64 = |a: u64| a),
                ("shared" | "shared::cta" | "shared::cluster", false) => {
                    lanes!(u64 = |a: u64| SHARED_BASE + u64::from(a as u32))
                }
                ("shared" | "shared::cta" | "shared::cluster", true) => lanes!(u64 = |a: u64| a.wrapping_sub(SHARED_BASE)),
                ("local", false) => lanes!(u64 = |a: u64| LOCAL_BASE + u64::from(a as u32)),
                ("local", true) => lanes!(u64 = |a: u64| a.wrapping_sub(LOCAL_BASE)),
                // A kernel's parameters have generic addresses already; a function's lie in its frame.
                ("param" | "param::entry", false) => {
                    lanes!(u64 = |a: u64| if a < WINDOW { LOCAL_BASE + a } else { a })
                }
                ("param" | "param::entry", true) => lanes!(u64 = |a: u64| a),
                _ => return cx.unknown(),
            };
            Ok((f, args))
        }
        "isspacep" => {
            let space = cx.part("a space")?;
            let mut args = cx.args(Type::Pred, &[Type::U64])?;
            if matches!(space, "param" | "param::entry") {
                args.b = cx.scopes.numbering.constant(Class::B64, Constant::KernelParam(0)).index;
                return Ok((lanes!(bool = |a: u64, b: u64| a.wrapping_sub(b) < MAX_PARAMS), args));
            }
            let f = match space {
                "global" => lanes!(bool = |a: u64| a >= GLOBAL_BASE),
                "const" => lanes!(bool = |_a: u64| false),
                "local" => lanes!(bool = |a: u64| a >> 32 == LOCAL_BASE >> 32),
                "shared" | "shared::cta" => lanes!(bool = |a: u64| a >> 24 == SHARED_BASE >> 24),
                "shared::cluster" => lanes!(bool = |a: u64| a >> 32 == SHARED_BASE >> 32),
                _ => return cx.unknown(),
            };
            Ok((f, args))
        }
        "mapa" => {
            let shared = cx.eat("shared::cluster");
            let ty = cx.ty_of(&[Type::U32, Type::U64])?;
            let args = cx.args(ty, &[ty, Type::U32])?;
            let f = match (ty, shared) {
                (Type::U32, _) => lanes!(u32 = |a: u32, b: u32| a & 0xff_ffff | b.wrapping_add(1) << 24),
                _ => lanes!(u64 = |a: u64, b: u32| a & !0xff00_0000 | u64::from(b.wrapping_add(1)) << 24),
            };
            Ok((f, args))
        }
        "getctarank" => {
            let shared = cx.eat("shared::cluster");
            let ty = cx.ty_of(&[Type::U32, Type::U64])?;
            if ty == Type::U32 && !shared {
                return cx.unknown();
            }
            cx.end(2)?;
            let d = cx.dst(0, Type::U32)?;
            let a = cx.src(1, ty)?;
            let own = Operand::Name("%cluster_ctarank".into());
            let b = cx.src_of(&own, Type::U32)?;
            let args = Args { d, a, b, ..Args::default() };
            let f = match ty {
                Type::U32 => lanes!(u32 = |a: u32, b: u32| if a >> 24 == 0 { b } else { (a >> 24) - 1 }),
                _ => lanes!(
                    u32 = |a: u64, b: u32| match (a >> 24) as u8 {
                        0 => b,
                        r => u32::from(r) - 1,
                    }
                ),
            };
            Ok((f, args))
        }
        _ => cx.unknown(),
    }
}
