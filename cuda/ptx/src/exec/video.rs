//! The video instructions on two halves or four bytes at once (PTX ISA 9.7.19.2), which CUDA's `__vadd4` and its like are made of.
//! Those with selectors or masks, and those on one number, are refused by name: no compiler writes them.

use super::lanes::{Decode, lanes};
use crate::ir::Cx;
use crate::text::ast::Operand;
use crate::text::ast::Type::{B32, S32, U32};

/// What is done to each pair of parts.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Action {
    Add,
    Subtract,
    Average,
    Difference,
    Minimum,
    Maximum,
    Set,
}
use Action::{Add, Average, Difference, Maximum, Minimum, Set, Subtract};

const ACTIONS: [(&str, Action); 7] = [
    ("vadd", Add),
    ("vsub", Subtract),
    ("vavrg", Average),
    ("vabsdiff", Difference),
    ("vmin", Minimum),
    ("vmax", Maximum),
    ("vset", Set),
];

/// Comparisons by the outcomes they accept: less 1, equal 2, greater 4.
const COMPARE: [(&str, u32); 6] = [("eq", 2), ("ne", 5), ("lt", 1), ("le", 3), ("gt", 4), ("ge", 6)];

// `Args::how`: the action in bits 0 to 2, then flags, and a comparison from bit 8 on.
const BYTES: u32 = 1 << 3;
const SIGNED_A: u32 = 1 << 4;
const SIGNED_B: u32 = 1 << 5;
const SIGNED_D: u32 = 1 << 6;
const SATURATE: u32 = 1 << 7;
const SUM: u32 = 1 << 11;

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    let head = cx.head();
    let (name, flags) = match (head.strip_suffix('4'), head.strip_suffix('2')) {
        (Some(name), _) => (name, BYTES),
        (_, Some(name)) => (name, 0),
        _ => return Err(format!("`{}`: video instructions on one number are not supported", cx.inst.opcode)),
    };
    let Some((_, action)) = ACTIONS.iter().find(|(n, _)| *n == name) else { return cx.unknown() };
    let set = matches!(action, Set);
    let signed = |cx: &mut Cx<'_>, flag: u32| Ok::<u32, String>(if cx.ty_of(&[U32, S32])? == S32 { flag } else { 0 });
    let d = if set { 0 } else { signed(cx, SIGNED_D)? };
    let (a, b) = (signed(cx, SIGNED_A)?, signed(cx, SIGNED_B)?);
    let saturate = if !set && cx.eat("sat") { SATURATE } else { 0 };
    let sum = if cx.eat("add") { SUM } else { 0 };
    let compare = match set {
        true => cx.pick(&COMPARE).ok_or_else(|| format!("`{}` lacks a comparison", cx.inst.opcode))?,
        false => 0,
    };
    if (saturate != 0 && sum != 0) || cx.inst.operands.iter().any(|o| matches!(o, Operand::Name(n) if n.contains('.'))) {
        return Err(format!("`{}`: selectors and masks are not supported", cx.inst.opcode));
    }
    let mut args = cx.args(B32, &[B32, B32, B32])?;
    args.how = *action as u32 | flags | a | b | d | saturate | sum | compare << 8;
    Ok((lanes!(how; u32 = |a: u32, b: u32, c: u32| parts(a, b, c, how)), args))
}

#[inline(always)]
fn parts(a: u32, b: u32, c: u32, how: u32) -> u32 {
    let bits = if how & BYTES != 0 { 8 } else { 16 };
    let part = |v: u32, i: u32, signed: bool| {
        let top = v << (32 - bits - bits * i);
        if signed { i64::from(top as i32 >> (32 - bits)) } else { i64::from(top >> (32 - bits)) }
    };
    let signed = how & SIGNED_D != 0;
    let range = if signed { (-(1_i64 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    let (mut packed, mut sum) = (0, i64::from(c));
    for i in 0..32 / bits {
        let (x, y) = (part(a, i, how & SIGNED_A != 0), part(b, i, how & SIGNED_B != 0));
        let v = match how & 7 {
            0 => x + y,
            1 => x - y,
            2 => (x + y + i64::from(x + y >= 0)) >> 1,
            3 => (x - y).abs(),
            4 => x.min(y),
            5 => x.max(y),
            _ => i64::from(how >> 8 & (1 << (1 + x.cmp(&y) as i32)) != 0),
        };
        let v = if how & SATURATE != 0 { v.clamp(range.0, range.1) } else { v };
        sum += v;
        packed |= (v as u32 & (u32::MAX >> (32 - bits))) << (bits * i);
    }
    if how & SUM != 0 { sum as u32 } else { packed }
}
