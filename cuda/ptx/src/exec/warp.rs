//! A warp: its registers, and its lanes in groups that have the same pc.
//!
//! A group ([`Split`]) forks at a divergent branch. Both sides get the branch's [`Join`]; a side that reaches the join's pc parks
//! there until the other lanes arrive or leave. Nothing depends on that: when the other sides wait for something or
//! simply take long, those that are parked go on without them, so that lanes of one warp can wait for each other, as independent
//! thread scheduling promises.

use smallvec::SmallVec;

use super::lanes::Regs;
use super::rng::Rng;
use super::standstill::{Polls, mix};
use super::touches::Touches;
use crate::hazard::Site;
use crate::ir::NO_PC;
use crate::mem::{Births, By, Home, Local, WarpOrder};

/// No join.
pub const NO_JOIN: u32 = u32::MAX;

/// What lanes wait for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// All live lanes of the warp at this pc.
    Converge,
    /// These lanes at this pc.
    Members(u32),
    /// Completion of a named barrier.
    Barrier {
        /// Its number.
        id: u32,
        /// Its generation when the lanes arrived.
        generation: u64,
    },
    /// Completion of the cluster's barrier.
    ClusterBarrier {
        /// Its generation when the lanes arrived.
        generation: u64,
    },
    /// Completion of a phase of the mbarrier at an offset in a CTA's shared memory.
    Mbarrier { slot: u32, offset: u32, phase: u32 },
    /// All warps of the warpgroup have issued so many wgmma.
    Warpgroup {
        /// How many.
        target: u64,
    },
    /// The CTA's pool has so many registers.
    Registers {
        /// Registers of all lanes together.
        more: u32,
    },
    /// Time.
    Sleep {
        /// The step until which the lanes sleep.
        until: u64,
    },
}

/// Lanes that run together.
#[derive(Clone, Debug)]
pub struct Split {
    /// Next instruction.
    pub pc: u32,
    /// Lanes.
    pub mask: u32,
    /// The join these lanes will meet at.
    pub join: u32,
    /// Its pc, or [`NO_PC`].
    pub join_pc: u32,
    /// Calls in progress: the pc of each call instruction.
    pub calls: SmallVec<[u32; 4]>,
    /// What the lanes wait for.
    pub wait: Option<Wait>,
    /// The wait was given up: `try_wait` answers false.
    pub timed_out: bool,
}

/// Where lanes meet again.
#[derive(Clone, Debug)]
pub struct Join {
    /// The meeting point.
    pub pc: u32,
    /// Lanes that will come.
    pub expected: u32,
    /// Lanes that are there.
    pub arrived: u32,
    /// The join around this one.
    pub parent: u32,
    /// Call stack at the meeting point.
    pub calls: SmallVec<[u32; 4]>,
    /// Instructions that the warp had executed when the first lanes parked.
    pub since: u64,
    /// And how many questions it had asked.
    pub questions: u64,
}

/// A question of a warp about an mbarrier whose answer was no.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The mbarrier: slot of its CTA, offset in its shared memory.
    pub key: (u32, u32),
    /// Instructions that the warp had executed then.
    pub since: u64,
}

/// A warp.
pub struct Warp {
    /// Linear number in the launch.
    pub id: u32,
    /// Slot of its CTA in the machine.
    pub slot: u32,
    /// Number in the CTA.
    pub index: u32,
    /// Lanes that exist and have not left.
    pub live: u32,
    /// Where the last of those that have left did.
    pub left: Option<Site>,
    /// Registers.
    pub regs: Regs,
    /// Place of its CTA's shared memory.
    pub home: Home,
    /// Local memory: a frame a lane.
    pub local: Local,
    /// What its lanes know of other threads' accesses.
    pub order: WarpOrder,
    /// Where its undefined registers come from.
    pub births: Births,
    /// When its registers were last touched, as wgmma must know.
    pub touches: Touches,
    /// Groups of lanes, without the one that runs.
    pub splits: Vec<Split>,
    joins: Vec<Join>,
    free_joins: Vec<u32>,
    /// Instructions that the warp has executed.
    pub executed: u64,
    /// How many it had executed when it last did something that others could see.
    pub last_effect: u64,
    /// The last time that it asked an mbarrier in vain.
    pub asked: Option<Asked>,
    /// What it polls.
    pub polls: Polls,
    /// Instructions that may be those of a loop which waits for another thread: atomics, strong reads, tests of an mbarrier.
    pub questions: u64,
}

