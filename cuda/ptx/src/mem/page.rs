//! The records of the shadow: who wrote a unit of memory last and who read it since, by pages.

use std::ops::Range;

use super::clock::{Order, PREREQUISITE, Scope, Stamp};
use crate::hazard::Hazards;

/// Bytes a page.
pub(super) const PAGE: usize = 1024;
/// The stamp of what is in flight: nobody knows it yet.
pub(crate) const IN_FLIGHT: Stamp = Stamp::MAX;
/// The writer of bytes that hold an mbarrier.
pub(super) const MBARRIER: u32 = u32::MAX;
pub(super) const PC_BITS: u32 = 28;

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Writer {
    /// Agent times 32 plus lane.
    pub(super) who: u32,
    /// 0: never written in this launch.
    pub(super) stamp: Stamp,
    /// Instruction, and the strength in the high bits.
    pub(super) tag: u32,
}

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Readers {
    /// A CTA, or an asynchronous agent.
    pub(super) group: u32,
    pub(super) warps: u32,
    pub(super) lanes: u32,
    /// 0: none.
    pub(super) stamp: Stamp,
    pub(super) tag: u32,
    /// The next record of this unit in [`Tracker::extra`]; 0 ends the list.
    pub(super) next: u32,
}

/// A line: 32 units. Most accesses are of a whole warp to whole lines; then one record says what 32 would.
pub(super) const LINE: usize = 32;

/// One record for a line: unit `u` belongs to lane `lane + (u >> per_lane)`.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Run {
    /// The warp of a write; a CTA of reads.
    pub(super) group: u32,
    /// The warps of reads.
    pub(super) warps: u32,
    /// 0: none.
    pub(super) stamp: Stamp,
    pub(super) tag: u32,
    pub(super) lane: u8,
    pub(super) per_lane: u8,
}

impl Run {
    pub(super) fn lane_of(&self, unit: usize) -> u32 {
        u32::from(self.lane) + (unit >> self.per_lane) as u32
    }

    pub(super) fn is_like(&self, lane: u32, per_lane: u32) -> bool {
        u32::from(self.lane) == lane && u32::from(self.per_lane) == per_lane
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// `Some`: the units' own records do not count.
    pub(super) write: Option<Run>,
    pub(super) read: Option<Run>,
}

#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) launch: u32,
    pub(super) shift: u32,
    pub(super) lines: Box<[Line]>,
    pub(super) writers: Box<[Writer]>,
    pub(super) readers: Box<[Readers]>,
}

pub(super) const FRESH: Line = Line { write: Some(NO_RUN), read: Some(NO_RUN) };
pub(super) const NO_RUN: Run = Run { group: 0, warps: 0, stamp: 0, tag: 0, lane: 0, per_lane: 0 };

impl Page {
    pub(super) fn new(launch: u32) -> Box<Page> {
        Box::new(Page {
            launch,
            shift: 2,
            lines: vec![FRESH; PAGE / 4 / LINE].into(),
            writers: vec![Writer::default(); PAGE / 4].into(),
            readers: vec![Readers::default(); PAGE / 4].into(),
        })
    }

    /// The records of an earlier launch end; if this one may overlap with it, they become those of [`PREREQUISITE`].
    #[cold]
    pub(super) fn renew(&mut self, launch: u32, overlaps: bool) {
        self.launch = launch;
        if !overlaps {
            return self.lines.fill(FRESH);
        }
        self.open(0, self.writers.len());
        let agent = |who: u32| who / 32 != PREREQUISITE;
        for w in &mut self.writers {
            let touched = w.stamp != 0 && agent(w.who);
            *w = if touched { Writer { who: PREREQUISITE * 32, stamp: 1, tag: 0 } } else { Writer::default() };
        }
        for r in &mut self.readers {
            let touched = r.stamp != 0 && agent(r.group * 32);
            *r = if touched { Readers { group: PREREQUISITE, stamp: 1, ..Readers::default() } } else { Readers::default() };
        }
    }

    /// Makes units of `1 << shift` bytes.
    #[cold]
    pub(super) fn refine(&mut self, shift: u32, tracker: &mut Tracker) {
        self.open(0, self.writers.len());
        let parts = 1 << (self.shift - shift);
        self.writers = self.writers.iter().flat_map(|w| std::iter::repeat_n(*w, parts)).collect();
        let mut readers = Vec::with_capacity(self.readers.len() * parts);
        for r in &self.readers {
            readers.push(*r);
            for _ in 1..parts {
                readers.push(tracker.copy_list(*r));
            }
        }
        self.readers = readers.into();
        self.lines = vec![Line { write: None, read: None }; self.writers.len() / LINE].into();
        self.shift = shift;
    }

    /// The units of a range of bytes that lies in this page.
    #[inline(always)]
    pub(super) fn units(&self, at: usize, stop: usize) -> Range<usize> {
        (at % PAGE) >> self.shift..((stop - 1) % PAGE + 1) >> self.shift
    }

