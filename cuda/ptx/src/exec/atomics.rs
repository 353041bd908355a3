//! `atom` and `red`.

use super::access::{Strength, addresses, count, modifiers, place, refused};
use super::combine::{ACTIONS, Action};
use super::flow::{At, Flow, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::warp::Warp;
use crate::ir::{Addr, Class, Cx, Reg};
use crate::mem::{Sem, Space};
use crate::text::ast::Operand;
use crate::text::ast::Type::{self, *};

/// An atomic operation.
pub struct Atomic {
    pub(crate) addr: Addr,
    pub(crate) space: Space,
    sem: Sem,
    action: Action,
    pub(crate) ty: Type,
    /// Where the old values go; none for `red`.
    pub(crate) d: Option<Vec<Reg>>,
    /// Operands: one an element.
    pub(crate) b: Vec<Reg>,
    /// The value to swap in, of `cas`.
    pub(crate) c: Option<Reg>,
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<Atomic, String> {
    let red = cx.head() == "red";
    let how = modifiers(cx)?;
    let Some(action) = cx.pick(&ACTIONS) else { return cx.unknown() };
    let noftz = cx.eat("noftz");
    let (vector, hint) = (how.vector, how.cache_hint);
    let ty = cx.ty()?;
    let halves = matches!(ty, F16 | BF16 | F16x2 | BF16x2);
    use Action::*;
    let fits = match action {
        Add if halves => noftz,
        Add => matches!(ty, U32 | S32 | U64 | F32 | F64) || (ty == S64),
        Min | Max if halves => noftz && vector > 1,
        Min | Max => matches!(ty, U32 | S32 | U64 | S64),
        And | Or | Xor => matches!(ty, B32 | B64),
        Inc | Dec => ty == U32,
        Exchange | Compare if red => false,
        Exchange => matches!(ty, B32 | B64 | B128 | U32 | S32 | U64 | F32),
        Compare => matches!(ty, B16 | B32 | B64 | B128 | U32 | S32 | U64),
    };
    let total = ty.bytes() as usize * vector;
    let vector_fits =
        vector == 1 || (matches!(ty, F32 | F16 | BF16 | F16x2 | BF16x2) && total <= 16 && matches!(action, Add | Min | Max));
    if !fits || !vector_fits || (noftz && !halves) || (ty == F32 && vector > 1 && action != Add) {
        return cx.unknown();
    }
    let strength = how.strength.unwrap_or(Strength::Relaxed);
    if matches!(strength, Strength::Weak | Strength::Volatile)
        || (red && matches!(strength, Strength::Acquire | Strength::AcquireRelease))
    {
        return cx.unknown();
    }
    if vector > 1 && !matches!(how.space, None | Some(crate::text::ast::Space::Global)) {
        return Err(format!("`{}`: vectors are for global memory", cx.inst.opcode));
    }
    let first = usize::from(!red);
    let operands = first + 2 + usize::from(action == Compare) + usize::from(hint);
    cx.end(operands)?;
    let addr = cx.address(first)?;
    cx.uses.clear();
    let reg_ty = if matches!(ty, F16 | BF16) { B16 } else { ty };
    let list = |cx: &mut Cx<'_>, i: usize, write: bool| -> Result<Vec<Reg>, String> {
        cx.vector(i, vector)?.iter().map(|e| if write { cx.dst_wide(e, reg_ty) } else { cx.src_wide(e, reg_ty) }).collect()
    };
    let d = if red { None } else { Some(list(cx, 0, true)?) };
    let b = list(cx, first + 1, false)?;
    let c = if action == Compare { Some(list(cx, first + 2, false)?[0]) } else { None };
    if hint {
        let operand: &Operand = cx.operand(operands - 1)?;
        cx.src_of(operand, B64)?;
    }
    let space = match how.space {
        Some(crate::text::ast::Space::Global | crate::text::ast::Space::Shared) | None => place(how.space),
        _ => return cx.unknown(),
    };
    Ok(Atomic { addr, space, sem: strength.with(how.scope), action, ty, d, b, c })
}

impl Atomic {
    /// Whether its address may be one of global memory.
    pub fn may_be_global(&self) -> bool {
        matches!(self.space, Space::Generic | Space::Global)
    }
}

/// The instruction's work. The lanes go in an order that the seed chooses.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Atomic, at: At<'_>) -> Result<Flow, Stop> {
    let a = addresses(m, warp, &op.addr, at);
    let operands = op.b.iter().chain(&op.c).fold(0, |u, r| u | warp.regs.undef(*r));
    m.demand(warp, at, operands, "an operand of an atomic operation");
    count(m, at.pc, op.space, at.mask, &a, op.ty.bytes() * op.b.len() as u32);
    warp.questions += 1;
    let start = m.rng.below(32);
    let order = lanes_of(at.mask.rotate_right(start)).map(|l| (l as u32 + start) % 32);
    for lane in order {
        lane_of(m, warp, op, at, &a, lane)?;
    }
    Ok(Flow::Next)
}

