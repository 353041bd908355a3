//! Floating-point instructions against exact sums and products in pairs of f64, rounded by search.

use proptest::prelude::*;

use crate::ops::{Expect, Row, run};

/// A format by its significant bits and the exponents of its least and largest binade.
#[derive(Clone, Copy)]
struct Format {
    bits: i32,
    least: i32,
    most: i32,
    width: u32,
}

const F16: Format = Format { bits: 11, least: -14, most: 15, width: 16 };
const BF16: Format = Format { bits: 8, least: -126, most: 127, width: 16 };
const TF32: Format = Format { bits: 11, least: -126, most: 127, width: 32 };
const F32: Format = Format { bits: 24, least: -126, most: 127, width: 32 };

#[derive(Clone, Copy, PartialEq, Debug)]
enum To {
    Nearest,
    Zero,
    Down,
    Up,
}

const MODES: [(&str, To); 4] = [("rn", To::Nearest), ("rz", To::Zero), ("rm", To::Down), ("rp", To::Up)];

/// A number as a double and what is lacking to it, less than half its last place.
#[derive(Clone, Copy)]
struct Exact(f64, f64);

fn sum(a: f64, b: f64) -> Exact {
    let s = a + b;
    let bb = s - a;
    Exact(s, if s.is_finite() { (a - (s - bb)) + (b - bb) } else { 0.0 })
}

/// The value of `x` in the format, rounded: on a grid of the step of its binade, by floor and the remainder.
fn round(x: Exact, f: Format, to: To) -> f64 {
    let Exact(s, e) = x;
    if !s.is_finite() || s == 0.0 {
        return s;
    }
    // A power of two that is a little too large belongs to the binade below.
    let below = i32::from(s.to_bits() << 12 == 0 && e != 0.0 && (e < 0.0) == (s > 0.0));
    let exponent = ((s.abs().to_bits() >> 52) as i32 - 1023 - below).max(f.least);
    let step = 2f64.powi(exponent - f.bits + 1);
    let scaled = s / step;
    let (mut low, mut rest) = (scaled.floor(), scaled - scaled.floor());
    let tail = e / step;
    if rest == 0.0 && tail < 0.0 {
        (low, rest) = (low - 1.0, 1.0);
    }
    let exact = rest == 0.0 && tail == 0.0;
    let half = if rest == 0.5 { tail.partial_cmp(&0.0).unwrap() } else { rest.partial_cmp(&0.5).unwrap() };
    let up = !exact
        && match to {
            To::Up => true,
            To::Down => false,
            To::Zero => s < 0.0,
            To::Nearest => half.is_gt() || (half.is_eq() && low % 2.0 != 0.0),
        };
    let value = (low + f64::from(u8::from(up))) * step;
    let largest = (2.0 - 2f64.powi(1 - f.bits)) * 2f64.powi(f.most);
    if value.abs() > largest {
        let stays = match to {
            To::Nearest => false,
            To::Zero => true,
            To::Down => s > 0.0,
            To::Up => s < 0.0,
        };
        return if stays { largest } else { f64::INFINITY }.copysign(s);
    }
    value.abs().copysign(s)
}

/// The bits of a value that the format holds; the NaN is all ones below the sign.
fn encode(v: f64, f: Format) -> u64 {
    let wide = if v.is_nan() { 0x7fff_ffff } else { (v as f32).to_bits() };
    match (f.width, f.bits) {
        (16, 8) => u64::from(if v.is_nan() { 0x7fff } else { wide >> 16 }),
        (16, _) => {
            let sign = u64::from(v.is_sign_negative() && !v.is_nan()) << 15;
            let a = v.abs();
            let magnitude = if v.is_nan() {
                0x7fff
            } else if a.is_infinite() {
                0x7c00
            } else if a < 2f64.powi(-14) {
                (a * 2f64.powi(24)) as u64
            } else {
                let e = (a.to_bits() >> 52) as i32 - 1023;
                (((e + 15) as u64) << 10) + (a / 2f64.powi(e - 10)) as u64 - 1024
            };
            sign | magnitude
        }
        _ => u64::from(wide),
    }
}

