//! Whether two accesses race: what the records of a unit say, and what the clocks of who comes now know.

use std::ops::Range;

use super::clock::{ASYNC, ASYNC_GENERIC, Order, PREREQUISITE, Scope, Stamp, WarpOrder, lanes_of};
use super::page::*;
use crate::hazard::{Graded, HazardKind, Site};

/// A warp's access, as the shadow sees it.
pub(super) struct Me<'a> {
    pub(super) warp: &'a WarpOrder,
    pub(super) cta: u32,
    pub(super) warps: u32,
    /// The first thread of the CTA, and their number.
    pub(super) first: u32,
    pub(super) span: u32,
    pub(super) floor: Stamp,
    pub(super) stamp: Stamp,
    pub(super) tag: u32,
    pub(super) bit: u32,
}

impl<'a> Me<'a> {
    pub(super) fn new(warp: &'a WarpOrder, order: &Order, pc: u32, strength: Option<Scope>) -> Self {
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

    /// Who races with an access of this tag: strong ones race where a scope is too narrow.
    fn by(&self, other: u32) -> &'static str {
        match (strength_of(self.tag), strength_of(other)) {
            (Some(_), Some(_)) => "a strong operation, whose scope or the other's leaves one of them out,",
            _ => "a thread",
        }
    }

    pub(super) fn who(&self, lane: u32) -> u32 {
        self.warp.agent * 32 + lane
    }

    /// Whether the writer is surely ordered before `lane`; if not, look closer.
    #[inline(always)]
    pub(super) fn after_write(&self, w: &Writer, lane: u32) -> bool {
        (w.stamp <= self.floor && w.who.wrapping_sub(self.first) < self.span) || w.who == self.who(lane) || w.stamp == 0
    }

    #[inline(always)]
    pub(super) fn after_reads(&self, r: &Readers) -> bool {
        r.next == 0 && (r.stamp == 0 || (r.stamp <= self.floor && r.group == self.cta))
    }

    /// Whether a line's writes are surely ordered before a run of mine.
    #[inline(always)]
    pub(super) fn after_write_run(&self, w: &Run, lane: u32, per_lane: u32) -> bool {
        w.stamp == 0
            || (w.stamp <= self.floor && (w.group * 32).wrapping_sub(self.first) < self.span)
            || (w.group == self.warp.agent && w.is_like(lane, per_lane))
    }

    /// Whether a read by this one can stand for `r`, which it comes after: a strong read cannot for a weak one.
    #[inline(always)]
    pub(super) fn replaces(&self, r: &Readers) -> bool {
        self.tag >> PC_BITS == 0 || r.stamp == 0 || (r.tag ^ self.tag) >> PC_BITS == 0
    }

    pub(super) fn knows_readers(&self, r: &Readers, lane: u32) -> bool {
        if r.group >= ASYNC {
            return self.warp.knows(lane, r.group, 0, r.stamp, self.warps);
        }
        self.warp.clock(lane).all.floor(r.group) >= r.stamp
            || lanes_of(r.warps).all(|w| {
                let agent = r.group * self.warps + w;
                lanes_of(r.lanes).all(|l| self.warp.knows(lane, agent, l, r.stamp, self.warps))
            })
    }

    /// How much it matters to meet `w`, which it does not come after.
    fn grade(&self, kind: HazardKind, w: &Writer, tracker: &Tracker) -> Graded {
        let (agent, lane) = (w.who / 32, w.who % 32);
        let loose = self.warp.knows_loosely(agent, lane, w.stamp, self.warps) || self.is_near(agent / self.warps, w.tag, tracker);
        if loose { kind.strict() } else { kind.into() }
    }

    /// Whether both accesses are strong and in one cluster, but of a scope that does not include the other.
    fn is_near(&self, cta: u32, tag: u32, tracker: &Tracker) -> bool {
        let strong = strength_of(tag).is_some() && strength_of(self.tag).is_some();
        strong && tracker.order.morally_strong((cta, Scope::Cluster), (self.cta, Scope::Cluster))
    }

    fn grade_readers(&self, kind: HazardKind, r: &Readers, tracker: &Tracker) -> Graded {
        let of = |agent: u32| lanes_of(r.lanes).all(|l| self.warp.knows_loosely(agent, l, r.stamp, self.warps));
        let loose = match r.group >= ASYNC {
            true => self.warp.knows_loosely(r.group, 0, r.stamp, self.warps),
            false => lanes_of(r.warps).all(|w| of(r.group * self.warps + w)) || self.is_near(r.group, r.tag, tracker),
        };
        if loose { kind.strict() } else { kind.into() }
    }

