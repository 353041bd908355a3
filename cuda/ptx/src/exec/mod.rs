//! Execution: a launch's CTAs and warps, and the loop that runs them.
//!
//! # The loop
//!
//! [`Machine::run`] picks a warp by the seed and lets it run a burst of instructions. A warp's lanes are in one or several
//! groups with a pc of their own ([`warp`]); one group runs at a time. `Machine::step` evaluates the guard, runs an
//! [`Op::Lane`] in place and hands every other [`Op`] to [`Machine::execute`], which calls the family:
//!
//! ```text
//! pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &…, at: At) -> Result<Flow, Stop>
//! ```
//!
//! [`At`] has the lanes to execute and the pc, for hazards. While a warp runs it is not in its CTA's list, so the family may touch other
//! warps, shared memory and queues through `m` freely. What it returns:
//!
//! - [`Flow::Next`]: done.
//! - [`Flow::Converge`]: the instruction is `.aligned` and `at.mask` is not every live lane; the machine gathers the lanes and
//!   calls again. Use [`At::is_converged`].
//! - [`Flow::Members`]: the same for the named lanes of a `.sync` instruction.
//! - [`Flow::Block`]: done, but the lanes go on only when the [`Wait`] is over.
//! - [`Flow::Retry`]: the lanes wait, then the instruction is executed again (`try_wait`).
//! - [`Flow::Yield`]: done, and another warp should run.
//!
//! A wait is over when [`Machine::is_over`] says so; it is asked after [`Machine::wake`] was called for the warp or its CTA.
//! When nothing can run, [`Machine::unstick`] first lets an asynchronous operation land, then makes timed waits give up, then starts more
//! CTAs, and then reports a deadlock.
//!
//! # Registers
//!
//! `warp.regs.r32[i][lane]` and so on. Undefinedness: before an instruction the machine knows which of its operands are
//! undefined; a [`Op::Lane`] passes it on to the result by itself. Families mark what they write with `regs.set_undef`
//! ([`Machine::define`] marks all of the instruction's results as defined) and report what must not be undefined with
//! [`Machine::demand`]. Registers in flight (`regs.set_flight`) are checked by the machine before every instruction but those for which
//! [`touches_flight`] is true, which check themselves (wgmma).
//!
//! # Who fills what
//!
//! `matrix.rs` holds the tensor-core families; `bulk.rs` the asynchronous copies, mbarriers and fences with their queue
//! ([`bulk::Asyncs`]); [`crate::mem`] all memory but local frames, with the shadow and the clocks; [`crate::counters`] what the machine counts.

pub mod atomics;
pub mod bulk;
pub mod calls;
pub mod compare;
pub mod control;
pub mod cvt;
pub mod float;
pub mod int;
pub mod lanes;
pub mod launch;
pub mod matrix;
pub mod memory;
pub mod printf;
pub mod rng;
pub mod warp;
pub mod warp_ops;
pub mod wgmma;

use crate::counters::Recorder;
use crate::gpu::{Fault, FaultKind, Launch, Options};
use crate::hazard::{Hazard, HazardKind, Place, Site};
use crate::ir::{Entry, Inst, Module, Op, Reg};
use crate::mem::Memory;
use rng::Rng;
use warp::{Split, Warp};

/// The launch ends: a fault.
pub type Stop = Box<Fault>;

/// Where an instruction is and in which lanes.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The instruction.
    pub pc: u32,
    /// Lanes that execute it.
    pub mask: u32,
    /// The wait before this was given up.
    pub timed_out: bool,
}

impl At {
    /// Whether every live lane of the warp is here.
    pub fn is_converged(&self, warp: &Warp) -> bool {
        self.mask == warp.live
    }
}

/// What happens after an instruction.
#[derive(Clone, Debug)]
pub enum Flow {
    /// The next instruction.
    Next,
    /// Gather all live lanes of the warp, then execute again.
    Converge,
    /// Gather the lanes of the mask, then execute again.
    Members(u32),
    /// The next instruction, when the wait is over.
    Block(Wait),
    /// This instruction again, when the wait is over.
    Retry(Wait),
    /// The next instruction, later.
    Yield,
}

/// What lanes wait for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// All live lanes of the warp at this pc.
    Converge,
    /// These lanes at this pc.
    Members(u32),
    /// Completion of a named barrier.
    Barrier {
        /// Its number.
        id: u32,
        /// Its generation when the lanes arrived.
        generation: u64,
    },
    /// Completion of the cluster's barrier.
    ClusterBarrier {
        /// Its generation when the lanes arrived.
        generation: u64,
    },
    /// Something of the asynchronous families.
    Async(bulk::AsyncWait),
    /// All warps of the warpgroup have issued so many wgmma.
    Warpgroup {
        /// How many.
        target: u64,
    },
    /// Time.
    Sleep {
        /// The step until which the lanes sleep.
        until: u64,
    },
}

