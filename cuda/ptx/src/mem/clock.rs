//! Who knows of what: the happens-before order of a launch, by vector clocks of single threads.
//!
//! A *stamp* numbers the intervals between synchronisations: one counter for the whole launch, raised whenever a thread
//! publishes what it did (a barrier, an arrive, a release). An access carries its thread and the stamp of the thread's
//! warp; thread T is ordered after it if T's clock holds a stamp for that thread that is no smaller.
//!
//! A clock of every thread by every thread would be large, so it is kept in the form that kernels give it:
//! - the lanes of a warp share one clock until they learn different things;
//! - after a barrier of a whole CTA every thread of it is known through one stamp, the CTA's *floor*;
//! - clocks are shared by reference until one changes, so that joining two equal ones compares two pointers.
//!
//! None of this loses precision: the tests compare it with plain vector clocks.
//!
//! Asynchronous work (bulk copies, `cp.async`, wgmma) has *agents* of its own, known only to who waited for them. The
//! async proxy sees a generic write only if a proxy fence lies on the way, so a [`Clock`] holds three sets: all that is
//! known, and what of it was fenced for the async proxy in shared and in global memory.
//!
//! # Which synchronisation counts (PTX ISA, *Memory Consistency Model*)
//! - A *release pattern* is a release, or a `fence` and then a strong write; an *acquire pattern* is an acquire, or a strong read
//!   and then a `fence`. They synchronise if the read sees the write and their scopes include each other's threads. A
//!   relaxed arrival (at an mbarrier or at the cluster's barrier) behind a fence is such a strong write, a relaxed wait in front
//!   of one such a read.
//! - `fence.mbarrier_init` is a fence for the initialisations before it alone. Every one that a thread has executed counts for its
//!   next relaxed arrivals, not only the last.
//! - A fourth set, [`Clock::loose`], holds what threads have learned without the second half of a pattern: by a relaxed read that
//!   no fence follows, or with a scope that is too narrow. Cards order that too, and much code relies on it (the last block of a
//!   reduction reads the others' results behind an atomic alone), so a race with it is strict.

use std::collections::HashMap;
use std::rc::Rc;

use smallvec::SmallVec;

pub use super::known::{ASYNC, ASYNC_GENERIC, Clock, PREREQUISITE, Stamp};
use super::known::{Known, PASSED, STARTED, Times, join};

/// The scope of a fence or of a strong access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The threads of the CTA.
    Cta,
    /// The threads of the cluster.
    Cluster,
    /// The threads of the launch.
    Gpu,
    /// Every thread.
    Sys,
}

/// The memory that a proxy fence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FencedSpace {
    /// Shared memory only.
    Shared,
    /// Global memory only.
    Global,
    /// Both.
    All,
}

/// What a strong write left at its address: who may acquire it, and what they learn.
#[derive(Clone, Debug)]
struct Release {
    cta: u32,
    scope: Scope,
    clock: Clock,
}

/// What a fence of some lanes published: what they knew, and their own accesses through `stamp`.
#[derive(Clone, Debug)]
struct Fenced {
    mask: u32,
    scope: Scope,
    clock: Clock,
    stamp: Stamp,
    synced: Stamp,
}

/// The order as the lanes of one warp know it. The warp holds it; [`Order`] has what the launch shares.
#[derive(Clone, Debug)]
pub struct WarpOrder {
    /// Number of the warp in the launch, the agent that its accesses are recorded for.
    pub agent: u32,
    /// Linear number of its CTA in the grid.
    pub cta: u32,
    /// The current interval.
    pub stamp: Stamp,
    /// The lanes that exist.
    pub full: u32,
    /// Every lane knows every lane of the warp through this stamp.
    synced: Stamp,
    common: Clock,
    /// The lanes that know more than `common`, each its own clock in `lanes`.
    ahead: u32,
    lanes: Vec<Clock>,
    fenced: SmallVec<[Fenced; 1]>,
    /// Clocks read by relaxed accesses of one lane: learned at its next fence.
    pending: SmallVec<[(u32, Scope, Release); 1]>,
    /// The agent of its `fence.mbarrier_init`s, and the last of each lane.
    init_fences: Option<(u32, Times)>,
    /// What any lane has learned loosely ([`Clock::loose`]).
    loose: Rc<Known>,
}

/// The lanes of a mask, ascending.
pub fn lanes_of(mask: u32) -> impl Iterator<Item = u32> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        (lane < 32).then(|| {
            rest &= rest - 1;
            lane
        })
    })
}

