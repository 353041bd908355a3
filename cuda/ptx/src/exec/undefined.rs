//! What of a lane-wise result depends on operands that are undefined.
//!
//! Compilers compute more than they need: both sides of `&&`, a comparison before it is known whether its operand counts. A result is
//! defined if it is the same whatever an undefined operand holds: `and` with false, a product with 0, a shift that drops the
//! bits, a comparison whose outcome is settled, a selection between equals. So an instruction with an undefined operand is tried with
//! several values in its place, and its result is undefined in those lanes in which it is not always the same. This needs no
//! rule for each instruction; a formula of single bits (logic, shifts, fields, permutations) is judged exactly by all zeros and
//! all ones, and what compares, by the other operand and its neighbours.
//!
//! Only bits that are undefined are varied. The result of a formula of single bits ([`super::op::Op::Bitwise`]) is undefined bit by bit, any
//! other as a whole: so a word of which a half was never written yields the other half. The PTX ISA knows no undefined values beyond
//! uninitialised registers and memory; this is the rule of valgrind's memcheck.

use smallvec::SmallVec;

use super::lanes::{LaneFn, Regs, lanes_of};
use super::standstill::mix;
use crate::ir::{Args, Class, Reg};

/// A register's 32 values.
type Values = [u64; 32];

/// Executes a lane-wise instruction of which an operand is undefined in some lanes, and says of each result where it is undefined.
#[cold]
pub fn execute(regs: &mut Regs, f: LaneFn, args: &Args, (uses, defs): (&[Reg], &[Reg]), mask: u32, bitwise: bool) {
    let read = |regs: &Regs, list: &[Reg]| -> SmallVec<[Values; 4]> { list.iter().map(|r| values(regs, *r)).collect() };
    let undefined: SmallVec<[u32; 4]> = uses.iter().map(|r| regs.undef(*r) & mask).collect();
    let lanes = undefined.iter().fold(0, |all, u| all | u);
    let bits: SmallVec<[Values; 4]> = uses.iter().map(|r| regs.undefined_bits(*r)).collect();
    let (sources, before) = (read(regs, uses), read(regs, defs));
    f(regs, args, mask);
    let results = read(regs, defs);
    let mut differ: SmallVec<[Values; 4]> = defs.iter().map(|_| [0; 32]).collect();
    for trial in 0..TRIALS {
        defs.iter().zip(&before).for_each(|(r, v)| set(regs, *r, v));
        for (i, (reg, source)) in uses.iter().zip(&sources).enumerate() {
            let mut tried = *source;
            for lane in lanes_of(undefined[i]) {
                // What it may be compared with: another operand that is defined.
                let other = (0..uses.len()).find(|&j| uses[j].class == reg.class && undefined[j] >> lane & 1 == 0);
                let new = value(trial, i, other.map_or(source[lane], |j| sources[j][lane]));
                tried[lane] = (source[lane] & !bits[i][lane]) | (new & bits[i][lane]);
            }
            set(regs, *reg, &tried);
        }
        f(regs, args, mask);
        for (k, reg) in defs.iter().enumerate() {
            let now = values(regs, *reg);
            lanes_of(lanes).for_each(|l| differ[k][l] |= now[l] ^ results[k][l]);
        }
        let whole = |d: &Values| lanes_of(lanes).all(|l| d[l] == u64::MAX || d[l] != 0 && !bitwise);
        if differ.iter().all(whole) {
            break;
        }
    }
    uses.iter().zip(&sources).for_each(|(r, v)| set(regs, *r, v));
    for (k, reg) in defs.iter().enumerate() {
        set(regs, *reg, &results[k]);
        let all = if reg.class == Class::B32 { u64::from(u32::MAX) } else { u64::MAX };
        let undefined = differ[k].map(|d| match d {
            0 => 0,
            d if bitwise && d != all => d,
            _ => u64::MAX,
        });
        regs.set_undefined_bits(*reg, &undefined, mask);
    }
}

/// Values to try, the same for every operand but in the last eight.
const TRIALS: usize = 21;

/// What an undefined operand holds in a trial, as 64 bits, where the operand it may be compared with is `other`.
fn value(trial: usize, operand: usize, other: u64) -> u64 {
    const ONES: u64 = u64::MAX;
    match trial {
        0 => 0,
        1 => ONES,
        2 => other,
        3 => other.wrapping_add(1),
        4 => other.wrapping_sub(1),
        // The signs of both halves and of the whole, and the largest number.
        5 => 0x8000_0000_8000_8000,
        6 => 0x7fff_ffff_7fff_ffff,
        7 => 1,
        // Infinities: f32 and f64, f16.
        8 => 0x7ff0_0000_7f80_0000,
        9 => 0x7c00_7c00_7c00_7c00,
        10 => 0x3ff0_0000_3f80_0000,
        11 => !other,
        12 => 0x5555_5555_5555_5555,
        // Undefined operands that differ from one another: in one bit pattern each, then anyhow.
        13..=16 => [0, ONES][((operand >> ((trial - 13) & 1)) ^ ((trial - 13) >> 1)) & 1],
        _ => mix(trial as u64 + 1, mix(operand as u64 + 1, 0x243f_6a88_85a3_08d3)),
    }
}

fn values(regs: &Regs, reg: Reg) -> Values {
    std::array::from_fn(|lane| regs.get(reg, lane))
}

fn set(regs: &mut Regs, reg: Reg, values: &Values) {
    match reg.class {
        Class::B32 => regs.r32[reg.index as usize] = values.map(|v| v as u32),
        Class::B64 => regs.r64[reg.index as usize] = *values,
        Class::Pred => regs.pred[reg.index as usize] = values.iter().enumerate().fold(0, |p, (l, v)| p | (*v as u32 & 1) << l),
    }
}
