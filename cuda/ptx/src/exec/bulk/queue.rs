//! Operations under way, and how they land.

use super::barrier;
use super::state::{Asyncs, BulkThread, Copies, End, Key, LaneCopy, Pending, Thread};
use crate::exec::births;
use crate::exec::flow::At;
use crate::exec::machine::Machine;
use crate::exec::warp::Warp;
use crate::hazard::{HazardKind, Site};
use crate::mem::{Clock, Which, lanes_of};
use crate::request::Asynchrony;

/// Queues an operation; by the seed its source is read at once.
pub(super) fn push(m: &mut Machine<'_>, asyncs: &mut Asyncs, mut op: Pending) {
    if let Some(t) = &mut m.trace
        && !matches!(op.end, End::Copies { .. })
    {
        let (bytes, barrier) = match op.end {
            End::Barrier { key, bytes, .. } => (bytes.into(), Some(key.1)),
            _ => (op.pieces.iter().map(|p| u64::from(p.len)).sum(), None),
        };
        op.traced = t.copy(m.pace.steps, op.site, 1 << op.site.lane, bytes, barrier);
    }
    match m.kernel.options.asynchrony {
        Asynchrony::Eager => land(m, asyncs, op),
        Asynchrony::Adversarial => {
            if m.rng.one_in(4) {
                read_source(m, &mut op);
            }
            asyncs.ops.push(op);
        }
    }
}

/// Called before each burst: lands what the seed lets land early.
pub fn progress(m: &mut Machine<'_>, asyncs: &mut Asyncs) {
    if asyncs.ops.is_empty() {
        return;
    }
    let early = match asyncs.early {
        Some(early) => early,
        None => *asyncs.early.insert([0, 64, 8, 2][m.rng.below(4) as usize]),
    };
    if early != 0 && m.rng.one_in(early) {
        land_one(m, asyncs);
    }
}

/// Lands one operation, by the seed. False if there is none.
pub fn land_one(m: &mut Machine<'_>, asyncs: &mut Asyncs) -> bool {
    if asyncs.ops.is_empty() {
        return false;
    }
    let i = m.rng.below(asyncs.ops.len() as u32) as usize;
    let op = asyncs.ops.swap_remove(i);
    land(m, asyncs, op);
    m.effect();
    true
}

/// Reads the source now, if that has not been done.
fn read_source(m: &mut Machine<'_>, op: &mut Pending) {
    let (Some(from), None) = (op.from, &op.snapshot) else { return };
    let (segment, tracker) = m.mem.parts_of(from);
    let mut data = Vec::with_capacity(op.pieces.iter().map(|p| p.len as usize).sum());
    let mut undefined = Vec::new();
    for p in &op.pieces {
        let (at, len) = (p.from as usize, p.len as usize);
        if !segment.initialized(at, len) {
            let first = (at..at + len).find(|at| !segment.initialized(*at, 1)).unwrap_or(at);
            op.birth.get_or_insert_with(|| segment.birth(first, op.site.pc, tracker));
            undefined.extend((0..len).filter(|i| !segment.initialized(at + i, 1)).map(|i| (data.len() + i) as u32));
        }
        data.extend_from_slice(segment.bytes(at, len));
    }
    op.snapshot = Some((data, undefined));
}

