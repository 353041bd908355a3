//! What instructions do in time. Integers, predicates and addresses are computed by the interpreter's own code; what is not known (floats that
//! come from memory, products of matrices) is not computed but undefined, and what depends on it, too.

use super::TimeError;
use super::engine::{Engine, Step};
use super::warp::{Timed, Why};
use crate::exec::control::{Clock, Control, Transfer};
use crate::exec::flow::{After, At, Flow};
use crate::exec::matrix::{self, Matrix};
use crate::exec::op::Op;
use crate::exec::registers::SetRegisters;
use crate::exec::warp::{Split, Wait};
use crate::exec::{calls, control, undefined, warp_ops};
use crate::ir::{Addr, Class, Reg};

impl Engine<'_> {
    /// One instruction of a warp's lanes at `time`.
    pub(super) fn execute(&mut self, timed: &mut Timed, split: &mut Split, time: u64) -> Result<Step, TimeError> {
        let module = self.module;
        let inst = &module.code[split.pc as usize];
        let (uses, defs) = inst.registers(&module.refs);
        let cost = self.costs[split.pc as usize];
        let mut at = At { pc: split.pc, mask: split.mask, timed_out: false, defs };
        if inst.guard.index != u16::MAX {
            let p = timed.warp.regs.pred[inst.guard.index as usize];
            let unknown = timed.warp.regs.undef_pred(inst.guard.index) & at.mask;
            if unknown != 0 && matches!(inst.op, Op::Transfer(_) | Op::Call(_) | Op::Barrier(_) | Op::Bulk(_)) {
                let reg = Reg { class: Class::Pred, index: inst.guard.index };
                return Err(self.unknown(timed, at, reg, "whether this is executed"));
            }
            // Of other instructions it is assumed.
            at.mask &= unknown | if inst.guard.negated { !p } else { p };
        }
        if at.mask == 0 && !matches!(inst.op, Op::Transfer(Transfer::Branch { .. })) {
            return Ok(Step::Next(time, Why::Issue));
        }
        let busy = time + u64::from(cost.latency);
        let next = Step::Next(time, Why::Issue);
        Ok(match &inst.op {
            Op::Lane(f, args) | Op::Bitwise(f, args) => {
                let regs = &mut timed.warp.regs;
                let unknown = uses.iter().fold(0, |u, r| u | regs.undef(*r)) & at.mask;
                if unknown == 0 {
                    f(regs, args, at.mask);
                    at.define(&mut timed.warp);
                } else if matches!(inst.op, Op::Bitwise(..)) && defs.iter().all(|d| d.class == Class::Pred) {
                    // `and` of what is known to be false and what is not known is known.
                    undefined::execute(regs, *f, args, (uses, defs), at.mask, true);
                    timed.note_birth(uses, defs, at.pc);
                } else if let (Some(holds), [d]) = (equality(&module.program.sources[at.pc as usize].opcode), defs) {
                    f(regs, args, at.mask & !unknown);
                    let known = regs.pred[d.index as usize] & !unknown;
                    regs.put_pred(d.index, if holds { known | unknown } else { known }, at.mask);
                    at.define(&mut timed.warp);
                } else {
                    f(regs, args, at.mask & !unknown);
                    at.mark(&mut timed.warp, unknown);
                    timed.note_birth(uses, defs, at.pc);
                }
                timed.set_ready(defs, busy);
                next
            }
            Op::Transfer(Transfer::Return) => {
                let called = *split.calls.last().expect("a function was called");
                let Op::Call(call) = &module.code[called as usize].op else { unreachable!("a return follows a call") };
                calls::return_from(&self.machine, &mut timed.warp, split, call, at.mask);
                Step::Moved(busy)
            }
            Op::Transfer(op) => {
                let before = split.pc;
                match control::transfer(&mut self.machine, &mut timed.warp, split, op, at).map_err(TimeError::from)? {
                    After::Gone => Step::Gone,
                    _ if split.pc == before + 1 => Step::Moved(time),
                    _ => Step::Moved(busy),
                }
            }
            Op::Call(op) => {
                calls::call(&mut self.machine, &mut timed.warp, split, op, at).map_err(TimeError::from)?;
                Step::Moved(busy)
            }
            Op::Memory(op) => self.memory(timed, op, at, time)?,
            Op::Atomic(op) => self.atomic(timed, op, at, time)?,
            Op::Warp(op) => {
                let flow = warp_ops::execute(&mut self.machine, &mut timed.warp, op, at).map_err(TimeError::from)?;
                if let Some(wait) = gathering(flow) {
                    return Ok(Step::Retry(wait));
                }
                if at.any_undefined(&timed.warp) {
                    timed.note_birth(uses, defs, at.pc);
                }
                let passed = if cost.pipe == super::cost::Pipe::Memory { self.pass(timed, time, 1) } else { time };
                timed.set_ready(defs, passed + u64::from(cost.latency));
                next
            }
            Op::Control(op) => self.control(timed, op, at, time),
            Op::Matrix(op) => self.matrix(timed, op, at, time)?,
            Op::Wgmma(op) => self.wgmma(timed, op, at, time)?,
            Op::Registers(op) => self.set_registers(timed, op, at, time),
            Op::Barrier(op) => self.barrier(timed, op, at, time)?,
            Op::Bulk(op) => self.bulk(timed, op, at, time)?,
        })
    }

    /// A value that decides something was not computed.
    pub(super) fn unknown(&self, timed: &Timed, at: At<'_>, reg: Reg, what: &str) -> TimeError {
        let program = &self.module.program;
        let (opcode, line, source) = program.line(at.pc);
        let from = timed.birth(reg).map(|pc| program.line(pc).1);
        TimeError::Unknown { what: what.into(), opcode: opcode.into(), line, source_line: source.map(|s| s.to_string()), from }
    }

    /// The address of each lane, as the named space counts.
    pub(super) fn addresses(&self, timed: &Timed, addr: &Addr, at: At<'_>) -> Result<[u64; 32], TimeError> {
        let regs = &timed.warp.regs;
        if !addr.constant && regs.undef(addr.base) & at.mask != 0 {
            return Err(self.unknown(timed, at, addr.base, "the address"));
        }
        Ok(match addr.base.class {
            Class::B64 => regs.r64[addr.base.index as usize].map(|b| b.wrapping_add(addr.offset as u64)),
            _ => regs.r32[addr.base.index as usize].map(|b| u64::from(b.wrapping_add(addr.offset as u32))),
        })
    }

    /// The value of a 32-bit register in the first lane.
    pub(super) fn word(&self, timed: &Timed, index: u16, at: At<'_>, what: &str) -> Result<u32, TimeError> {
        if timed.warp.regs.undef32(index) & at.mask != 0 {
            return Err(self.unknown(timed, at, Reg { class: Class::B32, index }, what));
        }
        Ok(timed.warp.regs.r32[index as usize][at.lane() as usize])
    }

    /// The memory pipe of the warp's multiprocessor works on so many passes: when it begins.
    pub(super) fn pass(&mut self, timed: &Timed, time: u64, passes: u64) -> u64 {
        let sm = self.sm_of(timed.warp.slot);
        self.sms[sm as usize].pass(time, passes)
    }

    /// The multiprocessor of a CTA.
    pub(super) fn sm_of(&self, slot: u32) -> u32 {
        self.ctas[slot as usize].as_ref().expect("a warp's CTA is there").sm
    }

    fn control(&mut self, timed: &mut Timed, op: &Control, at: At<'_>, time: u64) -> Step {
        let regs = &mut timed.warp.regs;
        match op {
            Control::Clock { d, which } => {
                let nanoseconds = (time as f64 / self.card.clock) as u64;
                match which {
                    Clock::CyclesLow => regs.put32(*d, &[time as u32; 32], at.mask),
                    Clock::CyclesHigh => regs.put32(*d, &[(time >> 32) as u32; 32], at.mask),
                    Clock::Cycles => regs.put64(*d, &[time; 32], at.mask),
                    Clock::Time => regs.put64(*d, &[nanoseconds; 32], at.mask),
                    Clock::TimeLow => regs.put32(*d, &[nanoseconds as u32; 32], at.mask),
                    Clock::TimeHigh => regs.put32(*d, &[(nanoseconds >> 32) as u32; 32], at.mask),
                }
                at.define(&mut timed.warp);
                timed.set_ready(at.defs, time + self.card.alu);
                Step::Next(time, Why::Issue)
            }
            // The card sleeps between nothing and twice as long as it is asked to.
            Control::Sleep => Step::Next(time + 100, Why::Sleep),
            Control::GridWait | Control::Hint => Step::Next(time, Why::Issue),
        }
    }

    /// `mma.sync` and what moves fragments; the numbers are not computed.
    fn matrix(&mut self, timed: &mut Timed, op: &Matrix, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        if !at.is_converged(&timed.warp) {
            return Ok(Step::Retry(Wait::Converge));
        }
        let (flops, bits) = match op {
            Matrix::Load(x) | Matrix::Store(x) => return self.eights(timed, x, at, time),
            Matrix::Transpose { .. } => (0, 16),
            Matrix::Multiply(x) => (2 * x.m * matrix::N * x.k, x.a.bits()),
            Matrix::MultiplyF64(x) => (2 * x.m * matrix::N * x.k, 64),
            Matrix::Wmma(matrix::wmma::Wmma::Multiply(x)) => (2 * x.shape.0 * x.shape.1 * x.shape.2, 16),
            Matrix::Wmma(_) => (0, 16),
        };
        at.mark(&mut timed.warp, u32::MAX);
        timed.note_birth(&[], at.defs, at.pc);
        // A quarter of the multiprocessor's tensor cores; a type of half the size is twice as fast, doubles a sixteenth.
        let rate = self.card.tensor_flops / 4.0 * 16.0 / f64::from(bits) / if bits == 64 { 4.0 } else { 1.0 };
        let busy = flops as f64 / rate;
        let sm = self.sm_of(timed.warp.slot) as usize;
        let pipe = &mut self.sms[sm].schedulers[timed.warp.index as usize % 4].pipes[super::cost::Pipe::Tensor as usize];
        *pipe = time + (busy / self.card.mma_share).ceil() as u64;
        self.sms[sm].work.tensor += busy / 4.0;
        self.profile.tensor_flops += flops as f64;
        timed.set_ready(at.defs, time + u64::from(self.costs[at.pc as usize].latency));
        Ok(Step::Next(time, Why::Issue))
    }

    fn set_registers(&mut self, timed: &Timed, op: &SetRegisters, at: At<'_>, time: u64) -> Step {
        if !at.is_converged(&timed.warp) {
            return Step::Retry(Wait::Converge);
        }
        let slot = timed.warp.slot;
        let cta = self.ctas[slot as usize].as_mut().expect("a warp's CTA is there");
        let Some(held) = &mut cta.registers.held else { return Step::Next(time, Why::Issue) };
        let held = &mut held[timed.warp.index as usize];
        if op.inc {
            let more = op.count.saturating_sub(*held) * 32;
            if cta.registers.free < more {
                return Step::Retry(Wait::Registers { more });
            }
            cta.registers.free -= more;
            *held = (*held).max(op.count);
        } else {
            let left = (*held).min(op.count);
            cta.registers.free += (*held - left) * 32;
            *held = left;
            for w in 0..cta.warps.len() as u32 {
                self.wake(slot, w, time + self.card.barrier);
            }
        }
        Step::Next(time, Why::Issue)
    }
}

/// What lanes wait for that must come together before they execute.
pub(super) fn gathering(flow: Flow) -> Option<Wait> {
    match flow {
        Flow::Converge => Some(Wait::Converge),
        Flow::Members(lanes) => Some(Wait::Members(lanes)),
        _ => None,
    }
}

/// What a comparison of floats for equality says where they are not known: two of them are not equal, and a sum is not 0. So a kernel that
/// guards its last division has a time.
fn equality(opcode: &str) -> Option<bool> {
    let mut parts = opcode.split('.');
    let holds = match (parts.next(), parts.next()) {
        (Some("setp"), Some("eq" | "equ")) => false,
        (Some("setp"), Some("ne" | "neu")) => true,
        _ => return None,
    };
    matches!(parts.next_back(), Some("f16" | "bf16" | "f32" | "f64")).then_some(holds)
}
