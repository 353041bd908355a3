//! Operations under way, and how they land.

use std::collections::HashMap;

use super::super::warp::Warp;
use super::super::{At, Machine};
use super::barrier::{self, Bar, Key};
use super::map::MapFence;
use super::reduce::{Reduce, ReduceType, reduce};
use crate::hazard::{HazardKind, Site};
use crate::mem::{Clock, Which, lanes_of};
use crate::request::Asynchrony;

/// A run of bytes to copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub from: u32,
    pub to: u32,
    pub len: u32,
}

/// A thread: warp in the launch, lane.
type Thread = (u32, u32);

/// What happens when an operation has landed.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Bytes complete on an mbarrier; the agent's writes become those of its current phase.
    Barrier { key: Key, bytes: u32, agent: u32 },
    /// It belongs to a bulk group of a thread.
    Group { thread: Thread, group: u32 },
    /// A `cp.async` handed to an mbarrier: the marks `was` become those of `who` at `stamp`; the last one of a thread brings the
    /// arrival.
    Copies { was: Vec<(Which, u32, u32, u32)>, who: u32, stamp: u32, key: Key, clock: Clock },
}

/// An operation under way.
pub(super) struct Pending {
    site: Site,
    pub from: Option<Which>,
    pub to: Which,
    pub pieces: Vec<Piece>,
    pub fills: Vec<(u32, u32)>,
    fill: [u8; 8],
    pub reduce: Option<(Reduce, ReduceType)>,
    /// The source as it was read, with the offsets in it that were undefined.
    pub snapshot: Option<(Vec<u8>, Vec<u32>)>,
    /// The range that was marked as one.
    pub whole: Option<(u32, u32)>,
    pub end: End,
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
        reduce: Option<(Reduce, ReduceType)>,
        end: End,
    ) -> Self {
        Self { site, from: Some(from), to, pieces, fills, fill, reduce, snapshot: None, whole: None, end }
    }
}

/// A lane's `cp.async` that nobody has waited for.
struct LaneCopy {
    lane: u32,
    group: u32,
    site: Site,
    from: Option<(Which, usize)>,
    to: (Which, usize),
    bytes: u32,
    valid: u32,
    landed: bool,
}

/// The `cp.async`s of a warp.
struct Copies {
    agent: u32,
    list: Vec<LaneCopy>,
    /// Groups that each lane has committed.
    committed: [u32; 32],
}

/// The bulk groups of a thread.
struct BulkThread {
    /// The agents that read its sources and write its destinations.
    agents: (u32, u32),
    stamp: u32,
    /// Whether the current group has an operation.
    open: Option<Site>,
    /// The interval of each committed group.
    groups: Vec<u32>,
    /// Groups whose reads were waited for.
    read: usize,
}

/// Everything asynchronous of a launch.
#[derive(Default)]
pub struct Asyncs {
    ops: Vec<Pending>,
    pub(super) bars: HashMap<Key, Bar>,
    copies: HashMap<u32, Copies>,
    bulks: HashMap<Thread, BulkThread>,
    /// The last `fence.proxy.tensormap` of each thread and map.
    pub(super) map_fences: Vec<MapFence>,
    /// One in how many bursts lands an operation early; 0: none. Drawn at first use.
    early: Option<u32>,
}

impl Asyncs {
    /// The lanes executed `fence.mbarrier_init`: what they initialised before is published by the fence's agent.
    pub(super) fn publish_barriers(&mut self, warp: u32, mask: u32, fence: (u32, u32)) {
        for bar in self.bars.values_mut() {
            if bar.init.0 == warp && mask >> bar.init.1 & 1 == 1 && bar.fence.is_none() {
                bar.fence = Some(fence);
            }
        }
    }
}

/// What lanes wait for: the completion of a phase of an mbarrier.
#[derive(Clone, Debug, PartialEq)]
pub struct AsyncWait {
    pub(super) slot: u32,
    pub(super) offset: u32,
    pub(super) phase: u32,
}

impl AsyncWait {
    /// Whether the wait may give up: `try_wait` may.
    pub fn has_time_limit(&self) -> bool {
        true
    }

    /// "waits for …", for a deadlock's report.
    pub fn describe(&self) -> String {
        format!("waits for phase {} of the mbarrier at {:#x} of CTA slot {}", self.phase, self.offset, self.slot)
    }
}

/// Whether what lanes wait for has come.
pub fn is_over(m: &Machine<'_>, _slot: u32, wait: &AsyncWait) -> bool {
    m.asyncs.bars.get(&(wait.slot, wait.offset)).is_none_or(|b| b.phase > wait.phase)
}

