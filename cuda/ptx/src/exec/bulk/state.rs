//! The asynchronous operations under way, the mbarriers that are live, and what threads have committed and fenced.

use std::collections::{HashMap, VecDeque};

use super::ledger::Ledger;
use crate::exec::combine::Action;
use crate::hazard::Site;
use crate::mem::{Birth, Clock, Layout, Which};
use crate::text::ast::Type;

/// Where an object lives: slot of the CTA, offset in its shared memory.
pub type Key = (u32, u32);

/// A live object.
pub struct Bar {
    /// The agent of copies that complete here.
    pub agent: u32,
    /// Its interval: a new one each phase.
    pub stamp: u32,
    /// Phases completed.
    pub phase: u32,
    /// What the arrivals of the current phase published.
    pub gathering: Clock,
    /// What those of the last one did.
    pub done: Clock,
    /// The thread that initialised it, and when.
    pub init: (u32, u32, u32),
    /// The `fence.mbarrier_init` behind that, if there was one.
    pub fence: Option<(u32, u32)>,
    /// Who brought what to the current phase, and to the one before.
    pub now: Ledger,
    pub before: Ledger,
    /// Who arrived last, or announced bytes.
    pub last: Option<Site>,
    /// Whether threads of other CTAs have arrived in the current phase, and in the last one.
    pub from_others: bool,
    pub done_from_others: bool,
}

/// A `fence.proxy.tensormap` that lanes executed: the interval behind it, and what it made visible.
pub struct MapFence {
    pub warp: u32,
    pub lanes: u32,
    pub stamp: u32,
    /// Of a release: all that lay before. Of an acquire: what the releases did that lay before.
    pub visible: Clock,
}

/// The `fence.proxy.tensormap`s that were executed.
#[derive(Default)]
pub struct MapFences {
    pub releases: VecDeque<MapFence>,
    /// By the map that it is about.
    pub acquires: HashMap<(Which, usize), VecDeque<MapFence>>,
}

/// A run of bytes to copy.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub from: u32,
    pub to: u32,
    pub len: u32,
}

/// A thread: warp in the launch, lane.
pub type Thread = (u32, u32);

/// What happens when an operation has landed.
#[derive(Clone, Debug)]
pub enum End {
    /// Bytes complete on an mbarrier; the agent's writes become those of its current phase.
    Barrier { key: Key, bytes: u32, agent: u32 },
    /// It belongs to a bulk group of a thread.
    Group { thread: Thread, group: u32 },
    /// A `cp.async` handed to an mbarrier: the marks `was` become those of `who` at `stamp`; the last one of a thread brings the
    /// arrival.
    Copies { was: Vec<(Which, u32, u32, u32)>, who: u32, stamp: u32, key: Key, clock: Clock },
}

/// An operation under way.
pub struct Pending {
    pub site: Site,
    pub from: Option<Which>,
    pub to: Which,
    pub pieces: Vec<Piece>,
    pub fills: Vec<(u32, u32)>,
    pub fill: [u8; 8],
    pub reduce: Option<(Action, Type)>,
    /// The source as it was read, with the offsets in it that were undefined.
    pub snapshot: Option<(Vec<u8>, Vec<u32>)>,
    /// Where the first undefined byte of the source comes from.
    pub birth: Option<Birth>,
    /// The range that was marked as one.
    pub whole: Option<(u32, u32)>,
    /// How a tensor copy lays out what it writes to shared memory.
    pub layout: Option<Layout>,
    pub end: End,
    /// Its number in a trace; 0: none.
    pub traced: u32,
}

impl Pending {
    #[allow(clippy::too_many_arguments, reason = "what an asynchronous operation is")]
    pub fn new(
        site: Site,
        from: Which,
        to: Which,
        pieces: Vec<Piece>,
        fills: Vec<(u32, u32)>,
        fill: [u8; 8],
        reduce: Option<(Action, Type)>,
        end: End,
    ) -> Self {
        let (snapshot, birth, whole, layout) = (None, None, None, None);
        Self { site, from: Some(from), to, pieces, fills, fill, reduce, snapshot, birth, whole, layout, end, traced: 0 }
    }
}

/// A lane's `cp.async` that nobody has waited for.
pub struct LaneCopy {
    pub lane: u32,
    pub group: u32,
    pub site: Site,
    pub from: Option<(Which, usize)>,
    pub to: (Which, usize),
    pub bytes: u32,
    pub valid: u32,
    pub landed: bool,
    /// Its number in a trace; 0: none.
    pub traced: u32,
}

/// The `cp.async`s of a warp.
pub struct Copies {
    pub agent: u32,
    pub list: Vec<LaneCopy>,
    /// Groups that each lane has committed.
    pub committed: [u32; 32],
    /// The last instruction's step and number in a trace.
    pub traced: (u64, u32),
}

/// The bulk groups of a thread.
pub struct BulkThread {
    /// The lanes that issued its operations, each of which counts as one where the operands were the same.
    pub lanes: u32,
    /// The agents that read its sources and write its destinations.
    pub agents: (u32, u32),
    pub stamp: u32,
    /// Whether the current group has an operation.
    pub open: Option<Site>,
    /// The interval of each committed group.
    pub groups: Vec<u32>,
    /// Groups whose reads were waited for.
    pub read: usize,
}

/// Everything asynchronous of a launch.
#[derive(Default)]
pub struct Asyncs {
    pub ops: Vec<Pending>,
    pub bars: HashMap<Key, Bar>,
    pub copies: HashMap<u32, Copies>,
    pub bulks: HashMap<Thread, BulkThread>,
    pub map_fences: MapFences,
    /// One in how many bursts lands an operation early; 0: none. Drawn at first use.
    pub early: Option<u32>,
}

impl Asyncs {
    /// Whether the phase of an mbarrier is over.
    pub fn is_over(&self, slot: u32, offset: u32, phase: u32) -> bool {
        self.bars.get(&(slot, offset)).is_none_or(|b| b.phase > phase)
    }

    /// The lanes executed `fence.mbarrier_init`: what they initialised before is published by the fence's agent.
    pub fn publish_barriers(&mut self, warp: u32, mask: u32, fence: (u32, u32)) {
        for bar in self.bars.values_mut() {
            if bar.init.0 == warp && mask >> bar.init.1 & 1 == 1 && bar.fence.is_none() {
                bar.fence = Some(fence);
            }
        }
    }
}
