//! The race detector against one without any compression: every thread a full vector of counters, every byte its last writer
//! and all readers since.

use std::collections::HashMap;

use proptest::prelude::*;

use super::shadow::AsyncStep;
use super::*;
use crate::hazard::HazardKind;

const THREADS: u32 = 36;
const CTAS: u32 = 2;
const WARPS: u32 = 2;
const SIZE: usize = 64;
/// Offset of the memory under test: it straddles two pages of the shadow, and starts with a line of it.
const START: usize = 1024 - 128;

type Id = (u32, u32);

/// Counters of every thread, as one of them knows them.
type Vector = HashMap<Id, u32>;

fn merge(into: &mut Vector, from: &Vector) {
    for (id, count) in from {
        let own = into.entry(*id).or_default();
        *own = (*own).max(*count);
    }
}

#[derive(Clone, Default)]
struct Thread {
    all: Vector,
    shared: Vector,
    global: Vector,
    fenced: Option<(Scope, Box<Thread>)>,
    pending: Vec<(Scope, Scope, u32, Thread)>,
}

impl Thread {
    fn merge(&mut self, from: &Thread) {
        merge(&mut self.all, &from.all);
        merge(&mut self.shared, &from.shared);
        merge(&mut self.global, &from.global);
    }

    fn bare(&self) -> Thread {
        Thread { all: self.all.clone(), shared: self.shared.clone(), global: self.global.clone(), ..Thread::default() }
    }
}

#[derive(Clone, Copy)]
struct Event {
    id: Id,
    at: u32,
    strong: Option<Scope>,
    cta: u32,
    generic: bool,
}

#[derive(Clone, Default)]
struct Byte {
    writer: Option<Event>,
    readers: Vec<Event>,
    value: u8,
}

#[derive(Default)]
struct Naive {
    threads: HashMap<Id, Thread>,
    memories: Vec<Vec<Byte>>,
    agents: HashMap<u32, u32>,
    releases: HashMap<(usize, usize), Vec<Release>>,
}

/// How far a release reaches, its CTA, and what it made known.
type Release = (Scope, u32, Thread);

fn include(a: (u32, Scope), b: (u32, Scope)) -> bool {
    match a.1.min(b.1) {
        Scope::Cta => a.0 == b.0,
        _ => true,
    }
}

impl Naive {
    fn tick(&mut self, id: Id) -> u32 {
        let own = self.threads.entry(id).or_default().all.entry(id).or_default();
        *own += 1;
        *own
    }

    fn before(&self, e: &Event, id: Id) -> bool {
        self.threads[&id].all.get(&e.id).is_some_and(|&known| known >= e.at)
    }

    fn conflict(&self, e: &Event, me: &Event) -> bool {
        let strong = matches!((e.strong, me.strong), (Some(a), Some(b)) if include((e.cta, a), (me.cta, b)));
        !self.before(e, me.id) && !strong
    }

    /// Whether an access by a thread races.
    fn access(&mut self, memory: usize, from: usize, new: Option<&[u8]>, len: usize, me: Event) -> bool {
        let mut races = false;
        for i in 0..len {
            let byte = &self.memories[memory][from + i];
            races |= byte.writer.as_ref().is_some_and(|w| self.conflict(w, &me));
            if new.is_some() {
                races |= byte.readers.iter().any(|r| self.conflict(r, &me));
            }
        }
        for i in 0..len {
            let byte = &mut self.memories[memory][from + i];
            match new {
                Some(value) => *byte = Byte { writer: Some(me), readers: vec![], value: value[i] },
                None => byte.readers.push(me),
            }
        }
        races
    }

