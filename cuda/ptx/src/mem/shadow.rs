//! A piece of memory with its shadow: which bytes are initialised, who wrote last, who read since.
//!
//! Accesses are recorded for units of 4 bytes; a page in which a smaller access was ever seen has units of 2 bytes or 1, so
//! that neighbours in a word are not taken for one another. A unit has one writer and the readers since; readers
//! of one CTA that read in the same interval with the same lanes share a record.
//!
//! Rules of the detector:
//! - Two accesses to a unit conflict if one writes; they race if neither is ordered before the other, unless both are
//!   strong (atomic, volatile, relaxed, acquire, release) with scopes that include each other's threads.
//! - Two unordered writes of the same bytes are not reported: the outcome does not depend on their order.
//! - Two lanes that write different values with one instruction race with each other.
//! - A global unit remembers at most a few unordered readers, drawn at random beyond that; a shared one all that matter in
//!   practice (32). The last strong writer stands for all strong writers before it.

use super::clock::{ASYNC, ASYNC_GENERIC, Order, Scope, Stamp, WarpOrder, lanes_of};
use crate::hazard::{HazardKind, Hazards, Site};

/// Bytes a page.
const PAGE: usize = 1024;
/// The stamp of what is in flight: nobody knows it yet.
pub(crate) const IN_FLIGHT: Stamp = Stamp::MAX;
/// The writer of bytes that hold an mbarrier.
const MBARRIER: u32 = u32::MAX;
const PC_BITS: u32 = 28;

#[derive(Clone, Copy, Default, Debug)]
struct Writer {
    /// Agent times 32 plus lane.
    who: u32,
    /// 0: never written in this launch.
    stamp: Stamp,
    /// Instruction, and the strength in the high bits.
    tag: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Readers {
    /// A CTA, or an asynchronous agent.
    group: u32,
    warps: u32,
    lanes: u32,
    /// 0: none.
    stamp: Stamp,
    tag: u32,
    /// The next record of this unit in [`Tracker::extra`]; 0 ends the list.
    next: u32,
}

/// A line: 32 units. Most accesses are of a whole warp to whole lines; then one record says what 32 would.
const LINE: usize = 32;

/// One record for a line: unit `u` belongs to lane `lane + (u >> per_lane)`.
#[derive(Clone, Copy, Default, Debug)]
struct Run {
    /// The warp of a write; a CTA of reads.
    group: u32,
    /// The warps of reads.
    warps: u32,
    /// 0: none.
    stamp: Stamp,
    tag: u32,
    lane: u8,
    per_lane: u8,
}

impl Run {
    fn lane_of(&self, unit: usize) -> u32 {
        u32::from(self.lane) + (unit >> self.per_lane) as u32
    }

    fn is_like(&self, lane: u32, per_lane: u32) -> bool {
        u32::from(self.lane) == lane && u32::from(self.per_lane) == per_lane
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    /// `Some`: the units' own records do not count.
    write: Option<Run>,
    read: Option<Run>,
}

#[derive(Clone, Debug)]
struct Page {
    launch: u32,
    shift: u32,
    lines: Box<[Line]>,
    writers: Box<[Writer]>,
    readers: Box<[Readers]>,
}

const FRESH: Line = Line { write: Some(NO_RUN), read: Some(NO_RUN) };
const NO_RUN: Run = Run { group: 0, warps: 0, stamp: 0, tag: 0, lane: 0, per_lane: 0 };

impl Page {
    fn new(launch: u32) -> Box<Page> {
        Box::new(Page {
            launch,
            shift: 2,
            lines: vec![FRESH; PAGE / 4 / LINE].into(),
            writers: vec![Writer::default(); PAGE / 4].into(),
            readers: vec![Readers::default(); PAGE / 4].into(),
        })
    }

    #[cold]
    fn renew(&mut self, launch: u32) {
        self.launch = launch;
        self.lines.fill(FRESH);
    }

