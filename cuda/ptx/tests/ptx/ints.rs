//! Integer instructions against plain arithmetic in i128.

use crate::ops::{Row, run, words};

/// The operand as a signed number of so many bits.
fn s(x: u64, bits: u32) -> i128 {
    i128::from((x << (64 - bits)) as i64 >> (64 - bits))
}

/// As an unsigned one.
fn u(x: u64, bits: u32) -> i128 {
    i128::from(x << (64 - bits) >> (64 - bits))
}

fn value(x: u64, bits: u32, signed: bool) -> i128 {
    if signed { s(x, bits) } else { u(x, bits) }
}

/// `text` with `T` for each listed type, e.g. "u32": signedness and width reach the reference.
fn typed(
    text: &str,
    types: &[&'static str],
    shape: impl Fn(char) -> String,
    f: impl Fn(&[u64], u32, bool) -> i128 + Copy + 'static,
) -> Vec<Row> {
    types
        .iter()
        .map(|ty| {
            let bits: u32 = ty[1..].parse().unwrap();
            let signed = ty.starts_with('s');
            let letter = match bits {
                16 => 'h',
                32 => 'w',
                _ => 'd',
            };
            let text: &'static str = text.replace('T', ty).leak();
            let shape: &'static str = shape(letter).leak();
            Row::new(text, shape, move |x| f(x, bits, signed) as u64)
        })
        .collect()
}

fn unary(c: char) -> String {
    format!("{c}={c}")
}

fn binary(c: char) -> String {
    format!("{c}={c}{c}")
}

fn ternary(c: char) -> String {
    format!("{c}={c}{c}{c}")
}

fn wider(c: char) -> char {
    if c == 'h' { 'w' } else { 'd' }
}

const ALL: [&str; 6] = ["u16", "u32", "u64", "s16", "s32", "s64"];
const NARROW: [&str; 4] = ["u16", "u32", "s16", "s32"];

/// The range of a type.
fn clamp(x: i128, bits: u32, signed: bool) -> i128 {
    let (low, high) = if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    x.clamp(low, high)
}

#[test]
fn arithmetic() {
    let mut rows = Vec::new();
    let v = value;
    rows.extend(typed("add.T $0, $1, $2;", &ALL, binary, move |x, b, g| v(x[0], b, g) + v(x[1], b, g)));
    rows.extend(typed("sub.T $0, $1, $2;", &ALL, binary, move |x, b, g| v(x[0], b, g) - v(x[1], b, g)));
    rows.extend(typed("mul.lo.T $0, $1, $2;", &ALL, binary, move |x, b, g| v(x[0], b, g).wrapping_mul(v(x[1], b, g))));
    rows.extend(typed("mul.hi.T $0, $1, $2;", &["u16", "u32", "s16", "s32", "s64"], binary, move |x, b, g| {
        (v(x[0], b, g) * v(x[1], b, g)) >> b
    }));
    rows.push(Row::new("mul.hi.u64 $0, $1, $2;", "d=dd", |x| ((u128::from(x[0]) * u128::from(x[1])) >> 64) as u64));
    rows.extend(typed(
        "mul.wide.T $0, $1, $2;",
        &NARROW,
        |c| format!("{}={c}{c}", wider(c)),
        move |x, b, g| v(x[0], b, g) * v(x[1], b, g),
    ));
    rows.extend(typed("mad.lo.T $0, $1, $2, $3;", &ALL, ternary, move |x, b, g| {
        v(x[0], b, g).wrapping_mul(v(x[1], b, g)).wrapping_add(v(x[2], b, g))
    }));
    rows.extend(typed("mad.hi.T $0, $1, $2, $3;", &["u16", "u32", "s16", "s32", "s64"], ternary, move |x, b, g| {
        ((v(x[0], b, g) * v(x[1], b, g)) >> b) + v(x[2], b, g)
    }));
    rows.extend(typed(
        "mad.wide.T $0, $1, $2, $3;",
        &NARROW,
        |c| format!("{0}={c}{c}{0}", wider(c)),
        move |x, b, g| v(x[0], b, g) * v(x[1], b, g) + v(x[2], 2 * b, g),
    ));
    rows.extend(typed("min.T $0, $1, $2;", &ALL, binary, move |x, b, g| v(x[0], b, g).min(v(x[1], b, g))));
    rows.extend(typed("max.T $0, $1, $2;", &ALL, binary, move |x, b, g| v(x[0], b, g).max(v(x[1], b, g))));
    rows.extend(typed("sad.T $0, $1, $2, $3;", &ALL, ternary, move |x, b, g| {
        (v(x[0], b, g) - v(x[1], b, g)).abs() + v(x[2], b, g)
    }));
    let signed = ["s16", "s32", "s64"];
    rows.extend(typed("abs.T $0, $1;", &signed, unary, move |x, b, g| v(x[0], b, g).abs()));
    rows.extend(typed("neg.T $0, $1;", &signed, unary, move |x, b, g| -v(x[0], b, g)));
    rows.extend(typed("add.sat.T $0, $1, $2;", &["s32"], binary, move |x, b, g| clamp(s(x[0], b) + s(x[1], b), b, g)));
    rows.extend(typed("sub.sat.T $0, $1, $2;", &["s32"], binary, move |x, b, g| clamp(s(x[0], b) - s(x[1], b), b, g)));
    rows.extend(typed("mad.hi.sat.T $0, $1, $2, $3;", &["s32"], ternary, move |x, b, g| {
        clamp(((s(x[0], b) * s(x[1], b)) >> 32) + s(x[2], b), b, g)
    }));
    rows.extend(typed("max.s32.relu $0, $1, $2;", &["s32"], binary, move |x, b, _| s(x[0], b).max(s(x[1], b)).max(0)));
    for (text, high) in [("mul24.lo.T $0, $1, $2;", false), ("mul24.hi.T $0, $1, $2;", true)] {
        rows.extend(typed(text, &["u32", "s32"], binary, move |x, _, g| {
            (v(x[0], 24, g) * v(x[1], 24, g)) >> if high { 16 } else { 0 }
        }));
    }
    rows.extend(typed("mad24.lo.T $0, $1, $2, $3;", &["u32", "s32"], ternary, move |x, b, g| {
        v(x[0], 24, g) * v(x[1], 24, g) + v(x[2], b, g)
    }));
    run(12, rows, words());
}

#[test]
fn division() {
    // By zero the result is the machine's own.
    let row = |text: &str, f: fn(i128, i128) -> i128| {
        ALL.iter()
            .map(|ty| {
                let bits: u32 = ty[1..].parse().unwrap();
                let signed = ty.starts_with('s');
                let text: &'static str = text.replace('T', ty).leak();
                let shape = match bits {
                    16 => "h=hh",
                    32 => "w=ww",
                    _ => "d=dd",
                };
                Row::partly(text, shape, move |x| {
                    let (a, b) = (value(x[0], bits, signed), value(x[1], bits, signed));
                    (b != 0).then(|| f(a, b) as u64)
                })
            })
            .collect::<Vec<_>>()
    };
    let mut rows = row("div.T $0, $1, $2;", |a, b| a / b);
    rows.extend(row("rem.T $0, $1, $2;", |a, b| a % b));
    run(12, rows, words());
}

#[test]
fn carries() {
    let wide = |x: &[u64], i: usize| u128::from(x[i]) | u128::from(x[i + 1]) << 64;
    let halves = |v: u128| vec![v as u64, (v >> 64) as u64];
    let rows = vec![
        Row::many("add.cc.u64 $0, $2, $4; addc.u64 $1, $3, $5;", "dd=dddd", move |x| halves(wide(x, 0).wrapping_add(wide(x, 2)))),
        Row::many("sub.cc.u64 $0, $2, $4; subc.u64 $1, $3, $5;", "dd=dddd", move |x| halves(wide(x, 0).wrapping_sub(wide(x, 2)))),
        Row::many("add.cc.u32 $0, $3, $4; addc.cc.u32 $1, $5, $6; addc.u32 $2, 0, 0;", "www=wwww", |x| {
            let v = u128::from(x[0]) + u128::from(x[1]) + (u128::from(x[2]) << 32) + (u128::from(x[3]) << 32);
            vec![v as u64, (v >> 32) as u64, (v >> 64) as u64]
        }),
        Row::many("sub.cc.s32 $0, $2, $3; subc.cc.s32 $1, 0, 0;", "ww=ww", |x| {
            let v = i128::from(x[0]) - i128::from(x[1]);
            vec![v as u64, (v >> 32) as u64]
        }),
        // 64 x 64 -> 128 by 32-bit pieces, as compilers emit it.
        Row::many(
            "mul.lo.u32 $0, $4, $6; mul.hi.u32 $1, $4, $6;
             mad.lo.cc.u32 $1, $4, $7, $1; madc.hi.u32 $2, $4, $7, 0;
             mad.lo.cc.u32 $1, $5, $6, $1; madc.hi.cc.u32 $2, $5, $6, $2; addc.u32 $3, 0, 0;
             mad.lo.cc.u32 $2, $5, $7, $2; madc.hi.u32 $3, $5, $7, $3;",
            "wwww=wwww",
            |x| {
                let v = (u128::from(x[0]) | u128::from(x[1]) << 32) * (u128::from(x[2]) | u128::from(x[3]) << 32);
                (0..4).map(|i| (v >> (32 * i)) as u64).collect()
            },
        ),
        Row::many("mad.lo.cc.u64 $0, $2, $3, $4; madc.hi.u64 $1, $2, $3, $5;", "dd=dddd", |x| {
            let p = u128::from(x[0]) * u128::from(x[1]);
            let v = p.wrapping_add(u128::from(x[2]) | u128::from(x[3]) << 64);
            vec![v as u64, (v >> 64) as u64]
        }),
    ];
    run(24, rows, words());
}

#[test]
fn logic_and_bits() {
    let bit = |x: u64, i: u64| x >> i & 1;
    let mut rows = vec![
        Row::new("and.b32 $0, $1, $2;", "w=ww", |x| x[0] & x[1]),
        Row::new("or.b16 $0, $1, $2;", "h=hh", |x| x[0] | x[1]),
        Row::new("xor.b64 $0, $1, $2;", "d=dd", |x| x[0] ^ x[1]),
        Row::new("not.b64 $0, $1;", "d=d", |x| !x[0]),
        Row::new("cnot.b32 $0, $1;", "w=w", |x| u64::from(x[0] == 0)),
        Row::new("and.pred $0, $1, $2;", "p=pp", |x| x[0] & x[1]),
        Row::new("or.pred $0, $1, $2;", "p=pp", |x| x[0] | x[1]),
        Row::new("xor.pred $0, $1, $2;", "p=pp", |x| x[0] ^ x[1]),
        Row::new("not.pred $0, $1;", "p=p", |x| 1 - x[0]),
        Row::many("lop3.or.b32 $0|$1, $2, $3, $4, 0x80, $5;", "wp=wwwp", |x| {
            let v = x[0] & x[1] & x[2];
            vec![v, u64::from(v != 0) | x[3]]
        }),
        Row::new("popc.b64 $0, $1;", "w=d", move |x| (0..64).map(|i| bit(x[0], i)).sum()),
        Row::new("popc.b32 $0, $1;", "w=w", move |x| (0..32).map(|i| bit(x[0], i)).sum()),
        Row::new("brev.b32 $0, $1;", "w=w", move |x| (0..32).map(|i| bit(x[0], i) << (31 - i)).sum()),
        Row::new("brev.b64 $0, $1;", "d=d", move |x| (0..64).fold(0, |r, i| r | bit(x[0], i) << (63 - i))),
        Row::new("clz.b32 $0, $1;", "w=w", move |x| (0..32).take_while(|i| bit(x[0], 31 - i) == 0).count() as u64),
        Row::new("clz.b64 $0, $1;", "w=d", move |x| (0..64).take_while(|i| bit(x[0], 63 - i) == 0).count() as u64),
        Row::new("bfind.u32 $0, $1;", "w=w", move |x| (0..32).rev().find(|i| bit(x[0], *i) == 1).unwrap_or(u64::MAX)),
        Row::new("bfind.s64 $0, $1;", "w=d", move |x| {
            let sign = bit(x[0], 63);
            (0..64).rev().find(|i| bit(x[0], *i) != sign).unwrap_or(u64::MAX)
        }),
        Row::new("bfind.shiftamt.u64 $0, $1;", "w=d", move |x| {
            (0..64).rev().find(|i| bit(x[0], *i) == 1).map_or(u64::MAX, |i| 63 - i)
        }),
        Row::new("shl.b32 $0, $1, $2;", "w=ww", |x| (0..x[1].min(32)).fold(x[0], |v, _| (2 * v) & 0xffff_ffff)),
        Row::new("shl.b64 $0, $1, $2;", "d=dw", |x| (0..x[1].min(64)).fold(x[0], |v, _| v.wrapping_mul(2))),
        Row::new("shl.b16 $0, $1, $2;", "h=hw", |x| (0..x[1].min(16)).fold(x[0], |v, _| (2 * v) & 0xffff)),
        Row::new("shr.u32 $0, $1, $2;", "w=ww", |x| (0..x[1].min(32)).fold(x[0], |v, _| v / 2)),
        Row::new("shr.b64 $0, $1, $2;", "d=dw", |x| (0..x[1].min(64)).fold(x[0], |v, _| v / 2)),
        Row::new("shr.s32 $0, $1, $2;", "w=ww", |x| (0..x[1].min(32)).fold(s(x[0], 32), |v, _| v.div_euclid(2)) as u64),
        Row::new("shr.s16 $0, $1, $2;", "h=hw", |x| (0..x[1].min(16)).fold(s(x[0], 16), |v, _| v.div_euclid(2)) as u64),
        Row::new("shr.s64 $0, $1, $2;", "d=dw", |x| (0..x[1].min(64)).fold(s(x[0], 64), |v, _| v.div_euclid(2)) as u64),
        Row::new("shf.l.wrap.b32 $0, $1, $2, $3;", "w=www", |x| (x[1] << 32 | x[0]) << (x[2] % 32) >> 32),
        Row::new("shf.r.wrap.b32 $0, $1, $2, $3;", "w=www", |x| (x[1] << 32 | x[0]) >> (x[2] % 32)),
        Row::new("shf.l.clamp.b32 $0, $1, $2, $3;", "w=www", |x| {
            ((u128::from(x[1]) << 32 | u128::from(x[0])) << x[2].min(32) >> 32) as u64
        }),
        Row::new("shf.r.clamp.b32 $0, $1, $2, $3;", "w=www", |x| (x[1] << 32 | x[0]) >> x[2].min(32)),
        Row::new("fns.b32 $0, $1, $2, $3;", "w=www", move |x| {
            let (base, n) = (x[1], x[2] as u32 as i32);
            if base > 31 {
                return u64::MAX;
            }
            let set = |i: &u64| bit(x[0], *i) == 1;
            let found = match n {
                0 => Some(base).filter(|b| bit(x[0], *b) == 1),
                1.. => (base..32).filter(set).nth(n as usize - 1),
                _ => (0..=base).rev().filter(set).nth(n.unsigned_abs() as usize - 1),
            };
            found.unwrap_or(u64::MAX)
        }),
        Row::new("bmsk.clamp.b32 $0, $1, $2;", "w=ww", |x| {
            (0..32).filter(|i| (x[0]..x[0] + x[1]).contains(i)).map(|i| 1 << i).sum()
        }),
        Row::new("szext.wrap.s32 $0, $1, $2;", "w=ww", |x| if x[1] % 32 == 0 { 0 } else { s(x[0], x[1] as u32 % 32) as u64 }),
        Row::new("szext.clamp.u32 $0, $1, $2;", "w=ww", |x| x[0] & ((1 << x[1].min(32)) - 1)),
    ];
    for lut in [0x00, 0x01, 0x3c, 0x6a, 0x80, 0x96, 0xb8, 0xca, 0xe8, 0xfe, 0xff_u64] {
        let text: &'static str = format!("lop3.b32 $0, $1, $2, $3, {lut};").leak();
        rows.push(Row::new(text, "w=www", move |x| {
            (0..32).map(|i| bit(lut, bit(x[0], i) << 2 | bit(x[1], i) << 1 | bit(x[2], i)) << i).sum()
        }));
    }
    run(12, rows, words());
}

#[test]
fn fields() {
    let extract = |x: u64, pos: u64, len: u64, width: u64, signed: bool| {
        let (pos, len) = (pos & 0xff, len & 0xff);
        let sign = if signed && len > 0 { x >> (pos + len - 1).min(width - 1) & 1 } else { 0 };
        (0..width).fold(0, |d, i| d | (if i < len && pos + i < width { x >> (pos + i) & 1 } else { sign }) << i)
    };
    let insert = |a: u64, b: u64, pos: u64, len: u64, width: u64| {
        let (pos, len) = (pos & 0xff, len & 0xff);
        (0..width).fold(0, |f, i| f | (if (pos..pos + len).contains(&i) { a >> (i - pos) & 1 } else { b >> i & 1 }) << i)
    };
    let rows = vec![
        Row::new("bfe.u32 $0, $1, $2, $3;", "w=www", move |x| extract(x[0], x[1], x[2], 32, false)),
        Row::new("bfe.s32 $0, $1, $2, $3;", "w=www", move |x| extract(x[0], x[1], x[2], 32, true)),
        Row::new("bfe.u64 $0, $1, $2, $3;", "d=dww", move |x| extract(x[0], x[1], x[2], 64, false)),
        Row::new("bfe.s64 $0, $1, $2, $3;", "d=dww", move |x| extract(x[0], x[1], x[2], 64, true)),
        Row::new("bfi.b32 $0, $1, $2, $3, $4;", "w=wwww", move |x| insert(x[0], x[1], x[2], x[3], 32)),
        Row::new("bfi.b64 $0, $1, $2, $3, $4;", "d=ddww", move |x| insert(x[0], x[1], x[2], x[3], 64)),
        Row::new("prmt.b32 $0, $1, $2, $3;", "w=www", |x| {
            let b: Vec<u8> = [(x[0] as u32).to_le_bytes(), (x[1] as u32).to_le_bytes()].concat();
            (0..4).fold(0, |d, i| {
                let s = x[2] >> (4 * i) & 15;
                let byte = b[s as usize & 7];
                let byte = if s < 8 {
                    byte
                } else if byte >= 128 {
                    255
                } else {
                    0
                };
                d | u64::from(byte) << (8 * i)
            })
        }),
        Row::new("prmt.b32.f4e $0, $1, $2, $3;", "w=www", |x| (x[1] << 32 | x[0]) >> (8 * (x[2] & 3))),
        Row::new("prmt.b32.b4e $0, $1, $2, $3;", "w=www", |x| {
            let b: Vec<u8> = (x[1] << 32 | x[0]).to_le_bytes().to_vec();
            (0..4).fold(0, |d, i| d | u64::from(b[((x[2] & 3) as i64 - i).rem_euclid(8) as usize]) << (8 * i))
        }),
        Row::new("prmt.b32.rc8 $0, $1, $2, $3;", "w=www", |x| (x[0] >> (8 * (x[2] & 3)) & 0xff) * 0x0101_0101),
        Row::new("prmt.b32.ecl $0, $1, $2, $3;", "w=www", |x| {
            (0..4).fold(0, |d, i| d | (x[0] >> (8 * i.max(x[2] & 3)) & 0xff) << (8 * i))
        }),
        Row::new("prmt.b32.ecr $0, $1, $2, $3;", "w=www", |x| {
            (0..4).fold(0, |d, i| d | (x[0] >> (8 * i.min(x[2] & 3)) & 0xff) << (8 * i))
        }),
        Row::new("prmt.b32.rc16 $0, $1, $2, $3;", "w=www", |x| (x[0] >> (16 * (x[2] & 1)) & 0xffff) * 0x1_0001),
    ];
    run(24, rows, words());
}

#[test]
fn packed_and_dots() {
    let halves = |f: fn(i128, i128) -> i128, signed: bool| {
        move |x: &[u64]| {
            let at = |v: u64, i: u32| value(v >> (16 * i), 16, signed);
            (0..2).fold(0, |d, i| d | (f(at(x[0], i), at(x[1], i)) as u64 & 0xffff) << (16 * i))
        }
    };
    let mut rows = vec![
        Row::new("add.u16x2 $0, $1, $2;", "w=ww", halves(|a, b| a + b, false)),
        Row::new("min.s16x2 $0, $1, $2;", "w=ww", halves(|a, b| a.min(b), true)),
        Row::new("max.u16x2 $0, $1, $2;", "w=ww", halves(|a, b| a.max(b), false)),
        Row::new("max.s16x2.relu $0, $1, $2;", "w=ww", halves(|a, b| a.max(b).max(0), true)),
    ];
    for (ta, sa) in [("u32", false), ("s32", true)] {
        for (tb, sb) in [("u32", false), ("s32", true)] {
            let text: &'static str = format!("dp4a.{ta}.{tb} $0, $1, $2, $3;").leak();
            rows.push(Row::new(text, "w=www", move |x| {
                (0..4).fold(i128::from(x[2]), |c, i| c + value(x[0] >> (8 * i), 8, sa) * value(x[1] >> (8 * i), 8, sb)) as u64
            }));
            for (part, base) in [("lo", 0), ("hi", 2)] {
                let text: &'static str = format!("dp2a.{part}.{ta}.{tb} $0, $1, $2, $3;").leak();
                rows.push(Row::new(text, "w=www", move |x| {
                    (0..2).fold(i128::from(x[2]), |c, i| {
                        c + value(x[0] >> (16 * i), 16, sa) * value(x[1] >> (8 * (base + i)), 8, sb)
                    }) as u64
                }));
            }
        }
    }
    run(24, rows, words());
}

#[test]
fn comparisons_and_selections() {
    let mut rows = Vec::new();
    type Holds = fn(i128, i128) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for ty in ALL {
        let bits: u32 = ty[1..].parse().unwrap();
        let signed = ty.starts_with('s');
        let letter = if bits == 16 {
            'h'
        } else if bits == 32 {
            'w'
        } else {
            'd'
        };
        for (name, f) in operators {
            let text: &'static str = format!("setp.{name}.xor.{ty} $0|$1, $2, $3, $4;").leak();
            let shape: &'static str = format!("pp={letter}{letter}p").leak();
            rows.push(Row::many(text, shape, move |x| {
                let t = u64::from(f(value(x[0], bits, signed), value(x[1], bits, signed)));
                vec![t ^ x[2], (1 - t) ^ x[2]]
            }));
        }
        let text: &'static str = format!("set.lt.u32.{ty} $0, $1, $2;").leak();
        let shape: &'static str = format!("w={letter}{letter}").leak();
        rows.push(Row::new(
            text,
            shape,
            move |x| {
                if value(x[0], bits, signed) < value(x[1], bits, signed) { u64::MAX } else { 0 }
            },
        ));
    }
    rows.push(Row::new("setp.hi.and.u32 $0, $1, $2, !$3;", "p=wwp", |x| u64::from(x[0] > x[1]) & (1 - x[2])));
    rows.push(Row::new("setp.eq.or.b64 $0, $1, $2, $3;", "p=ddp", |x| u64::from(x[0] == x[1]) | x[2]));
    rows.push(Row::new("selp.b64 $0, $1, $2, $3;", "d=ddp", |x| if x[2] == 1 { x[0] } else { x[1] }));
    rows.push(Row::new("selp.u16 $0, $1, 7, !$2;", "h=hp", |x| if x[1] == 0 { x[0] } else { 7 }));
    rows.push(Row::new("slct.s32.s32 $0, $1, $2, $3;", "w=www", |x| if s(x[2], 32) >= 0 { x[0] } else { x[1] }));
    rows.push(Row::new("slct.ftz.u64.f32 $0, $1, $2, $3;", "d=ddw", |x| {
        let c = f32::from_bits(x[2] as u32);
        if c >= 0.0 || (c.is_subnormal()) { x[0] } else { x[1] }
    }));
    run(8, rows, words());
}

#[test]
fn moves() {
    let rows = vec![
        Row::new("mov.b64 $0, {$1, $2};", "d=ww", |x| x[0] | x[1] << 32),
        Row::many("mov.b64 {$0, $1}, $2;", "ww=d", |x| vec![x[0], x[0] >> 32]),
        Row::new("mov.b32 $0, {$1, $2};", "w=hh", |x| x[0] | x[1] << 16),
        Row::many("mov.b32 {$0, $1}, $2;", "hh=w", |x| vec![x[0], x[0] >> 16]),
        Row::many("mov.b32 {_, $0}, $1;", "h=w", |x| vec![x[0] >> 16]),
        Row::new("mov.b64 $0, {$1, $2, $3, $4};", "d=hhhh", |x| x[0] | x[1] << 16 | x[2] << 32 | x[3] << 48),
        Row::many("mov.b64 {$0, $1, $2, $3}, $4;", "hhhh=d", |x| (0..4).map(|i| x[0] >> (16 * i)).collect()),
        Row::many("{ .reg .b128 %q; mov.b128 %q, {$2, $3}; mov.b128 {$1, $0}, %q; }", "dd=dd", |x| vec![x[1], x[0]]),
        Row::new("mov.pred $0, $1;", "p=p", |x| x[0]),
        Row::new("mov.u32 $0, -5; add.u32 $0, $0, $1;", "w=w", |x| x[0].wrapping_sub(5)),
        Row::new("mov.b32 $0, 0f3F800000; xor.b32 $0, $0, $1;", "w=w", |x| 0x3f80_0000 ^ x[0]),
        Row::new("mov.f64 $0, 0d3FF0000000000000; xor.b64 $0, $0, $1;", "d=d", |x| 0x3ff0_0000_0000_0000 ^ x[0]),
    ];
    run(12, rows, words());
}

#[test]
fn integer_conversions() {
    let mut rows = Vec::new();
    for to in ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"] {
        for from in ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"] {
            for sat in ["", "sat."] {
                let width = |t: &str| t[1..].parse::<u32>().unwrap();
                // Registers: 16 bits for bytes, else of the type's own width.
                let letter = |t: &str| {
                    if width(t) <= 16 {
                        'h'
                    } else if width(t) == 32 {
                        'w'
                    } else {
                        'd'
                    }
                };
                let text: &'static str = format!("cvt.{sat}{to}.{from} $0, $1;").leak();
                let shape: &'static str = format!("{}={}", letter(to), letter(from)).leak();
                let (tb, ts, fb, fs) = (width(to), to.starts_with('s'), width(from), from.starts_with('s'));
                let sat = !sat.is_empty();
                rows.push(Row::new(text, shape, move |x| {
                    let v = value(x[0], fb, fs);
                    let v = if sat { clamp(v, tb, ts) } else { v };
                    // The result is extended to the register as its type says.
                    value(v as u64, tb, ts) as u64
                }));
            }
        }
    }
    rows.push(Row::new("cvt.u16.u32 $0, $1;", "w=w", |x| x[0] & 0xffff));
    rows.push(Row::new("cvt.s8.s32 $0, $1;", "d=w", |x| s(x[0], 8) as u64));
    rows.push(Row::new("cvt.pack.sat.s16.s32 $0, $1, $2;", "w=ww", |x| {
        let c = |v| clamp(s(v, 32), 16, true) as u64 & 0xffff;
        c(x[0]) << 16 | c(x[1])
    }));
    rows.push(Row::new("cvt.pack.sat.u8.s32.b32 $0, $1, $2, $3;", "w=www", |x| {
        let c = |v| clamp(s(v, 32), 8, false) as u64;
        x[2] << 16 | c(x[0]) << 8 | c(x[1])
    }));
    run(8, rows, words());
}