    /// The kind of hazard, if any, of an asynchronous access.
    fn access_async(&mut self, memory: usize, from: usize, write: bool, len: usize, me: Event, issuer: Id) -> (bool, bool) {
        let (mut races, mut unfenced) = (false, false);
        let thread = &self.threads[&issuer];
        let known = |v: &Vector, e: &Event| v.get(&e.id).is_some_and(|&k| k >= e.at);
        let fenced = if memory < 2 { &thread.shared } else { &thread.global };
        for byte in &self.memories[memory][from..from + len] {
            if let Some(w) = byte.writer.filter(|w| w.id != me.id) {
                if !known(&thread.all, &w) {
                    races = true;
                } else if w.generic && !known(fenced, &w) {
                    unfenced = true;
                }
            }
            if write {
                races |= byte.readers.iter().any(|r| r.id != me.id && !known(&thread.all, r));
            }
        }
        for byte in &mut self.memories[memory][from..from + len] {
            if write {
                *byte = Byte { writer: Some(me), readers: vec![], value: byte.value };
            } else {
                byte.readers.push(me);
            }
        }
        (races, unfenced)
    }
}

#[derive(Clone, Debug)]
enum Act {
    Access { warp: u32, mask: u32, memory: u8, bytes: u8, pattern: u8, from: u8, write: bool, sem: u8, value: u8 },
    Atomic { warp: u32, lane: u32, memory: u8, from: u8, sem: u8 },
    Lanes { warp: u32, mask: u32 },
    Barrier { cta: u32 },
    Named { cta: u32, masks: [u32; 2] },
    Cluster,
    Fence { warp: u32, mask: u32, scope: bool },
    Proxy { warp: u32, mask: u32, space: u8 },
    Publish { warp: u32, mask: u32, slot: u8 },
    Learn { warp: u32, mask: u32, slot: u8 },
    Async { warp: u32, lane: u32, memory: u8, from: u8, len: u8, write: bool },
    Wait { warp: u32, lane: u32, owner: u32 },
}

fn acts() -> impl Strategy<Value = Act> {
    let warp = 0..CTAS * WARPS;
    let mask = prop_oneof![3 => Just(u32::MAX), 1 => Just(1u32), 1 => Just(0xFFFF), 1 => any::<u32>(), 1 => (0..32u32).prop_map(|l| 1 << l)];
    prop_oneof![
        8 => (warp.clone(), mask.clone(), 0..3u8, 0..4u8, 0..5u8, prop_oneof![Just(0), 0..SIZE as u8], any::<bool>(), 0..8u8, 0..3u8).prop_map(
            |(warp, mask, memory, bytes, pattern, from, write, sem, value)| Act::Access { warp, mask, memory, bytes, pattern, from, write, sem, value }),
        1 => (warp.clone(), 0..32u32, 0..3u8, 0..16u8, 0..5u8)
            .prop_map(|(warp, lane, memory, from, sem)| Act::Atomic { warp, lane, memory, from, sem }),
        1 => (warp.clone(), mask.clone()).prop_map(|(warp, mask)| Act::Lanes { warp, mask }),
        2 => (0..CTAS).prop_map(|cta| Act::Barrier { cta }),
        1 => (0..CTAS, mask.clone(), mask.clone()).prop_map(|(cta, a, b)| Act::Named { cta, masks: [a, b] }),
        1 => Just(Act::Cluster),
        1 => (warp.clone(), mask.clone(), any::<bool>()).prop_map(|(warp, mask, scope)| Act::Fence { warp, mask, scope }),
        2 => (warp.clone(), mask.clone(), 0..3u8).prop_map(|(warp, mask, space)| Act::Proxy { warp, mask, space }),
        1 => (warp.clone(), mask.clone(), 0..3u8).prop_map(|(warp, mask, slot)| Act::Publish { warp, mask, slot }),
        1 => (warp.clone(), mask, 0..3u8).prop_map(|(warp, mask, slot)| Act::Learn { warp, mask, slot }),
        2 => (warp.clone(), 0..32u32, 0..3u8, 0..16u8, 1..40u8, any::<bool>())
            .prop_map(|(warp, lane, memory, from, len, write)| Act::Async { warp, lane, memory, from, len, write }),
        1 => (warp.clone(), 0..32u32, warp).prop_map(|(warp, lane, owner)| Act::Wait { warp, lane, owner }),
    ]
}