impl WarpOrder {
    /// What `lane` knows of others.
    pub fn clock(&self, lane: u32) -> &Clock {
        if self.ahead >> lane & 1 == 1 { &self.lanes[lane as usize] } else { &self.common }
    }

    /// The floor of the own CTA that every lane knows.
    pub fn floor(&self) -> Stamp {
        self.common.all.floor(self.cta)
    }

    /// Whether `lane` knows it, and the async proxy would see it in shared memory too.
    pub fn knows_fenced(&self, lane: u32, other: u32, other_lane: u32, stamp: Stamp, warps: u32) -> bool {
        self.knows(lane, other, other_lane, stamp, warps) && self.clock(lane).shared.knows(other, other_lane, stamp, warps)
    }

    /// Whether `lane` is ordered after what lane `other_lane` of `other` did in interval `stamp`.
    pub fn knows(&self, lane: u32, other: u32, other_lane: u32, stamp: Stamp, warps: u32) -> bool {
        (other == self.agent && (other_lane == lane || stamp <= self.synced))
            || self.clock(lane).all.knows(other, other_lane, stamp, warps)
    }

    /// Whether the warp has learned it, if only in a way that cards honour and the ISA does not.
    pub fn knows_loosely(&self, other: u32, other_lane: u32, stamp: Stamp, warps: u32) -> bool {
        self.loose.knows(other, other_lane, stamp, warps)
    }

    fn own(&self, mask: u32, stamp: Stamp, synced: Stamp) -> Times {
        Times::of_lanes(mask | !self.full, stamp, synced)
    }

    fn learn(&mut self, mask: u32, clock: &Clock, warps: u32) {
        join(&mut self.loose, &clock.loose, warps);
        if mask == self.full && self.ahead == 0 {
            self.common.join(clock, warps);
            return;
        }
        self.part(mask);
        for lane in lanes_of(mask) {
            self.lanes[lane as usize].join(clock, warps);
        }
        self.settle();
    }

    /// The same, but loosely.
    fn learn_loosely(&mut self, clock: &Clock, warps: u32) {
        join(&mut self.loose, &clock.all, warps);
        join(&mut self.loose, &clock.loose, warps);
    }

    /// Gives each lane of `mask` its own clock.
    fn part(&mut self, mask: u32) {
        if self.lanes.is_empty() {
            self.lanes = vec![Clock::default(); 32];
        }
        for lane in lanes_of(mask & !self.ahead) {
            self.lanes[lane as usize] = self.common.clone();
        }
        self.ahead |= mask;
    }

    /// Lanes that all know the same again share one clock.
    fn settle(&mut self) {
        let first = self.full.trailing_zeros() as usize;
        if self.ahead == self.full && lanes_of(self.full).all(|l| self.lanes[l as usize].same(&self.lanes[first])) {
            self.common = self.lanes[first].clone();
            self.ahead = 0;
        }
    }

    /// What the lanes of `mask` know together, without their own accesses.
    fn together(&self, mask: u32, warps: u32) -> Clock {
        let mut clock = self.common.clone();
        for lane in lanes_of(mask & self.ahead) {
            clock.join(&self.lanes[lane as usize], warps);
        }
        join(&mut clock.loose, &self.loose, warps);
        clock
    }
}

/// What the threads of a launch share of its order: the counter, and what strong writes left at their addresses.
#[derive(Debug)]
pub struct Order {
    /// Warps a CTA.
    pub warps: u32,
    /// CTAs a cluster.
    pub cluster: u32,
    threads: u32,
    now: Stamp,
    agents: u32,
    generic_agents: u32,
    releases: HashMap<u64, SmallVec<[Release; 1]>>,
}

/// Who arrived at a barrier: the lanes, their interval, and through which interval they know the whole warp.
#[derive(Clone, Debug)]
struct Arrival {
    agent: u32,
    mask: u32,
    times: Times,
    stamp: Stamp,
    blocking: bool,
}

/// A barrier in the making: what the threads that arrived know. Barriers of a CTA and of a cluster hold one a phase.
#[derive(Clone, Debug, Default)]
pub struct SyncPoint {
    base: Option<Clock>,
    arrivals: SmallVec<[Arrival; 4]>,
}

/// A barrier that completed: what its waiters learn.
#[derive(Clone, Debug)]
pub struct Synced {
    clock: Clock,
    stamp: Stamp,
}