    /// Makes units of `1 << shift` bytes.
    #[cold]
    fn refine(&mut self, shift: u32, tracker: &mut Tracker) {
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

    /// The writer of a unit.
    fn writer(&self, unit: usize) -> Writer {
        match &self.lines[unit / LINE].write {
            Some(run) => Writer { who: run.group * 32 + run.lane_of(unit % LINE), stamp: run.stamp, tag: run.tag },
            None => self.writers[unit],
        }
    }

    /// Gives the units of a range their own records.
    #[inline]
    fn open(&mut self, from: usize, to: usize) {
        for line in from / LINE..to.div_ceil(LINE) {
            if self.lines[line].write.is_some() || self.lines[line].read.is_some() {
                self.open_line(line);
            }
        }
    }

    #[inline(never)]
    fn open_line(&mut self, line: usize) {
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

fn tag_of(pc: u32, strength: Option<Scope>) -> u32 {
    let strength = match strength {
        None => 0,
        Some(Scope::Cta) => 1,
        Some(Scope::Cluster) => 2,
        Some(Scope::Gpu) => 3,
        Some(Scope::Sys) => 4,
    };
    pc & ((1 << PC_BITS) - 1) | strength << PC_BITS
}

fn strength_of(tag: u32) -> Option<Scope> {
    [None, Some(Scope::Cta), Some(Scope::Cluster), Some(Scope::Gpu), Some(Scope::Sys)][(tag >> PC_BITS) as usize & 7]
}

fn pc_of(tag: u32) -> u32 {
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
    launch: u32,
    /// How many unordered readers of a global unit are remembered beyond the first.
    global_readers: u32,
    extra: Vec<Readers>,
    free: u32,
    draws: u64,
}

impl Tracker {
    /// For launch number `launch` (never 0) of its memories.
    pub fn new(order: Order, launch: u32, enabled: bool, seed: u64) -> Self {
        Self {
            order,
            hazards: Hazards::new(),
            enabled,
            launch,
            global_readers: 3,
            extra: vec![Readers::default()],
            free: 0,
            draws: seed | 1,
        }
    }

    /// Every unordered reader is remembered, whatever that costs.
    #[cfg(test)]
    pub(crate) fn exact(mut self) -> Self {
        self.global_readers = u32::MAX;
        self
    }

    fn draw(&mut self, below: u32) -> u32 {
        self.draws ^= self.draws << 13;
        self.draws ^= self.draws >> 7;
        self.draws ^= self.draws << 17;
        ((self.draws >> 32) as u32) % below
    }

    fn push(&mut self, record: Readers) -> u32 {
        if self.free != 0 {
            let i = self.free;
            self.free = self.extra[i as usize].next;
            self.extra[i as usize] = record;
            return i;
        }
        self.extra.push(record);
        self.extra.len() as u32 - 1
    }

    fn drop_list(&mut self, mut next: u32) {
        while next != 0 {
            let following = self.extra[next as usize].next;
            self.extra[next as usize].next = self.free;
            self.free = next;
            next = following;
        }
    }

    fn copy_list(&mut self, mut record: Readers) -> Readers {
        if record.next != 0 {
            let copy = self.copy_list(self.extra[record.next as usize]);
            record.next = self.push(copy);
        }
        record
    }
}

/// A warp's access, as the shadow sees it.
struct Me<'a> {
    warp: &'a WarpOrder,
    cta: u32,
    warps: u32,
    /// The first thread of the CTA, and their number.
    first: u32,
    span: u32,
    floor: Stamp,
    stamp: Stamp,
    tag: u32,
    bit: u32,
}

impl<'a> Me<'a> {
    fn new(warp: &'a WarpOrder, order: &Order, pc: u32, strength: Option<Scope>) -> Self {
        let warps = order.warps;
        Me {
            warp,
            cta: warp.cta,
            warps,
            first: warp.cta * warps * 32,
            span: warps * 32,
            floor: warp.floor(),
            stamp: warp.stamp,
            tag: tag_of(pc, strength),
            bit: 1 << (warp.agent % warps),
        }
    }

    fn who(&self, lane: u32) -> u32 {
        self.warp.agent * 32 + lane
    }

    /// Whether the writer is surely ordered before `lane`; if not, look closer.
    #[inline(always)]
    fn after_write(&self, w: &Writer, lane: u32) -> bool {
        (w.stamp <= self.floor && w.who.wrapping_sub(self.first) < self.span) || w.who == self.who(lane) || w.stamp == 0
    }

    #[inline(always)]
    fn after_reads(&self, r: &Readers) -> bool {
        r.next == 0 && (r.stamp == 0 || (r.stamp <= self.floor && r.group == self.cta))
    }

    /// Whether a line's writes are surely ordered before a run of mine.
    #[inline(always)]
    fn after_write_run(&self, w: &Run, lane: u32, per_lane: u32) -> bool {
        w.stamp == 0
            || (w.stamp <= self.floor && (w.group * 32).wrapping_sub(self.first) < self.span)
            || (w.group == self.warp.agent && w.is_like(lane, per_lane))
    }

    /// Whether a read by this one can stand for `r`, which it comes after: a strong read cannot for a weak one.
    #[inline(always)]
    fn replaces(&self, r: &Readers) -> bool {
        self.tag >> PC_BITS == 0 || r.stamp == 0 || (r.tag ^ self.tag) >> PC_BITS == 0
    }

    fn knows_readers(&self, r: &Readers, lane: u32) -> bool {
        if r.group >= ASYNC {
            return self.warp.knows(lane, r.group, 0, r.stamp, self.warps);
        }
        self.warp.clock(lane).all.floor(r.group) >= r.stamp
            || lanes_of(r.warps).all(|w| {
                let agent = r.group * self.warps + w;
                lanes_of(r.lanes).all(|l| self.warp.knows(lane, agent, l, r.stamp, self.warps))
            })
    }

    /// A line that was written as a whole, each lane its units from lane `lane` on.
    fn line(&self, lane: u32, per_lane: u32) -> Line {
        let (lane, per_lane) = (lane as u8, per_lane as u8);
        let write = Run { group: self.warp.agent, warps: 0, stamp: self.stamp, tag: self.tag, lane, per_lane };
        Line { write: Some(write), read: Some(NO_RUN) }
    }

    fn readers(&self, lanes: u32) -> Readers {
        Readers { group: self.cta, warps: self.bit, lanes, stamp: self.stamp, tag: self.tag, next: 0 }
    }
}

impl Page {
    /// A whole line is read, each lane its units from lane `lane` on: whether one record can say so.
    #[inline]
    fn read_line(&mut self, line: usize, lane: u32, per_lane: u32, me: &Me) -> bool {
        let units = line * LINE..(line + 1) * LINE;
        let quiet = match &self.lines[line].write {
            Some(w) => me.after_write_run(w, lane, per_lane),
            None => {
                let lane_of = |i: usize| lane + (i >> per_lane) as u32;
                self.writers[units.clone()].iter().enumerate().fold(true, |ok, (i, w)| ok & me.after_write(w, lane_of(i)))
            }
        };
        if !quiet {
            return false;
        }
        let mine = Run { group: me.cta, warps: me.bit, stamp: me.stamp, tag: me.tag, lane: lane as u8, per_lane: per_lane as u8 };
        match &mut self.lines[line].read {
            Some(r) if r.stamp == 0 => *r = mine,
            Some(r) if r.group == me.cta => {
                let like = (r.tag ^ me.tag) >> PC_BITS == 0;
                if r.stamp <= me.floor && (like || me.tag >> PC_BITS == 0) {
                    *r = mine;
                } else if r.stamp == me.stamp && like && r.is_like(lane, per_lane) {
                    r.warps |= me.bit;
                } else {
                    return false;
                }
            }
            Some(_) => return false,
            None => {
                let replaced = self.readers[units].iter().fold(true, |ok, r| ok & (me.after_reads(r) && me.replaces(r)));
                if !replaced {
                    return false;
                }
                self.lines[line].read = Some(mine);
            }
        }
        true
    }

    /// A whole line is written: whether one record can say so.
    #[inline]
    fn write_line(&mut self, line: usize, lane: u32, per_lane: u32, me: &Me) -> bool {
        let units = line * LINE..(line + 1) * LINE;
        let lane_of = |i: usize| lane + (i >> per_lane) as u32;
        let quiet = match &self.lines[line].write {
            Some(w) => me.after_write_run(w, lane, per_lane),
            None => self.writers[units.clone()].iter().enumerate().fold(true, |ok, (i, w)| ok & me.after_write(w, lane_of(i))),
        } && match &self.lines[line].read {
            Some(r) => {
                r.stamp == 0 || (r.group == me.cta && (r.stamp <= me.floor || (r.warps == me.bit && r.is_like(lane, per_lane))))
            }
            None => self.readers[units]
                .iter()
                .enumerate()
                .fold(true, |ok, (i, r)| ok & (me.after_reads(r) || own_read(r, me, lane_of(i)))),
        };
        if quiet {
            self.lines[line] = me.line(lane, per_lane);
        }
        quiet
    }
}

/// A piece of memory: an allocation, or the shared memory of a CTA.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The address of its first byte, as reports give it.
    pub base: u64,
    /// Its bytes.
    pub data: Vec<u8>,
    init: Vec<u64>,
    pages: Vec<Option<Box<Page>>>,
    shared: bool,
}

/// Which bytes the lanes of a warp access.
pub(crate) enum Shape<'a> {
    /// All 32 lanes, one after the other.
    Run(usize),
    /// Some lanes, all at one place.
    One(usize, u32),
    /// Some lanes anywhere.
    Gather(&'a [u32; 32], u32),
}

/// An access by a warp: who it is, where in the program, and how strong.
pub(crate) struct Step<'a> {
    pub warp: &'a WarpOrder,
    pub pc: u32,
    pub strength: Option<Scope>,
}

impl Segment {
    /// A segment of `len` uninitialised bytes. They read as 0xFF: a NaN in every float format.
    pub fn new(base: u64, len: usize, shared: bool) -> Self {
        Self { base, data: vec![0xFF; len], init: vec![0; len.div_ceil(64)], pages: vec![None; len.div_ceil(PAGE)], shared }
    }

