//! Who runs next, by the seed; how CTAs come and go; what to do when nobody can run.
//!
//! [`Scheduler::run`] picks a warp and lets it run a burst of instructions. A warp's lanes are in one or several groups with a pc of
//! their own ([`super::warp`]); one group runs at a time. When nothing can run, an asynchronous operation lands, or else
//! timed waits give up, or else more CTAs start, or else there is a deadlock.

use std::ops::Range;
use std::time::Instant;

use super::flow::{After, Stop};
use super::registers::{self, Registers};
use super::residents::{Cluster, ClusterBarrier, Cta};
use super::standstill::Standstill;
use super::step::Engine;
use super::warp::{Split, Wait, Warp};
use super::wgmma::Warpgroup;
use super::{barriers, bulk, standing, wgmma};
use crate::hazard::{HazardKind, listed};
use crate::mem::Clock;
use crate::request::{Fault, FaultKind};

/// Warp instructions without any effect after which another cluster starts, an asynchronous operation lands, and who sleeps or
/// tries to wait goes on.
const PATIENCE: u64 = 10_000;

/// Warp instructions without any effect after which it is asked now and then whether the launch stands still.
const QUIET: u64 = 100_000;

/// Warp instructions without any effect after which clusters that run without the others are taken to wait for them.
const LONELY: u64 = 1 << 22;

/// Runs a launch.
pub struct Scheduler<'g> {
    pub engine: Engine<'g>,
    /// Clusters to start.
    clusters: Range<u32>,
    /// Whether other clusters of the launch run elsewhere, or later.
    alone: bool,
    /// Clusters that may be resident at once.
    window: u32,
    /// Clusters that are.
    resident: u32,
    /// Step at which the last one started.
    last_admit: u64,
    started: Instant,
    bursts: u32,
    /// How often [`crate::observe::Interrupt::look`] was answered.
    looks: u32,
    standstill: Standstill,
    /// Step at which somebody was last helped on, or the launch was last asked whether it stands still.
    last_look: u64,
}

impl<'g> Scheduler<'g> {
    /// Of some clusters of a launch that began at `started`, of which `window` may be resident at first.
    pub fn new(engine: Engine<'g>, clusters: Range<u32>, window: u32, started: Instant) -> Self {
        let looks = engine.machine.kernel.options.interrupt.as_ref().map_or(0, |i| i.looks());
        Scheduler {
            alone: (clusters.len() as u32) < engine.machine.kernel.grid.clusters,
            engine,
            clusters,
            window,
            resident: 0,
            last_admit: 0,
            started,
            bursts: 0,
            looks,
            standstill: Standstill::default(),
            last_look: 0,
        }
    }