fn decode(x: u64, f: Format) -> f64 {
    match (f.width, f.bits) {
        (16, 8) => f64::from(f32::from_bits((x as u32) << 16)),
        (16, _) => {
            let (e, m) = ((x >> 10 & 31) as i32, (x & 0x3ff) as f64);
            let a = match e {
                0 => m * 2f64.powi(-24),
                31 if m == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + m) * 2f64.powi(e - 25),
            };
            if x >> 15 & 1 != 0 { -a } else { a }
        }
        _ => f64::from(f32::from_bits(x as u32)),
    }
}

fn flush(v: f64, least: i32, ftz: bool) -> f64 {
    if ftz && v.abs() < 2f64.powi(least) { 0f64.copysign(v) } else { v }
}

fn saturate(v: f64, sat: bool) -> f64 {
    if !sat {
        v
    } else if v.is_nan() || v <= 0.0 {
        0.0
    } else {
        v.min(1.0)
    }
}

/// `a·b + c` with one rounding, the signs of zeros as IEEE has them.
fn fused(a: f64, b: f64, c: f64, f: Format, to: To) -> f64 {
    let p = a * b;
    let x = sum(p, c);
    if x.0 == 0.0 && x.1 == 0.0 {
        return match (p.is_sign_negative(), c.is_sign_negative()) {
            (true, true) => -0.0,
            (false, false) => 0.0,
            _ if to == To::Down => -0.0,
            _ => 0.0,
        };
    }
    round(x, f, to)
}

/// Words in which floats of every kind, and pairs that nearly cancel, are frequent.
fn floats() -> impl Strategy<Value = Vec<u64>> {
    let edge = prop::sample::select(vec![
        0_u32,
        0x8000_0000,
        1,
        0x007f_ffff,
        0x0080_0000,
        0x3f80_0000,
        0xbf80_0000,
        0x3f7f_ffff,
        0x3f80_0001,
        0x7f7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x4b00_0000,
        0x4b80_0001,
        0x3300_0000,
        0x477f_e000,
        0x477f_f000,
        0x3380_0000,
        0x8000_0001,
    ]);
    let near_one = (any::<u32>(), 120_u32..136).prop_map(|(m, e)| m & 0x807f_ffff | e << 23);
    let one = prop_oneof![2 => any::<u32>(), 2 => edge, 4 => near_one];
    // The low half serves the 16-bit types too; the high half makes doubles of all kinds.
    prop::collection::vec((one, any::<u32>()), 331).prop_map(|v| {
        v.into_iter()
            .map(|(x, y)| if y % 3 == 0 { u64::from(x) | u64::from(x) << 32 } else { u64::from(x) | u64::from(y) << 32 })
            .collect()
    })
}

fn leak(text: String) -> &'static str {
    text.leak()
}