/// Whether a thread arrived more than once: it may arrive at a barrier and then wait there.
fn repeats(arrivals: &[Arrival]) -> bool {
    arrivals.iter().enumerate().any(|(i, a)| arrivals[..i].iter().any(|b| a.agent == b.agent && a.mask & b.mask != 0))
}

impl Order {
    /// The order of a launch with `threads` threads a CTA and `cluster` CTAs a cluster.
    pub fn new(threads: u32, cluster: u32) -> Self {
        Self {
            warps: threads.div_ceil(32).max(1),
            cluster: cluster.max(1),
            threads,
            now: STARTED + 1,
            agents: 0,
            generic_agents: 0,
            releases: HashMap::new(),
        }
    }

    /// The order of a warp that starts: `agent` is its number in the launch.
    pub fn warp(&self, agent: u32) -> WarpOrder {
        let lanes = (self.threads - agent % self.warps * 32).min(32);
        WarpOrder {
            agent,
            cta: agent / self.warps,
            stamp: self.now,
            full: u32::MAX >> (32 - lanes),
            synced: 0,
            common: Clock::default(),
            ahead: 0,
            lanes: Vec::new(),
            fenced: SmallVec::new(),
            pending: SmallVec::new(),
            init_fences: None,
            loose: Rc::default(),
        }
    }

    /// A new agent of the async proxy, or (`generic`) of asynchronous work in the generic proxy.
    pub fn agent(&mut self, generic: bool) -> u32 {
        let (count, base) = if generic { (&mut self.generic_agents, ASYNC_GENERIC) } else { (&mut self.agents, ASYNC) };
        *count += 1;
        base + *count - 1
    }

    /// The current interval of agents that are not warps.
    pub fn now(&self) -> Stamp {
        self.now
    }

    /// The next interval.
    pub fn tick(&mut self) -> Stamp {
        self.now += 1;
        self.now
    }

    /// What the lanes of `mask` publish: all they know and did. Their next accesses are in a new interval.
    pub fn publish(&mut self, warp: &mut WarpOrder, mask: u32) -> Clock {
        if mask == 0 {
            return Clock::default();
        }
        let mut clock = warp.together(mask, self.warps);
        Rc::make_mut(&mut clock.all).add(warp.agent, warp.own(mask, warp.stamp, warp.synced));
        warp.stamp = self.tick();
        clock
    }

    /// The lanes of `mask` learn `clock`.
    pub fn acquire(&self, warp: &mut WarpOrder, mask: u32, clock: &Clock) {
        warp.learn(mask, clock, self.warps);
    }

    /// An asynchronous agent's work through `stamp` becomes known to the lanes of `mask`.
    pub fn acquire_agent(&self, warp: &mut WarpOrder, mask: u32, agent: u32, stamp: Stamp) {
        let mut clock = Clock::default();
        self.with_agent(&mut clock, agent, stamp);
        warp.learn(mask, &clock, self.warps);
    }

    /// Adds the work of `agent` through `stamp` to `clock`.
    pub fn with_agent(&self, clock: &mut Clock, agent: u32, stamp: Stamp) {
        Rc::make_mut(&mut clock.all).add(agent, Times::All(stamp));
    }

    /// Adds the work that `agent` did for `lanes` through `stamp` to `clock`.
    pub fn with_agent_lanes(&self, clock: &mut Clock, agent: u32, lanes: u32, stamp: Stamp) {
        Rc::make_mut(&mut clock.all).add(agent, Times::of_lanes(lanes, stamp, 0));
    }

    /// `fence.mbarrier_init` by the lanes of `mask`: an agent that stands for their initialisations, and which even a relaxed
    /// arrival at the cluster's barrier publishes.
    pub fn fence_mbarrier_init(&mut self, warp: &mut WarpOrder, mask: u32) -> (u32, Stamp) {
        let agent = warp.init_fences.as_ref().map_or_else(|| self.agent(true), |f| f.0);
        let stamp = self.now;
        let mut clock = Clock::default();
        self.with_agent_lanes(&mut clock, agent, mask, stamp);
        warp.learn(mask, &clock, self.warps);
        warp.stamp = self.tick();
        let times = Times::of_lanes(mask, stamp, 0);
        let times = warp.init_fences.as_ref().map_or(times.clone(), |f| f.1.join(&times));
        warp.init_fences = Some((agent, times));
        (agent, stamp)
    }