    /// Marks bytes as written (or not).
    pub fn set_initialized(&mut self, from: usize, len: usize, on: bool) {
        let (mut at, end) = (from, from + len);
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            if on {
                self.init[at / 64] |= mask;
            } else {
                self.init[at / 64] &= !mask;
            }
            at += bits;
        }
    }

    /// Whether all these bytes were written.
    #[inline]
    pub fn initialized(&self, from: usize, len: usize) -> bool {
        let (mut at, end) = (from, from + len);
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            if self.init[at / 64] & mask != mask {
                return false;
            }
            at += bits;
        }
        true
    }

    /// The bytes of an access of at most 16 that were not written, as a mask.
    pub fn undefined(&self, from: usize, len: usize) -> u16 {
        let word = self.init[from / 64] >> (from % 64);
        !(word as u16) & (u16::MAX >> (16 - len))
    }

    /// Marks the bytes of a naturally aligned access of at most 16 as written, but for those in `undefined`.
    #[inline]
    pub fn define(&mut self, from: usize, len: usize, undefined: u16) {
        let all = u64::from(u16::MAX >> (16 - len)) << (from % 64);
        let not = u64::from(undefined) << (from % 64);
        let word = &mut self.init[from / 64];
        *word = (*word | all) & !not;
    }

    fn page<'p>(pages: &'p mut [Option<Box<Page>>], at: usize, shift: u32, tracker: &mut Tracker) -> &'p mut Page {
        let page = pages[at / PAGE].get_or_insert_with(|| Page::new(tracker.launch));
        if page.launch != tracker.launch {
            page.renew(tracker.launch);
        }
        if page.shift > shift {
            page.refine(shift, tracker);
        }
        page
    }

    /// Records reads of `bytes` a lane and reports what they race with.
    pub(crate) fn read(&mut self, shape: &Shape, bytes: usize, step: &Step, tracker: &mut Tracker) {
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        let shift = bytes.trailing_zeros();
        match *shape {
            Shape::Run(start) => {
                let (mut at, end) = (start, start + 32 * bytes);
                while at < end {
                    let page = Self::page(&mut self.pages, at, shift, tracker);
                    let per_lane = shift - page.shift;
                    let from = at % PAGE >> page.shift;
                    let stop = end.min(at - at % PAGE + ((from / LINE + 1) * LINE << page.shift));
                    let to = (stop - 1) % PAGE + 1 >> page.shift;
                    let lane0 = (at - start) >> page.shift;
                    if to - from == LINE && page.read_line(from / LINE, (lane0 >> per_lane) as u32, per_lane, &me) {
                        at = stop;
                        continue;
                    }
                    page.open(from, to);
                    for unit in from..to {
                        let lane = ((lane0 + unit - from) >> per_lane) as u32;
                        let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
                        read_one(page, unit, 1 << lane, &me, tracker, self.shared, address);
                    }
                    at = stop;
                }
            }
            Shape::One(at, lanes) => self.read_at(at, bytes, lanes, &me, tracker),
            Shape::Gather(offsets, mask) => {
                // Lanes that read the same place are one group of readers: a small table finds most of them.
                let mut table = [(u32::MAX, 0u32); 64];
                let mut order = [0u8; 32];
                let mut groups = 0;
                for lane in lanes_of(mask) {
                    let at = offsets[lane as usize];
                    let slot = (at >> shift) as usize % 64;
                    if table[slot].0 == at {
                        table[slot].1 |= 1 << lane;
                    } else if table[slot].0 == u32::MAX {
                        table[slot] = (at, 1 << lane);
                        order[groups] = slot as u8;
                        groups += 1;
                    } else {
                        self.read_at(at as usize, bytes, 1 << lane, &me, tracker);
                    }
                }
                for &slot in &order[..groups] {
                    let (at, lanes) = table[slot as usize];
                    self.read_at(at as usize, bytes, lanes, &me, tracker);
                }
            }
        }
    }

    #[inline]
    fn read_at(&mut self, at: usize, bytes: usize, lanes: u32, me: &Me, tracker: &mut Tracker) {
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        let (from, to) = (at % PAGE >> page.shift, (at % PAGE + bytes) >> page.shift);
        page.open(from, to);
        for unit in from..to {
            let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
            read_one(page, unit, lanes, me, tracker, self.shared, address);
        }
    }

    /// Records writes of `bytes` a lane and reports what they race with; to be called before the bytes change.
    pub(crate) fn write(&mut self, shape: &Shape, bytes: usize, new: &[[u8; 16]; 32], step: &Step, tracker: &mut Tracker) {
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        let shift = bytes.trailing_zeros();
        match *shape {
            Shape::Run(start) => {
                let (mut at, end) = (start, start + 32 * bytes);
                while at < end {
                    let page = Self::page(&mut self.pages, at, shift, tracker);
                    let per_lane = shift - page.shift;
                    let from = at % PAGE >> page.shift;
                    let stop = end.min(at - at % PAGE + ((from / LINE + 1) * LINE << page.shift));
                    let to = (stop - 1) % PAGE + 1 >> page.shift;
                    let lane0 = (at - start) >> page.shift;
                    let whole = to - from == LINE;
                    if whole && page.write_line(from / LINE, (lane0 >> per_lane) as u32, per_lane, &me) {
                        at = stop;
                        continue;
                    }
                    page.open(from, to);
                    for unit in from..to {
                        let step = lane0 + unit - from;
                        let lane = (step >> per_lane) as u32;
                        let (w, r) = (&page.writers[unit], &page.readers[unit]);
                        if !(me.after_write(w, lane) && (me.after_reads(r) || own_read(r, &me, lane))) {
                            let size = 1 << page.shift;
                            let place = at - at % PAGE + unit * size;
                            let part = (step & ((1 << per_lane) - 1)) * size;
                            let same = self.data[place..place + size] == new[lane as usize][part..part + size];
                            write_unit(page, unit, lane, same, &me, tracker, self.shared, self.base + place as u64);
                        }
                        page.writers[unit] = Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag };
                        page.readers[unit].stamp = 0;
                    }
                    if whole {
                        page.lines[from / LINE] = me.line((lane0 >> per_lane) as u32, per_lane);
                    }
                    at = stop;
                }
            }
            Shape::One(at, lanes) => {
                let first = lanes.trailing_zeros() as usize;
                let value = &new[first][..bytes];
                if let Some(other) = lanes_of(lanes).find(|&l| &new[l as usize][..bytes] != value) {
                    self.report_one_instruction(at, first as u32, other, &me, tracker);
                }
                let last = 31 - lanes.leading_zeros();
                self.write_at(at, bytes, last, &new[last as usize], &me, tracker);
            }
            Shape::Gather(offsets, mask) => {
                let mut table = [(u32::MAX, 0u8); 64];
                for lane in lanes_of(mask) {
                    let at = offsets[lane as usize];
                    let seen = &mut table[(at >> shift) as usize % 64];
                    let value = &new[lane as usize];
                    if seen.0 == at && new[usize::from(seen.1)][..bytes] != value[..bytes] {
                        let other = u32::from(seen.1);
                        self.report_one_instruction(at as usize, lane, other, &me, tracker);
                    }
                    let again = seen.0 == at;
                    *seen = (at, lane as u8);
                    if again {
                        // Reported or harmless: recorded as the last lane's.
                        self.record_write(at as usize, bytes, lane, &me, tracker);
                    } else {
                        self.write_at(at as usize, bytes, lane, value, &me, tracker);
                    }
                }
            }
        }
    }

    #[cold]
    fn report_one_instruction(&self, at: usize, lane: u32, other: u32, me: &Me, tracker: &mut Tracker) {
        if me.tag >> PC_BITS != 0 {
            return;
        }
        let pc = pc_of(me.tag);
        let (site, with) = (Site::new(pc, me.warp.agent, lane), Site::new(pc, me.warp.agent, other));
        let kind = if self.shared { HazardKind::SharedRace } else { HazardKind::GlobalRace };
        tracker.hazards.report_pair(kind, site, Some(with), Some(self.base + at as u64), || {
            format!("lanes {lane} and {other} store different values to one place with one instruction")
        });
    }

    fn record_write(&mut self, at: usize, bytes: usize, lane: u32, me: &Me, tracker: &mut Tracker) {
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        page.open(at % PAGE >> page.shift, (at % PAGE + bytes) >> page.shift);
        for unit in at % PAGE >> page.shift..(at % PAGE + bytes) >> page.shift {
            page.writers[unit] = Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag };
        }
    }

    #[inline]
    fn write_at(&mut self, at: usize, bytes: usize, lane: u32, new: &[u8; 16], me: &Me, tracker: &mut Tracker) {
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        let (from, to) = (at % PAGE >> page.shift, (at % PAGE + bytes) >> page.shift);
        page.open(from, to);
        for unit in from..to {
            let (w, r) = (&page.writers[unit], &page.readers[unit]);
            if !(me.after_write(w, lane) && (me.after_reads(r) || own_read(r, me, lane))) {
                let size = 1 << page.shift;
                let place = at - at % PAGE + unit * size;
                let part = place - at;
                let same = self.data[place..place + size] == new[part..part + size];
                write_unit(page, unit, lane, same, me, tracker, self.shared, self.base + place as u64);
            }
            page.writers[unit] = Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag };
            page.readers[unit].stamp = 0;
        }
    }

    /// Records an atomic read-modify-write by one lane.
    pub(crate) fn update(&mut self, at: usize, bytes: usize, lane: u32, step: &Step, tracker: &mut Tracker) {
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        page.open(at % PAGE >> page.shift, (at % PAGE + bytes) >> page.shift);
        for unit in at % PAGE >> page.shift..(at % PAGE + bytes) >> page.shift {
            let (w, r) = (&page.writers[unit], &page.readers[unit]);
            if !(me.after_write(w, lane) && (me.after_reads(r) || own_read(r, &me, lane))) {
                let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
                write_unit(page, unit, lane, false, &me, tracker, self.shared, address);
            }
            page.writers[unit] = Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag };
            page.readers[unit].stamp = 0;
        }
    }

    /// Marks 8 bytes as an mbarrier, which ordinary accesses may not touch.
    pub(crate) fn mark_mbarrier(&mut self, at: usize, lane: u32, step: &Step, tracker: &mut Tracker) {
        self.update(at, 8, lane, step, tracker);
        let page = Self::page(&mut self.pages, at, 2, tracker);
        for unit in at % PAGE >> page.shift..(at % PAGE + 8) >> page.shift {
            page.writers[unit] = Writer { who: MBARRIER, stamp: IN_FLIGHT, tag: tag_of(step.pc, None) };
        }
    }

    /// Ends an mbarrier: its bytes are ordinary memory again, written by the lane.
    pub(crate) fn unmark_mbarrier(&mut self, at: usize, lane: u32, step: &Step, tracker: &mut Tracker) {
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        self.record_write(at, 8, lane, &me, tracker);
    }

    /// Who wrote these bytes in this launch, each with its interval and instruction.
    pub(crate) fn writers(&self, at: usize, len: usize, tracker: &Tracker) -> Vec<(u32, Stamp, u32)> {
        let mut list = Vec::new();
        for at in (at..at + len).step_by(4) {
            let Some(page) = self.pages[at / PAGE].as_ref().filter(|p| p.launch == tracker.launch) else { continue };
            let unit = at % PAGE >> page.shift;
            let w = page.writer(unit);
            if w.stamp != 0 && !list.iter().any(|l: &(u32, Stamp, u32)| (l.0, l.1) == (w.who, w.stamp)) {
                list.push((w.who, w.stamp, pc_of(w.tag)));
            }
        }
        list
    }

    /// Records an access by asynchronous work: reads or writes of `agent` at `stamp`, issued by threads that know what
    /// `issuers` know.
    pub(crate) fn touch_async(&mut self, at: usize, len: usize, write: bool, op: &AsyncStep, tracker: &mut Tracker) {
        let (mut at, end) = (at, at + len);
        let mut seen = Writer::default();
        while at < end {
            let stop = end.min((at / PAGE + 1) * PAGE);
            let shift = ((at | stop) as u32).trailing_zeros().min(2);
            let page = Self::page(&mut self.pages, at, shift, tracker);
            page.open(at % PAGE >> page.shift, (stop - 1) % PAGE + 1 >> page.shift);
            for unit in at % PAGE >> page.shift..(stop - 1) % PAGE + 1 >> page.shift {
                let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
                let w = page.writers[unit];
                if w.stamp != 0 && (w.who != seen.who || w.stamp > seen.stamp) {
                    if let Some(kind) = op.against_write(&w, self.shared, &tracker.order) {
                        op.report(kind, &Party::from(&w), write, address, tracker);
                    } else {
                        seen = w;
                    }
                }
                let r = page.readers[unit];
                if write {
                    if r.stamp != 0 {
                        let mut each = r;
                        loop {
                            if let Some(kind) = op.against_read(&each, self.shared, &tracker.order) {
                                op.report(kind, &each.party(tracker.order.warps, u32::MAX), write, address, tracker);
                            }
                            if each.next == 0 {
                                break;
                            }
                            each = tracker.extra[each.next as usize];
                        }
                        tracker.drop_list(r.next);
                        page.readers[unit] = Readers::default();
                    }
                    page.writers[unit] = Writer { who: op.who, stamp: op.stamp, tag: tag_of(op.pc, op.strength) };
                } else {
                    let mine = Readers { group: op.who / 32, stamp: op.stamp, tag: tag_of(op.pc, None), ..Readers::default() };
                    if r.stamp == 0 || (r.group == op.who / 32 && r.next == 0) {
                        page.readers[unit] = mine;
                    } else {
                        let order = &tracker.order;
                        let ordered = |r: &Readers| r.group == op.who / 32 || op.against_read(r, true, order).is_none();
                        let mut kept = keep_readers(r, ordered, &mut tracker.extra, &mut tracker.free);
                        add_reader(&mut kept, mine, self.shared, tracker);
                        page.readers[unit] = kept;
                    }
                }
            }
            at = stop;
        }
    }

    /// What `who` wrote here counts from now on as written by `to` in interval `stamp`.
    pub(crate) fn restamp(&mut self, at: usize, len: usize, who: u32, to: u32, stamp: Stamp, tracker: &mut Tracker) {
        let (mut at, end) = (at, at + len);
        while at < end {
            let stop = end.min((at / PAGE + 1) * PAGE);
            let page = Self::page(&mut self.pages, at, 2, tracker);
            for w in &mut page.writers[at % PAGE >> page.shift..(stop - 1) % PAGE + 1 >> page.shift] {
                if w.who == who && w.stamp == IN_FLIGHT {
                    (w.who, w.stamp) = (to, stamp);
                }
            }
            at = stop;
        }
    }
}

