//! What every instruction may work on beside its warp: memory, the seed's choices, what is counted and reported, and who may run.
//! What only some families need (the CTAs that are resident, the asynchronous operations under way), they are given apart.

use super::births;
use super::flow::{At, Stop};
use super::grid::Grid;
use super::kernel::Kernel;
use super::rng::Rng;
use super::seeing::Probes;
use super::warp::Warp;
use crate::counters::Recorder;
use crate::hazard::{Graded, HazardKind, Site};
use crate::mem::Memory;
use crate::observe::trace;
use crate::request::{Fault, FaultKind};

/// The machine during a launch.
pub struct Machine<'g> {
    pub kernel: Kernel<'g>,
    /// All memory, its shadow and order, and what was found wrong.
    pub mem: Memory,
    /// The seed's stream.
    pub rng: Rng,
    pub pace: Pace,
    pub ready: Ready,
    /// Counters, if wanted.
    pub counters: Option<Recorder>,
    /// Whether any of the following is wanted, or a watch on memory.
    pub seeing: bool,
    /// Lines that are watched for.
    pub probes: Option<Box<Probes>>,
    /// The trace, if wanted.
    pub trace: Option<Box<trace::Recorder>>,
    /// What the kernel printed.
    pub printed: String,
}

/// How far the launch is, and whether it gets on.
#[derive(Default)]
pub struct Pace {
    /// Warp instructions executed.
    pub steps: u64,
    /// Thread instructions executed.
    pub instructions: u64,
    /// Step of the last event that others could see.
    pub last_effect: u64,
}

impl Pace {
    /// Steps since the last event that others could see.
    pub fn quiet(&self) -> u64 {
        self.steps - self.last_effect
    }
}

/// The warps that may be able to run. A warp is numbered by its CTA's slot and its place there.
pub struct Ready {
    list: Vec<u32>,
    listed: Vec<bool>,
    /// Warps that are resident, but for the one that runs.
    resting: Vec<bool>,
    warps: u32,
    cluster_ctas: u32,
}

impl Ready {
    /// No warp, for a machine with so many slots of CTAs.
    pub fn new(slots: usize, grid: &Grid) -> Ready {
        let all = vec![false; slots * grid.warps as usize];
        Ready { list: Vec::new(), listed: all.clone(), resting: all, warps: grid.warps, cluster_ctas: grid.cluster_ctas }
    }

    /// Takes a warp to run, by the seed: slot and number.
    pub fn draw(&mut self, rng: &mut Rng) -> Option<(u32, u32)> {
        if self.list.is_empty() {
            return None;
        }
        let i = rng.below(self.list.len() as u32) as usize;
        let r = self.list.swap_remove(i);
        self.listed[r as usize] = false;
        self.resting[r as usize] = false;
        Some((r / self.warps, r % self.warps))
    }

    /// The warp is resident and does not run.
    pub fn rest(&mut self, slot: u32, warp: u32) {
        self.resting[(slot * self.warps + warp) as usize] = true;
    }

    /// The warp may be able to go on.
    pub fn wake(&mut self, slot: u32, warp: u32) {
        let r = slot * self.warps + warp;
        if !std::mem::replace(&mut self.listed[r as usize], true) {
            self.list.push(r);
        }
    }

    /// All warps of the CTA may be able to go on.
    pub fn wake_cta(&mut self, slot: u32) {
        for w in 0..self.warps {
            if self.resting[(slot * self.warps + w) as usize] {
                self.wake(slot, w);
            }
        }
    }

    /// All warps of the cluster that `slot` belongs to may be able to go on.
    pub fn wake_cluster(&mut self, slot: u32) {
        let first = slot - slot % self.cluster_ctas;
        (first..first + self.cluster_ctas).for_each(|s| self.wake_cta(s));
    }
}

impl Machine<'_> {
    /// Something happened that another warp could see.
    #[inline]
    pub fn effect(&mut self) {
        self.pace.last_effect = self.pace.steps;
    }

    /// The warp read at `place` what may be waiting for another thread, and did not find it.
    #[inline]
    pub fn poll(&self, warp: &mut Warp, place: u64) {
        warp.polls.count(place, self.pace.last_effect);
    }

    /// Notes a hazard.
    pub fn report(&mut self, what: impl Into<Graded>, site: Site, address: Option<u64>, message: impl FnOnce() -> String) {
        self.mem.tracker.hazards.report(what, site, address, message);
    }

    /// Reports the lanes in which `undef` says that `what` is undefined.
    pub fn demand(&mut self, warp: &Warp, at: At<'_>, undef: u32, what: &str) {
        let bad = at.mask & undef;
        if bad != 0 && self.kernel.options.hazards {
            let lane = bad.trailing_zeros();
            let site = warp.site(at.pc, lane);
            if self.mem.tracker.hazards.is_known(HazardKind::UninitializedRead, at.pc) {
                // The message is made once.
                return self.report(HazardKind::UninitializedRead, site, None, String::new);
            }
            let why = births::explain(self, warp, at.pc, lane).map(|why| format!(": {why}")).unwrap_or_default();
            self.report(HazardKind::UninitializedRead, site, None, || format!("{what} is undefined{why}"));
        }
    }

    /// Ends the launch with a fault in the first lane.
    pub fn fault<T>(&self, warp: &Warp, at: At<'_>, kind: FaultKind, message: impl Into<String>) -> Result<T, Stop> {
        let place = self.kernel.place(warp.site(at.pc, at.lane()));
        Err(Box::new(Fault::new(kind, message.into(), Some(place))))
    }
}