    /// A line that was written as a whole, each lane its units from lane `lane` on.
    pub(super) fn line(&self, lane: u32, per_lane: u32) -> Line {
        let (lane, per_lane) = (lane as u8, per_lane as u8);
        let write = Run { group: self.warp.agent, warps: 0, stamp: self.stamp, tag: self.tag, lane, per_lane };
        Line { write: Some(write), read: Some(NO_RUN) }
    }

    pub(super) fn readers(&self, lanes: u32) -> Readers {
        Readers { group: self.cta, warps: self.bit, lanes, stamp: self.stamp, tag: self.tag, next: 0 }
    }
}

impl Page {
    /// A whole line is read, each lane its units from lane `lane` on: whether one record can say so.
    #[inline]
    pub(super) fn read_line(&mut self, line: usize, lane: u32, per_lane: u32, me: &Me) -> bool {
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
                let replaced = |r: &Readers| me.after_reads(r) && me.replaces(r);
                if self.readers.get(units).is_some_and(|readers| !readers.iter().fold(true, |ok, r| ok & replaced(r))) {
                    return false;
                }
                self.lines[line].read = Some(mine);
            }
        }
        true
    }

    /// A whole line is written: whether one record can say so.
    #[inline]
    pub(super) fn write_line(&mut self, line: usize, lane: u32, per_lane: u32, me: &Me) -> bool {
        let units = line * LINE..(line + 1) * LINE;
        let lane_of = |i: usize| lane + (i >> per_lane) as u32;
        let quiet = match &self.lines[line].write {
            Some(w) => me.after_write_run(w, lane, per_lane),
            None => self.writers[units.clone()].iter().enumerate().fold(true, |ok, (i, w)| ok & me.after_write(w, lane_of(i))),
        } && match &self.lines[line].read {
            Some(r) => {
                r.stamp == 0 || (r.group == me.cta && (r.stamp <= me.floor || (r.warps == me.bit && r.is_like(lane, per_lane))))
            }
            None => self.readers.get(units).is_none_or(|readers| {
                readers.iter().enumerate().fold(true, |ok, (i, r)| ok & (me.after_reads(r) || own_read(r, me, lane_of(i))))
            }),
        };
        if quiet {
            self.lines[line] = me.line(lane, per_lane);
        }
        quiet
    }
}

/// What an asynchronous access was found to come after: neighbours have the same records more often than not. Valid for accesses of the
/// same step.
#[derive(Default)]
pub(crate) struct Settled {
    writer: Writer,
    readers: [Readers; 2],
    next: usize,
    /// Readers that it does not come after.
    unordered: Readers,
}

impl Settled {
    fn has_writer(&self, w: &Writer) -> bool {
        w.stamp == 0 || (w.who == self.writer.who && w.stamp <= self.writer.stamp)
    }

    fn has_readers(&self, r: &Readers) -> bool {
        self.readers.iter().any(|s| s.are_of(r))
    }

    fn add_readers(&mut self, r: Readers) {
        self.readers[self.next] = r;
        self.next = 1 - self.next;
    }
}

impl Page {
    /// Reports which writers of some units of a line the operation does not come after.
    #[allow(clippy::too_many_arguments, reason = "records, and what is checked against them")]
    pub(super) fn check_writers_async(
        &self,
        line: usize,
        units: Range<usize>,
        write: bool,
        op: &AsyncStep,
        settled: &mut Settled,
        shared: bool,
        base: u64,
        tracker: &mut Tracker,
    ) {
        if let Some(run) = &self.lines[line].write
            && (run.stamp == 0 || (run.is_of_one() && settled.has_writer(&self.writer(units.start))))
        {
            return;
        }
        for unit in units {
            let w = self.writer(unit);
            if settled.has_writer(&w) {
                continue;
            }
            match op.against_write(&w, shared, &tracker.order) {
                Some(kind) => op.report(kind, &Party::from(&w), write, base + (unit << self.shift) as u64, tracker),
                None => settled.writer = w,
            }
        }
    }