/// An access by asynchronous work.
pub(crate) struct AsyncStep<'a> {
    /// The agent times 32, plus the lane it works for if it works for a warp.
    pub who: u32,
    /// The interval of the agent.
    pub stamp: Stamp,
    /// The warps that issued it, each with a lane: it is ordered after what all of them know.
    pub issuers: &'a [(&'a WarpOrder, u32)],
    pub pc: u32,
    /// Whether it is done in the async proxy.
    pub proxy: bool,
    /// The scope of a reduction, which is atomic.
    pub strength: Option<Scope>,
}

struct Party {
    who: u32,
    stamp: Stamp,
    tag: u32,
}

impl From<&Writer> for Party {
    fn from(w: &Writer) -> Self {
        Party { who: w.who, stamp: w.stamp, tag: w.tag }
    }
}

impl Readers {
    /// One of these readers, but not `except` if there is another.
    fn party(&self, warps: u32, except: u32) -> Party {
        let mut who = self.group * 32;
        if self.group < ASYNC {
            for warp in lanes_of(self.warps) {
                for lane in lanes_of(self.lanes) {
                    who = (self.group * warps + warp) * 32 + lane;
                    if who != except {
                        return Party { who, stamp: self.stamp, tag: self.tag };
                    }
                }
            }
        }
        Party { who, stamp: self.stamp, tag: self.tag }
    }
}

