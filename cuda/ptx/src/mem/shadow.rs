//! A piece of memory with its shadow: which bytes are initialised, who wrote last, who read since.
//!
//! Accesses are recorded for units of 4 bytes; a page in which a smaller access was ever seen has units of 2 bytes or 1, so
//! that neighbours in a word are not taken for one another. A unit has one writer and the readers since; readers
//! of one CTA that read in the same interval with the same lanes share a record.
//!
//! Rules of the detector:
//! - Two accesses to a unit conflict if one writes; they race if neither is ordered before the other, unless both are
//!   strong (atomic, volatile, relaxed, acquire, release) with scopes that include each other's threads.
//! - Two unordered writes of the same bytes are strict: the outcome does not depend on their order.
//! - A conflict with what a thread knows only loosely ([`super::clock`]) is strict.
//! - Two lanes that write different values with one instruction race with each other.
//! - A global unit remembers at most a few unordered readers, drawn at random beyond that; a shared one all that matter in
//!   practice (32). The last strong writer stands for all strong writers before it.

use std::ops::Range;

use super::birth::Birth;
use super::clock::{ASYNC, PREREQUISITE, Scope, Stamp, WarpOrder, lanes_of};
use super::contents::{Contents, PAGE};
use super::layout::Layouts;
pub(crate) use super::page::IN_FLIGHT;
pub use super::page::Tracker;
use super::page::*;
use super::race::*;
pub(crate) use super::race::{AsyncStep, Settled};
use crate::hazard::{HazardKind, Site};

/// A piece of memory: an allocation, or the shared memory of a CTA.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The address of its first byte, as reports give it.
    pub base: u64,
    pub(crate) contents: Contents,
    pub(super) pages: Pages,
    shared: bool,
    /// How tensor copies laid out what they wrote.
    pub(crate) layouts: Layouts,
}

