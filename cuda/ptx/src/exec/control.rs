//! Control flow: branches, returns, exits, traps; named barriers and `barrier.cluster`; clocks, sleep, and instructions that only
//! tune a real card.

use smallvec::SmallVec;

use super::barriers::BarrierOp;
use super::lanes::lanes_of;
use super::warp::{Split, Warp};
use super::{After, At, Flow, Machine, Stop, Wait, barriers, calls};
use crate::hazard::HazardKind;
use crate::ir::decode::Name;
use crate::ir::{Cx, Decode, NO_PC, Op};
use crate::request::FaultKind;
use crate::text::ast::{Operand, Type};

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
    /// A barrier.
    Barrier(BarrierOp),
    /// Reads a clock into a register.
    Clock {
        /// Destination.
        d: u16,
        /// Which.
        which: Clock,
    },
    /// `nanosleep`.
    Sleep,
    /// `setmaxnreg`: registers, and whether it asks for more.
    SetMaxRegisters(u32),
    /// `griddepcontrol`, `pmevent`: nothing to do where launches run one after the other.
    Hint,
}

/// Clocks.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Clock {
    Clock32,
    ClockHi,
    Clock64,
    Global64,
    GlobalLo,
    GlobalHi,
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "bra" => {
            cx.eat("uni");
            cx.end(1)?;
            Ok(Op::Branch { target: cx.label(0)?, join: NO_PC })
        }
        "brx" => {
            if !cx.eat("idx") {
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
            Ok(Op::BranchIndexed(Box::new(BranchIndexed { index, targets, join: NO_PC })))
        }
        "ret" => {
            cx.eat("uni");
            cx.end(0)?;
            Ok(if cx.scopes.entry { Op::Exit } else { Op::Return })
        }
        "exit" => cx.end(0).map(|()| Op::Exit),
        "trap" | "brkpt" => cx.end(0).map(|()| Op::Trap),
        "bar" | "barrier" => barriers::decode(cx).map(|b| Op::Control(Box::new(Control::Barrier(b)))),
        "nanosleep" => {
            cx.ty_of(&[Type::U32])?;
            cx.end(1)?;
            cx.src(0, Type::U32)?;
            Ok(Op::Control(Box::new(Control::Sleep)))
        }
        "setmaxnreg" => {
            if !(cx.eat("inc") || cx.eat("dec")) || !cx.eat("sync") || !cx.eat("aligned") {
                return cx.unknown();
            }
            cx.ty_of(&[Type::U32])?;
            cx.end(1)?;
            let n = cx.int(0)?;
            if !(24..=256).contains(&n) || n % 8 != 0 {
                return Err(format!("setmaxnreg: {n} is not a multiple of 8 from 24 to 256"));
            }
            Ok(Op::Control(Box::new(Control::SetMaxRegisters(n as u32))))
        }
        "griddepcontrol" => {
            if !(cx.eat("launch_dependents") || cx.eat("wait")) {
                return cx.unknown();
            }
            cx.end(0)?;
            Ok(Op::Control(Box::new(Control::Hint)))
        }
        "pmevent" => {
            let _ = cx.eat("mask");
            cx.end(1)?;
            cx.int(0)?;
            Ok(Op::Control(Box::new(Control::Hint)))
        }
        _ => cx.unknown(),
    }
}

/// The clock that a special register reads, if it is one.
pub fn clock(name: &str) -> Option<(Clock, Type)> {
    Some(match name {
        "%clock" => (Clock::Clock32, Type::U32),
        "%clock_hi" => (Clock::ClockHi, Type::U32),
        "%clock64" => (Clock::Clock64, Type::U64),
        "%globaltimer" => (Clock::Global64, Type::U64),
        "%globaltimer_lo" => (Clock::GlobalLo, Type::U32),
        "%globaltimer_hi" => (Clock::GlobalHi, Type::U32),
        _ => return None,
    })
}