impl AsyncStep<'_> {
    fn knows(&self, agent: u32, lane: u32, stamp: Stamp, order: &Order) -> bool {
        self.issuers.iter().all(|(warp, own)| warp.knows(*own, agent, lane, stamp, order.warps))
    }

    fn against_write(&self, w: &Writer, shared: bool, order: &Order) -> Option<HazardKind> {
        let (agent, lane) = (w.who / 32, w.who % 32);
        if w.who == MBARRIER {
            return Some(HazardKind::MbarrierNotInitialized);
        }
        if w.who == self.who && w.stamp != IN_FLIGHT {
            return None;
        }
        if self.strength.is_some() && strength_of(w.tag).is_some() {
            return None;
        }
        if !self.knows(agent, lane, w.stamp, order) {
            return Some(race_kind(agent, shared));
        }
        let generic = agent < ASYNC || agent >= ASYNC_GENERIC;
        let fenced = |(warp, own): &(&WarpOrder, u32)| {
            let clock = warp.clock(*own);
            let known = if shared { &clock.shared } else { &clock.global };
            known.knows(agent, lane, w.stamp, order.warps)
        };
        (self.proxy && generic && !self.issuers.iter().any(fenced)).then_some(HazardKind::MissingProxyFence)
    }

    fn against_read(&self, r: &Readers, shared: bool, order: &Order) -> Option<HazardKind> {
        if r.group >= ASYNC {
            let ok = r.group == self.who / 32 || self.knows(r.group, 0, r.stamp, order);
            return (!ok).then_some(HazardKind::InFlight);
        }
        let ok = lanes_of(r.warps).all(|w| lanes_of(r.lanes).all(|l| self.knows(r.group * order.warps + w, l, r.stamp, order)));
        (!ok).then_some(race_kind(0, shared))
    }

    #[cold]
    fn report(&self, kind: HazardKind, other: &Party, write: bool, address: u64, tracker: &mut Tracker) {
        let (warp, lane) = self.issuers[0];
        let does = if write { "writes" } else { "reads" };
        report(kind, Site::new(self.pc, warp.agent, lane), other, does, "asynchronous work", address, tracker);
    }
}

