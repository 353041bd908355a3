//! Shared memory of other CTAs of the cluster. It exists from the start of its CTA to the end of that CTA's last thread, and who
//! touches it must be ordered between the two: after something that a thread of the CTA did (its arrival at the cluster's barrier,
//! a release that was acquired), and before the end of at least one of its threads.
//!
//! For this alone a relaxed arrival at the cluster's barrier is as good as any: who waits for the barrier knows that the others have
//! started, and have done what they did before. An operation that lands on an mbarrier of the CTA (a bulk copy, `st.async`)
//! needs no order of its own at the end: what is still under way then is reported as such.
//!
//! Who comes when the CTA has ended is reported with the thread that was its last. The operation is dropped, what it would have read is
//! undefined, and the launch goes on: whether a card bears it depends on what the multiprocessor does by then.

use super::clock::{Clock, Stamp, WarpOrder, lanes_of};
use super::{By, Home, Memory, RANK_SHIFT, Space, WINDOW};
use crate::hazard::{HazardKind, Site};

/// The last access of a warp's lanes to the shared memory of another CTA.
pub(super) struct Visit {
    agent: u32,
    lanes: u32,
    stamp: Stamp,
    pc: u32,
    address: u64,
}

impl Home {
    /// The slot of the CTA itself.
    pub fn slot(self) -> u32 {
        self.base + self.rank
    }
}

impl Memory {
    /// Lanes of a warp are about to use the shared memory of another CTA, in `slot`: it must have started.
    #[cold]
    pub(crate) fn meet(&mut self, warp: &WarpOrder, home: Home, pc: u32, lanes: u32, slot: u32, address: u64) {
        if !self.tracker.enabled {
            return;
        }
        let peer = warp.cta - home.rank + (slot - home.base);
        let warps = self.tracker.order.warps;
        if let Some(lane) = lanes_of(lanes).find(|&lane| !warp.clock(lane).all.has_met(peer, warps)) {
            self.tracker.hazards.report(HazardKind::PeerNotStarted, Site::new(pc, warp.agent, lane), Some(address), || {
                format!("shared memory of rank {} of the cluster, with no barrier.cluster since the start", slot - home.base)
            });
        }
    }

    /// The same, by an access that must be over before the other CTA ends.
    #[cold]
    pub(crate) fn visit(&mut self, warp: &WarpOrder, home: Home, pc: u32, lanes: u32, slot: u32, address: u64) {
        self.meet(warp, home, pc, lanes, slot, address);
        if !self.tracker.enabled {
            return;
        }
        let visits = &mut self.visits[slot as usize];
        visits.retain_mut(|v| {
            v.lanes &= if v.agent == warp.agent { !lanes } else { u32::MAX };
            v.lanes != 0
        });
        visits.push(Visit { agent: warp.agent, lanes, stamp: warp.stamp, pc, address });
    }

    /// Whether the warp has used the shared memory of another CTA of its cluster.
    pub(crate) fn has_visited(&self, warp: &WarpOrder, home: Home) -> bool {
        self.visits[home.base as usize..(home.base + home.size) as usize].iter().flatten().any(|v| v.agent == warp.agent)
    }

    /// Whether a lane accesses the shared memory of a CTA that has ended, which is reported.
    #[cold]
    pub(super) fn is_gone(&mut self, by: &By, space: Space, address: u64, lane: u32) -> bool {
        let gone = self.locate(by.home, space, address, false) == Err(HazardKind::PeerGone);
        if gone {
            self.miss(by.warp, by.home, by.pc, lane, address);
        }
        gone
    }

    /// Reports that a lane uses the shared memory of a CTA that has ended.
    #[cold]
    pub(crate) fn miss(&mut self, warp: &WarpOrder, home: Home, pc: u32, lane: u32, address: u64) {
        let rank = ((address % WINDOW) >> RANK_SHIFT) as u32 - 1;
        let last = self.ended[(home.base + rank) as usize];
        self.tracker.hazards.report_pair(HazardKind::PeerGone, Site::new(pc, warp.agent, lane), last, Some(address), || {
            format!("the CTA of rank {rank} of the cluster has ended; the operation is dropped")
        });
    }

    /// The CTA in `slot` has ended, its last thread at `last`, and its threads knew no more than `known`.
    pub(super) fn end_visits(&mut self, slot: u32, known: &Clock, last: Site) {
        let warps = self.tracker.order.warps;
        for v in self.visits[slot as usize].drain(..) {
            let over = |lane| known.all.knows(v.agent, lane, v.stamp, warps) || known.all.has_passed(v.agent, lane, v.stamp);
            if let Some(lane) = lanes_of(v.lanes).find(|&lane| !over(lane)) {
                let site = Site::new(v.pc, v.agent, lane);
                self.tracker.hazards.report_pair(HazardKind::PeerGone, site, Some(last), Some(v.address), || {
                    "shared memory of another CTA of the cluster, which may end before: no barrier.cluster or arrival that it waits \
                     for follows"
                        .into()
                });
            }
        }
    }
}