    /// What a relaxed arrival of the lanes of `mask` publishes to threads of `scope`: what their last fence did, and
    /// initialisations of mbarriers behind a fence of their own.
    pub fn publish_fenced(&self, warp: &WarpOrder, mask: u32, scope: Scope) -> Clock {
        let mut clock = Clock::default();
        for f in warp.fenced.iter().filter(|f| f.mask & mask != 0) {
            let mut fenced = f.clock.clone();
            Rc::make_mut(&mut fenced.all).add(warp.agent, Times::of_lanes(f.mask & mask, f.stamp, f.synced));
            if f.scope < scope {
                let Clock { all, loose, .. } = fenced;
                fenced = Clock { loose: all, ..Clock::default() };
                join(&mut fenced.loose, &loose, self.warps);
            }
            clock.join(&fenced, self.warps);
        }
        if let Some((agent, times)) = &warp.init_fences {
            let lane = |l| if mask >> l & 1 == 1 { times.at(l) } else { 0 };
            Rc::make_mut(&mut clock.all).add(*agent, Times::Lanes(Rc::new(std::array::from_fn(|l| lane(l as u32)))));
        }
        clock
    }

    /// A relaxed arrival of the lanes of `mask` at the cluster's barrier. It also says that the CTA has started and, if `far`, how
    /// far the lanes are.
    pub fn arrive_relaxed(&mut self, warp: &mut WarpOrder, mask: u32, far: bool, point: &mut SyncPoint) {
        let mut clock = self.publish_fenced(warp, mask, Scope::Cluster);
        Self::started(&mut clock, warp.cta);
        if far {
            Rc::make_mut(&mut clock.all).add(PASSED | warp.agent, Times::of_lanes(mask, warp.stamp, 0));
            warp.stamp = self.tick();
        }
        point.base.get_or_insert_default().join(&clock, self.warps);
    }

    /// The lanes of `mask` have seen what publishes `clock`, but by a relaxed wait: they learn it at their next fence.
    pub fn acquire_at_fence(&self, warp: &mut WarpOrder, mask: u32, clock: &Clock) {
        warp.learn_loosely(clock, self.warps);
        let release = Release { cta: warp.cta, scope: Scope::Sys, clock: clock.clone() };
        lanes_of(mask).for_each(|lane| self.read_later(warp, lane, Scope::Sys, &release));
    }

    fn read_later(&self, warp: &mut WarpOrder, lane: u32, scope: Scope, release: &Release) {
        let same = |p: &&mut (u32, Scope, Release)| {
            p.0 == 1 << lane && p.1 == scope && p.2.cta == release.cta && p.2.scope == release.scope
        };
        match warp.pending.iter_mut().find(same) {
            Some(p) => p.2.clock.join(&release.clock, self.warps),
            None => warp.pending.push((1 << lane, scope, release.clone())),
        }
    }

    /// The lanes of `mask` know all that the launch before did, and so does the async proxy for them.
    pub fn prerequisite_done(&self, warp: &mut WarpOrder, mask: u32) {
        let mut clock = Clock::default();
        for known in [&mut clock.all, &mut clock.shared, &mut clock.global] {
            Rc::make_mut(known).add(PREREQUISITE, Times::All(STARTED));
        }
        warp.learn(mask, &clock, self.warps);
    }

    /// Adds to `clock` that a CTA has started.
    pub fn started(clock: &mut Clock, cta: u32) {
        if clock.all.floor(cta) < STARTED {
            Rc::make_mut(&mut clock.all).raise(cta, STARTED);
        }
    }

    /// Adds what all lanes of a warp know to `clock`.
    pub fn gather(&self, clock: &mut Clock, warp: &WarpOrder) {
        clock.join(&warp.together(warp.full, self.warps), self.warps);
    }

    /// Joins `from` into `into`.
    pub fn join(&self, into: &mut Clock, from: &Clock) {
        into.join(from, self.warps);
    }

    /// `bar.warp.sync`: the lanes of `mask` learn from each other.
    pub fn sync_lanes(&mut self, warp: &mut WarpOrder, mask: u32) {
        if mask & warp.full == warp.full {
            if warp.ahead != 0 {
                warp.common = warp.together(mask, self.warps);
                warp.ahead = 0;
            }
            warp.synced = warp.stamp;
            warp.stamp = self.tick();
        } else if mask.count_ones() > 1 {
            let clock = self.publish(warp, mask);
            warp.part(mask);
            lanes_of(mask).for_each(|lane| warp.lanes[lane as usize] = clock.clone());
            warp.settle();
        }
    }