fn race_kind(agent: u32, shared: bool) -> HazardKind {
    match (agent >= ASYNC, shared) {
        (true, _) => HazardKind::InFlight,
        (_, true) => HazardKind::SharedRace,
        (_, false) => HazardKind::GlobalRace,
    }
}

fn report(kind: HazardKind, at: Site, other: &Party, does: &str, by: &str, address: u64, tracker: &mut Tracker) {
    let agent = other.who / 32;
    let with = Site::new(pc_of(other.tag), if agent < ASYNC { agent } else { at.warp }, other.who % 32);
    tracker.hazards.report_pair(kind, at, Some(with), Some(address), || match kind {
        HazardKind::MissingProxyFence => {
            format!("{by} {does} what a generic store wrote, with no fence.proxy.async between")
        }
        HazardKind::MbarrierNotInitialized => format!("{by} {does} the bytes of a live mbarrier"),
        HazardKind::InFlight if other.stamp == IN_FLIGHT => format!("{by} {does} the destination of a copy in flight"),
        HazardKind::InFlight => format!("{by} {does} what asynchronous work uses, whose completion it has not waited for"),
        _ => format!("{by} {does} without an order between it and the other"),
    });
}

fn own_read(r: &Readers, me: &Me, lane: u32) -> bool {
    r.next == 0 && r.group == me.cta && r.warps == me.bit && r.lanes == 1 << lane
}

