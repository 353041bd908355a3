//! Sets of accesses that are known, in the compressed form that [`super::clock`] describes.

use std::rc::Rc;

use smallvec::SmallVec;

/// Number of an interval between two synchronisations; 0 is "never".
pub type Stamp = u32;

/// First agent that is not a warp. Below it, an agent is a warp's number in the launch.
pub const ASYNC: u32 = 1 << 26;
/// Agents from here on are asynchronous, but in the generic proxy (`cp.async`).
pub const ASYNC_GENERIC: u32 = ASYNC | 1 << 25;

/// The agent that stands for the launch before, which a dependent launch may overlap. The number after it is that of mbarriers.
pub const PREREQUISITE: u32 = (1 << 27) - 2;
/// With a warp's number: an agent that stands for how far the warp is, and for none of its accesses.
pub(super) const PASSED: u32 = 1 << 27;
/// The interval of a CTA's start, in which nothing is accessed.
pub(super) const STARTED: Stamp = 1;

#[derive(Clone, Debug)]
pub(super) enum Times {
    All(Stamp),
    Lanes(Rc<[Stamp; 32]>),
}

impl Times {
    pub(super) fn of_lanes(mask: u32, stamp: Stamp, others: Stamp) -> Times {
        if mask == u32::MAX {
            return Times::All(stamp);
        }
        Times::Lanes(Rc::new(std::array::from_fn(|l| if mask >> l & 1 == 1 { stamp } else { others })))
    }

    pub(super) fn at(&self, lane: u32) -> Stamp {
        match self {
            Times::All(s) => *s,
            Times::Lanes(s) => s[lane as usize],
        }
    }

    pub(super) fn least(&self) -> Stamp {
        match self {
            Times::All(s) => *s,
            Times::Lanes(s) => s.iter().copied().min().unwrap_or(0),
        }
    }

    pub(super) fn most(&self) -> Stamp {
        match self {
            Times::All(s) => *s,
            Times::Lanes(s) => s.iter().copied().max().unwrap_or(0),
        }
    }

    /// Whether every lane is at least as far as in `other`.
    pub(super) fn contains(&self, other: &Times) -> bool {
        match (self, other) {
            (Times::Lanes(a), Times::Lanes(b)) if Rc::ptr_eq(a, b) => true,
            (_, Times::All(b)) => self.least() >= *b,
            (Times::All(a), _) => *a >= other.most(),
            (Times::Lanes(a), Times::Lanes(b)) => a.iter().zip(b.iter()).all(|(a, b)| a >= b),
        }
    }

    pub(super) fn join(&self, other: &Times) -> Times {
        if self.contains(other) {
            return self.clone();
        }
        if other.contains(self) {
            return other.clone();
        }
        Times::Lanes(Rc::new(std::array::from_fn(|l| self.at(l as u32).max(other.at(l as u32)))))
    }
}

/// A set of accesses that are known: everything of a CTA through its floor, and single agents beyond that.
#[derive(Clone, Debug, Default)]
pub struct Known {
    floors: SmallVec<[(u32, Stamp); 2]>,
    more: SmallVec<[(u32, Times); 3]>,
}

impl Known {
    /// Every thread of `cta` is known through this stamp.
    pub fn floor(&self, cta: u32) -> Stamp {
        match self.floors.as_slice() {
            [] => 0,
            [(c, stamp)] => (*c == cta) as u32 * stamp,
            floors => floors.binary_search_by_key(&cta, |f| f.0).map_or(0, |i| floors[i].1),
        }
    }

    pub(super) fn more(&self, agent: u32) -> Option<&Times> {
        if self.more.len() <= 4 {
            return self.more.iter().find(|m| m.0 == agent).map(|m| &m.1);
        }
        self.more.binary_search_by_key(&agent, |m| m.0).ok().map(|i| &self.more[i].1)
    }

    /// Whether what `lane` of `agent` did in interval `stamp` is known.
    pub fn knows(&self, agent: u32, lane: u32, stamp: Stamp, warps: u32) -> bool {
        (agent < ASYNC && stamp <= self.floor(agent / warps)) || self.more(agent).is_some_and(|t| stamp <= t.at(lane))
    }

