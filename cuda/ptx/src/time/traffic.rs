//! Memory beyond the multiprocessors' registers and shared memory: L1, the two halves of L2, DRAM.
//!
//! Caches are of lines of 128 bytes in sectors of 32, with least-recently-used replacement in sets that a hash of the line picks. What flows is
//! limited by [`Server`]s: the port of each multiprocessor, each half of L2, the way between the halves, DRAM. A request takes its bytes
//! from each of them and is done when the last has given them, plus the latency of the farthest place that it had to go to.
//!
//! L2 is in two halves. Each multiprocessor asks its near one; what belongs to the other half is fetched from there and kept in both (so what
//! all multiprocessors read occupies L2 twice). Writes go to the half that owns the line, and reach DRAM when it leaves the cache.

use std::collections::VecDeque;

use super::card::Card;

/// Clocks of one entry of a server's calendar.
const WINDOW: u64 = 32;

/// Something that moves a number of bytes in a clock.
///
/// It keeps a calendar: how much of each window of clocks is taken. So requests may come in any order of their times (multiprocessors are
/// simulated one after the other for a short while), and no clock is lost by that.
pub struct Server {
    /// Bytes of a window.
    capacity: f64,
    /// Bytes taken in each window from `first` on, and of a full one a later window before which all are full.
    taken: VecDeque<(f64, u64)>,
    first: u64,
    /// Bytes in all.
    pub total: f64,
}

impl Server {
    /// Of so many bytes in a clock.
    pub fn new(bytes: f64) -> Server {
        Server { capacity: bytes * WINDOW as f64, taken: Default::default(), first: 0, total: 0.0 }
    }

    /// Moves `bytes` that are asked for at `time`: when the last of them has passed.
    pub fn take(&mut self, time: u64, bytes: f64) -> u64 {
        self.total += bytes;
        let mut window = (time / WINDOW).max(self.first);
        let mut left = bytes;
        loop {
            window = self.room(window);
            let (taken, next) = &mut self.taken[(window - self.first) as usize];
            let room = self.capacity - *taken;
            if left <= room {
                *taken += left;
                *next = if left == room { window + 1 } else { 0 };
                let within = *taken / self.capacity * WINDOW as f64;
                let alone = time as f64 + bytes * WINDOW as f64 / self.capacity;
                return ((window * WINDOW) as f64 + within).max(alone).ceil() as u64;
            }
            (*taken, *next) = (self.capacity, window + 1);
            left -= room;
        }
    }

    /// The first window with room from this one on.
    fn room(&mut self, mut window: u64) -> u64 {
        let (from, first) = (window, self.first);
        let at = |w: u64| (w - first) as usize;
        loop {
            if at(window) >= self.taken.len() {
                self.taken.resize(at(window) + 1, (0.0, 0));
            }
            match self.taken[at(window)] {
                (_, 0) => break,
                (_, next) => window = next,
            }
        }
        // Who comes the same way again gets there in one step.
        let mut passed = from;
        while passed != window {
            passed = std::mem::replace(&mut self.taken[at(passed)].1, window);
        }
        window
    }

    /// Nobody asks for a time before this one any more.
    pub fn forget(&mut self, time: u64) {
        while self.first < time / WINDOW && self.taken.pop_front().is_some() {
            self.first += 1;
        }
        if self.taken.is_empty() {
            self.first = self.first.max(time / WINDOW);
        }
    }
}

const WAYS: usize = 16;

/// Lines of 128 bytes by sectors, the least recently used of a set of 16 leaves.
pub struct Cache {
    sets: Vec<[Way; WAYS]>,
    now: u32,
}

/// A line in its set.
#[derive(Clone, Copy, Default)]
struct Way {
    /// The line's number, and in the low eight bits its sectors: those that are there, and above them those that are newer than what lies below.
    line: u64,
    /// When it was last used, by a count of uses.
    used: u32,
    /// When its last sector arrives, in clocks.
    arrives: u32,
}

/// What a cache had of a line.
pub struct Found {
    /// Sectors that it had.
    pub hit: u8,
    /// Dirty sectors of the line that had to leave.
    pub evicted: u32,
    /// When what it had is there.
    pub arrives: u64,
    /// The line's place.
    pub place: (u32, u32),
}

impl Cache {
    /// Of so many bytes.
    pub fn new(bytes: u64) -> Cache {
        Cache { sets: vec![[Way::default(); WAYS]; (bytes as usize / 128 / WAYS).max(1)], now: 1 }
    }

    /// The same, a share of it full of what others wrote and nobody asks for.
    pub fn used_before(bytes: u64, dirty: f64) -> Cache {
        let mut cache = Cache::new(bytes);
        let others = Way { line: u64::MAX, used: 1, arrives: 0 };
        for (i, way) in cache.sets.as_flattened_mut().iter_mut().enumerate() {
            let upto = |i: usize| (i as f64 * dirty) as usize;
            if upto(i) != upto(i + 1) {
                *way = others;
            }
        }
        cache
    }

