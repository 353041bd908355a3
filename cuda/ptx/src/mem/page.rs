//! The records of the shadow: who wrote a unit of memory last and who read it since, by pages.
//!
//! **What a record costs.** Most pages are only ever accessed by whole lines, in order: they hold a record a line, 48 bytes for
//! 32 units. The records of single units are made when the first line of a page is opened: 12 bytes a unit for its writer and,
//! once a thread reads one, 24 for its readers. So a written byte costs itself, an eighth for whether it is initialised, and
//! 0.4 bytes where warps write whole lines, 3.4 where they write anything else.

use std::ops::Range;

use super::clock::{Order, PREREQUISITE, Scope, Stamp};
use super::contents::PAGE;
use super::parallel::Access;
use crate::hazard::Hazards;

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
    /// All units belong to one lane of one group.
    pub(super) fn of_one(who: u32, stamp: Stamp, tag: u32) -> Run {
        Run { group: who / 32, warps: 0, stamp, tag, lane: (who % 32) as u8, per_lane: LINE.trailing_zeros() as u8 }
    }

    pub(super) fn is_of_one(&self) -> bool {
        u32::from(self.per_lane) == LINE.trailing_zeros()
    }

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
    /// Of each unit; empty until the first line is opened.
    pub(super) writers: Box<[Writer]>,
    /// Of each unit; empty until one is read whose line is open.
    pub(super) readers: Box<[Readers]>,
}

/// The pages of a piece of memory that were accessed, by number.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    pub(super) list: Vec<Option<Box<Page>>>,
    /// Their numbers, where somebody wants to know: in a view.
    pub(super) touched: Option<Vec<usize>>,
}

pub(super) const NO_READERS: Readers = Readers { group: 0, warps: 0, lanes: 0, stamp: 0, tag: 0, next: 0 };
pub(super) const FRESH: Line = Line { write: Some(NO_RUN), read: Some(NO_RUN) };
pub(super) const NO_RUN: Run = Run { group: 0, warps: 0, stamp: 0, tag: 0, lane: 0, per_lane: 0 };

impl Page {
    pub(super) fn new(launch: u32) -> Box<Page> {
        Box::new(Page {
            launch,
            shift: 2,
            lines: vec![FRESH; PAGE / 4 / LINE].into(),
            writers: Box::default(),
            readers: Box::default(),
        })
    }

    /// How many units it has.
    fn len(&self) -> usize {
        PAGE >> self.shift
    }