    /// Reports which readers of some units of a line a write does not come after, and ends their records.
    #[allow(clippy::too_many_arguments, reason = "records, and what is checked against them")]
    pub(super) fn end_readers_async(
        &mut self,
        line: usize,
        units: Range<usize>,
        op: &AsyncStep,
        settled: &mut Settled,
        shared: bool,
        base: u64,
        tracker: &mut Tracker,
    ) {
        match &self.lines[line].read {
            Some(run) if run.stamp == 0 => return,
            Some(_) => self.open_reads(line),
            None if self.readers.is_empty() => return,
            None => {}
        }
        for unit in units {
            let r = self.readers[unit];
            if r.stamp == 0 {
                continue;
            }
            let mut each = r;
            loop {
                if !settled.has_readers(&each) {
                    match op.against_read(&each, shared, &tracker.order) {
                        Some(kind) => {
                            let party = each.party(tracker.order.warps, u32::MAX);
                            op.report(kind, &party, true, base + (unit << self.shift) as u64, tracker);
                        }
                        None => settled.add_readers(each),
                    }
                }
                if each.next == 0 {
                    break;
                }
                each = tracker.extra[each.next as usize];
            }
            tracker.drop_list(r.next);
            self.readers[unit] = Readers::default();
        }
    }

    /// Units of a line, whose readers' records have ended, are written: a whole line gets one record.
    pub(super) fn write_async(&mut self, line: usize, units: Range<usize>, op: &AsyncStep) {
        let tag = tag_of(op.pc, op.strength);
        if units.len() == LINE {
            self.lines[line] = Line { write: Some(Run::of_one(op.who, op.stamp, tag)), read: Some(NO_RUN) };
            return;
        }
        if self.lines[line].write.is_some() {
            self.open_writes(line);
        }
        self.writers[units].fill(Writer { who: op.who, stamp: op.stamp, tag });
    }

    /// Units of a line are read: a whole line gets one record, if others have not read it.
    pub(super) fn read_async(
        &mut self,
        line: usize,
        units: Range<usize>,
        op: &AsyncStep,
        settled: &mut Settled,
        shared: bool,
        tracker: &mut Tracker,
    ) {
        let (group, tag) = (op.who / 32, tag_of(op.pc, None));
        if let Some(run) = &mut self.lines[line].read {
            if units.len() == LINE && (run.stamp == 0 || run.group == group) {
                *run = Run::of_one(group * 32, op.stamp, tag);
                return;
            }
            self.open_reads(line);
        }
        self.make_readers();
        let mine = Readers { group, stamp: op.stamp, tag, ..Readers::default() };
        for r in &mut self.readers[units] {
            if r.stamp == 0 || r.group == group {
                // The others of a list stay.
                *r = Readers { next: if r.stamp == 0 { 0 } else { r.next }, ..mine };
                continue;
            }
            if let Some(own) = tracker.find(r.next, |r| r.group == group) {
                *own = Readers { next: own.next, ..mine };
                continue;
            }
            let single = r.next == 0;
            if single && settled.unordered.are_of(r) {
                r.next = tracker.push(mine);
                continue;
            }
            let order = &tracker.order;
            let ordered = |r: &Readers| op.against_read(r, true, order).is_none();
            let mut kept = keep_readers(*r, ordered, &mut tracker.extra, &mut tracker.free);
            if single && kept.stamp != 0 {
                settled.unordered = kept;
            }
            add_reader(&mut kept, mine, shared, tracker);
            *r = kept;
        }
    }