    /// Looks for sectors of a line, which is then the set's most recently used, with these sectors, dirty if it is written.
    pub fn touch(&mut self, line: u64, sectors: u8, write: bool) -> Found {
        self.now = self.now.wrapping_add(1);
        let hash = line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let set = (hash * self.sets.len() as u64) >> 32;
        let ways = &mut self.sets[set as usize];
        let new = u64::from(sectors | if write { sectors << 4 } else { 0 });
        let (mut oldest, mut age) = (0, 0);
        for (i, way) in ways.iter_mut().enumerate() {
            if way.line >> 8 == line && way.used != 0 {
                let hit = way.line as u8 & sectors;
                way.line |= new;
                way.used = self.now;
                return Found { hit, evicted: 0, arrives: way.arrives.into(), place: (set as u32, i as u32) };
            }
            let unused = if way.used == 0 { u32::MAX } else { self.now.wrapping_sub(way.used) };
            if unused > age {
                (oldest, age) = (i, unused);
            }
        }
        let way = &mut ways[oldest];
        let evicted = if way.used == 0 { 0 } else { (way.line as u8 >> 4).count_ones() };
        *way = Way { line: line << 8 | new, used: self.now, arrives: 0 };
        Found { hit: 0, evicted, arrives: 0, place: (set as u32, oldest as u32) }
    }

    /// What a line lacked arrives then.
    pub fn fill(&mut self, (set, way): (u32, u32), time: u64) {
        let way = &mut self.sets[set as usize][way as usize];
        way.arrives = way.arrives.max(time as u32);
    }
}

/// What is done with a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Written, or combined with in L2.
    Write,
}

/// What all multiprocessors share.
pub struct Traffic {
    halves: [Half; 2],
    /// Between the halves.
    between: Server,
    dram: Server,
    /// Bytes of the clock that DRAM loses for a byte that it writes.
    turn: f64,
    written: f64,
    latency: [u64; 3],
    /// Lines of a request that were not there: half and place.
    coming: Vec<(usize, (u32, u32))>,
    /// Sectors that were asked of L2, and found there.
    pub sectors: [u64; 2],
    multiprocessors: u32,
}

struct Half {
    cache: Cache,
    server: Server,
}

/// Lines of a request with their sectors.
pub type Lines = [(u64, u8)];

impl Traffic {
    /// Of a card, with nothing in its caches that anybody asks for.
    pub fn new(card: &Card) -> Traffic {
        let half = || Half { cache: Cache::used_before(card.l2_size / 2, card.dirty), server: Server::new(card.l2_bytes / 2.0) };
        Traffic {
            halves: [half(), half()],
            between: Server::new(card.far_bytes),
            dram: Server::new(card.dram_bytes()),
            turn: card.turn / card.dram_share,
            written: 0.0,
            latency: [card.l2, card.l2 + card.l2_far, card.l2 + card.dram],
            coming: Vec::new(),
            sectors: [0; 2],
            multiprocessors: card.multiprocessors,
        }
    }

    /// The half that owns a line.
    fn home(line: u64) -> usize {
        // Owners alternate by blocks of 4 KiB, mixed so that no stride meets one of them alone.
        ((line >> 5).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63) as usize
    }

    /// Lines that a multiprocessor asks for at `time`: when the last byte is back, or written.
    pub fn request(&mut self, multiprocessor: u32, time: u64, lines: &Lines, access: Access) -> u64 {
        let near = usize::from(multiprocessor >= self.multiprocessors / 2);
        let (mut bytes, mut far, mut below, mut evicted) = ([0.0; 2], 0.0, 0.0, 0.0);
        let (mut farthest, mut done) = (0, time);
        self.coming.clear();
        for &(line, sectors) in lines {
            let home = Self::home(line);
            let n = sectors.count_ones();
            self.sectors[0] += u64::from(n);
            let size = f64::from(n * 32);
            if access == Access::Write {
                let found = self.halves[home].cache.touch(line, sectors, true);
                bytes[home] += size;
                evicted += f64::from(found.evicted * 32);
                far += if home == near { 0.0 } else { size };
                self.sectors[1] += u64::from(found.hit.count_ones());
                continue;
            }
            let found = self.halves[near].cache.touch(line, sectors, false);
            bytes[near] += size;
            // Somebody asked for it before, and it is still on its way.
            done = done.max(found.arrives.saturating_sub(self.latency[0]));
            let mut missing = sectors & !found.hit;
            evicted += f64::from(found.evicted * 32);
            self.sectors[1] += u64::from(found.hit.count_ones());
            if missing != 0 {
                self.coming.push((near, found.place));
            }
            if missing != 0 && home != near {
                let found = self.halves[home].cache.touch(line, missing, false);
                done = done.max(found.arrives.saturating_sub(self.latency[1]));
                let size = f64::from(missing.count_ones() * 32);
                (bytes[home], far) = (bytes[home] + size, far + size);
                evicted += f64::from(found.evicted * 32);
                self.sectors[1] += u64::from(found.hit.count_ones());
                farthest = farthest.max(1);
                missing &= !found.hit;
                if missing != 0 {
                    self.coming.push((home, found.place));
                }
            }
            if missing != 0 {
                below += f64::from(missing.count_ones() * 32);
                farthest = 2;
            }
        }
        for (half, bytes) in self.halves.iter_mut().zip(bytes) {
            if bytes > 0.0 {
                done = done.max(half.server.take(time, bytes));
            }
        }
        if far > 0.0 {
            done = done.max(self.between.take(time, far));
        }
        if below + evicted > 0.0 {
            self.written += evicted;
            // Turning from reads to writes and back costs most where there is as much of both.
            let all = below + evicted;
            let w = self.written / (self.dram.total + all);
            let passed = self.dram.take(time, all * (1.0 + self.turn * w * (1.0 - w)));
            // What a write pushes out of the cache does not keep the writer, unless DRAM is far behind.
            done = if access == Access::Read { done.max(passed) } else { done.max(passed.saturating_sub(BUFFER)) };
        }
        done += self.latency[farthest];
        for &(half, place) in &self.coming {
            self.halves[half].cache.fill(place, done);
        }
        done
    }