fn lane_of(m: &mut Machine<'_>, warp: &mut Warp, op: &Atomic, at: At<'_>, a: &[u64; 32], lane: u32) -> Result<(), Stop> {
    let l = lane as usize;
    let n = op.ty.bytes() as usize;
    if op.ty == B128 {
        return wide(m, warp, op, at, a, lane);
    }
    // A vector is atomic element by element, but aligned as a whole.
    if op.b.len() > 1 && !a[l].is_multiple_of((n * op.b.len()) as u64) {
        let home = warp.by(at.pc);
        let fault = m.mem.fault(&home, op.space, a[l], lane, (n * op.b.len()) as u64, true);
        return refused(m, warp, at, fault);
    }
    for (i, reg) in op.b.iter().enumerate() {
        let b = warp.regs.get(*reg, l) & mask_of(n);
        let c = op.c.map(|c| warp.regs.get(c, l) & mask_of(n));
        let address = a[l].wrapping_add((i * n) as u64);
        let mut changed = false;
        let update = |old: [u8; 16]| {
            let mut word = [0; 8];
            word.copy_from_slice(&old[..8]);
            let old = u64::from_le_bytes(word) & mask_of(n);
            if op.action == Action::Compare && old != b {
                return None;
            }
            let new = op.action.apply(op.ty, old, c.unwrap_or(b), false) & mask_of(n);
            changed = new != old;
            let mut out = [0; 16];
            out[..8].copy_from_slice(&new.to_le_bytes());
            Some(out)
        };
        match m.mem.atomic(&mut warp.by(at.pc), op.space, address, lane, n, op.sem, update) {
            Ok((old, undefined)) => {
                if changed {
                    m.effect();
                } else {
                    m.poll(warp, address);
                }
                if let Some(d) = &op.d {
                    let mut word = [0; 8];
                    word.copy_from_slice(&old[..8]);
                    let value = u64::from_le_bytes(word) & mask_of(n);
                    match d[i].class {
                        Class::B64 => warp.regs.r64[d[i].index as usize][l] = value,
                        _ => warp.regs.r32[d[i].index as usize][l] = value as u32,
                    }
                    warp.regs.set_undef(d[i], if undefined { u32::MAX } else { 0 }, 1 << lane);
                }
            }
            Err(fault) => return refused(m, warp, at, fault),
        }
    }
    Ok(())
}

/// `exch` and `cas` of 128 bits.
fn wide(m: &mut Machine<'_>, warp: &mut Warp, op: &Atomic, at: At<'_>, a: &[u64; 32], lane: u32) -> Result<(), Stop> {
    let l = lane as usize;
    let pair = |warp: &Warp, r: Reg| {
        let (low, high) = (warp.regs.r64[r.index as usize][l], warp.regs.r64[r.index as usize + 1][l]);
        u128::from(low) | u128::from(high) << 64
    };
    let b = pair(warp, op.b[0]);
    let c = op.c.map(|c| pair(warp, c));
    let update = |old: [u8; 16]| match c {
        None => Some(b.to_le_bytes()),
        Some(c) => (u128::from_le_bytes(old) == b).then(|| c.to_le_bytes()),
    };
    match m.mem.atomic(&mut warp.by(at.pc), op.space, a[l], lane, 16, op.sem, update) {
        Ok((old, undefined)) => {
            m.effect();
            if let Some(d) = op.d.as_ref().map(|d| d[0]) {
                let old = u128::from_le_bytes(old);
                for (i, word) in [old as u64, (old >> 64) as u64].into_iter().enumerate() {
                    let index = d.index + i as u16;
                    warp.regs.r64[index as usize][l] = word;
                    warp.regs.set_undef(Reg { class: Class::B64, index }, if undefined { u32::MAX } else { 0 }, 1 << lane);
                }
            }
            Ok(())
        }
        Err(fault) => refused(m, warp, at, fault),
    }
}

fn mask_of(bytes: usize) -> u64 {
    u64::MAX >> (64 - 8 * bytes)
}