/// Queues an operation; by the seed its source is read at once.
pub(super) fn push(m: &mut Machine<'_>, mut op: Pending) {
    match m.options.asynchrony {
        Asynchrony::Eager => land(m, op),
        Asynchrony::Adversarial => {
            if m.rng.one_in(4) {
                read_source(m, &mut op);
            }
            m.asyncs.ops.push(op);
        }
    }
}

/// Called before each burst: lands what the seed lets land early.
pub fn progress(m: &mut Machine<'_>) {
    if m.asyncs.ops.is_empty() {
        return;
    }
    let early = match m.asyncs.early {
        Some(early) => early,
        None => *m.asyncs.early.insert([0, 64, 8, 2][m.rng.below(4) as usize]),
    };
    if early != 0 && m.rng.one_in(early) {
        land_one(m);
    }
}

/// Lands one operation, by the seed. False if there is none.
pub fn land_one(m: &mut Machine<'_>) -> bool {
    if m.asyncs.ops.is_empty() {
        return false;
    }
    let i = m.rng.below(m.asyncs.ops.len() as u32) as usize;
    let op = m.asyncs.ops.swap_remove(i);
    land(m, op);
    m.effect();
    true
}

/// Reads the source now, if that has not been done.
fn read_source(m: &mut Machine<'_>, op: &mut Pending) {
    let (Some(from), None) = (op.from, &op.snapshot) else { return };
    let segment = m.mem.parts_of(from).0;
    let mut data = Vec::with_capacity(op.pieces.iter().map(|p| p.len as usize).sum());
    let mut undefined = Vec::new();
    for p in &op.pieces {
        let (at, len) = (p.from as usize, p.len as usize);
        if !segment.initialized(at, len) {
            undefined.extend((0..len).filter(|i| !segment.initialized(at + i, 1)).map(|i| (data.len() + i) as u32));
        }
        data.extend_from_slice(&segment.data[at..at + len]);
    }
    op.snapshot = Some((data, undefined));
}

/// The operation takes effect.
fn land(m: &mut Machine<'_>, mut op: Pending) {
    read_source(m, &mut op);
    let (data, undefined) = op.snapshot.take().unwrap_or_default();
    if let (Some(&first), Which::Global(_)) = (undefined.first(), op.to) {
        m.mem.tracker.hazards.report(HazardKind::UninitializedRead, op.site, None, || {
            format!("byte {first} of what is copied to global memory was never written")
        });
    }
    let (segment, tracker) = m.mem.parts_of(op.to);
    let mut next = 0;
    for p in &op.pieces {
        let (at, len) = (p.to as usize, p.len as usize);
        let new = &data[next..next + len];
        match op.reduce {
            Some((how, ty)) => reduce(how, ty, &mut segment.data[at..at + len], new),
            None => {
                segment.data[at..at + len].copy_from_slice(new);
                segment.set_initialized(at, len, true);
            }
        }
        let end = (next + len) as u32;
        for &u in undefined.iter().skip_while(|u| **u < next as u32).take_while(|u| **u < end) {
            segment.set_initialized(at + u as usize - next, 1, false);
        }
        next += len;
    }
    for &(at, len) in &op.fills {
        let (at, len) = (at as usize, len as usize);
        for (i, byte) in segment.data[at..at + len].iter_mut().enumerate() {
            *byte = op.fill[i % 8];
        }
        segment.set_initialized(at, len, true);
    }
    match op.end {
        End::Group { .. } => {}
        End::Barrier { key, bytes, agent } => {
            let stamp = m.asyncs.bars.get(&key).map_or(0, |b| b.stamp);
            if tracker.enabled {
                let mut restamp = |at: u32, len: u32| {
                    segment.restamp(at as usize, len as usize, agent * 32, agent * 32, stamp, tracker);
                };
                match op.whole {
                    Some((at, len)) => restamp(at, len),
                    None => {
                        op.pieces.iter().for_each(|p| restamp(p.to, p.len));
                        op.fills.iter().for_each(|f| restamp(f.0, f.1));
                    }
                }
            }
            barrier::complete_tx(m, key, op.site, bytes);
        }
        End::Copies { was, who, stamp, key, clock } => {
            for (which, at, len, old) in was {
                let (segment, tracker) = m.mem.parts_of(which);
                if tracker.enabled {
                    segment.restamp(at as usize, len as usize, old, who, stamp, tracker);
                }
            }
            barrier::arrive_with(m, key, op.site, &clock);
        }
    }
}

// ---- cp.async

/// The agent of a warp's `cp.async`s.
pub(super) fn copy_agent(m: &mut Machine<'_>, warp: u32) -> u32 {
    let order = &mut m.mem.tracker.order;
    let new = || Copies { agent: order.agent(true), list: Vec::new(), committed: [0; 32] };
    m.asyncs.copies.entry(warp).or_insert_with(new).agent
}