    /// Nobody asks for a time before this one any more.
    pub fn forget(&mut self, time: u64) {
        self.halves.iter_mut().for_each(|h| h.server.forget(time));
        self.between.forget(time);
        self.dram.forget(time);
    }

    /// Bytes that L2 gave or took, and that DRAM did.
    pub fn bytes(&self) -> [f64; 2] {
        [self.halves.iter().map(|h| h.server.total).sum(), self.dram.total]
    }
}

/// Clocks by which writes to DRAM may lag behind.
const BUFFER: u64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_loses_no_clock_to_the_order_of_requests() {
        let mut server = Server::new(10.0);
        assert_eq!(server.take(60, 10.0), 61, "an idle server gives at once");
        // Asked later for an earlier time, it still has that time.
        assert!(server.take(0, 320.0) <= 32);
        assert!(server.take(0, 300.0) <= 64);
        assert!(server.take(0, 100.0) > 64);
    }

    proptest! {
        #[test]
        fn what_is_asked_for_at_once_takes_as_long_as_the_sum(sizes in proptest::collection::vec(1u32..500, 1..60), rate in 1u32..200) {
            let mut server = Server::new(rate.into());
            let last = sizes.iter().map(|s| server.take(0, f64::from(*s))).max().unwrap();
            let sum = f64::from(sizes.iter().sum::<u32>()) / f64::from(rate);
            prop_assert!((last as f64) >= sum - 1e-6 && (last as f64) < sum + 2.0, "{last} for {sum}");
        }
    }

    #[test]
    fn the_least_recently_used_line_leaves() {
        let mut cache = Cache::new(128 * WAYS as u64);
        for line in 0..WAYS as u64 {
            assert_eq!(cache.touch(line, 0b1111, line == 1).hit, 0);
        }
        assert_eq!(cache.touch(0, 0b0011, false).hit, 0b0011);
        let found = cache.touch(99, 0b1111, false);
        assert_eq!((found.hit, found.evicted), (0, 4), "line 1 was the oldest, and dirty");
        assert_eq!(cache.touch(0, 0b1111, false).hit, 0b1111);
        assert_eq!(cache.touch(1, 0b1111, false).hit, 0);
    }

    #[test]
    fn what_others_wrote_leaves_when_its_place_is_needed() {
        let mut cache = Cache::used_before(128 * 4 * WAYS as u64, 0.5);
        let evicted: u32 = (0..1000).map(|line| cache.touch(line, 0b1111, false).evicted).sum();
        assert_eq!(evicted, 4 * 2 * WAYS as u32, "half of the lines, each with four sectors");
    }

    #[test]
    fn what_both_halves_read_is_fetched_from_dram_once() {
        let card = Card { dirty: 0.0, ..Card::named("h100-sxm").unwrap() };
        let mut traffic = Traffic::new(&card);
        let lines: Vec<_> = (0..64).map(|l| (l, 0b1111)).collect();
        let cold = traffic.request(0, 0, &lines, Access::Read);
        assert_eq!(traffic.bytes()[1], 64.0 * 128.0);
        let other = traffic.request(100, 10_000, &lines, Access::Read) - 10_000;
        assert_eq!(traffic.bytes()[1], 64.0 * 128.0);
        let warm = traffic.request(0, 20_000, &lines, Access::Read) - 20_000;
        assert!(warm < other && other < cold, "{warm} {other} {cold}");
    }
}
