//! The whole card: where CTAs are placed, and whose turn it is.
//!
//! Time goes in short stretches ([`STRETCH`] clocks, less than anything takes from one multiprocessor to another). In each, one multiprocessor
//! after the other does all that happens to it: events ([`Event`]) and instructions, in order of time. What crosses from one to another
//! arrives in a later stretch, and what they share keeps a calendar ([`super::traffic::Server`]), so the order in which they are visited
//! matters little, and the result is the same each time.

use std::collections::HashMap;
use std::rc::Rc;

use super::card::Card;
use super::cost::{self, Cost, Pipe};
use super::cta::{Cluster, Cta, Named, Pool, Warpgroup};
use super::sm::{Candidate, Event, Sm};
use super::traffic::Traffic;
use super::view::View;
use super::warp::{NEVER, Timed, Why};
use super::{TimeError, profile::Profile};
use crate::exec::machine::Machine;
use crate::exec::memory::MemoryOp;
use crate::exec::module::Module;
use crate::exec::op::Op;
use crate::exec::registers::at_entry;
use crate::exec::schedule::gathered;
use crate::exec::warp::{Split, Wait};
use crate::exec::wgmma::WgmmaOp;
use crate::hazard::Site;
use crate::ir::{Class, Reg};
use crate::mbarrier::Mbarrier;
use crate::mem::{Clock, WarpOrder};
use crate::tensor_map::TensorMap;

/// Clocks for which one multiprocessor goes on alone.
pub const STRETCH: u64 = 64;

/// Clocks without an instruction or an event after which nothing will ever happen.
const PATIENCE: u64 = 50_000_000;

/// A launch under way.
pub struct Engine<'g> {
    pub card: &'g Card,
    pub module: &'g Module,
    pub machine: Machine<'g>,
    pub costs: Vec<Cost>,
    pub sms: Vec<Sm>,
    /// By slot; those of a cluster side by side.
    pub ctas: Vec<Option<Box<Cta>>>,
    pub clusters: Vec<Option<Cluster>>,
    pub traffic: Traffic,
    pub maps: HashMap<u64, Rc<TensorMap>>,
    pub profile: Profile,
    pub view: Option<View>,
    /// Free places for clusters: since when, how many are beside it, and the first of the multiprocessors.
    places: Vec<(u64, u32, u32)>,
    next_cluster: u32,
    /// When the last warp ended.
    pub end: u64,
    /// Clusters of a multiprocessor, for the report.
    pub per_sm: u32,
    /// Lines of a request, to be used again.
    pub lines: Vec<(u64, u8)>,
    /// What went wrong where a warp was woken.
    error: Option<TimeError>,
}

/// What an instruction leaves its lanes to do.
pub enum Step {
    /// The next instruction, not before a time, for a reason.
    Next(u64, Why),
    /// They are somewhere else already, and go on at a time.
    Moved(u64),
    /// The next instruction, when the wait is over.
    Block(Wait),
    /// This one again, when the wait is over.
    Retry(Wait),
    /// No lane is left here.
    Gone,
}