#[test]
fn f32_arithmetic() {
    let mut rows = Vec::new();
    for (mode, to) in MODES {
        for (ftz, sat) in [(false, false), (true, false), (false, true), (true, true)] {
            let suffix = format!("{mode}{}{}.f32", if ftz { ".ftz" } else { "" }, if sat { ".sat" } else { "" });
            let get = move |x: u64| flush(decode(x, F32), -126, ftz);
            let put = move |v: f64| encode(saturate(flush(v, -126, ftz), sat), F32);
            rows.push(Row::new(leak(format!("add.{suffix} $0, $1, $2;")), "w=ww", move |x| {
                put(fused(get(x[0]), 1.0, get(x[1]), F32, to))
            }));
            rows.push(Row::new(leak(format!("sub.{suffix} $0, $1, $2;")), "w=ww", move |x| {
                put(fused(get(x[0]), 1.0, -get(x[1]), F32, to))
            }));
            rows.push(Row::new(leak(format!("mul.{suffix} $0, $1, $2;")), "w=ww", move |x| {
                put(round(Exact(get(x[0]) * get(x[1]), 0.0), F32, to))
            }));
            rows.push(Row::new(leak(format!("fma.{suffix} $0, $1, $2, $3;")), "w=www", move |x| {
                put(fused(get(x[0]), get(x[1]), get(x[2]), F32, to))
            }));
        }
    }
    let f = |x: u64| f32::from_bits(x as u32);
    let bits = |v: f32| if v.is_nan() { 0x7fff_ffff } else { u64::from(v.to_bits()) };
    rows.push(Row::new("div.rn.f32 $0, $1, $2;", "w=ww", move |x| bits(f(x[0]) / f(x[1]))));
    rows.push(Row::new("rcp.rn.f32 $0, $1;", "w=w", move |x| bits(1.0 / f(x[0]))));
    rows.push(Row::new("sqrt.rn.f32 $0, $1;", "w=w", move |x| bits(f(x[0]).sqrt())));
    rows.push(Row::new("neg.f32 $0, $1;", "w=w", |x| x[0] ^ 0x8000_0000));
    rows.push(Row::new("abs.f32 $0, $1;", "w=w", |x| x[0] & 0x7fff_ffff));
    rows.push(Row::new("copysign.f32 $0, $1, $2;", "w=ww", |x| (x[0] & 0x8000_0000) | (x[1] & 0x7fff_ffff)));
    let order = |x: u64| {
        if f32::from_bits(x as u32) == 0.0 {
            if x == 0 { 0.0 } else { -f64::MIN_POSITIVE }
        } else {
            f64::from(f32::from_bits(x as u32))
        }
    };
    for (name, max) in [("min", false), ("max", true)] {
        for nan in [false, true] {
            let text = leak(format!("{name}{}.f32 $0, $1, $2;", if nan { ".NaN" } else { "" }));
            rows.push(Row::new(text, "w=ww", move |x| match (f(x[0]).is_nan(), f(x[1]).is_nan()) {
                (true, true) => 0x7fff_ffff,
                (true, false) | (false, true) if nan => 0x7fff_ffff,
                (true, false) => x[1],
                (false, true) => x[0],
                _ if (order(x[0]) > order(x[1])) == max => x[0],
                _ => x[1],
            }));
        }
    }
    run(10, rows, floats());
}

#[test]
fn approximate_functions() {
    let row = |text: &'static str, relative: f64, absolute: f64, f: fn(f64) -> f64| {
        Row::near(text, "w=w", move |x| {
            let v = f(flush(decode(x[0], F32), -126, true));
            // Results below the normal range are flushed.
            let v = if v.abs() < 2f64.powi(-126) {
                0.0
            } else if v.abs() >= 2f64.powi(128) {
                f64::INFINITY.copysign(v)
            } else {
                v
            };
            Expect::Near(v, relative, absolute)
        })
    };
    let tiny = 2f64.powi(-125);
    let rows = vec![
        row("rcp.approx.ftz.f32 $0, $1;", 2f64.powi(-23), tiny, |v| 1.0 / v),
        row("rsqrt.approx.ftz.f32 $0, $1;", 2f64.powi(-22), tiny, |v| 1.0 / v.sqrt()),
        row("sqrt.approx.ftz.f32 $0, $1;", 2f64.powi(-22), tiny, f64::sqrt),
        row("ex2.approx.ftz.f32 $0, $1;", 2f64.powi(-22), tiny, f64::exp2),
        row("lg2.approx.ftz.f32 $0, $1;", 2f64.powi(-22), 2f64.powi(-22), f64::log2),
        row("tanh.approx.f32 $0, $1;", 2f64.powi(-10), tiny, f64::tanh),
        Row::near("div.full.f32 $0, $1, $2;", "w=ww", |x| {
            let (a, b) = (decode(x[0], F32), decode(x[1], F32));
            let v = a / b;
            let ordinary =
                (2f64.powi(-100)..2f64.powi(100)).contains(&a.abs()) && (2f64.powi(-20)..2f64.powi(20)).contains(&b.abs());
            if ordinary { Expect::Near(v, 2f64.powi(-22), 0.0) } else { Expect::Anything }
        }),
        Row::near("sin.approx.f32 $0, $1;", "w=w", |x| {
            let v = decode(x[0], F32);
            if v.abs() <= 3.0 { Expect::Near(v.sin(), 0.0, 2f64.powi(-20)) } else { Expect::Anything }
        }),
        Row::near("cos.approx.f32 $0, $1;", "w=w", |x| {
            let v = decode(x[0], F32);
            if v.abs() <= 3.0 { Expect::Near(v.cos(), 0.0, 2f64.powi(-20)) } else { Expect::Anything }
        }),
    ];
    run(16, rows, floats());
}