/// Which bytes the lanes of a warp access.
pub(crate) enum Pattern<'a> {
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
        Self::of(base, Contents::new(len), shared)
    }

    pub(super) fn of(base: u64, contents: Contents, shared: bool) -> Self {
        let pages = Pages { list: vec![None; contents.len().div_ceil(PAGE)], touched: None };
        Self { base, contents, pages, shared, layouts: Layouts::default() }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Bytes to read.
    #[inline]
    pub fn bytes(&mut self, at: usize, len: usize) -> &[u8] {
        self.contents.bytes(at, len)
    }

    /// Bytes to write.
    #[inline]
    pub fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        self.contents.bytes_mut(at, len)
    }

    /// Marks bytes as written (or not).
    pub fn set_initialized(&mut self, from: usize, len: usize, on: bool) {
        self.contents.set_initialized(from, len, on);
    }

    /// Where an undefined byte comes from, which the instruction at `pc` reads.
    #[cold]
    pub(crate) fn birth(&self, at: usize, pc: u32, tracker: &Tracker) -> Birth {
        let (shared, address) = (self.shared, self.base + at as u64);
        let writer = || self.writers(at - at % 4, 4, tracker).first().map(|w| w.2);
        match self.contents.birth(at) {
            Some(birth) => birth,
            None => match writer() {
                Some(by) => Birth::Written { shared, address, by, pc },
                None => Birth::Memory { shared, address, pc },
            },
        }
    }

    /// Whether all these bytes were written.
    #[inline]
    pub fn initialized(&self, from: usize, len: usize) -> bool {
        self.contents.initialized(from, len)
    }

    /// The bytes of an access of at most 16 that were not written, as a mask.
    #[inline]
    pub fn undefined(&self, from: usize, len: usize) -> u16 {
        self.contents.undefined(from, len)
    }

    /// Marks the bytes of a naturally aligned access of at most 16 as written, but for those in `undefined`.
    #[inline]
    pub fn define(&mut self, from: usize, len: usize, undefined: u16) {
        self.contents.define(from, len, undefined);
    }

    #[inline]
    fn page<'p>(pages: &'p mut Pages, at: usize, shift: u32, tracker: &mut Tracker) -> &'p mut Page {
        let Pages { list, touched } = pages;
        let page = list[at / PAGE].get_or_insert_with(|| {
            touched.iter_mut().for_each(|touched| touched.push(at / PAGE));
            Page::new(tracker.launch)
        });
        if page.launch != tracker.launch {
            page.renew(tracker.launch, tracker.overlaps(page.launch));
        }
        if page.shift > shift {
            page.refine(shift, tracker);
        }
        page
    }

    /// Records reads of `bytes` a lane and reports what they race with.
    pub(crate) fn read(&mut self, pattern: &Pattern, bytes: usize, step: &Step, tracker: &mut Tracker) {
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        let shift = bytes.trailing_zeros();
        match *pattern {
            Pattern::Run(start) => {
                let (mut at, end) = (start, start + 32 * bytes);
                while at < end {
                    let page = Self::page(&mut self.pages, at, shift, tracker);
                    let per_lane = shift - page.shift;
                    let from = (at % PAGE) >> page.shift;
                    let stop = end.min(at - at % PAGE + (((from / LINE + 1) * LINE) << page.shift));
                    let to = page.units(at, stop).end;
                    let lane0 = (at - start) >> page.shift;
                    if to - from == LINE && page.read_line(from / LINE, (lane0 >> per_lane) as u32, per_lane, &me) {
                        at = stop;
                        continue;
                    }
                    page.open_to_readers(from, to);
                    for unit in from..to {
                        let lane = ((lane0 + unit - from) >> per_lane) as u32;
                        let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
                        read_one(page, unit, 1 << lane, &me, tracker, self.shared, address);
                    }
                    at = stop;
                }
            }
            Pattern::One(at, lanes) => self.read_at(at, bytes, lanes, &me, tracker),
            Pattern::Gather(offsets, mask) => {
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

    /// Reports a read through the read-only path of bytes that this launch wrote, before the read is recorded.
    pub(crate) fn read_only(&self, pattern: &Pattern, bytes: usize, warp: &WarpOrder, pc: u32, tracker: &mut Tracker) {
        let mut one = |lane: u32, at: usize| {
            let Some(page) = self.pages.list[at / PAGE].as_ref().filter(|p| p.launch == tracker.launch) else { return };
            for unit in page.units(at, at + bytes) {
                let w = page.writer(unit);
                if w.stamp != 0 && w.who / 32 != PREREQUISITE {
                    let agent = w.who / 32;
                    let other = Site::new(pc_of(w.tag), if agent < ASYNC { agent } else { warp.agent }, w.who % 32);
                    let (site, address) = (Site::new(pc, warp.agent, lane), self.base + at as u64);
                    tracker.hazards.report_pair(HazardKind::ReadOnlyPath, site, Some(other), Some(address), || {
                        format!("{bytes} bytes that this launch wrote are read as if no thread of it wrote them")
                    });
                    return;
                }
            }
        };
        match *pattern {
            Pattern::Run(start) => (0..32).for_each(|lane| one(lane, start + lane as usize * bytes)),
            Pattern::One(at, lanes) => one(lanes.trailing_zeros(), at),
            Pattern::Gather(offsets, mask) => lanes_of(mask).for_each(|lane| one(lane, offsets[lane as usize] as usize)),
        }
    }

    #[inline]
    fn read_at(&mut self, at: usize, bytes: usize, lanes: u32, me: &Me, tracker: &mut Tracker) {
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        let Range { start: from, end: to } = page.units(at, at + bytes);
        page.open_to_readers(from, to);
        for unit in from..to {
            let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
            read_one(page, unit, lanes, me, tracker, self.shared, address);
        }
    }

    /// Records writes of `bytes` a lane and reports what they race with; to be called before the bytes change.
    pub(crate) fn write(&mut self, pattern: &Pattern, bytes: usize, new: &[[u8; 16]; 32], step: &Step, tracker: &mut Tracker) {
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        let shift = bytes.trailing_zeros();
        match *pattern {
            Pattern::Run(start) => {
                self.layouts.forget(start, 32 * bytes);
                let (mut at, end) = (start, start + 32 * bytes);
                while at < end {
                    let page = Self::page(&mut self.pages, at, shift, tracker);
                    let per_lane = shift - page.shift;
                    let from = (at % PAGE) >> page.shift;
                    let stop = end.min(at - at % PAGE + (((from / LINE + 1) * LINE) << page.shift));
                    let to = page.units(at, stop).end;
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
                        let (w, r) = (&page.writers[unit], page.readers_of(unit));
                        if !(me.after_write(w, lane) && (me.after_reads(r) || own_read(r, &me, lane))) {
                            let size = 1 << page.shift;
                            let place = at - at % PAGE + unit * size;
                            let part = (step & ((1 << per_lane) - 1)) * size;
                            let same = *self.contents.peek(place, size) == new[lane as usize][part..part + size];
                            write_unit(page, unit, lane, same, &me, tracker, self.shared, self.base + place as u64);
                        }
                        page.set_writer(unit, Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag });
                    }
                    if whole {
                        page.lines[from / LINE] = me.line((lane0 >> per_lane) as u32, per_lane);
                    }
                    at = stop;
                }
            }
            Pattern::One(at, lanes) => {
                let first = lanes.trailing_zeros() as usize;
                let value = &new[first][..bytes];
                if let Some(other) = lanes_of(lanes).find(|&l| &new[l as usize][..bytes] != value) {
                    self.report_one_instruction(at, first as u32, other, &me, tracker);
                }
                let last = 31 - lanes.leading_zeros();
                self.write_at(at, bytes, last, &new[last as usize], &me, tracker);
            }
            Pattern::Gather(offsets, mask) => {
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
        self.layouts.forget(at, bytes);
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        let units = page.units(at, at + bytes);
        page.open(units.start, units.end);
        for unit in page.units(at, at + bytes) {
            page.writers[unit] = Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag };
        }
    }

    #[inline]
    fn write_at(&mut self, at: usize, bytes: usize, lane: u32, new: &[u8; 16], me: &Me, tracker: &mut Tracker) {
        self.layouts.forget(at, bytes);
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        let Range { start: from, end: to } = page.units(at, at + bytes);
        page.open(from, to);
        for unit in from..to {
            let (w, r) = (&page.writers[unit], page.readers_of(unit));
            if !(me.after_write(w, lane) && (me.after_reads(r) || own_read(r, me, lane))) {
                let size = 1 << page.shift;
                let place = at - at % PAGE + unit * size;
                let part = place - at;
                let same = *self.contents.peek(place, size) == new[part..part + size];
                write_unit(page, unit, lane, same, me, tracker, self.shared, self.base + place as u64);
            }
            page.set_writer(unit, Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag });
        }
    }

    /// Records an atomic read-modify-write by one lane.
    pub(crate) fn update(&mut self, at: usize, bytes: usize, lane: u32, step: &Step, tracker: &mut Tracker) {
        self.layouts.forget(at, bytes);
        let me = Me::new(step.warp, &tracker.order, step.pc, step.strength);
        let page = Self::page(&mut self.pages, at, bytes.trailing_zeros(), tracker);
        let units = page.units(at, at + bytes);
        page.open(units.start, units.end);
        for unit in page.units(at, at + bytes) {
            let (w, r) = (&page.writers[unit], page.readers_of(unit));
            if !(me.after_write(w, lane) && (me.after_reads(r) || own_read(r, &me, lane))) {
                let address = self.base + (at - at % PAGE + (unit << page.shift)) as u64;
                write_unit(page, unit, lane, false, &me, tracker, self.shared, address);
            }
            page.set_writer(unit, Writer { who: me.who(lane), stamp: me.stamp, tag: me.tag });
        }
    }

    /// Marks 8 bytes as an mbarrier, which ordinary accesses may not touch.
    pub(crate) fn mark_mbarrier(&mut self, at: usize, lane: u32, step: &Step, tracker: &mut Tracker) {
        self.update(at, 8, lane, step, tracker);
        let page = Self::page(&mut self.pages, at, 2, tracker);
        for unit in page.units(at, at + 8) {
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
            let Some(page) = self.pages.list[at / PAGE].as_ref().filter(|p| p.launch == tracker.launch) else { continue };
            let unit = (at % PAGE) >> page.shift;
            let w = page.writer(unit);
            if w.stamp != 0
                && w.who / 32 != PREREQUISITE
                && !list.iter().any(|l: &(u32, Stamp, u32)| (l.0, l.1) == (w.who, w.stamp))
            {
                list.push((w.who, w.stamp, pc_of(w.tag)));
            }
        }
        list
    }

    /// Records an access by asynchronous work: reads or writes of `agent` at `stamp`, issued by threads that know what
    /// `issuers` know.
    pub(crate) fn touch_async(&mut self, at: usize, len: usize, write: bool, op: &AsyncStep, tracker: &mut Tracker) {
        self.touch_settled(at, len, write, op, &mut Settled::default(), tracker);
    }

    /// The same, with what was settled for other places.
    pub(crate) fn touch_settled(
        &mut self,
        at: usize,
        len: usize,
        write: bool,
        op: &AsyncStep,
        settled: &mut Settled,
        tracker: &mut Tracker,
    ) {
        if write {
            self.layouts.forget(at, len);
        }
        let (mut at, end) = (at, at + len);
        while at < end {
            // A line at a time.
            let page_end = end.min((at / PAGE + 1) * PAGE);
            let shift = ((at | page_end) as u32).trailing_zeros().min(2);
            let page = Self::page(&mut self.pages, at, shift, tracker);
            let line = ((at % PAGE) >> page.shift) / LINE;
            let stop = page_end.min(at - at % PAGE + (((line + 1) * LINE) << page.shift));
            let units = page.units(at, stop);
            let base = self.base + (at - at % PAGE) as u64;
            page.check_writers_async(line, units.clone(), write, op, settled, self.shared, base, tracker);
            if write {
                page.end_readers_async(line, units.clone(), op, settled, self.shared, base, tracker);
                page.write_async(line, units, op);
            } else {
                page.read_async(line, units, op, settled, self.shared, tracker);
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
            page.restamp(page.units(at, stop), who, to, stamp);
            at = stop;
        }
    }
}