/// The records of a list that are not `ordered`, as a list.
fn keep_readers(first: Readers, ordered: impl Fn(&Readers) -> bool, extra: &mut [Readers], free: &mut u32) -> Readers {
    let mut kept = Readers::default();
    let mut next = first.next;
    if !ordered(&first) {
        kept = Readers { next: 0, ..first };
    }
    while next != 0 {
        let each = extra[next as usize];
        if ordered(&each) || kept.stamp == 0 {
            if !ordered(&each) {
                kept = Readers { next: 0, ..each };
            }
            extra[next as usize].next = *free;
            *free = next;
        } else {
            extra[next as usize].next = kept.next;
            kept.next = next;
        }
        next = each.next;
    }
    kept
}

fn add_reader(list: &mut Readers, mine: Readers, shared: bool, tracker: &mut Tracker) {
    if list.stamp == 0 {
        *list = mine;
        return;
    }
    let mut next = list.next;
    let mut count = 0;
    while next != 0 {
        count += 1;
        next = tracker.extra[next as usize].next;
    }
    if count < if shared { 32 } else { tracker.global_readers } {
        list.next = tracker.push(Readers { next: list.next, ..mine });
        return;
    }
    let mut victim = list.next;
    for _ in 0..tracker.draw(count) {
        victim = tracker.extra[victim as usize].next;
    }
    let next = tracker.extra[victim as usize].next;
    tracker.extra[victim as usize] = Readers { next, ..mine };
}