/// Queues a lane's copy.
#[allow(clippy::too_many_arguments, reason = "what an asynchronous operation is")]
pub(super) fn push_copy(
    m: &mut Machine<'_>,
    warp: u32,
    lane: u32,
    site: Site,
    from: Option<(Which, usize)>,
    to: (Which, usize),
    bytes: u32,
    valid: u32,
) {
    let early = m.options.asynchrony == Asynchrony::Eager || m.rng.one_in(16);
    let copies = m.asyncs.copies.get_mut(&warp).expect("the agent was asked for");
    let group = copies.committed[lane as usize];
    let mut copy = LaneCopy { lane, group, site, from, to, bytes, valid, landed: false };
    if early {
        land_copy(&mut m.mem, &mut copy);
    }
    m.asyncs.copies.get_mut(&warp).expect("as above").list.push(copy);
}

fn land_copy(mem: &mut crate::mem::Memory, copy: &mut LaneCopy) {
    if std::mem::replace(&mut copy.landed, true) {
        return;
    }
    let (valid, bytes) = (copy.valid as usize, copy.bytes as usize);
    let (mut data, mut undefined) = ([0u8; 16], 0u16);
    if let Some((which, at)) = copy.from {
        let segment = mem.parts_of(which).0;
        data[..valid].copy_from_slice(&segment.data[at..at + valid]);
        undefined = (0..valid).filter(|i| !segment.initialized(at + i, 1)).fold(0, |u, i| u | 1 << i);
    }
    let (segment, at) = (mem.parts_of(copy.to.0).0, copy.to.1);
    segment.data[at..at + bytes].copy_from_slice(&data[..bytes]);
    segment.define(at, bytes, undefined);
}

/// `cp.async.commit_group`
pub(super) fn commit_copies(m: &mut Machine<'_>, warp: &Warp, mask: u32) {
    copy_agent(m, warp.id);
    let copies = m.asyncs.copies.get_mut(&warp.id).expect("just made");
    lanes_of(mask).for_each(|l| copies.committed[l as usize] += 1);
}

/// `cp.async.wait_group` and `wait_all` (`None`: the open group too).
pub(super) fn wait_copies(m: &mut Machine<'_>, warp: &Warp, mask: u32, pending: Option<u32>) {
    let Some(copies) = m.asyncs.copies.get_mut(&warp.id) else { return };
    let agent = copies.agent;
    let committed = copies.committed;
    let over =
        |c: &LaneCopy| mask >> c.lane & 1 == 1 && pending.is_none_or(|n| c.group < committed[c.lane as usize].saturating_sub(n));
    let mem = &mut m.mem;
    copies.list.retain_mut(|copy| {
        if !over(copy) {
            return true;
        }
        land_copy(mem, copy);
        let (segment, tracker) = mem.parts_of(copy.to.0);
        if tracker.enabled {
            let (was, now) = (agent * 32 + copy.lane, warp.id * 32 + copy.lane);
            segment.restamp(copy.to.1, copy.bytes as usize, was, now, warp.order.stamp, tracker);
        }
        false
    });
}

/// The lane's copies so far, and then an arrival, become one operation of an mbarrier.
#[allow(clippy::too_many_arguments, reason = "what an asynchronous operation is")]
pub(super) fn hand_over_copies(
    m: &mut Machine<'_>,
    warp: u32,
    lane: u32,
    site: Site,
    who: u32,
    stamp: u32,
    key: Key,
    clock: Clock,
) {
    let mut was = Vec::new();
    let mut mine = Vec::new();
    if let Some(copies) = m.asyncs.copies.get_mut(&warp) {
        let agent = copies.agent;
        copies.list.retain_mut(|c| {
            if c.lane != lane {
                return true;
            }
            was.push((c.to.0, c.to.1 as u32, c.bytes, agent * 32 + lane));
            mine.push(std::mem::replace(c, LaneCopy { from: None, landed: true, ..*c }));
            false
        });
    }
    // All land together: the arrival comes after the last of them, and nobody may look before.
    mine.iter_mut().for_each(|c| land_copy(&mut m.mem, c));
    let to = Which::Shared(key.0);
    let end = End::Copies { was, who, stamp, key, clock };
    let mut op = Pending::new(site, to, to, Vec::new(), Vec::new(), [0; 8], None, end);
    op.from = None;
    push(m, op);
}

// ---- bulk groups

/// The thread's agents and interval, and the number of its current group, which gets an operation.
pub(super) fn bulk_thread(m: &mut Machine<'_>, warp: u32, lane: u32) -> (Thread, (u32, u32), u32, u32) {
    let order = &mut m.mem.tracker.order;
    let thread = (warp, lane);
    let t = m.asyncs.bulks.entry(thread).or_insert_with(|| BulkThread {
        agents: (order.agent(false), order.agent(false)),
        stamp: order.tick(),
        open: None,
        groups: Vec::new(),
        read: 0,
    });
    (thread, t.agents, t.stamp, t.groups.len() as u32)
}

