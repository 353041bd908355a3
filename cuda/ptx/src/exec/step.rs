//! One instruction of a group of lanes.

use super::bulk::Asyncs;
use super::control::Transfer;
use super::flow::{After, At, Flow, Stop};
use super::machine::Machine;
use super::module::Module;
use super::op::Op;
use super::residents::Residents;
use super::warp::{Split, Wait, Warp};
use super::wgmma::WgmmaOp;
use super::{atomics, barriers, births, bulk, calls, control, matrix, memory, registers, seeing, undefined, warp_ops, wgmma};
use crate::ir::Reg;

/// A launch in progress: the code, and all that its instructions work on.
pub struct Engine<'g> {
    pub module: &'g Module,
    pub machine: Machine<'g>,
    pub residents: Residents,
    pub asyncs: Asyncs,
}

impl Engine<'_> {
    /// One instruction of a split: evaluates the guard, runs what is lane-wise in place and calls the family of the rest.
    #[inline]
    pub fn step(&mut self, warp: &mut Warp, split: &mut Split) -> Result<After, Stop> {
        let (module, m) = (self.module, &mut self.machine);
        let pc = split.pc;
        let inst = &module.code[pc as usize];
        let (uses, defs) = inst.registers(&module.refs);
        let mut at = At { pc, mask: split.mask, timed_out: false, defs };
        m.pace.steps += 1;
        warp.executed += 1;
        if inst.guard.index != u16::MAX {
            let p = warp.regs.pred[inst.guard.index as usize];
            let undef = warp.regs.undef_pred(inst.guard.index);
            if undef & at.mask != 0 {
                m.demand(warp, at, undef, "the guard");
            }
            at.mask &= if inst.guard.negated { !p } else { p };
        }
        m.pace.instructions += u64::from(at.mask.count_ones());
        if let Some(c) = &mut m.counters {
            c.issue(pc, at.mask);
        }
        if m.seeing {
            seeing::see(m, warp, split.mask, at);
        }
        if at.mask == 0 && !matches!(inst.op, Op::Transfer(Transfer::Branch { .. })) {
            split.pc += 1;
            return Ok(After::Go);
        }
        if inst.touches_wgmma && m.kernel.options.hazards {
            uses.iter().chain(defs).for_each(|reg| warp.touches.touch(*reg));
        }
        // A wgmma looks after its registers in flight itself.
        if warp.regs.any_in_flight() && !matches!(inst.op, Op::Wgmma(WgmmaOp::Multiply(_))) {
            self.check_flight(warp, at, uses);
        }
        let m = &mut self.machine;
        let flow = match &inst.op {
            Op::Lane(f, args) | Op::Bitwise(f, args) => {
                if uses.iter().fold(0, |u, r| u | warp.regs.undef(*r)) & at.mask == 0 {
                    f(&mut warp.regs, args, at.mask);
                    at.define(warp);
                } else {
                    let before = uses.iter().map(|r| (*r, warp.regs.undef(*r))).collect();
                    let bitwise = matches!(inst.op, Op::Bitwise(..));
                    undefined::execute(&mut warp.regs, *f, args, (uses, defs), at.mask, bitwise);
                    births::inherit(m, warp, at, before);
                }
                split.pc += 1;
                return Ok(After::Go);
            }
            Op::Transfer(Transfer::Return) => {
                let called = *split.calls.last().expect("a function was called");
                let Op::Call(call) = &module.code[called as usize].op else { unreachable!("a return follows a call") };
                calls::return_from(m, warp, split, call, at.mask);
                return Ok(After::Go);
            }
            Op::Transfer(op) => return control::transfer(m, warp, split, op, at),
            Op::Call(op) => return calls::call(m, warp, split, op, at),
            op => {
                at.timed_out = std::mem::take(&mut split.timed_out);
                let flow = self.execute(warp, op, at)?;
                // What a wgmma works on is undefined until it is waited for.
                if at.any_undefined(warp) && !matches!(op, Op::Wgmma(_)) {
                    // What it wrote, it may have read before: that is not known any more.
                    let before = uses.iter().filter(|r| !defs.contains(r)).map(|r| (*r, warp.regs.undef(*r))).collect();
                    births::inherit(&mut self.machine, warp, at, before);
                }
                flow
            }
        };
        let m = &mut self.machine;
        if let Some(t) = &mut m.trace
            && let Some(reason) = flow.reason()
        {
            t.wait(m.pace.steps, warp.site(pc, at.lane()), at.mask, reason);
        }
        Ok(follow(warp, split, at.mask, flow))
    }

    /// Runs an instruction that is neither lane-wise nor a transfer of control: each family gets the parts that it works on.
    fn execute(&mut self, warp: &mut Warp, op: &Op, at: At<'_>) -> Result<Flow, Stop> {
        let m = &mut self.machine;
        match op {
            Op::Memory(x) => memory::execute(m, warp, x, at),
            Op::Atomic(x) => atomics::execute(m, warp, x, at),
            Op::Warp(x) => warp_ops::execute(m, warp, x, at),
            Op::Control(x) => control::execute(m, warp, x, at),
            Op::Matrix(x) => matrix::execute(m, warp, x, at),
            Op::Registers(x) => Ok(registers::execute(m, &mut self.residents.cta(warp.slot).registers, warp, x, at)),
            Op::Barrier(x) => barriers::execute(m, &mut self.residents, warp, x, at),
            Op::Bulk(x) => bulk::execute(m, &mut self.asyncs, warp, x, at),
            Op::Wgmma(x) => {
                let cta = self.residents.cta(warp.slot);
                wgmma::execute(m, &cta.warps, &mut cta.warpgroups, warp, x, at)
            }
            Op::Lane(..) | Op::Bitwise(..) | Op::Transfer(_) | Op::Call(_) => unreachable!("handled by step"),
        }
    }

    fn check_flight(&mut self, warp: &Warp, at: At<'_>, uses: &[Reg]) {
        let read = uses.iter().filter(|r| warp.regs.flight(**r) == 2);
        let written = at.defs.iter().filter(|r| warp.regs.flight(**r) != 0);
        let Some(reg) = read.chain(written).next().copied() else { return };
        if self.machine.kernel.options.hazards {
            let groups = &mut self.residents.cta(warp.slot).warpgroups;
            let written = at.defs.contains(&reg);
            let (kind, what) = wgmma::blame(&self.machine, groups, warp, reg);
            let does = if written { "writes" } else { "reads" };
            self.machine.report(kind, warp.site(at.pc, at.lane()), None, || format!("{does} {what}"));
            if written && warp.regs.flight(reg) == 2 {
                wgmma::clobber(groups, warp, reg);
            }
        }
    }
}

fn follow(warp: &mut Warp, split: &mut Split, mask: u32, flow: Flow) -> After {
    let (wait, skip) = match flow {
        Flow::Next => {
            split.pc += 1;
            return After::Go;
        }
        Flow::Yield => {
            split.pc += 1;
            return After::Later;
        }
        Flow::Converge => (Wait::Converge, 0),
        Flow::Members(m) => (Wait::Members(m), 0),
        Flow::Block(w) => (w, 1),
        Flow::Retry(w) => (w, 0),
    };
    // The lanes wait, at this pc plus `skip`; those that the guard left out do not: they go to the next, where all meet.
    let pc = split.pc;
    if mask == split.mask {
        split.pc = pc + skip;
        split.wait = Some(wait);
        return After::Blocked;
    }
    let calls = split.calls.clone();
    warp.fork(split, mask, pc, pc + 1, calls);
    split.pc = pc + 1;
    let waiting = warp.splits.last_mut().expect("fork pushed the lanes that wait");
    waiting.pc = pc + skip;
    waiting.wait = Some(wait);
    After::Go
}