/// A read of one unit by `lanes`.
#[inline(always)]
fn read_one(page: &mut Page, unit: usize, lanes: u32, me: &Me, tracker: &mut Tracker, shared: bool, address: u64) {
    let (w, r) = (&page.writers[unit], &mut page.readers[unit]);
    let own = lanes.is_power_of_two() && w.who == me.who(lanes.trailing_zeros());
    if own || w.stamp == 0 || (w.stamp <= me.floor && w.who.wrapping_sub(me.first) < me.span) {
        if me.after_reads(r) && me.replaces(r) {
            *r = me.readers(lanes);
            return;
        }
        if r.group == me.cta && r.stamp == me.stamp && r.lanes == lanes && (r.tag ^ me.tag) >> PC_BITS == 0 {
            r.warps |= me.bit;
            return;
        }
    }
    read_unit(page, unit, lanes, me, tracker, shared, address);
}

/// A read that the quick test did not settle.
#[inline(never)]
fn read_unit(page: &mut Page, unit: usize, lanes: u32, me: &Me, tracker: &mut Tracker, shared: bool, address: u64) {
    let w = page.writers[unit];
    let racing = lanes_of(lanes).find(|&lane| !me.after_write(&w, lane) && !ordered_write(&w, lane, me, tracker));
    if let Some(lane) = racing {
        let kind = if w.who == MBARRIER { HazardKind::MbarrierNotInitialized } else { race_kind(w.who / 32, shared) };
        report(kind, Site::new(pc_of(me.tag), me.warp.agent, lane), &Party::from(&w), "reads", "a thread", address, tracker);
    }
    let first = page.readers[unit];
    let mine = me.readers(lanes);
    if first.stamp == 0 {
        page.readers[unit] = mine;
        return;
    }
    // One that fits takes the lanes in; a record of two warps stands for the same lanes of both.
    let fits = |r: &mut Readers| {
        let same = r.group == me.cta && r.stamp == me.stamp && (r.tag ^ me.tag) >> PC_BITS == 0;
        if same && r.lanes == lanes {
            r.warps |= me.bit;
            return true;
        }
        if same && r.warps == me.bit {
            r.lanes |= lanes;
            return true;
        }
        same && r.warps & me.bit != 0 && r.lanes & lanes == lanes
    };
    if fits(&mut page.readers[unit]) {
        return;
    }
    let mut next = first.next;
    while next != 0 {
        if fits(&mut tracker.extra[next as usize]) {
            return;
        }
        next = tracker.extra[next as usize].next;
    }
    let known = |r: &Readers| me.replaces(r) && lanes_of(lanes).all(|lane| me.knows_readers(r, lane));
    let mut kept = keep_readers(first, known, &mut tracker.extra, &mut tracker.free);
    add_reader(&mut kept, mine, shared, tracker);
    page.readers[unit] = kept;
}

fn ordered_write(w: &Writer, lane: u32, me: &Me, tracker: &Tracker) -> bool {
    if w.who == MBARRIER {
        return false;
    }
    if me.warp.knows(lane, w.who / 32, w.who % 32, w.stamp, me.warps) {
        return true;
    }
    strong_pair(w.who / 32 / me.warps, w.tag, me, tracker)
}

fn strong_pair(cta: u32, tag: u32, me: &Me, tracker: &Tracker) -> bool {
    match (strength_of(tag), strength_of(me.tag)) {
        (Some(a), Some(b)) => tracker.order.morally_strong((cta, a), (me.cta, b)),
        _ => false,
    }
}

/// A write that the quick test did not settle; leaves the list of readers empty.
#[inline(never)]
#[allow(clippy::too_many_arguments)]
fn write_unit(page: &mut Page, unit: usize, lane: u32, same: bool, me: &Me, tracker: &mut Tracker, shared: bool, address: u64) {
    let w = page.writers[unit];
    let site = Site::new(pc_of(me.tag), me.warp.agent, lane);
    if !me.after_write(&w, lane) && !(same && w.who / 32 < ASYNC) && !ordered_write(&w, lane, me, tracker) {
        let kind = if w.who == MBARRIER { HazardKind::MbarrierNotInitialized } else { race_kind(w.who / 32, shared) };
        report(kind, site, &Party::from(&w), "writes", "a thread", address, tracker);
    }
    let first = page.readers[unit];
    if first.stamp != 0 {
        let mut each = first;
        loop {
            let own = each.group == me.cta && each.warps == me.bit && each.lanes == 1 << lane;
            if !own && !me.knows_readers(&each, lane) && !(each.group < ASYNC && strong_pair(each.group, each.tag, me, tracker)) {
                let party = each.party(me.warps, me.who(lane));
                report(race_kind(each.group, shared), site, &party, "writes", "a thread", address, tracker);
            }
            if each.next == 0 {
                break;
            }
            each = tracker.extra[each.next as usize];
        }
        tracker.drop_list(first.next);
        page.readers[unit] = Readers::default();
    }
}