/// The operation takes effect.
fn land(m: &mut Machine<'_>, asyncs: &mut Asyncs, mut op: Pending) {
    if let Some(t) = &mut m.trace {
        t.land(m.pace.steps, op.traced);
    }
    read_source(m, &mut op);
    let (data, undefined) = op.snapshot.take().unwrap_or_default();
    if let (Some(&first), Which::Global(_)) = (undefined.first(), op.to) {
        let why = op.birth.map(|birth| format!(": it {}", births::describe(m, birth))).unwrap_or_default();
        m.report(HazardKind::UninitializedRead, op.site, None, || {
            format!("byte {first} of what is copied to global memory was never written{why}")
        });
    }
    if m.mem.watch.is_some() {
        watched(m, &op, &data);
    }
    let (segment, tracker) = m.mem.parts_of(op.to);
    let mut next = 0;
    for p in &op.pieces {
        let (at, len) = (p.to as usize, p.len as usize);
        let new = &data[next..next + len];
        match op.reduce {
            Some((how, ty)) => how.reduce(ty, segment.bytes_mut(at, len), new),
            None => {
                segment.bytes_mut(at, len).copy_from_slice(new);
                segment.set_initialized(at, len, true);
            }
        }
        let end = (next + len) as u32;
        for &u in undefined.iter().skip_while(|u| **u < next as u32).take_while(|u| **u < end) {
            segment.set_initialized(at + u as usize - next, 1, false);
            op.birth.inspect(|birth| segment.contents.note(at + u as usize - next, 1, *birth));
        }
        next += len;
    }
    for &(at, len) in &op.fills {
        let (at, len) = (at as usize, len as usize);
        for (i, byte) in segment.bytes_mut(at, len).iter_mut().enumerate() {
            *byte = op.fill[i % 8];
        }
        segment.set_initialized(at, len, true);
    }
    match op.end {
        End::Group { .. } => {}
        End::Barrier { key, bytes, agent } => {
            let stamp = asyncs.bars.get(&key).map_or(0, |b| b.stamp);
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
            barrier::complete_tx(m, asyncs, key, op.site, bytes);
        }
        End::Copies { was, who, stamp, key, clock } => {
            for (which, at, len, old) in was {
                if let Which::Shared(slot) = which
                    && m.mem.shared(slot).is_none()
                {
                    continue;
                }
                let (segment, tracker) = m.mem.parts_of(which);
                if tracker.enabled {
                    segment.restamp(at as usize, len as usize, old, who, stamp, tracker);
                }
            }
            barrier::arrive_with(m, asyncs, key, op.site, &clock);
        }
    }
}

/// Tells a watch on memory what an operation will write.
#[cold]
fn watched(m: &mut Machine<'_>, op: &Pending, data: &[u8]) {
    let mut next = 0;
    for p in &op.pieces {
        let (at, len) = (p.to as usize, p.len as usize);
        let mut new = data[next..next + len].to_vec();
        if let Some((how, ty)) = op.reduce {
            let mut sum = m.mem.parts_of(op.to).0.bytes(at, len).to_vec();
            how.reduce(ty, &mut sum, &new);
            new = sum;
        }
        m.mem.watched(op.site, op.to, at, &new);
        next += len;
    }
    for &(at, len) in &op.fills {
        let new: Vec<u8> = (0..len as usize).map(|i| op.fill[i % 8]).collect();
        m.mem.watched(op.site, op.to, at as usize, &new);
    }
}

// ---- cp.async

/// The agent of a warp's `cp.async`s.
pub(super) fn copy_agent(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: u32) -> u32 {
    let order = &mut m.mem.tracker.order;
    let new = || Copies { agent: order.agent(true), list: Vec::new(), committed: [0; 32], traced: (0, 0) };
    asyncs.copies.entry(warp).or_insert_with(new).agent
}

/// Queues a lane's copy.
#[allow(clippy::too_many_arguments, reason = "what an asynchronous operation is")]
pub(super) fn push_copy(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: u32,
    lane: u32,
    site: Site,
    from: Option<(Which, usize)>,
    to: (Which, usize),
    bytes: u32,
    valid: u32,
) {
    let early = m.kernel.options.asynchrony == Asynchrony::Eager || m.rng.one_in(16);
    let copies = asyncs.copies.get_mut(&warp).expect("the agent was asked for");
    let group = copies.committed[lane as usize];
    let mut copy = LaneCopy { lane, group, site, from, to, bytes, valid, landed: false, traced: 0 };
    if let Some(t) = &mut m.trace {
        // The lanes of one instruction are one copy.
        if copies.traced.0 == m.pace.steps {
            t.widen(copies.traced.1, lane, bytes.into());
        } else {
            copies.traced = (m.pace.steps, t.copy(m.pace.steps, site, 1 << lane, bytes.into(), None));
        }
        copy.traced = copies.traced.1;
    }
    if early {
        land_copy(m, &mut copy);
    }
    asyncs.copies.get_mut(&warp).expect("as above").list.push(copy);
}