#[test]
fn f64_arithmetic() {
    // A NaN's payload is the first operand's: only that it is one is checked.
    let f = f64::from_bits;
    let bits = |v: f64| (!v.is_nan()).then(|| v.to_bits());
    let toward = |x: Exact, to: To| {
        // The double is the nearest; what is lacking says which neighbour a direction wants.
        let Exact(s, e) = x;
        match to {
            To::Nearest => s,
            To::Up if e > 0.0 => s.next_up(),
            To::Down if e < 0.0 => s.next_down(),
            To::Zero if e != 0.0 && (e < 0.0) == (s > 0.0) => {
                if s > 0.0 {
                    s.next_down()
                } else {
                    s.next_up()
                }
            }
            _ => s,
        }
    };
    let mut rows = vec![
        Row::partly("mul.rn.f64 $0, $1, $2;", "d=dd", move |x| bits(f(x[0]) * f(x[1]))),
        Row::partly("fma.rn.f64 $0, $1, $2, $3;", "d=ddd", move |x| bits(f(x[0]).mul_add(f(x[1]), f(x[2])))),
        Row::partly("div.rn.f64 $0, $1, $2;", "d=dd", move |x| bits(f(x[0]) / f(x[1]))),
        Row::partly("sqrt.rn.f64 $0, $1;", "d=d", move |x| bits(f(x[0]).sqrt())),
        Row::partly("rcp.rn.f64 $0, $1;", "d=d", move |x| bits(1.0 / f(x[0]))),
        Row::new("neg.f64 $0, $1;", "d=d", |x| x[0] ^ 1 << 63),
        Row::new("abs.f64 $0, $1;", "d=d", |x| x[0] & !(1 << 63)),
    ];
    for (mode, to) in MODES {
        rows.push(Row::partly(leak(format!("add.{mode}.f64 $0, $1, $2;")), "d=dd", move |x| {
            let (a, b) = (f(x[0]), f(x[1]));
            let v = sum(a, b);
            // Near the ends of the range the error term itself is not exact.
            let plain = (1e-250..1e250).contains(&a.abs()) && (1e-250..1e250).contains(&b.abs()) && v.0 != 0.0;
            if plain { bits(toward(v, to)) } else { None }
        }));
    }
    run(16, rows, floats());
}

/// An operation on three values, rounded to a format.
type Ternary = fn(f64, f64, f64, Format) -> f64;

