//! Control flow: branches, exits, traps; clocks, sleep, and instructions that only tune a real card.

use smallvec::SmallVec;

use super::flow::{After, At, Flow, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::warp::Wait;
use super::warp::{Split, Warp};
use crate::ir::decode::Name;
use crate::ir::{Cx, NO_PC};
use crate::request::FaultKind;
use crate::text::ast::{Operand, Type};

/// A transfer of control, but for calls.
pub enum Transfer {
    /// `bra`.
    Branch {
        /// A label until the function is linked.
        target: u32,
        /// Immediate post-dominator; [`NO_PC`] when it is the function's end.
        join: u32,
    },
    Indexed(Box<BranchIndexed>),
    /// `ret` of a function.
    Return,
    /// `exit`, and `ret` of a kernel.
    Exit,
    Trap,
}

impl Transfer {
    /// Where lanes may go: labels until the function is linked.
    pub fn targets(&self) -> &[u32] {
        match self {
            Transfer::Branch { target, .. } => std::slice::from_ref(target),
            Transfer::Indexed(b) => &b.targets,
            _ => &[],
        }
    }

    pub fn targets_mut(&mut self) -> &mut [u32] {
        match self {
            Transfer::Branch { target, .. } => std::slice::from_mut(target),
            Transfer::Indexed(b) => &mut b.targets,
            _ => &mut [],
        }
    }

    /// Says where all paths meet.
    pub fn set_join(&mut self, pc: u32) {
        match self {
            Transfer::Branch { join, .. } => *join = pc,
            Transfer::Indexed(b) => b.join = pc,
            _ => {}
        }
    }
}

/// `brx.idx`: a jump through a table.
pub struct BranchIndexed {
    /// Register of the index.
    pub index: u16,
    /// Targets: labels until the function is linked.
    pub targets: Vec<u32>,
    /// Where all paths meet.
    pub join: u32,
}

/// Instructions of this family that are no transfers.
pub enum Control {
    /// Reads a clock into register `d`.
    Clock { d: u16, which: Clock },
    /// `nanosleep`.
    Sleep,
    /// `griddepcontrol.wait`: what the launch before did is done.
    GridWait,
    /// `griddepcontrol.launch_dependents`, `pmevent`: nothing that this launch could see.
    Hint,
}

/// Clocks.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Clock {
    CyclesLow,
    CyclesHigh,
    Cycles,
    Time,
    TimeLow,
    TimeHigh,
}

/// The decoder of `bra`, `brx`, `ret`, `exit`, `trap` and `brkpt`.
pub fn decode_transfer(cx: &mut Cx<'_>) -> Result<Transfer, String> {
    match cx.head() {
        "bra" => {
            cx.eat("uni");
            cx.end(1)?;
            Ok(Transfer::Branch { target: cx.label(0)?, join: NO_PC })
        }
        "brx" => {
            if !cx.lead("idx") {
                return cx.unknown();
            }
            cx.eat("uni");
            cx.end(2)?;
            let index = cx.src(0, Type::U32)?;
            let Operand::Name(list) = cx.operand(1)? else { return cx.unknown() };
            let Some(Name::Targets(names)) = cx.scopes.find(list).cloned() else {
                return Err(format!("there is no .branchtargets list `{list}`"));
            };
            let targets = names.iter().map(|n| cx.label_named(n)).collect::<Result<_, _>>()?;
            Ok(Transfer::Indexed(Box::new(BranchIndexed { index, targets, join: NO_PC })))
        }
        "ret" => {
            cx.eat("uni");
            cx.end(0)?;
            Ok(if cx.scopes.entry { Transfer::Exit } else { Transfer::Return })
        }
        "exit" => cx.end(0).map(|()| Transfer::Exit),
        _ => cx.end(0).map(|()| Transfer::Trap),
    }
}

/// The decoder of the others.
pub fn decode(cx: &mut Cx<'_>) -> Result<Control, String> {
    match cx.head() {
        "nanosleep" => {
            cx.ty_of(&[Type::U32])?;
            cx.end(1)?;
            cx.src(0, Type::U32)?;
            Ok(Control::Sleep)
        }
        "griddepcontrol" => {
            let wait = cx.lead("wait");
            if !wait && !cx.lead("launch_dependents") {
                return cx.unknown();
            }
            cx.end(0)?;
            Ok(if wait { Control::GridWait } else { Control::Hint })
        }
        "pmevent" => {
            let _ = cx.eat("mask");
            cx.end(1)?;
            cx.int(0)?;
            Ok(Control::Hint)
        }
        _ => cx.unknown(),
    }
}

/// Whether a `mov` reads a special register that changes while a thread lives.
pub fn reads_clock(cx: &Cx<'_>) -> bool {
    matches!(cx.operand(1), Ok(Operand::Name(name)) if clock(name).is_some())
}

/// The decoder of such a `mov`.
pub fn decode_clock(cx: &mut Cx<'_>) -> Result<Control, String> {
    let ty = cx.ty()?;
    cx.end(2)?;
    let Operand::Name(name) = cx.operand(1)? else { return cx.unknown() };
    let Some((which, clock_ty)) = clock(name) else { return cx.unknown() };
    if clock_ty.bits() != ty.bits() {
        return Err(format!("`{name}` has {} bits, `{}` reads .{}", clock_ty.bits(), cx.inst.opcode, ty.name()));
    }
    Ok(Control::Clock { d: cx.dst(0, ty)?, which })
}

