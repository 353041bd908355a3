//! Who runs next, by the seed; what to do when nobody can.

use super::barriers::expected;
use super::warp::{Split, Warp};
use super::{After, Machine, Stop, Wait, bulk, wgmma};
use crate::hazard::HazardKind;
use crate::request::{Fault, FaultKind};

/// Warp instructions without any effect after which the launch counts as stuck, if it also polls (reads memory that others may
/// write, or tries atomics in vain) as often as [`POLLS`]; a long computation does not.
const SPINNING: u64 = 400_000;
const POLLS: u64 = 20_000;

/// The same for a launch that does not poll.
const LIVELOCK: u64 = 20_000_000;

/// Warp instructions without any effect after which another cluster starts.
const PATIENCE: u64 = 10_000;

impl Machine<'_> {
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
                self.window = 2 * self.resident;
            }
            let quiet = self.steps - self.last_effect;
            if quiet > LIVELOCK || (quiet > SPINNING && self.polls > POLLS && !self.may_admit()) {
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
        let before = self.last_effect;
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
                    if self.last_effect != before {
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
                            format!("waits at barrier {id} ({} of {} threads have arrived)", b.arrived, expected(self, cta, b))
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
}