impl<'g> Engine<'g> {
    /// A launch of `machine`'s kernel, on a card with `per_sm` CTAs a multiprocessor.
    pub fn new(card: &'g Card, module: &'g Module, machine: Machine<'g>, per_sm: u32, view: Option<View>) -> Engine<'g> {
        let grid = &machine.kernel.grid;
        let groups = card.multiprocessors / grid.cluster_ctas;
        let places = groups * per_sm;
        let shared = u64::from(per_sm) * u64::from(grid.shared_bytes + 1024);
        let profile = Profile::new(grid.warps as usize, &module.program);
        Engine {
            costs: cost::table(card, module),
            sms: (0..card.multiprocessors).map(|_| Sm::new(card, shared)).collect(),
            ctas: (0..places * grid.cluster_ctas).map(|_| None).collect(),
            clusters: (0..places).map(|_| None).collect(),
            traffic: Traffic::new(card),
            maps: HashMap::new(),
            profile,
            view,
            places: (0..places).map(|p| (0, p / groups, p % groups * grid.cluster_ctas)).collect(),
            next_cluster: 0,
            end: 0,
            per_sm,
            lines: Vec::new(),
            error: None,
            card,
            module,
            machine,
        }
    }

    /// Runs the launch to its end.
    pub fn run(&mut self) -> Result<(), TimeError> {
        self.admit()?;
        let mut now = 0;
        let mut active = 0;
        while self.clusters.iter().any(Option::is_some) {
            let until = now + STRETCH;
            let mut next = NEVER;
            for sm in 0..self.sms.len() as u32 {
                let (then, any) = self.stretch(sm, until)?;
                next = next.min(then);
                active = if any { until } else { active };
            }
            self.admit()?;
            let stuck = next == NEVER && self.clusters.iter().any(Option::is_some) && !self.fresh();
            if (stuck && !self.release(until)) || until > active + PATIENCE {
                return Err(self.stuck());
            }
            // Where nothing happens, no stretch is needed.
            now = if next == NEVER { until } else { until.max(next / STRETCH * STRETCH) };
            self.sms.iter_mut().for_each(|sm| sm.forget(now));
            self.traffic.forget(now);
        }
        Ok(())
    }

    /// Whether a warp of a CTA that has just started can issue.
    fn fresh(&self) -> bool {
        self.ctas.iter().flatten().flat_map(|c| c.warps.iter().flatten()).any(|w| w.next != NEVER)
    }

    /// Starts clusters where there is room.
    fn admit(&mut self) -> Result<(), TimeError> {
        self.places.sort_unstable_by(|a, b| b.cmp(a));
        let n = self.machine.kernel.grid.cluster_ctas;
        while self.next_cluster < self.machine.kernel.grid.clusters {
            let Some((since, beside, sm)) = self.places.pop() else { break };
            let m = &mut self.machine;
            let base = m.mem.start_cluster(n, m.kernel.grid.shared_bytes as usize);
            self.clusters[(base / n) as usize] = Some(Cluster::new(n, beside, sm));
            for rank in 0..n {
                self.start(base + rank, self.next_cluster * n + rank, sm + rank, since + self.card.cta_start)?;
            }
            self.next_cluster += 1;
        }
        Ok(())
    }

    fn start(&mut self, slot: u32, linear: u32, sm: u32, time: u64) -> Result<(), TimeError> {
        let kernel = &self.machine.kernel;
        let (id, warps, count) = (kernel.grid.cta_id(linear), kernel.grid.warps, kernel.entry.registers.count);
        let order = |w: u32| -> WarpOrder { self.machine.mem.tracker.order.warp(linear * warps + w) };
        let warp = |w| Some(Box::new(Timed::new(kernel.new_warp(slot, id, w, order(w)), count, time)));
        let held = at_entry(kernel.launch, kernel.entry).map(|n| vec![n; warps as usize]);
        self.ctas[slot as usize] = Some(Box::new(Cta {
            linear,
            id,
            sm,
            warps: (0..warps).map(warp).collect(),
            alive: warps,
            barriers: std::array::from_fn(|_| Named::default()),
            mbarriers: Vec::new(),
            warpgroups: (0..warps / 4).map(|_| Warpgroup::default()).collect(),
            registers: Pool { free: 0, held },
        }));
        for w in 0..warps {
            let cta = self.ctas[slot as usize].as_mut().expect("it was made");
            let mut timed = cta.warps[w as usize].take().expect("it was made");
            self.settle(&mut timed, time)?;
            self.plan(&mut timed);
            let scheduler = &mut self.sms[sm as usize].schedulers[w as usize % 4];
            scheduler.warps.push(Candidate { slot, warp: w, pipe: timed.pipe, next: timed.next });
            scheduler.best = None;
            self.ctas[slot as usize].as_mut().expect("it was made").warps[w as usize] = Some(timed);
        }
        Ok(())
    }

    /// Everything that happens to a multiprocessor before `until`; when the next thing will, and whether there was any.
    fn stretch(&mut self, sm: u32, until: u64) -> Result<(u64, bool), TimeError> {
        let mut any = false;
        loop {
            let event = self.sms[sm as usize].next_event();
            let mut first = (NEVER, 0, 0);
            for q in 0..4 {
                let best = match self.sms[sm as usize].schedulers[q].best {
                    Some(best) => best,
                    None => {
                        let best = self.best(sm, q);
                        self.sms[sm as usize].schedulers[q].best = Some(best);
                        best
                    }
                };
                if best.0 < first.0 {
                    first = (best.0, q, best.1);
                }
            }
            let (time, q, place) = first;
            if event.min(time) >= until {
                return Ok((event.min(time), any));
            }
            any = true;
            if event <= time {
                let (time, event) = self.sms[sm as usize].pop_event().expect("it was seen");
                self.happen(time, event);
                if let Some(error) = self.error.take() {
                    return Err(error);
                }
                continue;
            }
            // Memory is shared: what another scheduler has begun since may keep this one.
            let unit = &mut self.sms[sm as usize];
            unit.schedulers[q].best = None;
            let Candidate { slot, warp: w, pipe, .. } = unit.schedulers[q].warps[place];
            if pipe == Pipe::Memory && unit.free(q, pipe) > time {
                continue;
            }
            self.issue(sm, q, slot, w, time)?;
            if let Some(error) = self.error.take() {
                return Err(error);
            }
        }
    }

    /// Who issues next on a scheduler, and when: whoever can first; of several the one that could for the longest time.
    fn best(&self, sm: u32, q: usize) -> (u64, usize) {
        let unit = &self.sms[sm as usize];
        let scheduler = &unit.schedulers[q];
        let mut best = (NEVER, NEVER, usize::MAX);
        for (place, candidate) in scheduler.warps.iter().enumerate() {
            if candidate.next > best.0 || candidate.next == NEVER {
                continue;
            }
            let time = candidate.next.max(unit.free(q, candidate.pipe)).max(scheduler.free);
            if (time, candidate.next) < (best.0, best.1) {
                best = (time, candidate.next, place);
            }
        }
        (best.0, best.2)
    }

    /// One instruction of a warp, and those behind it that cost nothing.
    fn issue(&mut self, sm: u32, q: usize, slot: u32, w: u32, time: u64) -> Result<(), TimeError> {
        let cta = self.ctas[slot as usize].as_mut().expect("a warp's CTA is there");
        let mut timed = cta.warps[w as usize].take().expect("it was chosen");
        let mut split = timed.split.take().expect("its lanes can run");
        let pc = split.pc;
        let cost = self.costs[pc as usize];
        self.profile.issue(w, pc, cost.slots, split.mask, &timed, time);
        if let Some(view) = &mut self.view {
            view.issue(sm, slot, w, pc, &timed, time);
        }
        let unit = &mut self.sms[sm as usize];
        let slots = u64::from(cost.slots.max(1));
        unit.schedulers[q].free = time + slots;
        unit.work.issued += slots;
        if cost.pipe != Pipe::Memory {
            unit.schedulers[q].pipes[cost.pipe as usize] = time + u64::from(cost.busy);
        }
        match cost.pipe {
            Pipe::Special => unit.work.special += u64::from(cost.busy),
            Pipe::Fma => unit.work.fma += u64::from(cost.busy),
            _ => {}
        }
        let step = self.execute(&mut timed, &mut split, time)?;
        timed.since = time + slots;
        (timed.next, timed.why, timed.at) = (timed.since, Why::Issue, pc);
        timed.split = self.follow(&mut timed, split, step);
        self.settle(&mut timed, time)?;
        if timed.warp.live == 0 {
            self.ended(sm, q, slot, w, time);
            return Ok(());
        }
        self.plan(&mut timed);
        self.sms[sm as usize].schedulers[q].note(slot, w, timed.next, timed.pipe);
        self.ctas[slot as usize].as_mut().expect("its CTA is there").warps[w as usize] = Some(timed);
        Ok(())
    }

    /// Brings the warp's lanes to the next instruction that costs something: what costs nothing happens at once, and so do
    /// joins. If the lanes that ran wait, others go on.
    fn settle(&mut self, timed: &mut Timed, time: u64) -> Result<(), TimeError> {
        while timed.warp.live != 0 {
            let Some(mut split) = timed.split.take().or_else(|| self.choose(timed)) else { break };
            let pc = split.pc as usize;
            if split.pc == split.join_pc {
                timed.split = timed.warp.park(split);
                continue;
            }
            if self.costs[pc].slots != 0 || self.module.code[pc].guard.index != u16::MAX {
                timed.split = Some(split);
                break;
            }
            let (uses, defs) = self.module.code[pc].registers(&self.module.refs);
            let ready = timed.ready(uses);
            let step = self.execute(timed, &mut split, time)?;
            timed.set_ready(defs, ready);
            timed.split = self.follow(timed, split, step);
        }
        Ok(())
    }

    /// What a step leaves to do; the lanes that go on.
    fn follow(&mut self, timed: &mut Timed, mut split: Split, step: Step) -> Option<Split> {
        let (wait, skip) = match step {
            Step::Next(time, why) => {
                if time > timed.next {
                    (timed.next, timed.why, timed.at) = (time, why, split.pc);
                }
                split.pc += 1;
                return Some(split);
            }
            Step::Moved(time) => {
                timed.next = timed.next.max(time);
                return Some(split);
            }
            Step::Gone => return None,
            Step::Block(wait) => (wait, 1),
            Step::Retry(wait) => (wait, 0),
        };
        (timed.why, timed.at) = (reason(&wait), split.pc);
        split.pc += skip;
        split.wait = Some(wait);
        timed.warp.splits.push(split);
        None
    }

    /// Lanes of the warp that can run.
    fn choose(&mut self, timed: &mut Timed) -> Option<Split> {
        let found = gathered(&mut timed.warp).or_else(|| {
            let (slot, index) = (timed.warp.slot, timed.warp.index);
            let over = |s: &Split| s.wait.as_ref().is_none_or(|w| self.is_over(slot, index, w));
            let i = timed.warp.splits.iter().position(over)?;
            Some(timed.warp.splits.swap_remove(i))
        });
        found.map(|split| Split { wait: None, ..split })
    }

    /// Nothing goes on: lanes that are parked where others should join them go on alone, as lanes that wait for one another must. Whether there were
    /// any.
    fn release(&mut self, time: u64) -> bool {
        let mut any = false;
        for slot in 0..self.ctas.len() as u32 {
            for w in 0..self.machine.kernel.grid.warps {
                let timed = self.ctas[slot as usize].as_mut().and_then(|c| c.warps[w as usize].as_mut());
                if timed.is_some_and(|t| t.split.is_none() && t.warp.release_all()) {
                    any = true;
                    self.wake(slot, w, time);
                }
            }
        }
        any
    }

    fn is_over(&self, slot: u32, warp: u32, wait: &Wait) -> bool {
        let Some(cta) = self.ctas[slot as usize].as_ref() else { return true };
        match *wait {
            Wait::Converge | Wait::Members(_) => false,
            Wait::Barrier { id, generation } => cta.barriers[id as usize].generation != generation,
            Wait::ClusterBarrier { generation } => {
                let n = self.machine.kernel.grid.cluster_ctas;
                self.clusters[(slot / n) as usize].as_ref().is_none_or(|c| c.generation != generation)
            }
            Wait::Mbarrier { slot, offset, phase } => self.ctas[slot as usize]
                .as_ref()
                .is_none_or(|c| c.mbarriers.iter().find(|b| b.offset == offset).is_none_or(|b| b.phase > phase)),
            Wait::Warpgroup { target } => cta.warpgroups[warp as usize / 4].issued_by_all() >= target,
            Wait::Registers { more } => cta.registers.free >= more,
            Wait::Sleep { .. } => true,
        }
    }

    /// Finds out from when on the next instruction can issue.
    fn plan(&mut self, timed: &mut Timed) {
        let Some(split) = &timed.split else {
            timed.next = NEVER;
            return;
        };
        let inst = &self.module.code[split.pc as usize];
        timed.pipe = self.costs[split.pc as usize].pipe;
        let (uses, defs) = inst.registers(&self.module.refs);
        let mut ready = match &inst.op {
            // The sums are the tensor cores' own.
            Op::Wgmma(WgmmaOp::Multiply(x)) => {
                x.a_registers().iter().map(|&index| timed.ready(&[Reg { class: Class::B32, index }])).max().unwrap_or(0)
            }
            _ => timed.ready(uses.iter().chain(defs)),
        };
        if inst.guard.index != u16::MAX {
            ready = ready.max(timed.predicate_ready(inst.guard.index));
        }
        let base: Option<Reg> = match &inst.op {
            Op::Memory(op) => match &**op {
                MemoryOp::Load(x) => Some(x.addr.base),
                MemoryOp::Store(x) => Some(x.addr.base),
                _ => None,
            },
            Op::Atomic(op) => Some(op.addr.base),
            _ => None,
        };
        if let Some(base) = base {
            ready = ready.max(timed.ready(&[base]));
        }
        if ready > timed.next {
            (timed.next, timed.why, timed.at) = (ready, Why::Register, split.pc);
        }
    }

    /// A warp may be able to go on at `time`.
    pub fn wake(&mut self, slot: u32, w: u32, time: u64) {
        let Some(cta) = self.ctas[slot as usize].as_mut() else { return };
        let sm = cta.sm;
        let Some(mut timed) = cta.warps[w as usize].take() else { return };
        if timed.split.is_none() {
            timed.next = time;
            if let Err(error) = self.settle(&mut timed, time) {
                self.error.get_or_insert(error);
            }
            self.plan(&mut timed);
            self.sms[sm as usize].schedulers[w as usize % 4].note(slot, w, timed.next, timed.pipe);
        }
        self.ctas[slot as usize].as_mut().expect("it is there").warps[w as usize] = Some(timed);
    }

    /// Something happens.
    fn happen(&mut self, time: u64, event: Event) {
        match event {
            Event::Landed { slot, cta, offset, bytes } if self.is(slot, cta) => {
                self.change(slot, offset, time, |b| b.complete_tx(bytes).unwrap_or(false));
            }
            Event::Arrived { slot, cta, offset, count } if self.is(slot, cta) => {
                self.change(slot, offset, time, |b| b.arrive(count, false).unwrap_or(false));
            }
            Event::Wake { slot, cta, warp } if self.is(slot, cta) => self.wake(slot, warp, time),
            // The CTA has ended meanwhile.
            _ => {}
        }
    }

    fn is(&self, slot: u32, linear: u32) -> bool {
        self.ctas[slot as usize].as_ref().is_some_and(|c| c.linear == linear)
    }

    /// Changes an mbarrier by `f`, which says whether its phase is over.
    pub fn change(&mut self, slot: u32, offset: u32, time: u64, f: impl FnOnce(&mut Mbarrier) -> bool) {
        let Some(bar) = self.ctas[slot as usize].as_mut().and_then(|c| c.mbarrier(offset)) else { return };
        if f(&mut bar.state) {
            bar.phase += 1;
            let waiting = std::mem::take(&mut bar.waiting);
            for w in waiting {
                self.wake(slot, w, time + self.card.mbarrier);
            }
        }
    }

    fn ended(&mut self, sm: u32, q: usize, slot: u32, w: u32, time: u64) {
        self.end = self.end.max(time);
        let scheduler = &mut self.sms[sm as usize].schedulers[q];
        scheduler.warps.retain(|c| (c.slot, c.warp) != (slot, w));
        scheduler.best = None;
        let cta = self.ctas[slot as usize].as_mut().expect("its CTA is there");
        cta.alive -= 1;
        if let Some(held) = &mut cta.registers.held {
            cta.registers.free += std::mem::take(&mut held[w as usize]) * 32;
        }
        let alive = cta.alive;
        for id in 0..16 {
            self.complete_barrier(slot, id, time, None);
        }
        let n = self.machine.kernel.grid.cluster_ctas;
        self.complete_cluster(slot / n, time, 0);
        if alive > 0 {
            return;
        }
        self.ctas[slot as usize] = None;
        self.machine.mem.end_cta(slot, &Clock::default(), Site::new(0, 0, 0));
        let cluster = self.clusters[(slot / n) as usize].as_mut().expect("a CTA's cluster is there");
        cluster.alive -= 1;
        cluster.waiting.retain(|(s, _)| *s != slot);
        if cluster.alive == 0 {
            self.places.push((time, cluster.beside, cluster.sm));
            self.clusters[(slot / n) as usize] = None;
        }
    }

    fn stuck(&self) -> TimeError {
        let mut lines = Vec::new();
        for cta in self.ctas.iter().flatten() {
            for timed in cta.warps.iter().flatten() {
                for split in &timed.warp.splits {
                    if let Some(wait) = &split.wait {
                        let line = self.module.program.line(split.pc).1;
                        lines
                            .push(format!("warp {} of CTA {:?} waits for {wait:?} at PTX line {line}", timed.warp.index, cta.id));
                    }
                }
            }
        }
        lines.dedup();
        let more = lines.len().saturating_sub(8);
        lines.truncate(8);
        TimeError::Stuck { waits: lines.join("; "), more }
    }
}

fn reason(wait: &Wait) -> Why {
    match wait {
        Wait::Converge | Wait::Members(_) => Why::Lanes,
        Wait::Barrier { .. } => Why::Barrier,
        Wait::ClusterBarrier { .. } => Why::Cluster,
        Wait::Mbarrier { .. } => Why::Mbarrier,
        Wait::Warpgroup { .. } => Why::Wgmma,
        Wait::Registers { .. } => Why::Registers,
        Wait::Sleep { .. } => Why::Sleep,
    }
}