/// Branches, calls, returns, exits, traps.
pub(super) fn transfer(m: &mut Machine<'_>, warp: &mut Warp, split: &mut Split, mask: u32) -> Result<After, Stop> {
    let pc = split.pc;
    match &m.module.code[pc as usize].op {
        Op::Branch { target, join } => {
            let other = split.mask & !mask;
            if other == 0 {
                split.pc = *target;
            } else if mask == 0 {
                split.pc += 1;
            } else {
                if let Some(c) = &mut m.counters {
                    c.diverge(pc);
                }
                let (join, calls) = meeting(m, split, *join);
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
        Op::BranchIndexed(b) => {
            let undef = warp.regs.undef32(b.index);
            m.demand(warp, pc, mask, undef, "the index of a jump table");
            let index = warp.regs.r32[b.index as usize];
            if let Some(lane) = lanes_of(mask).find(|&l| index[l] as usize >= b.targets.len()) {
                let message = format!("brx.idx: index {} of a table of {}", index[lane], b.targets.len());
                return m.fault(warp, pc, 1 << lane, FaultKind::IllegalInstruction, message);
            }
            let (join, calls) = meeting(m, split, b.join);
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
        Op::Exit => {
            split.mask &= !mask;
            split.pc = pc + 1;
            leave(m, warp, mask);
            Ok(if split.mask == 0 { After::Gone } else { After::Go })
        }
        Op::Return => {
            let call = split.calls.last().copied().expect("a function was called");
            if mask != split.mask {
                let mut outer = split.calls.clone();
                outer.pop();
                warp.fork(split, mask, pc, call + 1, outer);
                split.pc = pc + 1;
                std::mem::swap(split, warp.splits.last_mut().expect("fork pushed a split"));
            }
            calls::take_results(m, warp, call, mask);
            split.calls.pop();
            split.pc = call + 1;
            Ok(After::Go)
        }
        Op::Call(call) => calls::call(m, warp, split, call, mask),
        Op::Trap => m.fault(warp, pc, mask, FaultKind::Trap, "trap"),
        _ => unreachable!("not a transfer"),
    }
}

/// Where the sides of a branch meet, with the call stack there: the static point, or the return to the caller.
fn meeting(_m: &Machine<'_>, split: &Split, join: u32) -> (u32, SmallVec<[u32; 4]>) {
    let mut calls = split.calls.clone();
    if join != NO_PC {
        return (join, calls);
    }
    match calls.pop() {
        Some(call) => (call + 1, calls),
        None => (NO_PC, calls),
    }
}

fn leave(m: &mut Machine<'_>, warp: &mut Warp, mask: u32) {
    warp.leave(mask);
    m.effect();
}

/// The instruction's work, but for transfers.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Control, at: At) -> Result<Flow, Stop> {
    match op {
        Control::Barrier(op) => barriers::execute(m, warp, op, at),
        Control::Clock { d, which } => {
            // A warp instruction of the whole machine is taken as a nanosecond and two cycles.
            let (cycles, nanoseconds) = (m.steps * 2, 1_700_000_000_000_000_000 + m.steps);
            let d = *d;
            match which {
                Clock::Clock32 => warp.regs.put32(d, &[cycles as u32; 32], at.mask),
                Clock::ClockHi => warp.regs.put32(d, &[(cycles >> 32) as u32; 32], at.mask),
                Clock::Clock64 => warp.regs.put64(d, &[cycles; 32], at.mask),
                Clock::Global64 => warp.regs.put64(d, &[nanoseconds; 32], at.mask),
                Clock::GlobalLo => warp.regs.put32(d, &[nanoseconds as u32; 32], at.mask),
                Clock::GlobalHi => warp.regs.put32(d, &[(nanoseconds >> 32) as u32; 32], at.mask),
            }
            m.define(warp, at.pc, at.mask);
            Ok(Flow::Next)
        }
        Control::Sleep => Ok(Flow::Block(Wait::Sleep { until: m.steps + u64::from(m.rng.below(256)) })),
        Control::SetMaxRegisters(_) => {
            if !at.is_converged(warp) {
                return Ok(Flow::Converge);
            }
            if m.entry.maxntid.is_none() && m.entry.reqntid.is_none() && m.entry.maxnreg.is_none() {
                let site = m.site(warp, at.pc, 0);
                m.mem.tracker.hazards.report(HazardKind::UndefinedBehavior, site, None, || {
                    "setmaxnreg in a kernel without .maxntid, .reqntid or .maxnreg".into()
                });
            }
            Ok(Flow::Next)
        }
        Control::Hint => Ok(Flow::Next),
    }
}