fn land_copy(m: &mut Machine<'_>, copy: &mut LaneCopy) {
    if std::mem::replace(&mut copy.landed, true) {
        return;
    }
    if let Some(t) = &mut m.trace {
        t.land(m.pace.steps, copy.traced);
    }
    let mem = &mut m.mem;
    let (valid, bytes) = (copy.valid as usize, copy.bytes as usize);
    let (mut data, mut undefined, mut birth) = ([0u8; 16], 0u16, None);
    if let Some((which, at)) = copy.from {
        let (segment, tracker) = mem.parts_of(which);
        data[..valid].copy_from_slice(segment.bytes(at, valid));
        undefined = (0..valid).filter(|i| !segment.initialized(at + i, 1)).fold(0, |u, i| u | 1 << i);
        if undefined != 0 {
            birth = Some(segment.birth(at + undefined.trailing_zeros() as usize, copy.site.pc, tracker));
        }
    }
    if mem.watch.is_some() {
        mem.watched(copy.site, copy.to.0, copy.to.1, &data[..bytes]);
    }
    let (segment, at) = (mem.parts_of(copy.to.0).0, copy.to.1);
    segment.bytes_mut(at, bytes).copy_from_slice(&data[..bytes]);
    segment.define(at, bytes, undefined);
    birth.inspect(|birth| segment.contents.note(at, bytes, *birth));
}

/// `cp.async.commit_group`
pub(super) fn commit_copies(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &Warp, mask: u32) {
    copy_agent(m, asyncs, warp.id);
    let copies = asyncs.copies.get_mut(&warp.id).expect("just made");
    lanes_of(mask).for_each(|l| copies.committed[l as usize] += 1);
}