/// A CTA that is resident.
pub struct Cta {
    /// Linear number in the grid.
    pub linear: u32,
    /// `%ctaid`
    pub id: [u32; 3],
    /// Its warps; the one that runs is taken out.
    pub warps: Vec<Option<Box<Warp>>>,
    /// Warps that have not ended.
    pub alive: u32,
    /// Named barriers.
    pub barriers: Vec<control::NamedBarrier>,
    /// What its warpgroups have in flight.
    pub warpgroups: Vec<wgmma::Warpgroup>,
}

/// A cluster that is resident.
pub struct Cluster {
    /// CTAs that have not ended.
    pub alive: u32,
    /// `barrier.cluster`
    pub barrier: control::ClusterBarrier,
}

/// A launch in progress.
pub struct Machine<'g> {
    /// The module.
    pub module: &'g Module,
    /// The kernel.
    pub entry: &'g Entry,
    /// Options of the GPU.
    pub options: &'g Options,
    /// Grid, block and so on.
    pub launch: &'g Launch,
    /// Addresses of the module's variables.
    pub globals: &'g [u64],
    /// Address of the kernel's parameters.
    pub params: u64,
    /// All memory, its shadow and order, and what was found wrong.
    pub mem: Memory,
    /// Counters, if wanted.
    pub counters: Option<Recorder>,
    /// The seed's stream.
    pub rng: Rng,
    /// What the kernel printed.
    pub printed: String,
    /// Asynchronous operations under way.
    pub asyncs: bulk::Asyncs,
    /// Resident CTAs by slot; those of a cluster are neighbours. `None`: the slot is free.
    pub ctas: Vec<Option<Cta>>,
    /// Resident clusters: slot / CTAs a cluster.
    pub clusters: Vec<Option<Cluster>>,
    /// Shape of the grid.
    pub shape: launch::Shape,
    /// Warps that may be able to run: slot * warps a CTA + warp.
    ready: Vec<u32>,
    is_ready: Vec<bool>,
    /// Drawn once a launch, for `elect.sync`.
    election: u32,
    /// Next cluster to start.
    next_cluster: u32,
    /// Clusters that may be resident at once.
    window: u32,
    resident: u32,
    /// Warp instructions executed.
    pub steps: u64,
    /// Thread instructions executed.
    pub instructions: u64,
    /// Step at which the last cluster started.
    last_admit: u64,
    /// Step of the last event that others could see.
    pub last_effect: u64,
}

/// Warp instructions without any effect after which the launch counts as stuck.
const LIVELOCK: u64 = 10_000_000;

/// Warp instructions without any effect after which another cluster starts.
const PATIENCE: u64 = 10_000;

impl<'g> Machine<'g> {
    /// What `elect.sync` draws from: the same for a whole launch.
    pub fn election(&self) -> u32 {
        self.election
    }

    /// The site of a lane at an instruction.
    pub fn site(&self, warp: &Warp, pc: u32, lane: usize) -> Site {
        Site::new(pc, warp.id, lane as u32)
    }

    /// Something happened that another warp could see.
    pub fn effect(&mut self) {
        self.last_effect = self.steps;
    }

    /// The warp may be able to go on.
    pub fn wake(&mut self, slot: u32, warp: u32) {
        let r = slot * self.shape.warps + warp;
        if !std::mem::replace(&mut self.is_ready[r as usize], true) {
            self.ready.push(r);
        }
    }

    /// All warps of the CTA may be able to go on.
    pub fn wake_cta(&mut self, slot: u32) {
        for w in 0..self.shape.warps {
            if self.ctas[slot as usize].as_ref().is_some_and(|c| c.warps[w as usize].is_some()) {
                self.wake(slot, w);
            }
        }
    }

    /// All warps of the cluster that `slot` belongs to may be able to go on.
    pub fn wake_cluster(&mut self, slot: u32) {
        let first = slot - slot % self.shape.cluster_ctas;
        for s in first..first + self.shape.cluster_ctas {
            self.wake_cta(s);
        }
    }

    /// Marks every result of the instruction at `pc` as defined in the lanes of `mask`.
    pub fn define(&mut self, warp: &mut Warp, pc: u32, mask: u32) {
        for reg in self.defs(pc) {
            warp.regs.set_undef(*reg, 0, mask);
        }
    }