#[test]
fn halves() {
    let mut rows = Vec::new();
    for (ty, f) in [("f16", F16), ("bf16", BF16)] {
        let g = move |x: u64| decode(x & 0xffff, f);
        let p = move |v: f64| encode(v, f);
        let two = move |h: Ternary, x: &[u64]| {
            let one = |s: u32| p(h(g(x[0] >> s), g(x[1] >> s), g(x[2] >> s), f));
            one(0) | one(16) << 16
        };
        let operations: [(&str, Ternary); 4] = [
            ("add", |a, b, _, f| fused(a, 1.0, b, f, To::Nearest)),
            ("sub", |a, b, _, f| fused(a, 1.0, -b, f, To::Nearest)),
            ("mul", |a, b, _, f| round(Exact(a * b, 0.0), f, To::Nearest)),
            ("fma.rn", |a, b, c, f| fused(a, b, c, f, To::Nearest)),
        ];
        for (name, h) in operations {
            let (operands, scalar, packed) =
                if name == "fma.rn" { ("$0, $1, $2, $3", "h=hhh", "w=www") } else { ("$0, $1, $2", "h=hh", "w=ww") };
            let three = |x: &[u64]| [x[0], x[1], x.get(2).copied().unwrap_or(0)];
            rows.push(Row::new(leak(format!("{name}.{ty} {operands};")), scalar, move |x| {
                let x = three(x);
                p(h(g(x[0]), g(x[1]), g(x[2]), f))
            }));
            rows.push(Row::new(leak(format!("{name}.{ty}x2 {operands};")), packed, move |x| two(h, &three(x))));
        }
        rows.push(Row::new(leak(format!("fma.rn.relu.{ty} $0, $1, $2, $3;")), "h=hhh", move |x| {
            let v = fused(g(x[0]), g(x[1]), g(x[2]), f, To::Nearest);
            if v.is_nan() { 0x7fff } else { p(if v < 0.0 || v.to_bits() == (-0f64).to_bits() { 0.0 } else { v }) }
        }));
        rows.push(Row::new(leak(format!("neg.{ty}x2 $0, $1;")), "w=w", |x| {
            let one = |h: u64| if h & 0x7fff > 0x7c00 { h } else { h ^ 0x8000 };
            one(x[0] & 0xffff) | one(x[0] >> 16) << 16
        }));
        for (name, max) in [("min", false), ("max", true)] {
            rows.push(Row::new(leak(format!("{name}.{ty} $0, $1, $2;")), "h=hh", move |x| {
                let (a, b) = (g(x[0]), g(x[1]));
                let key = |v: f64| if v == 0.0 && v.is_sign_negative() { -f64::MIN_POSITIVE } else { v };
                match (a.is_nan(), b.is_nan()) {
                    (true, true) => 0x7fff,
                    (true, false) => x[1],
                    (false, true) => x[0],
                    _ if (key(a) > key(b)) == max => x[0],
                    _ => x[1],
                }
            }));
        }
        rows.push(Row::many(leak(format!("setp.lt.{ty}x2 $0|$1, $2, $3;")), "pp=ww", move |x| {
            [0, 16].map(|s| u64::from(g(x[0] >> s) < g(x[1] >> s))).to_vec()
        }));
    }
    // The sign of a NaN that `neg` is given is not promised.
    rows.retain(|r| !r.text.starts_with("neg"));
    run(10, rows, floats());
}

#[test]
fn comparisons() {
    let f = |x: u64| f64::from(f32::from_bits(x as u32));
    fn unordered(a: f64, b: f64) -> bool {
        a.is_nan() || b.is_nan()
    }
    type Holds = fn(f64, f64) -> bool;
    let operators: [(&str, Holds); 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b && !unordered(a, b)),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| a == b || unordered(a, b)),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a < b || unordered(a, b)),
        ("leu", |a, b| a <= b || unordered(a, b)),
        ("gtu", |a, b| a > b || unordered(a, b)),
        ("geu", |a, b| a >= b || unordered(a, b)),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    let mut rows = Vec::new();
    for (name, holds) in operators {
        rows.push(Row::many(leak(format!("setp.{name}.f32 $0|$1, $2, $3;")), "pp=ww", move |x| {
            let t = u64::from(holds(f(x[0]), f(x[1])));
            vec![t, 1 - t]
        }));
        rows.push(Row::new(leak(format!("setp.{name}.and.f64 $0, $1, $2, $3;")), "p=ddp", move |x| {
            u64::from(holds(f64::from_bits(x[0]), f64::from_bits(x[1]))) & x[2]
        }));
        rows.push(Row::new(leak(format!("set.{name}.ftz.f32.f32 $0, $1, $2;")), "w=ww", move |x| {
            let z = |x: u64| flush(f(x), -126, true);
            if holds(z(x[0]), z(x[1])) { 0x3f80_0000 } else { 0 }
        }));
    }
    type Class = fn(f32) -> bool;
    let classes: [(&str, Class); 6] = [
        ("finite", |v| v.is_finite()),
        ("infinite", |v| v.is_infinite()),
        ("number", |v| !v.is_nan()),
        ("notanumber", |v| v.is_nan()),
        ("normal", |v| v.is_normal()),
        ("subnormal", |v| v.is_subnormal() || v == 0.0),
    ];
    for (name, f) in classes {
        rows.push(Row::new(leak(format!("testp.{name}.f32 $0, $1;")), "p=w", move |x| u64::from(f(f32::from_bits(x[0] as u32)))));
    }
    run(12, rows, floats());
}

