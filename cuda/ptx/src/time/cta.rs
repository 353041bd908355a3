//! A CTA in time: its warps, barriers and groups, as far as they keep somebody waiting.

use std::collections::VecDeque;

use super::warp::Timed;
use crate::mbarrier::Mbarrier;

/// A CTA.
pub struct Cta {
    /// Linear number in the launch.
    pub linear: u32,
    pub id: [u32; 3],
    /// Its multiprocessor.
    pub sm: u32,
    /// Its warps; the one that issues is taken out.
    pub warps: Vec<Option<Box<Timed>>>,
    pub alive: u32,
    pub barriers: [Named; 16],
    /// By offset in shared memory.
    pub mbarriers: Vec<Bar>,
    pub warpgroups: Vec<Warpgroup>,
    pub registers: Pool,
}

/// A named barrier.
#[derive(Clone, Default)]
pub struct Named {
    pub arrived: u32,
    /// Threads that it waits for; `None`: all.
    pub count: Option<u32>,
    pub waiting: Vec<u32>,
    pub generation: u64,
    /// Lanes whose predicate held, and that gave one.
    pub votes: [u32; 2],
    /// A predicate was not computed.
    pub unknown: bool,
    pub results: Vec<(u32, u32, crate::exec::residents::Reduce, u16)>,
}

/// An mbarrier.
pub struct Bar {
    pub offset: u32,
    pub state: Mbarrier,
    pub phase: u32,
    pub waiting: Vec<u32>,
}

impl Cta {
    /// The mbarrier at an offset.
    pub fn mbarrier(&mut self, offset: u32) -> Option<&mut Bar> {
        self.mbarriers.iter_mut().find(|b| b.offset == offset)
    }
}

/// The wgmma of a warpgroup, numbered from 0.
#[derive(Default)]
pub struct Warpgroup {
    /// How many each warp has issued, and when it did so last.
    pub issued: [(u64, u64); 4],
    /// For each warp, how many it had issued at each commit that is not waited for.
    pub committed: [VecDeque<u64>; 4],
    /// When those are done that all four have issued: from number `first` on.
    pub done: VecDeque<u64>,
    pub first: u64,
    /// Warps, and how many all four are to have issued.
    pub waiting: Vec<(u32, u64)>,
}

impl Warpgroup {
    /// How many all four have issued.
    pub fn issued_by_all(&self) -> u64 {
        self.issued.iter().map(|i| i.0).min().unwrap_or(0)
    }

    /// When the first `count` are done; `None`: not all four have issued them.
    pub fn done(&self, count: u64) -> Option<u64> {
        match count.checked_sub(self.first + 1) {
            None => Some(0),
            Some(i) => self.done.get(i as usize).copied(),
        }
    }

    /// Forgets those that all have waited for.
    pub fn trim(&mut self) {
        while self.done.len() > 256 {
            self.done.pop_front();
            self.first += 1;
        }
    }
}

/// The registers of a CTA.
pub struct Pool {
    pub free: u32,
    /// Registers of a thread, by warp; `None`: not known, and `setmaxnreg` does nothing.
    pub held: Option<Vec<u32>>,
}

/// A cluster.
#[derive(Default)]
pub struct Cluster {
    /// How many others were placed on its multiprocessors before it, and the first of these.
    pub beside: u32,
    pub sm: u32,
    pub alive: u32,
    pub arrived: u32,
    pub generation: u64,
    /// When the last completion is known to those who wait.
    pub released: u64,
    /// CTA's slot and warp.
    pub waiting: Vec<(u32, u32)>,
    /// Slot, warp, and the generation in which it arrived.
    pub pending: Vec<(u32, u32, u64)>,
}

impl Cluster {
    /// One of so many CTAs, from multiprocessor `sm` on.
    pub fn new(ctas: u32, beside: u32, sm: u32) -> Cluster {
        Cluster { alive: ctas, beside, sm, ..Cluster::default() }
    }
}