fn sem_of(code: u8, write: bool, read: bool) -> Sem {
    match code {
        0 => Sem::Relaxed(Scope::Cta),
        1 => Sem::Relaxed(Scope::Gpu),
        2 if write && !read => Sem::Release(Scope::Gpu),
        2 if read && !write => Sem::Acquire(Scope::Gpu),
        2 => Sem::AcqRel(Scope::Gpu),
        3 if write && !read => Sem::Release(Scope::Cta),
        3 if read && !write => Sem::Acquire(Scope::Cta),
        3 => Sem::Acquire(Scope::Cta),
        _ => Sem::Weak,
    }
}

struct Both {
    naive: Naive,
    memory: Memory,
    warps: Vec<WarpOrder>,
    slots: Vec<(Clock, Thread)>,
    /// Asynchronous agent of each warp: agent, interval, committed interval, committed count.
    agents: Vec<(u32, u32, u32, u32)>,
    global: u64,
    pc: u32,
}

impl Both {
    fn new() -> Self {
        let mut global = Global::default();
        let address = global.alloc(2048).unwrap();
        global.fill(address, 0xFF, 2048).unwrap();
        let order = Order::new(THREADS, CTAS);
        let mut memory = Memory::new(global, Tracker::new(order, 1, true, 1).exact());
        memory.start_cluster(CTAS, 2048);
        let warps: Vec<_> = (0..CTAS * WARPS).map(|w| memory.tracker.order.warp(w)).collect();
        let agents = (0..CTAS * WARPS).map(|_| (memory.tracker.order.agent(false), memory.tracker.order.tick(), 0, 0)).collect();
        let memories = vec![vec![Byte { value: 0xFF, ..Byte::default() }; SIZE * 20]; 3];
        let mut naive = Naive { memories, ..Naive::default() };
        for warp in &warps {
            for lane in lanes_of(warp.full) {
                naive.tick((warp.agent, lane));
            }
        }
        let slots = vec![(Clock::default(), Thread::default()); 3];
        Both { naive, memory, warps, slots, agents, global: address, pc: 0 }
    }

    fn ids(&self, warp: u32, mask: u32) -> Vec<Id> {
        lanes_of(mask & self.warps[warp as usize].full).map(|l| (warp, l)).collect()
    }

    fn join_all(&mut self, ids: &[Id]) {
        let mut sum = Thread::default();
        for id in ids {
            sum.merge(&self.naive.threads[id]);
        }
        for id in ids {
            self.naive.threads.get_mut(id).unwrap().merge(&sum);
            self.naive.tick(*id);
        }
    }