    /// The lanes of `mask` arrive at a barrier. `blocking`: they do nothing more until it completes.
    pub fn arrive(&mut self, warp: &mut WarpOrder, mask: u32, blocking: bool, point: &mut SyncPoint) {
        if mask == 0 {
            return;
        }
        match &mut point.base {
            Some(base) if warp.ahead & mask == 0 => {
                base.join(&warp.common, self.warps);
                join(&mut base.loose, &warp.loose, self.warps);
            }
            Some(base) => base.join(&warp.together(mask, self.warps), self.warps),
            None => point.base = Some(warp.together(mask, self.warps)),
        }
        let times = warp.own(mask, warp.stamp, warp.synced);
        point.arrivals.push(Arrival { agent: warp.agent, mask, times, stamp: warp.stamp, blocking });
        if !blocking {
            warp.stamp = self.tick();
        }
    }

    /// All expected threads arrived.
    pub fn complete(&mut self, point: SyncPoint) -> Synced {
        let stamp = self.tick();
        let mut clock = point.base.unwrap_or_default();
        // Lanes that each CTA brought, and the interval through which all of them are known.
        let mut ctas: SmallVec<[(u32, u32, Stamp); 2]> = SmallVec::new();
        for arrival in &point.arrivals {
            let through = if arrival.blocking { stamp - 1 } else { arrival.stamp };
            let (cta, lanes) = (arrival.agent / self.warps, arrival.mask.count_ones());
            match ctas.iter_mut().find(|c| c.0 == cta) {
                Some(c) => *c = (cta, c.1 + lanes, c.2.min(through)),
                None => ctas.push((cta, lanes, through)),
            }
        }
        let known = Rc::make_mut(&mut clock.all);
        let repeated = point.arrivals.iter().any(|a| !a.blocking) && repeats(&point.arrivals);
        for &(cta, lanes, through) in &ctas {
            let whole = lanes == self.threads && !repeated;
            if whole {
                known.raise(cta, through);
            }
            for arrival in point.arrivals.iter().filter(|a| a.agent / self.warps == cta && !(whole && a.stamp <= through)) {
                known.add(arrival.agent, arrival.times.clone());
            }
        }
        known.prune(self.warps);
        Synced { clock, stamp }
    }

    /// The lanes of `mask`, which blocked at a barrier, go on.
    pub fn resume(&mut self, warp: &mut WarpOrder, mask: u32, synced: &Synced) {
        if mask == warp.full {
            // What the blocked lanes knew is part of what the barrier gives.
            warp.common = synced.clock.clone();
            join(&mut warp.loose, &synced.clock.loose, self.warps);
            warp.ahead = 0;
        } else {
            warp.learn(mask, &synced.clock, self.warps);
        }
        warp.stamp = warp.stamp.max(synced.stamp);
    }

    /// The lanes of `mask`, which arrived without blocking, learn what a barrier gives (`barrier.cluster.wait`).
    pub fn join_synced(&mut self, warp: &mut WarpOrder, mask: u32, synced: &Synced) {
        warp.learn(mask, &synced.clock, self.warps);
    }

    /// `fence.acq_rel` and `fence.sc` of some scope by the lanes of `mask`.
    pub fn fence(&mut self, warp: &mut WarpOrder, mask: u32, scope: Scope) {
        let pending = std::mem::take(&mut warp.pending);
        for (lanes, read_scope, release) in pending {
            if lanes & mask == 0 {
                warp.pending.push((lanes, read_scope, release));
            } else if self.reaches(&release, warp.cta, read_scope.min(scope)) {
                warp.learn(lanes, &release.clock, self.warps);
            }
        }
        warp.fenced.iter_mut().for_each(|f| f.mask &= !mask);
        warp.fenced.retain(|f| f.mask != 0);
        let (stamp, synced) = (warp.stamp, warp.synced);
        let together = mask & !warp.ahead;
        if together != 0 {
            warp.fenced.push(Fenced { mask: together, scope, clock: warp.common.clone(), stamp, synced });
        }
        for lane in lanes_of(mask & warp.ahead) {
            let clock = warp.lanes[lane as usize].clone();
            warp.fenced.push(Fenced { mask: 1 << lane, scope, clock, stamp, synced });
        }
        warp.stamp = self.tick();
    }