/// Instructions that the rest of a warp may execute before parked lanes go on without it, if it also asks more questions than
/// [`QUESTIONS`]: few if it does nothing that others could see, for then it may be waiting for the parked ones.
const PATIENCE: u64 = 20_000;
const PATIENCE_WITHOUT_EFFECT: u64 = 512;
const QUESTIONS: u64 = 8;

/// The same if it asks none: it computes, and lanes that went on without it would never meet it again.
const PATIENCE_WITHOUT_QUESTIONS: u64 = 1 << 20;

impl Warp {
    /// A warp of CTA number `cta` in `slot`, whose existing lanes start at `pc`.
    pub fn new(slot: u32, index: u32, pc: u32, regs: Regs, home: Home, local: Local, order: WarpOrder) -> Warp {
        let live = order.full;
        let split = Split { pc, mask: live, join: NO_JOIN, join_pc: NO_PC, calls: SmallVec::new(), wait: None, timed_out: false };
        Warp {
            id: order.agent,
            slot,
            index,
            live,
            left: None,
            regs,
            home,
            local,
            order,
            births: Births::default(),
            touches: Touches::default(),
            splits: vec![split],
            joins: Vec::new(),
            free_joins: Vec::new(),
            executed: 0,
            last_effect: 0,
            asked: None,
            polls: Polls::default(),
            questions: 0,
        }
    }

    /// A number that stands for where its lanes are.
    pub fn places(&self) -> u64 {
        self.splits.iter().fold(0, |h, s| mix(mix(h, s.pc.into()), s.mask.into()))
    }

    /// The site of a lane at an instruction.
    pub fn site(&self, pc: u32, lane: u32) -> Site {
        Site::new(pc, self.id, lane)
    }