    /// Writes of `who` that were in flight become those of `to` in interval `stamp`.
    pub(super) fn restamp(&mut self, units: Range<usize>, who: u32, to: u32, stamp: Stamp) {
        for line in units.start / LINE..units.end.div_ceil(LINE) {
            let part = units.start.max(line * LINE)..units.end.min((line + 1) * LINE);
            match &mut self.lines[line].write {
                Some(run) if run.stamp != IN_FLIGHT => continue,
                Some(run) if run.is_of_one() && part.len() == LINE => {
                    if run.group * 32 + u32::from(run.lane) == who {
                        *run = Run::of_one(to, stamp, run.tag);
                    }
                    continue;
                }
                Some(_) => self.open_writes(line),
                None => {}
            }
            for w in self.writers[part].iter_mut().filter(|w| w.who == who && w.stamp == IN_FLIGHT) {
                (w.who, w.stamp) = (to, stamp);
            }
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

pub(super) struct Party {
    pub(super) who: u32,
    pub(super) stamp: Stamp,
    pub(super) tag: u32,
}

impl From<&Writer> for Party {
    fn from(w: &Writer) -> Self {
        Party { who: w.who, stamp: w.stamp, tag: w.tag }
    }
}

impl Readers {
    /// Whether the same threads read in the same interval.
    fn are_of(&self, other: &Readers) -> bool {
        (self.group, self.warps, self.lanes, self.stamp) == (other.group, other.warps, other.lanes, other.stamp)
    }

    /// One of these readers, but not `except` if there is another.
    pub(super) fn party(&self, warps: u32, except: u32) -> Party {
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
    pub(super) fn knows(&self, agent: u32, lane: u32, stamp: Stamp, order: &Order) -> bool {
        self.issuers.iter().all(|(warp, own)| warp.knows(*own, agent, lane, stamp, order.warps))
    }

    fn grade(&self, kind: HazardKind, known: impl Fn(&WarpOrder) -> bool) -> Graded {
        if self.issuers.iter().all(|(warp, _)| known(warp)) { kind.strict() } else { kind.into() }
    }

    pub(super) fn against_write(&self, w: &Writer, shared: bool, order: &Order) -> Option<Graded> {
        let (agent, lane) = (w.who / 32, w.who % 32);
        if w.who == MBARRIER {
            return Some(HazardKind::MbarrierNotInitialized.into());
        }
        if w.who == self.who && w.stamp != IN_FLIGHT {
            return None;
        }
        if self.strength.is_some() && strength_of(w.tag).is_some() {
            return None;
        }
        if !self.knows(agent, lane, w.stamp, order) {
            let loosely = |warp: &WarpOrder| warp.knows_loosely(agent, lane, w.stamp, order.warps);
            return Some(self.grade(race_kind(agent, shared), loosely));
        }
        let generic = !(ASYNC..ASYNC_GENERIC).contains(&agent);
        let fenced = |(warp, own): &(&WarpOrder, u32)| {
            let clock = warp.clock(*own);
            let known = if shared { &clock.shared } else { &clock.global };
            known.knows(agent, lane, w.stamp, order.warps)
        };
        (self.proxy && generic && !self.issuers.iter().any(fenced)).then(|| HazardKind::MissingProxyFence.into())
    }

    pub(super) fn against_read(&self, r: &Readers, shared: bool, order: &Order) -> Option<Graded> {
        if r.group >= ASYNC {
            let ok = r.group == self.who / 32 || self.knows(r.group, 0, r.stamp, order);
            let loosely = |warp: &WarpOrder| warp.knows_loosely(r.group, 0, r.stamp, order.warps);
            return (!ok).then(|| self.grade(race_kind(r.group, shared), loosely));
        }
        let all = |known: &dyn Fn(u32, u32) -> bool| {
            lanes_of(r.warps).all(|w| lanes_of(r.lanes).all(|l| known(r.group * order.warps + w, l)))
        };
        if all(&|agent, l| self.knows(agent, l, r.stamp, order)) {
            return None;
        }
        let loosely = |warp: &WarpOrder| all(&|agent, l| warp.knows_loosely(agent, l, r.stamp, order.warps));
        Some(self.grade(race_kind(0, shared), loosely))
    }

    #[cold]
    pub(super) fn report(&self, what: Graded, other: &Party, write: bool, address: u64, tracker: &mut Tracker) {
        let (warp, lane) = self.issuers[0];
        let does = if write { "writes" } else { "reads" };
        report(what, Site::new(self.pc, warp.agent, lane), other, does, "asynchronous work", address, tracker);
    }
}

pub(super) fn race_kind(agent: u32, shared: bool) -> HazardKind {
    if agent == PREREQUISITE {
        return HazardKind::MissingGridWait;
    }
    match (agent >= ASYNC, shared) {
        (true, _) => HazardKind::InFlight,
        (_, true) => HazardKind::SharedRace,
        (_, false) => HazardKind::GlobalRace,
    }
}

pub(super) fn report(what: Graded, at: Site, other: &Party, does: &str, by: &str, address: u64, tracker: &mut Tracker) {
    let agent = other.who / 32;
    let with = Site::new(pc_of(other.tag), if agent < ASYNC { agent } else { at.warp }, other.who % 32);
    // The instructions of another launch are not known here.
    let with = Some(with).filter(|_| what.kind != HazardKind::MissingGridWait);
    tracker.hazards.report_pair(what, at, with, Some(address), || match what.kind {
        HazardKind::MissingGridWait => {
            format!("{by} {does} what the launch before it wrote or read, and nobody has waited for that launch")
        }
        HazardKind::MissingProxyFence => {
            format!("{by} {does} what a generic store wrote, with no fence.proxy.async between")
        }
        HazardKind::MbarrierNotInitialized => format!("{by} {does} the bytes of a live mbarrier"),
        HazardKind::InFlight if other.stamp == IN_FLIGHT => format!("{by} {does} the destination of a copy in flight"),
        HazardKind::InFlight => format!("{by} {does} what asynchronous work uses, whose completion it has not waited for"),
        _ => format!("{by} {does} without an order between it and the other"),
    });
}

pub(super) fn own_read(r: &Readers, me: &Me, lane: u32) -> bool {
    r.next == 0 && r.group == me.cta && r.warps == me.bit && r.lanes == 1 << lane
}

/// The records of a list that are not `ordered`, as a list.
pub(super) fn keep_readers(first: Readers, ordered: impl Fn(&Readers) -> bool, extra: &mut [Readers], free: &mut u32) -> Readers {
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

pub(super) fn add_reader(list: &mut Readers, mine: Readers, shared: bool, tracker: &mut Tracker) {
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
pub(super) fn read_one(page: &mut Page, unit: usize, lanes: u32, me: &Me, tracker: &mut Tracker, shared: bool, address: u64) {
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
pub(super) fn read_unit(page: &mut Page, unit: usize, lanes: u32, me: &Me, tracker: &mut Tracker, shared: bool, address: u64) {
    let w = page.writers[unit];
    let racing = lanes_of(lanes).find(|&lane| !me.after_write(&w, lane) && !ordered_write(&w, lane, me, tracker));
    if let Some(lane) = racing {
        let kind = if w.who == MBARRIER { HazardKind::MbarrierNotInitialized } else { race_kind(w.who / 32, shared) };
        let kind = me.grade(kind, &w, tracker);
        let site = Site::new(pc_of(me.tag), me.warp.agent, lane);
        report(kind, site, &Party::from(&w), "reads", me.by(w.tag), address, tracker);
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

pub(super) fn ordered_write(w: &Writer, lane: u32, me: &Me, tracker: &Tracker) -> bool {
    if w.who == MBARRIER {
        return false;
    }
    if me.warp.knows(lane, w.who / 32, w.who % 32, w.stamp, me.warps) {
        return true;
    }
    strong_pair(w.who / 32 / me.warps, w.tag, me, tracker)
}

pub(super) fn strong_pair(cta: u32, tag: u32, me: &Me, tracker: &Tracker) -> bool {
    match (strength_of(tag), strength_of(me.tag)) {
        (Some(a), Some(b)) => tracker.order.morally_strong((cta, a), (me.cta, b)),
        _ => false,
    }
}

/// A write that the quick test did not settle; leaves the list of readers empty.
#[inline(never)]
#[allow(clippy::too_many_arguments, reason = "a record, a write and what it is checked against")]
pub(super) fn write_unit(
    page: &mut Page,
    unit: usize,
    lane: u32,
    same: bool,
    me: &Me,
    tracker: &mut Tracker,
    shared: bool,
    address: u64,
) {
    let w = page.writers[unit];
    let site = Site::new(pc_of(me.tag), me.warp.agent, lane);
    if !(me.after_write(&w, lane) || ordered_write(&w, lane, me, tracker)) {
        let kind = if w.who == MBARRIER { HazardKind::MbarrierNotInitialized } else { race_kind(w.who / 32, shared) };
        if same && w.who / 32 < ASYNC {
            report(kind.strict(), site, &Party::from(&w), "writes the same value", "a thread", address, tracker);
        } else {
            let what = me.grade(kind, &w, tracker);
            report(what, site, &Party::from(&w), "writes", me.by(w.tag), address, tracker);
        }
    }
    let first = *page.readers_of(unit);
    if first.stamp != 0 {
        let mut each = first;
        loop {
            let own = each.group == me.cta && each.warps == me.bit && each.lanes == 1 << lane;
            let strong = each.group < ASYNC && strong_pair(each.group, each.tag, me, tracker);
            if !(own || strong || me.knows_readers(&each, lane)) {
                let party = each.party(me.warps, me.who(lane));
                let what = me.grade_readers(race_kind(each.group, shared), &each, tracker);
                report(what, site, &party, "writes", me.by(each.tag), address, tracker);
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