#[test]
fn conversions() {
    let mut rows = Vec::new();
    for (mode, to) in MODES {
        for (ty, f) in [("f16", F16), ("bf16", BF16)] {
            if matches!(to, To::Down | To::Up) && ty == "bf16" {
                continue;
            }
            rows.push(Row::new(leak(format!("cvt.{mode}.{ty}.f32 $0, $1;")), "h=w", move |x| {
                encode(round(Exact(decode(x[0], F32), 0.0), f, to), f)
            }));
        }
        rows.push(Row::new(leak(format!("cvt.{mode}.f32.f64 $0, $1;")), "w=d", move |x| {
            encode(round(Exact(f64::from_bits(x[0]), 0.0), F32, to), F32)
        }));
        for (ty, shape, bits, signed) in [("s32", "w=w", 32, true), ("u32", "w=w", 32, false), ("s16", "w=h", 16, true)] {
            rows.push(Row::new(leak(format!("cvt.{mode}.f32.{ty} $0, $1;")), shape, move |x| {
                let v = x[0] << (64 - bits);
                let v = if signed { (v as i64 >> (64 - bits)) as f64 } else { (v >> (64 - bits)) as f64 };
                encode(round(Exact(v, 0.0), F32, to), F32)
            }));
        }
        let integral = move |v: f64| match to {
            To::Nearest => v.round_ties_even(),
            To::Zero => v.trunc(),
            To::Down => v.floor(),
            To::Up => v.ceil(),
        };
        for (ty, shape, low, high) in [
            ("s32", "w=w", -2_147_483_648.0, 2_147_483_647.0),
            ("u32", "w=w", 0.0, 4_294_967_295.0),
            ("u16", "h=w", 0.0, 65_535.0),
            ("s8", "h=w", -128.0, 127.0),
        ] {
            rows.push(Row::new(leak(format!("cvt.{mode}i.{ty}.f32 $0, $1;")), shape, move |x| {
                let v = decode(x[0], F32);
                if v.is_nan() { 0 } else { integral(v).clamp(low, high) as i64 as u64 }
            }));
        }
        rows.push(Row::partly(leak(format!("cvt.{mode}i.s32.f64 $0, $1;")), "w=d", move |x| {
            let v = f64::from_bits(x[0]);
            (!v.is_nan()).then(|| integral(v).clamp(-2_147_483_648.0, 2_147_483_647.0) as i64 as u64)
        }));
        rows.push(Row::new(leak(format!("cvt.{mode}i.f32.f32 $0, $1;")), "w=w", move |x| {
            let v = decode(x[0], F32);
            encode(integral(v).copysign(v), F32)
        }));
    }
    let nearest = |x: u64, f: Format| encode(round(Exact(decode(x, F32), 0.0), f, To::Nearest), f);
    rows.push(Row::new("cvt.rn.f16x2.f32 $0, $1, $2;", "w=ww", move |x| nearest(x[1], F16) | nearest(x[0], F16) << 16));
    rows.push(Row::new("cvt.rn.bf16x2.f32 $0, $1, $2;", "w=ww", move |x| nearest(x[1], BF16) | nearest(x[0], BF16) << 16));
    rows.push(Row::new("cvt.rn.relu.f16x2.f32 $0, $1, $2;", "w=ww", move |x| {
        let one = |x| {
            let v = nearest(x, F16);
            if v == 0x7fff {
                v
            } else if v & 0x8000 != 0 {
                0
            } else {
                v
            }
        };
        one(x[1]) | one(x[0]) << 16
    }));
    rows.push(Row::new("cvt.f32.f16 $0, $1;", "w=h", |x| encode(decode(x[0], F16), F32)));
    rows.push(Row::new("cvt.f32.bf16 $0, $1;", "w=h", |x| encode(decode(x[0], BF16), F32)));
    rows.push(Row::partly("cvt.f64.f32 $0, $1;", "d=w", |x| {
        let v = decode(x[0], F32);
        (!v.is_nan()).then(|| v.to_bits())
    }));
    rows.push(Row::new("cvt.sat.f32.f32 $0, $1;", "w=w", |x| encode(saturate(decode(x[0], F32), true), F32)));
    rows.push(Row::new("cvt.rn.tf32.f32 $0, $1;", "w=w", |x| {
        encode(round(Exact(decode(x[0], F32), 0.0), TF32, To::Nearest), F32)
    }));
    rows.push(Row::partly("cvt.rna.tf32.f32 $0, $1;", "w=w", |x| {
        let v = decode(x[0], F32);
        // Ties away: half a step more, then cut.
        v.is_finite().then(|| (x[0] + 0x1000) & 0xffff_e000)
    }));
    run(10, rows, floats());
}

