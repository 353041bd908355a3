//! One instruction of a group of lanes.

use super::control::Transfer;
use super::module::Module;
use super::op::{Inst, Op};
use super::warp::{Split, Warp};
use super::{At, Flow, Machine, Stop, Wait, atomics, barriers, bulk, calls, control, matrix, memory, warp_ops, wgmma};

/// What a step leaves to do.
pub(super) enum After {
    /// The split goes on.
    Go,
    /// It goes on, but another warp should run first.
    Later,
    /// It waits.
    Blocked,
    /// Its lanes have left, or are elsewhere.
    Gone,
}

impl<'g> Machine<'g> {
    /// One instruction of a split.
    pub(super) fn step(&mut self, warp: &mut Warp, split: &mut Split) -> Result<After, Stop> {
        let module: &'g Module = self.module;
        let pc = split.pc;
        let inst = &module.code[pc as usize];
        self.steps += 1;
        warp.executed += 1;
        let mut mask = split.mask;
        if inst.guard.index != u16::MAX {
            let p = warp.regs.pred[inst.guard.index as usize];
            let undef = warp.regs.undef_pred(inst.guard.index);
            if undef & mask != 0 {
                self.demand(warp, pc, mask, undef, "the guard");
            }
            mask &= if inst.guard.negated { !p } else { p };
        }
        self.instructions += u64::from(mask.count_ones());
        if let Some(c) = &mut self.counters {
            c.issue(pc, mask);
        }
        if mask == 0 && !matches!(inst.op, Op::Transfer(Transfer::Branch { .. })) {
            split.pc += 1;
            return Ok(After::Go);
        }
        if inst.touches_wgmma && self.options.hazards {
            let (uses, defs) = inst.registers(&module.refs);
            uses.iter().chain(defs).for_each(|reg| warp.touches.touch(*reg));
        }
        // A product of its own looks after its registers in flight itself.
        if warp.regs.any_in_flight() && !matches!(inst.op, Op::Wgmma(wgmma::WgmmaOp::Multiply(_))) {
            self.check_flight(warp, pc, mask);
        }
        match &inst.op {
            Op::Lane(f, args) => {
                f(&mut warp.regs, args, mask);
                self.pass_undef(warp, inst, mask);
                split.pc += 1;
                Ok(After::Go)
            }
            Op::LaneExact(f, args) => {
                f(&mut warp.regs, args, mask);
                split.pc += 1;
                Ok(After::Go)
            }
            Op::Transfer(Transfer::Return) => {
                let at = *split.calls.last().expect("a function was called");
                let Op::Call(call) = &module.code[at as usize].op else { unreachable!("a return address follows a call") };
                calls::return_from(self, warp, split, call, mask);
                Ok(After::Go)
            }
            Op::Transfer(op) => control::transfer(self, warp, split, op, mask),
            Op::Call(op) => calls::call(self, warp, split, op, mask),
            op => {
                let at = At { pc, mask, timed_out: std::mem::take(&mut split.timed_out) };
                let flow = self.execute(warp, op, at)?;
                self.follow(warp, split, mask, flow)
            }
        }
    }

    /// A result is undefined where an operand is.
    #[inline]
    fn pass_undef(&self, warp: &mut Warp, inst: &Inst, mask: u32) {
        let (uses, defs) = inst.registers(&self.module.refs);
        let undef = uses.iter().fold(0, |u, r| u | warp.regs.undef(*r));
        for d in defs {
            warp.regs.set_undef(*d, undef, mask);
        }
    }

    /// Runs an instruction that is neither lane-wise nor a transfer of control.
    fn execute(&mut self, warp: &mut Warp, op: &'g Op, at: At) -> Result<Flow, Stop> {
        match op {
            Op::Memory(x) => memory::execute(self, warp, x, at),
            Op::Atomic(x) => atomics::execute(self, warp, x, at),
            Op::Warp(x) => warp_ops::execute(self, warp, x, at),
            Op::Control(x) => control::execute(self, warp, x, at),
            Op::Barrier(x) => barriers::execute(self, warp, x, at),
            Op::Matrix(x) => matrix::execute(self, warp, x, at),
            Op::Wgmma(x) => wgmma::execute(self, warp, x, at),
            Op::Bulk(x) => bulk::execute(self, warp, x, at),
            _ => unreachable!("handled by step"),
        }
    }

    fn follow(&mut self, warp: &mut Warp, split: &mut Split, mask: u32, flow: Flow) -> Result<After, Stop> {
        let wait = match flow {
            Flow::Next => {
                split.pc += 1;
                return Ok(After::Go);
            }
            Flow::Yield => {
                split.pc += 1;
                return Ok(After::Later);
            }
            Flow::Converge => Wait::Converge,
            Flow::Members(m) => Wait::Members(m),
            Flow::Block(w) => return Ok(self.park_waiting(warp, split, mask, w, 1)),
            Flow::Retry(w) => return Ok(self.park_waiting(warp, split, mask, w, 0)),
        };
        if mask != split.mask {
            self.divide(warp, split, mask);
            warp.splits.last_mut().expect("divide pushed the lanes that wait").wait = Some(wait);
            return Ok(After::Go);
        }
        split.wait = Some(wait);
        Ok(After::Blocked)
    }

    /// The lanes of `mask` wait, at this pc plus `skip`; lanes that the guard left out do not.
    fn park_waiting(&mut self, warp: &mut Warp, split: &mut Split, mask: u32, wait: Wait, skip: u32) -> After {
        let pc = split.pc + skip;
        if mask == split.mask {
            split.pc = pc;
            split.wait = Some(wait);
            return After::Blocked;
        }
        self.divide(warp, split, mask);
        let waiting = warp.splits.last_mut().expect("divide pushed the lanes that wait");
        waiting.pc = pc;
        waiting.wait = Some(wait);
        After::Go
    }

    /// Splits off the lanes `mask`, which stay at this pc; the others go to the next. They meet at the next.
    fn divide(&mut self, warp: &mut Warp, split: &mut Split, mask: u32) {
        let pc = split.pc;
        let calls = split.calls.clone();
        warp.fork(split, mask, pc, pc + 1, calls);
        split.pc = pc + 1;
    }

    fn check_flight(&mut self, warp: &Warp, pc: u32, mask: u32) {
        let uses = self.uses(pc).iter().filter(|r| warp.regs.flight(**r) == 2);
        let defs = self.defs(pc).iter().filter(|r| warp.regs.flight(**r) != 0);
        let Some(reg) = uses.chain(defs).next().copied() else { return };
        if self.options.hazards {
            let site = self.site(warp, pc, mask.trailing_zeros() as usize);
            let written = self.defs(pc).contains(&reg);
            let (kind, what) = wgmma::blame(self, warp, reg);
            self.mem.tracker.hazards.report(kind, site, None, || format!("{} {what}", if written { "writes" } else { "reads" }));
            if written && warp.regs.flight(reg) == 2 {
                wgmma::clobber(self, warp, reg);
            }
        }
    }
}