    /// Who accesses memory at `pc`.
    pub fn by(&mut self, pc: u32) -> By<'_> {
        By { warp: &mut self.order, home: self.home, local: &mut self.local, pc }
    }

    /// A join of the running split around its present one.
    pub fn open_join(&mut self, split: &Split, pc: u32, calls: SmallVec<[u32; 4]>) -> u32 {
        let join = Join { pc, expected: split.mask, arrived: 0, parent: split.join, calls, since: 0, questions: 0 };
        match self.free_joins.pop() {
            Some(i) => {
                self.joins[i as usize] = join;
                i
            }
            None => {
                self.joins.push(join);
                self.joins.len() as u32 - 1
            }
        }
    }

    /// Forks `split`: the lanes `taken` go to `pc`, the others stay in `split` (whose pc the caller sets). Both meet at
    /// `join_pc` ([`NO_PC`]: they do not meet before they must).
    pub fn fork(&mut self, split: &mut Split, taken: u32, pc: u32, join_pc: u32, join_calls: SmallVec<[u32; 4]>) {
        if join_pc != NO_PC && split.join_pc != join_pc {
            let join = self.open_join(split, join_pc, join_calls);
            split.join = join;
            split.join_pc = join_pc;
        }
        let mut other = split.clone();
        other.mask = taken;
        other.pc = pc;
        split.mask &= !taken;
        self.splits.push(other);
    }

    /// The running split has reached its join: parks it, or returns the merged split if all are there.
    pub fn park(&mut self, split: Split) -> Option<Split> {
        let j = &mut self.joins[split.join as usize];
        if j.arrived == 0 {
            (j.since, j.questions) = (self.executed, self.questions);
        }
        j.arrived |= split.mask;
        let join = split.join;
        self.complete(join)
    }

    /// The merged split of a join at which all expected lanes are.
    fn complete(&mut self, join: u32) -> Option<Split> {
        let j = &self.joins[join as usize];
        if j.arrived != j.expected || j.arrived == 0 {
            return None;
        }
        self.release(join)
    }

    /// Lets the lanes that wait at `join` go on; the others will not meet them there.
    fn release(&mut self, join: u32) -> Option<Split> {
        let j = &mut self.joins[join as usize];
        if j.arrived == 0 {
            return None;
        }
        let (mask, parent, pc, calls) = (j.arrived, j.parent, j.pc, j.calls.clone());
        j.expected &= !mask;
        j.arrived = 0;
        if j.expected == 0 {
            self.free_joins.push(join);
        }
        let join_pc = if parent == NO_JOIN { NO_PC } else { self.joins[parent as usize].pc };
        Some(Split { pc, mask, join: parent, join_pc, calls, wait: None, timed_out: false })
    }

    /// Lanes leave for good: nobody waits for them any more.
    pub fn leave(&mut self, mask: u32, pc: u32) {
        self.live &= !mask;
        self.left = Some(self.site(pc, mask.trailing_zeros()));
        for i in 0..self.joins.len() as u32 {
            let j = &mut self.joins[i as usize];
            if j.expected & mask == 0 {
                continue;
            }
            j.expected &= !mask;
            if j.expected == 0 {
                self.free_joins.push(i);
            } else if let Some(split) = self.complete(i) {
                self.splits.push(split);
            }
        }
    }

    /// Lets every parked lane go on. Returns whether there was one.
    pub fn release_all(&mut self) -> bool {
        let mut any = false;
        for i in 0..self.joins.len() as u32 {
            if let Some(split) = self.release(i) {
                self.splits.push(split);
                any = true;
            }
        }
        any
    }

    /// Lets lanes go on that have been parked for too long.
    pub fn release_impatient(&mut self) {
        for i in 0..self.joins.len() as u32 {
            let j = &self.joins[i as usize];
            let (parked, idle) = (self.executed - j.since, self.executed - j.since.max(self.last_effect));
            let asks = self.questions - j.questions > QUESTIONS;
            let waited_for = asks && (idle > PATIENCE_WITHOUT_EFFECT || parked > PATIENCE);
            if j.arrived != 0
                && (waited_for || parked > PATIENCE_WITHOUT_QUESTIONS)
                && let Some(split) = self.release(i)
            {
                self.splits.push(split);
            }
        }
    }

    /// Whether any lane is parked.
    pub fn any_parked(&self) -> bool {
        self.joins.iter().any(|j| j.arrived != 0)
    }

    /// All live lanes are in one place: forgets every join and makes them one split.
    pub fn merge_all(&mut self, split: &mut Split) {
        self.splits.clear();
        self.joins.clear();
        self.free_joins.clear();
        split.mask = self.live;
        split.join = NO_JOIN;
        split.join_pc = NO_PC;
    }

    /// The lanes of `other` join `split` for good: both are expected only at the joins that are around both.
    pub fn adopt(&mut self, split: &mut Split, other: &Split) {
        let chain = |joins: &[Join], mut j: u32| {
            let mut list = Vec::new();
            while j != NO_JOIN {
                list.push(j);
                j = joins[j as usize].parent;
            }
            list
        };
        let (a, b) = (chain(&self.joins, split.join), chain(&self.joins, other.join));
        let common = a.iter().copied().find(|j| b.contains(j)).unwrap_or(NO_JOIN);
        for (list, mask) in [(a, split.mask), (b, other.mask)] {
            for j in list.into_iter().take_while(|j| *j != common) {
                self.joins[j as usize].expected &= !mask;
                if self.joins[j as usize].expected == 0 {
                    self.free_joins.push(j);
                } else if let Some(s) = self.complete(j) {
                    self.splits.push(s);
                }
            }
        }
        split.mask |= other.mask;
        split.join = common;
        split.join_pc = if common == NO_JOIN { NO_PC } else { self.joins[common as usize].pc };
    }

    /// Takes a split that can run, by the seed.
    pub fn take_ready(&mut self, rng: &mut Rng, mut ready: impl FnMut(&Split) -> bool) -> Option<Split> {
        let n = self.splits.len();
        if n == 0 {
            return None;
        }
        let first = if n == 1 { 0 } else { rng.below(n as u32) as usize };
        for k in 0..n {
            let i = (first + k) % n;
            if ready(&self.splits[i]) {
                let mut split = self.splits.swap_remove(i);
                split.wait = None;
                return Some(split);
            }
        }
        None
    }
}