    /// `fence.proxy.async`: the async proxy sees what the lanes of `mask` know and did.
    pub fn fence_proxy_async(&mut self, warp: &mut WarpOrder, mask: u32, space: FencedSpace) {
        // Each of these lanes fences for itself, so one entry may speak for all of them: to use it, a thread must also know the access in `all`.
        let own = warp.own(mask, warp.stamp, warp.synced);
        let (agent, warps) = (warp.agent, self.warps);
        let fence = |clock: &mut Clock| {
            let mut seen = Rc::clone(&clock.all);
            Rc::make_mut(&mut seen).add(agent, own.clone());
            if space != FencedSpace::Global {
                join(&mut clock.shared, &seen, warps);
            }
            if space != FencedSpace::Shared {
                join(&mut clock.global, &seen, warps);
            }
        };
        if mask == warp.full && warp.ahead == 0 {
            fence(&mut warp.common);
        } else {
            warp.part(mask);
            lanes_of(mask).for_each(|lane| fence(&mut warp.lanes[lane as usize]));
        }
        warp.stamp = self.tick();
    }

    fn reaches(&self, release: &Release, cta: u32, scope: Scope) -> bool {
        self.morally_strong((release.cta, release.scope), (cta, scope))
    }

    /// Whether two strong accesses by threads of these CTAs are morally strong.
    pub fn morally_strong(&self, a: (u32, Scope), b: (u32, Scope)) -> bool {
        match a.1.min(b.1) {
            Scope::Cta => a.0 == b.0,
            Scope::Cluster => a.0 / self.cluster == b.0 / self.cluster,
            Scope::Gpu | Scope::Sys => true,
        }
    }

    /// A strong write by `lane` at `key` (an address, unique over memories). With `release` it publishes; without, it
    /// publishes what the lane's last fence did. A read-modify-write (`rmw`) keeps the releases that it read.
    pub fn strong_write(&mut self, warp: &mut WarpOrder, lane: u32, key: u64, release: bool, scope: Scope, rmw: bool) {
        let clock = if release {
            Some((scope, self.publish(warp, 1 << lane)))
        } else {
            warp.fenced.iter().find(|f| f.mask >> lane & 1 == 1).map(|f| {
                let mut clock = f.clock.clone();
                Rc::make_mut(&mut clock.all).add(warp.agent, Times::of_lanes(1 << lane, f.stamp, f.synced));
                (f.scope.min(scope), clock)
            })
        };
        if !rmw {
            self.weak_write(key);
        }
        let Some((scope, clock)) = clock else { return };
        let (cta, warps) = (warp.cta, self.warps);
        let list = self.releases.entry(key).or_default();
        match list.iter_mut().find(|r| r.cta == cta && r.scope == scope) {
            Some(same) => same.clock.join(&clock, warps),
            None => list.push(Release { cta, scope, clock }),
        }
    }

    /// A strong read by `lane` at `key`: an acquire learns at once, a relaxed read at the next fence.
    pub fn strong_read(&mut self, warp: &mut WarpOrder, lane: u32, key: u64, acquire: bool, scope: Scope) {
        if self.releases.is_empty() {
            return;
        }
        let Some(list) = self.releases.get(&key) else { return };
        for release in list {
            if acquire && self.reaches(release, warp.cta, scope) {
                warp.learn(1 << lane, &release.clock, self.warps);
                continue;
            }
            // Cards bear a scope that is too narrow between CTAs of a cluster, and not beyond.
            if self.reaches(release, warp.cta, scope)
                || self.morally_strong((release.cta, Scope::Cluster), (warp.cta, Scope::Cluster))
            {
                warp.learn_loosely(&release.clock, self.warps);
            }
            if !acquire {
                self.read_later(warp, lane, scope, release);
            }
        }
    }

    /// A weak write ends what strong writes left at `key`.
    pub fn weak_write(&mut self, key: u64) {
        if !self.releases.is_empty() {
            self.releases.remove(&key);
        }
    }

    /// Forgets what strong writes left at keys that `stale` picks: their memory is gone.
    pub fn forget(&mut self, stale: impl Fn(u64) -> bool) {
        self.releases.retain(|&key, _| !stale(key));
    }

    /// Whether no strong write left anything: then weak writes need not say where they write.
    pub fn no_releases(&self) -> bool {
        self.releases.is_empty()
    }
}