    /// Whether anything of a CTA is known, if only that it has started.
    pub fn has_met(&self, cta: u32, warps: u32) -> bool {
        self.floor(cta) >= STARTED || self.more.iter().any(|m| m.0 < ASYNC && m.0 / warps == cta)
    }

    /// Whether `lane` of warp `agent` is known to be past what it did in interval `stamp`, with or without an order of memory.
    pub fn has_passed(&self, agent: u32, lane: u32, stamp: Stamp) -> bool {
        self.more(PASSED | agent).is_some_and(|t| stamp <= t.at(lane))
    }

    pub(super) fn contains_times(&self, agent: u32, times: &Times, warps: u32) -> bool {
        if agent < ASYNC && times.most() <= self.floor(agent / warps) {
            return true;
        }
        match self.more(agent) {
            Some(own) if own.contains(times) => true,
            Some(own) if agent < ASYNC => {
                let floor = self.floor(agent / warps);
                (0..32).all(|l| times.at(l) <= own.at(l).max(floor))
            }
            _ => false,
        }
    }

    pub(super) fn contains(&self, other: &Known, warps: u32) -> bool {
        other.floors.iter().all(|&(cta, stamp)| self.floor(cta) >= stamp)
            && other.more.iter().all(|(agent, times)| self.contains_times(*agent, times, warps))
    }

    pub(super) fn raise(&mut self, cta: u32, stamp: Stamp) {
        match self.floors.binary_search_by_key(&cta, |f| f.0) {
            Ok(i) => self.floors[i].1 = self.floors[i].1.max(stamp),
            Err(i) => self.floors.insert(i, (cta, stamp)),
        }
    }

    pub(super) fn add(&mut self, agent: u32, times: Times) {
        match self.more.binary_search_by_key(&agent, |m| m.0) {
            Ok(i) => self.more[i].1 = self.more[i].1.join(&times),
            Err(i) => self.more.insert(i, (agent, times)),
        }
    }

    pub(super) fn join(&mut self, other: &Known, warps: u32) {
        for &(cta, stamp) in &other.floors {
            self.raise(cta, stamp);
        }
        for (agent, times) in &other.more {
            self.add(*agent, times.clone());
        }
        self.prune(warps);
    }

    /// Drops what the floors say already.
    pub(super) fn prune(&mut self, warps: u32) {
        let Self { floors, more } = self;
        more.retain(|(agent, times)| {
            *agent >= ASYNC
                || match floors.binary_search_by_key(&(*agent / warps), |f| f.0) {
                    Ok(i) => floors[i].1 < times.most(),
                    Err(_) => true,
                }
        });
    }
}

pub(super) fn join(into: &mut Rc<Known>, from: &Rc<Known>, warps: u32) {
    if Rc::ptr_eq(into, from) || into.contains(from, warps) {
        return;
    }
    if from.contains(into, warps) {
        *into = Rc::clone(from);
        return;
    }
    Rc::make_mut(into).join(from, warps);
}

/// What a thread knows: of every access, and which of the generic ones were fenced for the async proxy on the way.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// All that is ordered before.
    pub all: Rc<Known>,
    /// What of shared memory the async proxy sees.
    pub shared: Rc<Known>,
    /// What of global memory the async proxy sees.
    pub global: Rc<Known>,
    /// What is known beyond `all` by synchronisation that cards honour and the ISA does not: races with it are strict.
    pub loose: Rc<Known>,
}

impl Clock {
    pub(super) fn join(&mut self, other: &Clock, warps: u32) {
        join(&mut self.all, &other.all, warps);
        join(&mut self.shared, &other.shared, warps);
        join(&mut self.global, &other.global, warps);
        join(&mut self.loose, &other.loose, warps);
    }

    pub(super) fn same(&self, other: &Clock) -> bool {
        Rc::ptr_eq(&self.all, &other.all) && Rc::ptr_eq(&self.shared, &other.shared) && Rc::ptr_eq(&self.global, &other.global)
    }
}