    /// Registers that the instruction reads.
    pub fn uses(&self, pc: u32) -> &'g [Reg] {
        let inst = &self.module.code[pc as usize];
        &self.module.refs[inst.refs as usize..][..inst.uses as usize]
    }

    /// Registers that the instruction writes.
    pub fn defs(&self, pc: u32) -> &'g [Reg] {
        let inst = &self.module.code[pc as usize];
        &self.module.refs[inst.refs as usize + inst.uses as usize..][..inst.defs as usize]
    }

    /// Reports the lanes of `mask` in which `undef` says that `what` is undefined.
    pub fn demand(&mut self, warp: &Warp, pc: u32, mask: u32, undef: u32, what: &str) {
        let bad = mask & undef;
        if bad != 0 && self.options.hazards {
            let site = self.site(warp, pc, bad.trailing_zeros() as usize);
            self.mem.tracker.hazards.report(HazardKind::UninitializedRead, site, None, || format!("{what} is undefined"));
        }
    }

    /// Ends the launch with a fault at `pc` in the first lane of `mask`.
    pub fn fault<T>(&self, warp: &Warp, pc: u32, mask: u32, kind: FaultKind, message: impl Into<String>) -> Result<T, Stop> {
        let place = self.place(self.site(warp, pc, mask.trailing_zeros() as usize & 31));
        Err(Box::new(Fault::new(kind, message.into(), Some(place))))
    }

    /// Turns a site into lines, thread and CTA.
    pub fn place(&self, site: Site) -> Place {
        let (_, ptx_line, source) = self.module.line(site.pc);
        let (cta, warp) = (site.warp / self.shape.warps, site.warp % self.shape.warps);
        let thread = warp * 32 + u32::from(site.lane);
        Place { ptx_line, source, thread: launch::unlinear(thread, self.launch.block), cta: self.shape.cta_id(cta) }
    }

    /// Runs the launch to its end.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            self.admit();
            if self.ready.is_empty() {
                if self.resident == 0 {
                    return Ok(());
                }
                self.unstick()?;
                continue;
            }
            let i = self.rng.below(self.ready.len() as u32) as usize;
            let r = self.ready.swap_remove(i);
            self.is_ready[r as usize] = false;
            self.burst(r)?;
            // Those that run may wait for CTAs that have not started: a barrier of the whole grid.
            if self.steps - self.last_effect.max(self.last_admit) > PATIENCE && self.may_admit() {
                self.window = self.resident + 1;
            }
            if self.steps - self.last_effect > LIVELOCK {
                return self.stuck("livelock");
            }
            if self.steps > self.options.step_limit {
                return Err(Box::new(Fault::new(
                    FaultKind::StepLimit,
                    format!("the launch executed more than {} warp instructions", self.options.step_limit),
                    None,
                )));
            }
        }
    }

    /// Runs warp `r` for a while.
    fn burst(&mut self, r: u32) -> Result<(), Stop> {
        let (slot, w) = (r / self.shape.warps, r % self.shape.warps);
        let Some(mut warp) = self.ctas[slot as usize].as_mut().and_then(|c| c.warps[w as usize].take()) else { return Ok(()) };
        bulk::progress(self);
        // Short bursts interleave finely, long ones let one warp run far ahead; a seed has both.
        let budget = 1 << self.rng.below(8);
        let result = self.run_warp(&mut warp, budget);
        let ended = warp.live == 0;
        let cta = self.ctas[slot as usize].as_mut().expect("a warp's CTA is resident");
        if ended {
            cta.alive -= 1;
            let last = cta.alive == 0;
            result?;
            self.warp_ended(warp);
            if last {
                self.cta_ended(slot);
            }
            return Ok(());
        }
        cta.warps[w as usize] = Some(warp);
        if result? {
            self.wake(slot, w);
        }
        Ok(())
    }

    /// Runs up to `budget` instructions. Returns whether the warp could go on.
    fn run_warp(&mut self, warp: &mut Warp, budget: u32) -> Result<bool, Stop> {
        let mut left = budget;
        loop {
            let Some(mut split) = self.take_split(warp) else { return Ok(false) };
            while left > 0 {
                if split.pc == split.join_pc {
                    match warp.park(split) {
                        Some(merged) => {
                            split = merged;
                            continue;
                        }
                        None => break,
                    }
                }
                left -= 1;
                match self.step(warp, &mut split)? {
                    After::Go => {}
                    After::Later => {
                        warp.splits.push(split);
                        return Ok(true);
                    }
                    After::Blocked => {
                        warp.splits.push(split);
                        break;
                    }
                    After::Gone => break,
                }
                if left == 0 {
                    warp.splits.push(split);
                    if warp.any_parked() {
                        warp.release_impatient();
                    }
                    return Ok(true);
                }
            }
            if warp.live == 0 {
                return Ok(false);
            }
            if left == 0 {
                return Ok(true);
            }
        }
    }

    /// A split that can run. If all wait, lanes that are parked at joins go on alone.
    fn take_split(&mut self, warp: &mut Warp) -> Option<Split> {
        loop {
            if let Some(mut split) = self.gathered(warp) {
                split.wait = None;
                return Some(split);
            }
            let mut rng = self.rng.clone();
            let found = {
                let id = (warp.slot, warp.index);
                warp.take_ready(&mut rng, |s| s.wait.as_ref().is_none_or(|w| self.is_over(id, w)))
            };
            self.rng = rng;
            if found.is_some() {
                return found;
            }
            if !warp.release_all() {
                return None;
            }
        }
    }

    /// If lanes that wait for each other are all there, the split that executes for them all. Those of a `.sync` with members
    /// are joined for good when that is the whole warp, else for this instruction only.
    fn gathered(&mut self, warp: &mut Warp) -> Option<Split> {
        for i in 0..warp.splits.len() {
            let (pc, need) = match &warp.splits[i].wait {
                Some(Wait::Converge) => (warp.splits[i].pc, warp.live),
                Some(Wait::Members(m)) => (warp.splits[i].pc, m & warp.live),
                _ => continue,
            };
            let (wait, calls) = (warp.splits[i].wait.clone(), warp.splits[i].calls.clone());
            let same = |s: &Split| s.pc == pc && s.wait == wait && s.calls == calls;
            let together = warp.splits.iter().filter(|s| same(s)).fold(0, |mask, s| mask | s.mask);
            if need & !together != 0 {
                continue;
            }
            let mut split = warp.splits[i].clone();
            if together == warp.live {
                warp.merge_all(&mut split);
                return Some(split);
            }
            // The members meet for good too: they become one split whose join is that of the first.
            let others: Vec<Split> =
                warp.splits.iter().enumerate().filter(|(k, s)| *k != i && same(s)).map(|(_, s)| s.clone()).collect();
            warp.splits.retain(|s| !same(s));
            for o in others {
                warp.adopt(&mut split, &o);
            }
            return Some(split);
        }
        None
    }

    /// One instruction of a split.
    fn step(&mut self, warp: &mut Warp, split: &mut Split) -> Result<After, Stop> {
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
        if mask == 0 && !matches!(inst.op, Op::Branch { .. }) {
            split.pc += 1;
            return Ok(After::Go);
        }
        if inst.touches_wgmma && self.options.hazards {
            let refs = &module.refs[inst.refs as usize..][..inst.uses as usize + inst.defs as usize];
            refs.iter().for_each(|reg| warp.touches.touch(*reg));
        }
        if warp.regs.any_in_flight() && !touches_flight(&inst.op) {
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
            Op::Nop => {
                split.pc += 1;
                Ok(After::Go)
            }
            Op::Branch { .. } | Op::BranchIndexed(_) | Op::Call(_) | Op::Return | Op::Exit | Op::Trap => {
                control::transfer(self, warp, split, mask)
            }
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
        let refs = &self.module.refs[inst.refs as usize..][..inst.uses as usize + inst.defs as usize];
        let (uses, defs) = refs.split_at(inst.uses as usize);
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
            Op::Matrix(x) => matrix::execute(self, warp, x, at),
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

    /// Whether what lanes of warp `(slot, index)` wait for has come.
    pub fn is_over(&self, (slot, warp): (u32, u32), wait: &Wait) -> bool {
        match wait {
            Wait::Converge | Wait::Members(_) => false,
            Wait::Barrier { id, generation } => {
                self.ctas[slot as usize].as_ref().is_none_or(|c| c.barriers[*id as usize].generation != *generation)
            }
            Wait::ClusterBarrier { generation } => self.clusters[(slot / self.shape.cluster_ctas) as usize]
                .as_ref()
                .is_none_or(|c| c.barrier.generation != *generation),
            Wait::Async(w) => bulk::is_over(self, slot, w),
            Wait::Warpgroup { target } => wgmma::is_over(self, slot, warp, *target),
            Wait::Sleep { until } => self.steps >= *until,
        }
    }

    /// Nothing can run. Makes something happen, or reports the deadlock.
    fn unstick(&mut self) -> Result<(), Stop> {
        if bulk::land_one(self) {
            self.effect();
            return Ok(());
        }
        // Sleepers wake, and waits with a time limit give up.
        let mut any = false;
        let quiet = self.steps - self.last_effect > 100_000;
        for slot in 0..self.ctas.len() {
            for w in 0..self.shape.warps {
                let Some(warp) = self.ctas[slot].as_mut().and_then(|c| c.warps[w as usize].as_mut()) else { continue };
                let mut woken = false;
                for s in &mut warp.splits {
                    match &s.wait {
                        Some(Wait::Sleep { .. }) => {
                            s.wait = None;
                            woken = true;
                        }
                        Some(Wait::Async(a)) if !quiet && a.has_time_limit() => {
                            s.wait = None;
                            s.timed_out = true;
                            woken = true;
                        }
                        _ => {}
                    }
                }
                if woken {
                    any = true;
                    self.wake(slot as u32, w);
                }
            }
        }
        if any {
            return Ok(());
        }
        if self.may_admit() {
            self.window = self.resident + 1;
            return Ok(());
        }
        self.stuck("deadlock")
    }

    /// Whether there are clusters to start and an H100 would have room for one.
    fn may_admit(&self) -> bool {
        self.next_cluster < self.shape.clusters && self.resident < self.shape.max_resident
    }

    /// Reports what every warp waits for.
    fn stuck<T>(&mut self, what: &str) -> Result<T, Stop> {
        let mut lines = Vec::new();
        let mut first = None;
        let mut divided = Vec::new();
        for cta in self.ctas.iter().flatten() {
            for warp in cta.warps.iter().flatten() {
                for s in &warp.splits {
                    let pc = s.wait.as_ref().map_or(s.pc, |w| match w {
                        Wait::Barrier { .. } | Wait::ClusterBarrier { .. } => s.pc.saturating_sub(1),
                        _ => s.pc,
                    });
                    let site = self.site(warp, pc, s.mask.trailing_zeros() as usize);
                    let place = self.place(site);
                    let why = match &s.wait {
                        None => "runs without effect".to_string(),
                        Some(Wait::Converge) => "waits for the rest of its warp".into(),
                        Some(Wait::Members(m)) => format!("waits for lanes {m:#010x} of its warp"),
                        Some(Wait::Barrier { id, .. }) => {
                            let b = &cta.barriers[*id as usize];
                            format!(
                                "waits at barrier {id} ({} of {} threads have arrived)",
                                b.arrived,
                                control::expected(self, cta, b)
                            )
                        }
                        Some(Wait::ClusterBarrier { .. }) => "waits at barrier.cluster".into(),
                        Some(Wait::Async(a)) => a.describe(),
                        Some(Wait::Warpgroup { .. }) => {
                            "waits for wgmma that other warps of its warpgroup have not issued".into()
                        }
                        Some(Wait::Sleep { .. }) => "sleeps".into(),
                    };
                    if matches!(s.wait, Some(Wait::Converge | Wait::Members(_))) {
                        divided.push((site, s.mask));
                    }
                    first.get_or_insert((site, place.clone()));
                    lines.push(format!(
                        "warp {} of CTA {:?} (lanes {:#010x}) {why} at PTX line {}",
                        warp.index, cta.id, s.mask, place.ptx_line
                    ));
                }
            }
        }
        for (site, mask) in divided {
            self.mem.tracker.hazards.report(HazardKind::BarrierDivergence, site, None, || {
                format!("lanes {mask:#010x} wait for lanes of their warp that never come here")
            });
        }
        let total = lines.len();
        lines.truncate(64);
        if total > lines.len() {
            lines.push(format!("… and {} more", total - 64));
        }
        let message = format!("{what}: {}", lines.join("; "));
        if let Some((site, _)) = &first {
            self.mem.tracker.hazards.report(HazardKind::Deadlock, *site, None, || message.clone());
        }
        Err(Box::new(Fault::new(FaultKind::Deadlock, message, first.map(|f| f.1))))
    }

    /// Hazards with lines, for the report.
    pub fn resolved(&self) -> Vec<Hazard> {
        self.mem.tracker.hazards.resolve(|site| self.place(site))
    }
}

/// What a step leaves to do.
pub enum After {
    /// The split goes on.
    Go,
    /// It goes on, but another warp should run first.
    Later,
    /// It waits.
    Blocked,
    /// Its lanes have left, or are elsewhere.
    Gone,
}

/// Instructions that look after registers in flight themselves.
pub fn touches_flight(op: &Op) -> bool {
    matches!(op, Op::Matrix(x) if matches!(**x, matrix::Matrix::Wgmma(_)))
}