    /// The writer of a unit.
    pub(super) fn writer(&self, unit: usize) -> Writer {
        match &self.lines[unit / LINE].write {
            Some(run) => Writer { who: run.group * 32 + run.lane_of(unit % LINE), stamp: run.stamp, tag: run.tag },
            None => self.writers[unit],
        }
    }

    /// Gives the units of a range their own records.
    #[inline]
    pub(super) fn open(&mut self, from: usize, to: usize) {
        for line in from / LINE..to.div_ceil(LINE) {
            if self.lines[line].write.is_some() || self.lines[line].read.is_some() {
                self.open_line(line);
            }
        }
    }

    #[inline(never)]
    pub(super) fn open_line(&mut self, line: usize) {
        let units = line * LINE..(line + 1) * LINE;
        if let Some(run) = self.lines[line].write.take() {
            for (i, w) in self.writers[units.clone()].iter_mut().enumerate() {
                *w = Writer { who: run.group * 32 + run.lane_of(i), stamp: run.stamp, tag: run.tag };
            }
        }
        if let Some(run) = self.lines[line].read.take() {
            for (i, r) in self.readers[units].iter_mut().enumerate() {
                let Run { group, warps, stamp, tag, .. } = run;
                *r = Readers { group, warps, lanes: 1 << (run.lane_of(i) & 31), stamp, tag, next: 0 };
            }
        }
    }
}

pub(super) fn tag_of(pc: u32, strength: Option<Scope>) -> u32 {
    let strength = match strength {
        None => 0,
        Some(Scope::Cta) => 1,
        Some(Scope::Cluster) => 2,
        Some(Scope::Gpu) => 3,
        Some(Scope::Sys) => 4,
    };
    pc & ((1 << PC_BITS) - 1) | strength << PC_BITS
}

pub(super) fn strength_of(tag: u32) -> Option<Scope> {
    [None, Some(Scope::Cta), Some(Scope::Cluster), Some(Scope::Gpu), Some(Scope::Sys)][(tag >> PC_BITS) as usize & 7]
}

pub(super) fn pc_of(tag: u32) -> u32 {
    tag & ((1 << PC_BITS) - 1)
}

/// What the memories of a launch share: the order, what was found, and the overflow of reader lists.
pub struct Tracker {
    /// Who knows of what.
    pub order: Order,
    /// What was found.
    pub hazards: Hazards,
    /// Whether accesses are recorded and checked at all.
    pub enabled: bool,
    pub(super) launch: u32,
    /// The launch before, if this one may begin before that has ended.
    overlapped: Option<u32>,
    /// How many unordered readers of a global unit are remembered beyond the first.
    pub(super) global_readers: u32,
    pub(super) extra: Vec<Readers>,
    pub(super) free: u32,
    pub(super) draws: u64,
}

impl Tracker {
    /// For launch number `launch` (never 0) of its memories.
    pub fn new(order: Order, launch: u32, enabled: bool, seed: u64) -> Self {
        Self {
            order,
            hazards: Hazards::new(),
            enabled,
            launch,
            overlapped: None,
            global_readers: 3,
            extra: vec![Readers::default()],
            free: 0,
            draws: seed | 1,
        }
    }

    /// The launch may begin before launch number `before` has ended.
    pub fn overlapping(mut self, before: Option<u32>) -> Self {
        self.overlapped = before;
        self
    }

    /// Whether what launch number `launch` did may be under way still.
    pub(super) fn overlaps(&self, launch: u32) -> bool {
        self.overlapped == Some(launch)
    }

    /// Every unordered reader is remembered, whatever that costs.
    #[cfg(test)]
    pub(crate) fn exact(mut self) -> Self {
        self.global_readers = u32::MAX;
        self
    }

    pub(super) fn draw(&mut self, below: u32) -> u32 {
        self.draws ^= self.draws << 13;
        self.draws ^= self.draws >> 7;
        self.draws ^= self.draws << 17;
        ((self.draws >> 32) as u32) % below
    }

    pub(super) fn push(&mut self, record: Readers) -> u32 {
        if self.free != 0 {
            let i = self.free;
            self.free = self.extra[i as usize].next;
            self.extra[i as usize] = record;
            return i;
        }
        self.extra.push(record);
        self.extra.len() as u32 - 1
    }

    pub(super) fn drop_list(&mut self, mut next: u32) {
        while next != 0 {
            let following = self.extra[next as usize].next;
            self.extra[next as usize].next = self.free;
            self.free = next;
            next = following;
        }
    }

    pub(super) fn copy_list(&mut self, mut record: Readers) -> Readers {
        if record.next != 0 {
            let copy = self.copy_list(self.extra[record.next as usize]);
            record.next = self.push(copy);
        }
        record
    }
}