    /// Runs the launch to its end.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            self.admit();
            let m = &mut self.engine.machine;
            let Some((slot, w)) = m.ready.draw(&mut m.rng) else {
                if self.resident == 0 {
                    return Ok(());
                }
                self.unstick()?;
                continue;
            };
            self.burst(slot, w)?;
            let pace = &self.engine.machine.pace;
            let (quiet, look) = (pace.quiet(), pace.steps - pace.last_effect.max(self.last_look));
            // Those that run may wait for CTAs that have not started: a barrier of the whole grid.
            if pace.steps - pace.last_effect.max(self.last_admit) > PATIENCE && self.may_admit() {
                self.window = 2 * self.resident;
            }
            if look > PATIENCE {
                self.last_look = self.engine.machine.pace.steps;
                // Those that run may wait for what would happen if nobody ran.
                let Engine { machine, asyncs, .. } = &mut self.engine;
                if !bulk::land_one(machine, asyncs) && quiet > QUIET && self.stands_still() {
                    return self.stuck("livelock");
                }
                self.wake_timed();
                if self.alone && quiet > LONELY {
                    return given_up(FaultKind::Deadlock, "the cluster may wait for another".into());
                }
            }
            self.heed_limits()?;
        }
    }

    /// Starts clusters while there is room for them.
    fn admit(&mut self) {
        let Engine { machine: m, residents, .. } = &mut self.engine;
        let n = m.kernel.grid.cluster_ctas;
        while self.resident < self.window && !self.clusters.is_empty() {
            let Some(place) = residents.clusters.iter().position(|c| c.is_none()) else { return };
            residents.clusters[place] = Some(Cluster { alive: n, barrier: ClusterBarrier::default() });
            let base = m.mem.start_cluster(n, m.kernel.grid.shared_bytes as usize);
            assert_eq!(base, place as u32 * n, "memory and machine take the first free place");
            for (slot, linear) in (base..base + n).zip(self.clusters.start * n..) {
                let (id, alive) = (m.kernel.grid.cta_id(linear), m.kernel.grid.warps);
                let mut start = |w| {
                    let order = m.mem.tracker.order.warp(linear * alive + w);
                    m.ready.rest(slot, w);
                    Some(Box::new(m.kernel.new_warp(slot, id, w, order)))
                };
                let warps = (0..alive).map(&mut start).collect();
                let warpgroups = (0..alive / 4).map(|_| Warpgroup::default()).collect();
                residents.ctas[slot as usize] = Some(Cta {
                    id,
                    warps,
                    alive,
                    barriers: Default::default(),
                    warpgroups,
                    registers: Registers::new(&m.kernel),
                    known: Clock::default(),
                });
                (0..alive).for_each(|w| m.ready.wake(slot, w));
            }
            self.clusters.start += 1;
            self.resident += 1;
            self.last_admit = m.pace.steps;
        }
    }

    /// Runs a warp for a while.
    fn burst(&mut self, slot: u32, w: u32) -> Result<(), Stop> {
        let Engine { machine: m, residents, asyncs, .. } = &mut self.engine;
        let Some(mut warp) = residents.ctas[slot as usize].as_mut().and_then(|c| c.warps[w as usize].take()) else {
            return Ok(());
        };
        bulk::progress(m, asyncs);
        // Short bursts interleave finely, long ones let one warp run far ahead; a seed has both.
        let budget = 1 << m.rng.below(8);
        let result = self.run_warp(&mut warp, budget);
        if warp.live == 0 {
            result?;
            self.warp_ended(&warp);
            return Ok(());
        }
        let pace = &self.engine.machine.pace;
        self.standstill.observe(&warp, pace.quiet(), pace.last_effect);
        self.engine.residents.cta(slot).warps[w as usize] = Some(warp);
        let ready = &mut self.engine.machine.ready;
        ready.rest(slot, w);
        if result? {
            ready.wake(slot, w);
        }
        Ok(())
    }

    fn warp_ended(&mut self, warp: &Warp) {
        let Engine { machine: m, residents, asyncs, .. } = &mut self.engine;
        let slot = warp.slot;
        let cta = residents.cta(slot);
        cta.alive -= 1;
        m.mem.tracker.order.gather(&mut cta.known, &warp.order);
        let last = cta.alive == 0;
        m.effect();
        if let Some(t) = &mut m.trace {
            t.leave(m.pace.steps, warp.id, last);
        }
        bulk::warp_ended(m, asyncs, warp);
        wgmma::warp_ended(m, &cta.warpgroups, warp);
        registers::warp_ended(m, cta, warp, last);
        barriers::somebody_left(m, residents, slot);
        if !last {
            return;
        }
        barriers::cta_ended(m, residents.cta(slot));
        bulk::cta_ended(m, asyncs, slot);
        let left = warp.left.expect("a warp ends when its last lane leaves");
        m.mem.end_cta(slot, &std::mem::take(&mut residents.cta(slot).known), left);
        residents.ctas[slot as usize] = None;
        let cluster = residents.cluster(slot);
        cluster.alive -= 1;
        if cluster.alive == 0 {
            residents.clusters[(slot / residents.cluster_ctas) as usize] = None;
            self.resident -= 1;
        }
    }

    /// Runs up to `budget` instructions. Returns whether the warp could go on.
    fn run_warp(&mut self, warp: &mut Warp, budget: u32) -> Result<bool, Stop> {
        let mut left = budget;
        let before = self.engine.machine.pace.last_effect;
        loop {
            let Some(mut split) = self.take_split(warp) else { return Ok(false) };
            let m = &mut self.engine.machine;
            if let Some(t) = &mut m.trace {
                t.resume(m.pace.steps, warp.id, split.mask);
            }
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
                match self.engine.step(warp, &mut split)? {
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
                    if self.engine.machine.pace.last_effect != before {
                        warp.last_effect = warp.executed;
                    }
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
            if let Some(mut split) = gathered(warp) {
                split.wait = None;
                return Some(split);
            }
            let mut rng = self.engine.machine.rng.clone();
            let (slot, index) = (warp.slot, warp.index);
            let found = warp.take_ready(&mut rng, |s| s.wait.as_ref().is_none_or(|w| self.is_over(slot, index, w)));
            self.engine.machine.rng = rng;
            if found.is_some() {
                return found;
            }
            if !warp.release_all() {
                return None;
            }
        }
    }

    /// Whether what lanes of a warp wait for has come.
    fn is_over(&self, slot: u32, warp: u32, wait: &Wait) -> bool {
        let Engine { machine, residents, asyncs, .. } = &self.engine;
        let cta = residents.ctas[slot as usize].as_ref();
        match *wait {
            Wait::Converge | Wait::Members(_) => false,
            Wait::Barrier { id, generation } => cta.is_none_or(|c| c.barriers[id as usize].generation != generation),
            Wait::ClusterBarrier { generation } => residents.clusters[(slot / residents.cluster_ctas) as usize]
                .as_ref()
                .is_none_or(|c| c.barrier.generation != generation),
            Wait::Mbarrier { slot, offset, phase } => asyncs.is_over(slot, offset, phase),
            Wait::Warpgroup { target } => cta.is_none_or(|c| c.warpgroups[warp as usize / 4].issued_by_all() >= target),
            Wait::Registers { more } => cta.is_none_or(|c| c.registers.has(more)),
            Wait::Sleep { until } => machine.pace.steps >= until,
        }
    }

    /// Whether no warp that is resident, and none that could start, will ever do anything new.
    fn stands_still(&self) -> bool {
        let Engine { machine, residents, .. } = &self.engine;
        let mut warps = residents.ctas.iter().flatten().flat_map(|cta| cta.warps.iter().flatten());
        let waits = |warp: &Warp, split: &Split| {
            let lasts = |w: &Wait| !matches!(w, Wait::Sleep { .. }) && !self.is_over(warp.slot, warp.index, w);
            split.wait.as_ref().is_some_and(lasts)
        };
        // Lanes that are parked go on some day.
        let holds = |w: &Warp| {
            let again = self.standstill.holds(w, machine.pace.last_effect) && !w.any_parked();
            again || w.splits.iter().all(|s| waits(w, s))
        };
        !self.may_admit() && warps.all(|w| holds(w))
    }

    /// Sleepers wake, and waits for an mbarrier give up. Whether there were any.
    fn wake_timed(&mut self) -> bool {
        let Engine { machine: m, residents, .. } = &mut self.engine;
        let mut any = false;
        let quiet = m.pace.quiet() > QUIET;
        for cta in residents.ctas.iter_mut().flatten() {
            for warp in cta.warps.iter_mut().flatten() {
                let mut woken = false;
                for s in &mut warp.splits {
                    let gives_up = matches!(s.wait, Some(Wait::Mbarrier { .. })) && !quiet;
                    if gives_up || matches!(s.wait, Some(Wait::Sleep { .. })) {
                        s.wait = None;
                        s.timed_out |= gives_up;
                        woken = true;
                    }
                }
                if woken {
                    any = true;
                    m.ready.wake(warp.slot, warp.index);
                }
            }
        }
        any
    }

    /// Nothing can run. Makes something happen, or reports the deadlock.
    fn unstick(&mut self) -> Result<(), Stop> {
        let Engine { machine: m, asyncs, .. } = &mut self.engine;
        if bulk::land_one(m, asyncs) || self.wake_timed() {
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
        !self.clusters.is_empty() && self.resident < self.engine.machine.kernel.grid.max_resident
    }

    /// Reports what every warp waits for, and what is missing for that.
    fn stuck<T>(&mut self, what: &str) -> Result<T, Stop> {
        let stands = standing::all(&mut self.engine);
        let m = &mut self.engine.machine;
        let mut alike: Vec<(String, Vec<String>)> = Vec::new();
        let mut missing = Vec::new();
        for s in &stands {
            if s.divided {
                m.report(HazardKind::BarrierDivergence, s.site, None, || {
                    format!("lanes {:#010x} wait for lanes of their warp that never come here", s.lanes)
                });
            }
            if s.starved {
                m.report(HazardKind::RegisterBudget, s.site, None, || s.state.clone());
            }
            if !s.missing.is_empty() && !missing.contains(&s.missing) {
                missing.push(s.missing.clone());
            }
            let state = if s.state == "runs" { "runs without effect" } else { &s.state };
            let line = m.kernel.program.line(s.site.pc).1;
            // Warps that stand alike are named together.
            let what = format!("of CTA {:?} (lanes {:#010x}) {state} at PTX line {line}", s.cta, s.lanes);
            match alike.iter_mut().find(|(w, _)| *w == what) {
                Some((_, warps)) => warps.push(s.warp.to_string()),
                None => alike.push((what, vec![s.warp.to_string()])),
            }
        }
        let plural = |warps: &[String]| if warps.len() > 1 { "s" } else { "" };
        let mut lines: Vec<String> =
            alike.into_iter().map(|(what, warps)| format!("warp{} {} {what}", plural(&warps), listed(warps))).collect();
        for (list, most) in [(&mut lines, 64), (&mut missing, 16)] {
            if list.len() > most {
                let more = list.len() - most;
                list.truncate(most);
                list.push(format!("… and {more} more"));
            }
        }
        lines.extend(missing);
        let message = format!("{what}: {}", lines.join("; "));
        let place = stands.first().map(|s| m.kernel.place(s.site));
        if let Some(first) = stands.first() {
            m.report(HazardKind::Deadlock, first.site, None, || message.clone());
        }
        Err(Box::new(Fault::new(FaultKind::Deadlock, message, place)))
    }

    /// Gives the launch up where a limit is reached or somebody wants it to end; answers who asks where it stands.
    fn heed_limits(&mut self) -> Result<(), Stop> {
        let Engine { machine: m, .. } = &self.engine;
        let options = m.kernel.options;
        if m.pace.steps > options.step_limit {
            let message = format!("the launch executed more than {} warp instructions", options.step_limit);
            return given_up(FaultKind::StepLimit, message);
        }
        self.bursts = self.bursts.wrapping_add(1);
        if self.bursts.is_multiple_of(64)
            && let Some(limit) = options.time_limit
            && self.started.elapsed() > limit
        {
            return given_up(FaultKind::TimeLimit, format!("the launch took longer than {} s", limit.as_secs_f64()));
        }
        if let Some(interrupt) = &options.interrupt {
            let looks = interrupt.looks();
            if interrupt.is_stopped() {
                return given_up(FaultKind::Interrupted, "the launch was interrupted".into());
            }
            if looks != self.looks {
                self.looks = looks;
                interrupt.show(&standing::table(&mut self.engine));
            }
        }
        Ok(())
    }
}

fn given_up(kind: FaultKind, message: String) -> Result<(), Stop> {
    Err(Box::new(Fault::new(kind, message, None)))
}

/// If lanes that wait for each other are all there, the split that executes for them all. Those of a `.sync` with members
/// are joined for good when that is the whole warp, else for this instruction only.
pub(crate) fn gathered(warp: &mut Warp) -> Option<Split> {
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