    /// Does the act in both; what each found: (race, missing proxy fence), ours and naively.
    fn act(&mut self, act: &Act) -> ((bool, bool), (bool, bool)) {
        self.pc += 1;
        let pc = self.pc;
        let mut expected = (false, false);
        match *act {
            Act::Access { warp, mask, memory, bytes, pattern, from, write, sem, value } => {
                let sem = sem_of(sem, write, !write);
                let bytes = 1usize << bytes;
                let full = self.warps[warp as usize].full;
                let mask = mask & full;
                let at: [usize; 32] = std::array::from_fn(|l| {
                    let l = match pattern {
                        0 | 1 => l,
                        2 => 0,
                        3 => l % 8,
                        _ => 31 - l,
                    };
                    (usize::from(from) / bytes + l) * bytes
                });
                let (space, base) = match memory {
                    2 => (Space::Global, self.global),
                    m => (Space::Shared, u64::from(mapa(0, u32::from(m)))),
                };
                let addresses = at.map(|a| base + (START + a) as u64);
                let mut block = Block::default();
                for (l, b) in block.bytes.iter_mut().enumerate() {
                    *b = [if value == 0 { l as u8 } else { value }; 16];
                }
                // One instruction: every lane's read or write, and then what it publishes.
                for lane in lanes_of(mask) {
                    self.naive.tick((warp, lane));
                }
                let cta = warp / WARPS;
                for lane in lanes_of(mask) {
                    if !write && let Some(scope) = sem.scope() {
                        self.strong_read((warp, lane), memory.into(), at[lane as usize], sem.acquires(), scope);
                    }
                }
                let mut done: HashMap<usize, u8> = HashMap::new();
                for lane in lanes_of(mask) {
                    let id = (warp, lane);
                    let me = Event { id, at: self.naive.threads[&id].all[&id], strong: sem.scope(), cta, generic: true };
                    let new = write.then(|| &block.bytes[lane as usize][..bytes]);
                    let place = at[lane as usize];
                    // Lanes of one instruction at one place race with each other only by different values.
                    if let Some(new) = new {
                        let again = done.insert(place, new[0]);
                        if let Some(other) = again {
                            expected.0 |= other != new[0] && sem == Sem::Weak;
                            let bytes = &mut self.naive.memories[memory as usize][place..place + bytes];
                            for (byte, &value) in bytes.iter_mut().zip(new) {
                                *byte = Byte { writer: Some(me), readers: vec![], value };
                            }
                            continue;
                        }
                    }
                    // The first lane of a run to one place is checked with the last one's value and identity.
                    let last = lanes_of(mask).filter(|&l| at[l as usize] == place).last().unwrap();
                    if write && pattern == 2 {
                        let id = (warp, last);
                        let me = Event { id, at: self.naive.threads[&id].all[&id], ..me };
                        expected.0 |=
                            self.naive.access(memory.into(), place, Some(&block.bytes[last as usize][..bytes]), bytes, me);
                    } else {
                        expected.0 |= self.naive.access(memory.into(), place, new, bytes, me);
                    }
                }
                for lane in lanes_of(mask) {
                    if write {
                        self.strong_write((warp, lane), memory.into(), at[lane as usize], sem, false);
                    }
                }
                let mut local = Local::new(0);
                let mut by = By {
                    warp: &mut self.warps[warp as usize],
                    home: Home { base: 0, rank: cta, size: CTAS },
                    local: &mut local,
                    pc,
                };
                if write {
                    self.memory.store(&mut by, space, &addresses, mask, bytes, sem, &block).unwrap();
                } else {
                    self.memory.load(&mut by, space, &addresses, mask, bytes, sem, &mut block).unwrap();
                }
            }
            Act::Atomic { warp, lane, memory, from, sem } => {
                if self.warps[warp as usize].full >> lane & 1 == 0 {
                    return Default::default();
                }
                let sem = match sem_of(sem, true, true) {
                    Sem::Weak => Sem::Relaxed(Scope::Gpu),
                    sem => sem,
                };
                let (id, at, cta) = ((warp, lane), usize::from(from) * 4, warp / WARPS);
                self.naive.tick(id);
                self.strong_read(id, memory.into(), at, sem.acquires(), sem.scope().unwrap());
                let me = Event { id, at: self.naive.threads[&id].all[&id], strong: sem.scope(), cta, generic: true };
                let value = (pc as u8).wrapping_mul(3) | 0x80;
                // An update counts as a write of something new.
                for i in 0..4 {
                    self.naive.memories[memory as usize][at + i].value = !value;
                }
                expected.0 = self.naive.access(memory.into(), at, Some(&[value; 4]), 4, me);
                self.strong_write(id, memory.into(), at, sem, true);
                let (space, base) = match memory {
                    2 => (Space::Global, self.global),
                    m => (Space::Shared, u64::from(mapa(0, u32::from(m)))),
                };
                let mut local = Local::new(0);
                let mut by = By {
                    warp: &mut self.warps[warp as usize],
                    home: Home { base: 0, rank: cta, size: CTAS },
                    local: &mut local,
                    pc,
                };
                self.memory.atomic(&mut by, space, base + (START + at) as u64, lane, 4, sem, |_| Some([value; 16])).unwrap();
            }
            Act::Lanes { warp, mask } => {
                let ids = self.ids(warp, mask);
                self.join_all(&ids);
                let order = &mut self.memory.tracker.order;
                let warp = &mut self.warps[warp as usize];
                order.sync_lanes(warp, mask & warp.full);
            }
            Act::Barrier { cta } => self.barrier(cta, [u32::MAX; 2]),
            Act::Named { cta, masks } => self.barrier(cta, masks),
            Act::Cluster => {
                let ids: Vec<Id> = (0..CTAS * WARPS).flat_map(|w| self.ids(w, u32::MAX)).collect();
                self.join_all(&ids);
                let order = &mut self.memory.tracker.order;
                let mut point = SyncPoint::default();
                for warp in &mut self.warps {
                    order.arrive(warp, warp.full, false, &mut point);
                }
                let synced = order.complete(point);
                for warp in &mut self.warps {
                    order.join_synced(warp, warp.full, &synced);
                }
            }
            Act::Fence { warp, mask, scope } => {
                let scope = if scope { Scope::Gpu } else { Scope::Cta };
                let mask = mask & self.warps[warp as usize].full;
                for id in self.ids(warp, mask) {
                    let thread = self.naive.threads.get_mut(&id).unwrap();
                    for (read, released, cta, what) in std::mem::take(&mut thread.pending) {
                        if include((cta, released), (warp / WARPS, read.min(scope))) {
                            thread.merge(&what);
                        }
                    }
                    thread.fenced = Some((scope, Box::new(thread.bare())));
                    self.naive.tick(id);
                }
                self.memory.tracker.order.fence(&mut self.warps[warp as usize], mask, scope);
            }
            Act::Proxy { warp, mask, space } => {
                let space = [FencedSpace::Shared, FencedSpace::Global, FencedSpace::All][space as usize];
                let mask = mask & self.warps[warp as usize].full;
                for id in self.ids(warp, mask) {
                    let thread = self.naive.threads.get_mut(&id).unwrap();
                    let all = thread.all.clone();
                    if space != FencedSpace::Global {
                        merge(&mut thread.shared, &all);
                    }
                    if space != FencedSpace::Shared {
                        merge(&mut thread.global, &all);
                    }
                    self.naive.tick(id);
                }
                self.memory.tracker.order.fence_proxy_async(&mut self.warps[warp as usize], mask, space);
            }
            Act::Publish { warp, mask, slot } => {
                let mask = mask & self.warps[warp as usize].full;
                for id in self.ids(warp, mask) {
                    self.slots[slot as usize].1.merge(&self.naive.threads[&id]);
                    self.naive.tick(id);
                }
                let clock = self.memory.tracker.order.publish(&mut self.warps[warp as usize], mask);
                self.memory.tracker.order.join(&mut self.slots[slot as usize].0, &clock);
            }
            Act::Learn { warp, mask, slot } => {
                let mask = mask & self.warps[warp as usize].full;
                for id in self.ids(warp, mask) {
                    self.naive.threads.get_mut(&id).unwrap().merge(&self.slots[slot as usize].1);
                }
                self.memory.tracker.order.acquire(&mut self.warps[warp as usize], mask, &self.slots[slot as usize].0);
            }
            Act::Async { warp, lane, memory, from, len, write } => {
                if self.warps[warp as usize].full >> lane & 1 == 0 {
                    return Default::default();
                }
                let (agent, stamp, ..) = self.agents[warp as usize];
                let (from, len) = (usize::from(from), usize::from(len).min(SIZE));
                let count = *self.naive.agents.entry(agent).or_insert(1);
                let me = Event { id: (agent, 0), at: count, strong: None, cta: 0, generic: false };
                expected = self.naive.access_async(memory.into(), from, write, len, me, (warp, lane));
                let issuers = [(&self.warps[warp as usize], lane)];
                let op = AsyncStep { who: agent * 32, stamp, issuers: &issuers, pc, proxy: true, strength: None };
                let which = if memory == 2 { Which::Global(0) } else { Which::Shared(memory.into()) };
                let (segment, tracker) = self.memory.parts_of(which);
                segment.touch_async(START + from, len, write, &op, tracker);
            }
            Act::Wait { warp, lane, owner } => {
                if self.warps[warp as usize].full >> lane & 1 == 0 {
                    return Default::default();
                }
                // Waits for what was committed before, then commits what was issued since.
                let (agent, stamp, done, count) = self.agents[owner as usize];
                let now = *self.naive.agents.entry(agent).or_insert(1);
                if done > 0 {
                    self.memory.tracker.order.acquire_agent(&mut self.warps[warp as usize], 1 << lane, agent, done);
                    let all = &mut self.naive.threads.get_mut(&(warp, lane)).unwrap().all;
                    merge(all, &HashMap::from([((agent, 0), count)]));
                }
                self.agents[owner as usize] = (agent, self.memory.tracker.order.tick(), stamp, now);
                self.naive.agents.insert(agent, now + 1);
            }
        }
        let found = self.memory.tracker.hazards.resolve("k", |site| crate::hazard::Place {
            ptx_line: site.pc,
            source: None,
            thread: [0; 3],
            cta: [0; 3],
        });
        let new = found.iter().filter(|h| h.at.ptx_line == pc);
        let mut ours = (false, false);
        for h in new {
            match h.kind {
                HazardKind::MissingProxyFence => ours.1 = true,
                // Not an order of accesses.
                HazardKind::PeerNotStarted => {}
                _ => ours.0 = true,
            }
        }
        (ours, expected)
    }