#[test]
fn eight_bits() {
    // e4m3 has no infinity and one NaN a sign; e5m2 is IEEE-like.
    let value = |b: u64, e5m2: bool| {
        let (m, bias) = if e5m2 { (2, 15) } else { (3, 7) };
        let (e, f) = ((b & 0x7f) >> m, (b & ((1 << m) - 1)) as f64 / f64::from(1 << m));
        let v = if e == 0 { f * 2f64.powi(1 - bias) } else { (1.0 + f) * 2f64.powi(e as i32 - bias) };
        let v = match (e5m2, b & 0x7f) {
            (false, 0x7f) => f64::NAN,
            (true, 0x7c) => f64::INFINITY,
            (true, 0x7d..) => f64::NAN,
            _ => v,
        };
        if b & 0x80 != 0 { -v } else { v }
    };
    let nearest = move |v: f64, e5m2: bool| {
        if v.is_nan() {
            return 0x7f;
        }
        let finite = |b: &u64| value(*b, e5m2).is_finite();
        let largest = (0..0x80).filter(finite).map(|b| value(b, e5m2)).fold(0.0, f64::max);
        let size = v.abs().min(largest);
        // The nearest finite one; of two, the even one.
        let magnitude = (0..0x80_u64)
            .filter(finite)
            .min_by(|a, b| {
                let d = |c: u64| (value(c, e5m2) - size).abs();
                d(*a).partial_cmp(&d(*b)).unwrap().then((a & 1).cmp(&(b & 1)))
            })
            .unwrap();
        magnitude | u64::from(v.is_sign_negative()) << 7
    };
    let mut rows = Vec::new();
    for (ty, e5m2) in [("e4m3x2", false), ("e5m2x2", true)] {
        rows.push(Row::new(leak(format!("cvt.rn.satfinite.{ty}.f32 $0, $1, $2;")), "h=ww", move |x| {
            nearest(decode(x[1], F32), e5m2) | nearest(decode(x[0], F32), e5m2) << 8
        }));
        rows.push(Row::new(leak(format!("cvt.rn.satfinite.{ty}.f16x2 $0, $1;")), "h=w", move |x| {
            nearest(decode(x[0] & 0xffff, F16), e5m2) | nearest(decode(x[0] >> 16, F16), e5m2) << 8
        }));
        rows.push(Row::new(leak(format!("cvt.rn.f16x2.{ty} $0, $1;")), "w=h", move |x| {
            encode(value(x[0] & 0xff, e5m2), F16) | encode(value(x[0] >> 8, e5m2), F16) << 16
        }));
    }
    run(4, rows, floats());
}