/// Notes the instruction that left the current group open.
pub(super) fn open_group(m: &mut Machine<'_>, thread: Thread, site: Site) {
    if let Some(t) = m.asyncs.bulks.get_mut(&thread) {
        t.open = Some(site);
    }
}

/// `cp.async.bulk.commit_group`
pub(super) fn commit_bulk(m: &mut Machine<'_>, warp: &Warp, mask: u32) {
    for lane in lanes_of(mask) {
        if let Some(t) = m.asyncs.bulks.get_mut(&(warp.id, lane)) {
            t.groups.push(t.stamp);
            t.stamp = m.mem.tracker.order.tick();
            t.open = None;
        }
    }
}

/// `cp.async.bulk.wait_group`
pub(super) fn wait_bulk(m: &mut Machine<'_>, warp: &mut Warp, at: At, pending: usize, read: bool) {
    for lane in lanes_of(at.mask) {
        let thread = (warp.id, lane);
        let Some(t) = m.asyncs.bulks.get_mut(&thread) else { continue };
        let done = t.groups.len().saturating_sub(pending);
        let Some(&stamp) = done.checked_sub(1).and_then(|i| t.groups.get(i)) else { continue };
        t.read = t.read.max(done);
        let agents = t.agents;
        let mine = |op: &Pending| matches!(op.end, End::Group { thread: t, group } if t == thread && (group as usize) < done);
        let mut i = 0;
        while i < m.asyncs.ops.len() {
            if !mine(&m.asyncs.ops[i]) {
                i += 1;
                continue;
            }
            let mut op = m.asyncs.ops.swap_remove(i);
            if read {
                read_source(m, &mut op);
                m.asyncs.ops.push(op);
                let last = m.asyncs.ops.len() - 1;
                m.asyncs.ops.swap(i, last);
                i += 1;
            } else {
                land(m, op);
            }
        }
        let order = &m.mem.tracker.order;
        order.acquire_agent(&mut warp.order, 1 << lane, agents.0, stamp);
        if !read {
            order.acquire_agent(&mut warp.order, 1 << lane, agents.1, stamp);
        }
    }
    m.effect();
}

// ---- ends

/// A warp has ended: what it left unwaited for is a hazard.
pub fn warp_ended(m: &mut Machine<'_>, warp: &Warp) {
    if let Some(copies) = m.asyncs.copies.remove(&warp.id)
        && let Some(c) = copies.list.first()
    {
        m.mem
            .tracker
            .hazards
            .report(HazardKind::MissingWait, c.site, None, || "the thread ended without waiting for its cp.async".into());
    }
    for lane in 0..32 {
        let Some(t) = m.asyncs.bulks.remove(&(warp.id, lane)) else { continue };
        if let Some(site) = t.open {
            m.mem.tracker.hazards.report(HazardKind::MissingCommit, site, None, || {
                "the thread ended with a bulk copy that no cp.async.bulk.commit_group followed".into()
            });
        } else if t.read < t.groups.len() {
            let left = m.asyncs.ops.iter().find(|op| matches!(op.end, End::Group { thread, .. } if thread == (warp.id, lane)));
            let site = left.map_or(Site::new(0, warp.id, lane), |op| op.site);
            m.mem.tracker.hazards.report(HazardKind::MissingWait, site, None, || {
                "the thread ended without waiting until its bulk copies had read their source".into()
            });
        }
    }
}

/// A CTA has ended: copies out of its shared memory land; those into it are lost, which is a hazard.
pub fn cta_ended(m: &mut Machine<'_>, slot: u32) {
    let shared = Which::Shared(slot);
    let mut i = 0;
    while i < m.asyncs.ops.len() {
        let op = &m.asyncs.ops[i];
        if op.to == shared {
            let op = m.asyncs.ops.swap_remove(i);
            m.mem.tracker.hazards.report(HazardKind::MissingWait, op.site, None, || {
                "the CTA ended while a copy into its shared memory was under way".into()
            });
        } else if op.from == Some(shared) {
            let op = m.asyncs.ops.swap_remove(i);
            if op.snapshot.is_none() && matches!(op.end, End::Barrier { .. }) {
                m.mem.tracker.hazards.report(HazardKind::MissingWait, op.site, None, || {
                    "the CTA ended while a copy out of its shared memory was under way".into()
                });
            }
            land(m, op);
        } else {
            i += 1;
        }
    }
    m.asyncs.bars.retain(|key, _| key.0 != slot);
}

/// The launch has ended (`ok`: without a fault): everything lands.
pub fn end_launch(m: &mut Machine<'_>, ok: bool) {
    while ok && land_one(m) {}
    m.asyncs = Asyncs::default();
}