/// The clock that a special register reads, if it is one.
fn clock(name: &str) -> Option<(Clock, Type)> {
    Some(match name {
        "%clock" => (Clock::CyclesLow, Type::U32),
        "%clock_hi" => (Clock::CyclesHigh, Type::U32),
        "%clock64" => (Clock::Cycles, Type::U64),
        "%globaltimer" => (Clock::Time, Type::U64),
        "%globaltimer_lo" => (Clock::TimeLow, Type::U32),
        "%globaltimer_hi" => (Clock::TimeHigh, Type::U32),
        _ => return None,
    })
}

/// Branches, exits, traps.
pub fn transfer(m: &mut Machine<'_>, warp: &mut Warp, split: &mut Split, op: &Transfer, at: At<'_>) -> Result<After, Stop> {
    let At { pc, mask, .. } = at;
    match op {
        Transfer::Branch { target, join } => {
            let other = split.mask & !mask;
            if other == 0 {
                split.pc = *target;
            } else if mask == 0 {
                split.pc += 1;
            } else {
                if let Some(c) = &mut m.counters {
                    c.diverge(pc);
                }
                let (join, calls) = meeting(split, *join);
                warp.fork(split, mask, *target, join, calls);
                split.pc = pc + 1;
                // Which side goes first is the seed's choice.
                if m.rng.one_in(2) {
                    let last = warp.splits.last_mut().expect("fork pushed a split");
                    std::mem::swap(split, last);
                }
            }
            Ok(After::Go)
        }
        Transfer::Indexed(b) => {
            let undef = warp.regs.undef32(b.index);
            m.demand(warp, at, undef, "the index of a jump table");
            let index = warp.regs.r32[b.index as usize];
            if let Some(lane) = lanes_of(mask).find(|&l| index[l] as usize >= b.targets.len()) {
                let message = format!("brx.idx: index {} of a table of {}", index[lane], b.targets.len());
                return m.fault(warp, at.only(lane as u32), FaultKind::IllegalInstruction, message);
            }
            let (join, calls) = meeting(split, b.join);
            let mut left = mask;
            let whole = split.mask;
            let mut forked = false;
            while left != 0 {
                let first = index[left.trailing_zeros() as usize];
                let same = lanes_of(left).filter(|&l| index[l] == first).fold(0, |s, l| s | 1 << l);
                left &= !same;
                let target = b.targets[first as usize];
                if same == split.mask {
                    split.pc = target;
                    return Ok(After::Go);
                }
                if !forked && let Some(c) = &mut m.counters {
                    c.diverge(pc);
                }
                forked = true;
                warp.fork(split, same, target, join, calls.clone());
            }
            debug_assert_eq!(split.mask, whole & !mask);
            split.pc = pc + 1;
            Ok(After::Go)
        }
        Transfer::Exit => {
            split.mask &= !mask;
            split.pc = pc + 1;
            warp.leave(mask, pc);
            m.effect();
            Ok(if split.mask == 0 { After::Gone } else { After::Go })
        }
        Transfer::Trap => m.fault(warp, at, FaultKind::Trap, "trap"),
        Transfer::Return => unreachable!("a return is its call's business"),
    }
}

/// Where the sides of a branch meet, with the call stack there: the static point, or the return to the caller.
fn meeting(split: &Split, join: u32) -> (u32, SmallVec<[u32; 4]>) {
    let mut calls = split.calls.clone();
    if join != NO_PC {
        return (join, calls);
    }
    match calls.pop() {
        Some(call) => (call + 1, calls),
        None => (NO_PC, calls),
    }
}

/// The instruction's work, but for transfers.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Control, at: At<'_>) -> Result<Flow, Stop> {
    match op {
        Control::Clock { d, which } => {
            // A warp instruction of the whole machine is taken as a nanosecond and two cycles.
            let (cycles, nanoseconds) = (m.pace.steps * 2, 1_700_000_000_000_000_000 + m.pace.steps);
            let d = *d;
            match which {
                Clock::CyclesLow => warp.regs.put32(d, &[cycles as u32; 32], at.mask),
                Clock::CyclesHigh => warp.regs.put32(d, &[(cycles >> 32) as u32; 32], at.mask),
                Clock::Cycles => warp.regs.put64(d, &[cycles; 32], at.mask),
                Clock::Time => warp.regs.put64(d, &[nanoseconds; 32], at.mask),
                Clock::TimeLow => warp.regs.put32(d, &[nanoseconds as u32; 32], at.mask),
                Clock::TimeHigh => warp.regs.put32(d, &[(nanoseconds >> 32) as u32; 32], at.mask),
            }
            at.define(warp);
            Ok(Flow::Next)
        }
        Control::Sleep => Ok(Flow::Block(Wait::Sleep { until: m.pace.steps + u64::from(m.rng.below(256)) })),
        Control::GridWait => {
            m.mem.tracker.order.prerequisite_done(&mut warp.order, at.mask);
            Ok(Flow::Next)
        }
        Control::Hint => Ok(Flow::Next),
    }
}
