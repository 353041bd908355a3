//! A multiprocessor: four schedulers with their pipes, what they share, and what will happen there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::card::Card;
use super::cost::{PIPES, Pipe};
use super::traffic::{Access, Cache, Lines, Server, Traffic};

/// Clocks by which the memory pipe may be behind before a warp cannot issue to it.
const QUEUE: u64 = 16;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Bytes of a copy have landed, on an mbarrier of a CTA.
    Landed { slot: u32, cta: u32, offset: u32, bytes: u32 },
    /// Arrivals from elsewhere, on an mbarrier of a CTA.
    Arrived { slot: u32, cta: u32, offset: u32, count: u32 },
    /// A warp may be able to go on.
    Wake { slot: u32, cta: u32, warp: u32 },
}

/// A warp as its scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Slot of its CTA, and its number there.
    pub slot: u32,
    pub warp: u32,
    /// Where its next instruction runs, and from when on it could.
    pub pipe: Pipe,
    pub next: u64,
}

impl Scheduler {
    /// From when on a warp's next instruction could issue, and where it runs.
    pub fn note(&mut self, slot: u32, warp: u32, next: u64, pipe: Pipe) {
        if let Some(c) = self.warps.iter_mut().find(|c| (c.slot, c.warp) == (slot, warp)) {
            (c.next, c.pipe) = (next, pipe);
        }
        self.best = None;
    }
}

/// A quarter of a multiprocessor.
pub struct Scheduler {
    /// From when on it can issue.
    pub free: u64,
    /// From when on each pipe is free.
    pub pipes: [u64; PIPES],
    /// The warps that it has.
    pub warps: Vec<Candidate>,
    /// Who issues next, and when; to be found anew if `None`.
    pub best: Option<(u64, usize)>,
}

/// A multiprocessor.
pub struct Sm {
    pub schedulers: [Scheduler; 4],
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_made: u64,
    /// From when on the memory pipe is free.
    pub memory: u64,
    /// From when on the tensor cores are free for wgmma.
    pub tensor: f64,
    /// From when on a bulk copy can start.
    pub copies: u64,
    /// From when on shared memory can give a bulk copy what it stores.
    pub shared: f64,
    l1: Cache,
    port: [Server; 2],
    /// Loads and stores under way: when they are done, and their bytes.
    under_way: VecDeque<(u64, u64)>,
    under_way_bytes: u64,
    /// When the last store has arrived.
    pub written: u64,
    /// Maps that were read before.
    pub maps: Vec<u64>,
    /// What was done, for the shares.
    pub work: Work,
}

/// Clocks and bytes of what a multiprocessor did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Clocks of the tensor cores at their peak.
    pub tensor: f64,
    /// Passes of 128 bytes over shared memory, those of the tensor cores too.
    pub shared: f64,
    /// Machine instructions.
    pub issued: u64,
    /// Clocks of the pipes for special functions.
    pub special: u64,
    /// Clocks of the FMA pipes.
    pub fma: u64,
}

impl Sm {
    /// An idle one, whose CTAs have so many bytes of shared memory together.
    pub fn new(card: &Card, shared: u64) -> Sm {
        let scheduler = || Scheduler { free: 0, pipes: [0; PIPES], warps: Vec::new(), best: None };
        Sm {
            schedulers: [scheduler(), scheduler(), scheduler(), scheduler()],
            events: BinaryHeap::new(),
            events_made: 0,
            memory: 0,
            tensor: 0.0,
            copies: 0,
            shared: 0.0,
            l1: Cache::new(card.l1_size.saturating_sub(shared).max(16 << 10)),
            port: [Server::new(card.port_bytes), Server::new(card.port_bytes)],
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            written: 0,
            maps: Vec::new(),
            work: Work::default(),
        }
    }

    /// Something will happen.
    pub fn expect(&mut self, time: u64, event: Event) {
        self.events_made += 1;
        self.events.push(Reverse((time, self.events_made, event)));
    }

    /// When the next event is.
    pub fn next_event(&self) -> u64 {
        self.events.peek().map_or(u64::MAX, |Reverse((time, ..))| *time)
    }

    /// Takes the next event.
    pub fn pop_event(&mut self) -> Option<(u64, Event)> {
        self.events.pop().map(|Reverse((time, _, event))| (time, event))
    }

    /// From when on a pipe takes an instruction of a scheduler.
    pub fn free(&self, scheduler: usize, pipe: Pipe) -> u64 {
        match pipe {
            Pipe::Memory => self.memory.saturating_sub(QUEUE),
            _ => self.schedulers[scheduler].pipes[pipe as usize],
        }
    }

    /// The memory pipe works on an instruction of so many passes: when it begins.
    pub fn pass(&mut self, time: u64, passes: u64) -> u64 {
        let start = self.memory.max(time);
        self.memory = start + passes;
        start
    }

    /// A request of the memory pipe to L1 and beyond: when it is done. `cached`: L1 may have it.
    #[allow(clippy::too_many_arguments, reason = "what a request is")]
    pub fn request(
        &mut self,
        index: u32,
        card: &Card,
        traffic: &mut Traffic,
        time: u64,
        lines: &Lines,
        access: Access,
        cached: bool,
    ) -> u64 {
        let mut done = time + card.l1;
        let mut missing: smallvec::SmallVec<[(u64, u8); 32]> = smallvec::SmallVec::new();
        let mut places: smallvec::SmallVec<[(u32, u32); 32]> = smallvec::SmallVec::new();
        for &(line, sectors) in lines {
            if !cached {
                missing.push((line, sectors));
                continue;
            }
            let found = self.l1.touch(line, sectors, false);
            done = done.max(found.arrives);
            if found.hit != sectors {
                missing.push((line, sectors & !found.hit));
                places.push(found.place);
            }
        }
        if missing.is_empty() {
            return done;
        }
        let bytes: u64 = missing.iter().map(|m| u64::from(m.1.count_ones()) * 32).sum();
        let mut start = time;
        while self.under_way_bytes + bytes > card.in_flight {
            let Some((done, bytes)) = self.under_way.pop_front() else { break };
            self.under_way_bytes -= bytes;
            start = start.max(done);
        }
        // Who finds no room keeps the pipe until there is some.
        if start > time {
            self.memory = self.memory.max(start);
        }
        let passed = self.port[access as usize].take(start, bytes as f64);
        let there = traffic.request(index, start, &missing, access).max(passed);
        if access == Access::Write {
            self.written = self.written.max(there);
        }
        self.under_way.push_back((there, bytes));
        self.under_way_bytes += bytes;
        places.iter().for_each(|place| self.l1.fill(*place, there));
        done.max(there)
    }

    /// A bulk copy's bytes pass this multiprocessor's port.
    pub fn port(&mut self, time: u64, bytes: u64, access: Access) -> u64 {
        self.port[access as usize].take(time, bytes as f64)
    }

    /// Nobody asks for a time before this one any more.
    pub fn forget(&mut self, time: u64) {
        self.port.iter_mut().for_each(|p| p.forget(time));
    }
}