    /// The records of an earlier launch end; if this one may overlap with it, they become those of [`PREREQUISITE`].
    #[cold]
    pub(super) fn renew(&mut self, launch: u32, overlaps: bool) {
        self.launch = launch;
        if !overlaps {
            return self.lines.fill(FRESH);
        }
        self.open_to_readers(0, self.len());
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
        let parts = 1 << (self.shift - shift);
        let untouched = |run: &Option<Run>| run.as_ref().is_some_and(|run| run.stamp == 0);
        if self.lines.iter().all(|line| untouched(&line.write) && untouched(&line.read)) {
            (self.writers, self.readers) = (Box::default(), Box::default());
            self.lines = vec![FRESH; self.lines.len() * parts].into();
            self.shift = shift;
            return;
        }
        self.open(0, self.len());
        self.writers = self.writers.iter().flat_map(|w| std::iter::repeat_n(*w, parts)).collect();
        let mut readers = Vec::with_capacity(self.readers.len() * parts);
        for r in &self.readers {
            readers.push(*r);
            for _ in 1..parts {
                readers.push(tracker.copy_list(*r));
            }
        }
        self.readers = readers.into();
        self.lines = vec![Line { write: None, read: None }; self.lines.len() * parts].into();
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

    /// A page of which a launch accessed these bytes, whoever did.
    pub(super) fn accessed_before(launch: u32, access: &Access) -> Box<Page> {
        let words = access.written.iter().chain(&access.read);
        let whole = words.flat_map(|w| (0..64).step_by(4).map(move |i| w >> i & 0xF)).all(|nibble| matches!(nibble, 0 | 0xF));
        let shift = if whole { 2 } else { 0 };
        let has = |set: &[u64; PAGE / 64], unit: usize| set[(unit << shift) / 64] >> ((unit << shift) % 64) & 1 == 1;
        let stamp = |set, unit| Stamp::from(has(set, unit));
        let units = 0..PAGE >> shift;
        Box::new(Page {
            launch,
            shift,
            lines: vec![Line { write: None, read: None }; units.len() / LINE].into(),
            writers: units.clone().map(|u| Writer { who: 0, stamp: stamp(&access.written, u), tag: 0 }).collect(),
            readers: units.map(|u| Readers { stamp: stamp(&access.read, u), ..Readers::default() }).collect(),
        })
    }

    /// What was accessed of it.
    pub(super) fn accessed(&self) -> Access {
        let Access { mut written, mut read } = Access::default();
        let size = 1 << self.shift;
        // Units of a line of which one record says all are 32 bytes or a multiple, at a multiple.
        let mark = |set: &mut [u64; PAGE / 64], unit: usize, units: usize| {
            for at in (unit * size..(unit + units) * size).step_by(64) {
                let bits = (units * size).min(64) as u32;
                set[at / 64] |= (u64::MAX >> (64 - bits)) << (at % 64);
            }
        };
        for (i, line) in self.lines.iter().enumerate() {
            let units = i * LINE..(i + 1) * LINE;
            match &line.write {
                Some(run) if run.stamp == 0 => {}
                Some(_) => mark(&mut written, units.start, LINE),
                None => units.clone().filter(|&u| self.writers[u].stamp != 0).for_each(|u| mark(&mut written, u, 1)),
            }
            match &line.read {
                Some(run) if run.stamp == 0 => {}
                Some(_) => mark(&mut read, units.start, LINE),
                None => units.filter(|&u| self.readers_of(u).stamp != 0).for_each(|u| mark(&mut read, u, 1)),
            }
        }
        Access { written, read }
    }

    /// The readers of a unit whose line is open.
    #[inline(always)]
    pub(super) fn readers_of(&self, unit: usize) -> &Readers {
        self.readers.get(unit).unwrap_or(&NO_READERS)
    }

    /// Says that a unit was written last by `writer`, and not read since.
    #[inline(always)]
    pub(super) fn set_writer(&mut self, unit: usize, writer: Writer) {
        self.writers[unit] = writer;
        if let Some(readers) = self.readers.get_mut(unit) {
            readers.stamp = 0;
        }
    }

    /// Gives the units of a range their own records, those of readers too.
    #[inline]
    pub(super) fn open_to_readers(&mut self, from: usize, to: usize) {
        self.open(from, to);
        self.make_readers();
    }

    #[inline]
    pub(super) fn make_readers(&mut self) {
        if self.readers.is_empty() {
            self.readers = vec![NO_READERS; self.len()].into();
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
        self.open_writes(line);
        self.open_reads(line);
    }

    /// Gives the units of a line records of their writers.
    pub(super) fn open_writes(&mut self, line: usize) {
        if self.writers.is_empty() {
            self.writers = vec![Writer::default(); self.len()].into();
        }
        if let Some(run) = self.lines[line].write.take() {
            for (i, w) in self.writers[line * LINE..(line + 1) * LINE].iter_mut().enumerate() {
                *w = Writer { who: run.group * 32 + run.lane_of(i), stamp: run.stamp, tag: run.tag };
            }
        }
    }

    /// Gives the units of a line records of their readers, if there are any.
    pub(super) fn open_reads(&mut self, line: usize) {
        let Some(run) = self.lines[line].read.take() else { return };
        if self.readers.is_empty() && run.stamp == 0 {
            return;
        }
        self.make_readers();
        for (i, r) in self.readers[line * LINE..(line + 1) * LINE].iter_mut().enumerate() {
            let Run { group, warps, stamp, tag, .. } = run;
            *r = Readers { group, warps, lanes: 1 << (run.lane_of(i) & 31), stamp, tag, next: 0 };
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

    /// The first record of a list for which `is` holds.
    pub(super) fn find(&mut self, mut next: u32, is: impl Fn(&Readers) -> bool) -> Option<&mut Readers> {
        while next != 0 && !is(&self.extra[next as usize]) {
            next = self.extra[next as usize].next;
        }
        (next != 0).then(|| &mut self.extra[next as usize])
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