    fn strong_read(&mut self, id: Id, memory: usize, at: usize, acquire: bool, scope: Scope) {
        for (released, cta, what) in self.naive.releases.get(&(memory, at)).cloned().unwrap_or_default() {
            let thread = self.naive.threads.get_mut(&id).unwrap();
            if !acquire {
                thread.pending.push((scope, released, cta, what));
            } else if include((cta, released), (id.0 / WARPS, scope)) {
                thread.merge(&what);
            }
        }
    }

    fn strong_write(&mut self, id: Id, memory: usize, at: usize, sem: Sem, rmw: bool) {
        let list = self.naive.releases.entry((memory, at)).or_default();
        if !rmw {
            list.clear();
        }
        let Some(scope) = sem.scope() else { return };
        let thread = &self.naive.threads[&id];
        if sem.releases() {
            list.push((scope, id.0 / WARPS, thread.bare()));
        } else if let Some((fence, what)) = &thread.fenced {
            list.push(((*fence).min(scope), id.0 / WARPS, (**what).clone()));
        }
        if sem.releases() {
            self.naive.tick(id);
        }
    }

    fn barrier(&mut self, cta: u32, masks: [u32; 2]) {
        let ids: Vec<Id> = (0..WARPS).flat_map(|w| self.ids(cta * WARPS + w, masks[w as usize])).collect();
        self.join_all(&ids);
        let order = &mut self.memory.tracker.order;
        let mut point = SyncPoint::default();
        let warps = &mut self.warps[(cta * WARPS) as usize..][..WARPS as usize];
        for (warp, mask) in warps.iter_mut().zip(masks) {
            order.arrive(warp, mask & warp.full, true, &mut point);
        }
        let synced = order.complete(point);
        for (warp, mask) in warps.iter_mut().zip(masks) {
            order.resume(warp, mask & warp.full, &synced);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn the_detector_agrees_with_full_vector_clocks(list in proptest::collection::vec(acts(), 1..40)) {
        let mut both = Both::new();
        for (i, act) in list.iter().enumerate() {
            let (ours, naive) = both.act(act);
            prop_assert_eq!(ours, naive, "act {} of {:?}", i, &list[..=i]);
            if naive.0 {
                // After a race the two may keep different parties.
                break;
            }
        }
    }
}