/// `cp.async.wait_group` and `wait_all` (`None`: the open group too).
pub(super) fn wait_copies(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &Warp, mask: u32, pending: Option<u32>) {
    let Some(copies) = asyncs.copies.get_mut(&warp.id) else { return };
    let agent = copies.agent;
    let committed = copies.committed;
    let over =
        |c: &LaneCopy| mask >> c.lane & 1 == 1 && pending.is_none_or(|n| c.group < committed[c.lane as usize].saturating_sub(n));
    copies.list.retain_mut(|copy| {
        if !over(copy) {
            return true;
        }
        land_copy(m, copy);
        let (segment, tracker) = m.mem.parts_of(copy.to.0);
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
    asyncs: &mut Asyncs,
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
    if let Some(copies) = asyncs.copies.get_mut(&warp) {
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
    mine.iter_mut().for_each(|c| land_copy(m, c));
    let to = Which::Shared(key.0);
    let end = End::Copies { was, who, stamp, key, clock };
    let mut op = Pending::new(site, to, to, Vec::new(), Vec::new(), [0; 8], None, end);
    op.from = None;
    push(m, asyncs, op);
}

// ---- bulk groups

/// The agents and interval of the thread at `site`, and the number of its current group, which gets an operation there that the
/// threads of `lanes` have issued as one.
pub(super) fn bulk_thread(m: &mut Machine<'_>, asyncs: &mut Asyncs, site: Site, lanes: u32) -> (Thread, (u32, u32), u32, u32) {
    let order = &mut m.mem.tracker.order;
    let thread = (site.warp, site.lane.into());
    let t = asyncs.bulks.entry(thread).or_insert_with(|| BulkThread {
        agents: (order.agent(false), order.agent(false)),
        lanes: 0,
        stamp: order.tick(),
        open: None,
        groups: Vec::new(),
        read: 0,
    });
    t.open = Some(site);
    t.lanes |= lanes;
    (thread, t.agents, t.stamp, t.groups.len() as u32)
}

/// `cp.async.bulk.commit_group`
pub(super) fn commit_bulk(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &Warp, mask: u32) {
    for lane in lanes_of(mask) {
        if let Some(t) = asyncs.bulks.get_mut(&(warp.id, lane)) {
            t.groups.push(t.stamp);
            t.stamp = m.mem.tracker.order.tick();
            t.open = None;
        }
    }
}

/// `cp.async.bulk.wait_group`
pub(super) fn wait_bulk(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, at: At<'_>, pending: usize, read: bool) {
    for lane in lanes_of(at.mask) {
        let thread = (warp.id, lane);
        let Some(t) = asyncs.bulks.get_mut(&thread) else { continue };
        let done = t.groups.len().saturating_sub(pending);
        let Some(&stamp) = done.checked_sub(1).and_then(|i| t.groups.get(i)) else { continue };
        t.read = t.read.max(done);
        let (agents, lanes) = (t.agents, (t.lanes | 1 << lane) & at.mask);
        let mine = |op: &Pending| matches!(op.end, End::Group { thread: t, group } if t == thread && (group as usize) < done);
        let mut i = 0;
        while i < asyncs.ops.len() {
            if !mine(&asyncs.ops[i]) {
                i += 1;
                continue;
            }
            let mut op = asyncs.ops.swap_remove(i);
            if read {
                read_source(m, &mut op);
                asyncs.ops.push(op);
                let last = asyncs.ops.len() - 1;
                asyncs.ops.swap(i, last);
                i += 1;
            } else {
                land(m, asyncs, op);
            }
        }
        let order = &m.mem.tracker.order;
        order.acquire_agent(&mut warp.order, lanes, agents.0, stamp);
        if !read {
            order.acquire_agent(&mut warp.order, lanes, agents.1, stamp);
        }
    }
    m.effect();
}

// ---- ends

/// A warp has ended: what it left unwaited for is a hazard.
pub fn warp_ended(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &Warp) {
    if let Some(copies) = asyncs.copies.remove(&warp.id)
        && let Some(c) = copies.list.first()
    {
        m.report(HazardKind::MissingWait, c.site, None, || "the thread ended without waiting for its cp.async".into());
    }
    for lane in 0..32 {
        let Some(t) = asyncs.bulks.remove(&(warp.id, lane)) else { continue };
        if let Some(site) = t.open {
            m.report(HazardKind::MissingCommit, site, None, || {
                "the thread ended with a bulk copy that no cp.async.bulk.commit_group followed".into()
            });
        } else if t.read < t.groups.len() {
            let left = asyncs.ops.iter().find(|op| matches!(op.end, End::Group { thread, .. } if thread == (warp.id, lane)));
            let site = left.map_or(Site::new(0, warp.id, lane), |op| op.site);
            // Cards keep shared memory until the copies have read it.
            m.report(HazardKind::MissingWait.strict(), site, None, || {
                "the thread ended without waiting until its bulk copies had read their source".into()
            });
        }
    }
}

/// A CTA has ended: copies out of its shared memory land; those into it are lost, which is a hazard.
pub fn cta_ended(m: &mut Machine<'_>, asyncs: &mut Asyncs, slot: u32) {
    let shared = Which::Shared(slot);
    let mut i = 0;
    while i < asyncs.ops.len() {
        let op = &asyncs.ops[i];
        if op.to == shared {
            let op = asyncs.ops.swap_remove(i);
            m.report(HazardKind::MissingWait, op.site, None, || {
                "the CTA ended while a copy into its shared memory was under way".into()
            });
        } else if op.from == Some(shared) {
            let op = asyncs.ops.swap_remove(i);
            if op.snapshot.is_none() && matches!(op.end, End::Barrier { .. }) {
                m.report(HazardKind::MissingWait, op.site, None, || {
                    "the CTA ended while a copy out of its shared memory was under way".into()
                });
            }
            land(m, asyncs, op);
        } else {
            i += 1;
        }
    }
    let mut ended: Vec<_> = asyncs.bars.extract_if(|key, _| key.0 == slot).collect();
    ended.sort_by_key(|(key, _)| *key);
    ended.iter().for_each(|(key, bar)| barrier::end(m, *key, bar));
}

/// The launch has ended (`ok`: without a fault): everything lands.
pub fn end_launch(m: &mut Machine<'_>, asyncs: &mut Asyncs, ok: bool) {
    while ok && land_one(m, asyncs) {}
    *asyncs = Asyncs::default();
}
