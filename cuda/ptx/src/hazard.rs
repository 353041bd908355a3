//! What the interpreter found wrong: one [`Hazard`] for each kind and place, with the thread that met it first.
//!
//! The machine reports by instruction number ([`Site`]); [`Hazards::resolve`] turns numbers into lines once the launch is
//! over. A hazard met a thousand times at one instruction is one entry with `count` 1000.
//!
//! Each has a [`Level`]: an error, or *strict*, which breaks the letter of the ISA and nothing else. Strict ones are kept apart
//! ([`Report::strict`](crate::Report::strict)) unless [`Options::strict`](crate::Options::strict) makes them count as errors do.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of hazard. Each has one sentence in [`HazardKind::what`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HazardKind {
    /// Two threads touch the same bytes of shared memory, one of them writes, and nothing orders them.
    SharedRace,
    /// The same in global memory.
    GlobalRace,
    /// The async proxy meets a generic write that is ordered before it, but without a proxy fence between.
    MissingProxyFence,
    /// Memory that an asynchronous copy or wgmma still reads or writes was touched before its completion was waited for.
    InFlight,
    /// A register that an asynchronous operation still reads or writes was touched before the wait.
    RegisterInFlight,
    /// wgmma without the `wgmma.fence` that orders the registers before it.
    MissingWgmmaFence,
    /// wgmma groups left uncommitted where a wait or the end of the thread needs them.
    MissingCommit,
    /// Asynchronous work was never waited for: it was still pending when its thread or CTA ended.
    MissingWait,
    /// A value that nothing wrote decided an address, a branch or a result.
    UninitializedRead,
    /// An address outside every allocation, or beyond the end of a memory space.
    OutOfBounds,
    /// An address that is not a multiple of what the access needs.
    Misaligned,
    /// An address inside an allocation that was freed.
    UseAfterFree,
    /// A write to memory that the launch may only read (`.const`, kernel parameters).
    ReadOnlyWrite,
    /// Threads of a warp or CTA reach a barrier differently, or leave before it.
    BarrierDivergence,
    /// `mbarrier.init` over a live mbarrier.
    MbarrierReinit,
    /// An mbarrier operation on memory that holds no mbarrier, or an ordinary access to one that is live.
    MbarrierNotInitialized,
    /// A count left its range: more arrivals than the phase has, or a transaction count beyond 2^20 - 1.
    MbarrierOverflow,
    /// A wait on a phase that is neither the current one nor the one before it.
    MbarrierWrongPhase,
    /// An mbarrier that was initialised but not yet published to who uses it (fence and barrier are missing).
    MbarrierUnpublished,
    /// Every warp waits and nothing can wake one.
    Deadlock,
    /// A bulk tensor copy or wgmma takes shared memory to be swizzled otherwise than the tensor copy that wrote it did.
    LayoutMismatch,
    /// `setmaxnreg.inc` asks for registers that the CTA was never given.
    RegisterBudget,
    /// The shared memory of another CTA of the cluster, which is not known to have started.
    PeerNotStarted,
    /// The shared memory of another CTA of the cluster, which has ended or may have.
    PeerGone,
    /// An address made from one shared variable that lies in another, or in none.
    SharedOverflow,
    /// A release or acquire whose scope leaves out the thread that it is for.
    NarrowScope,
    /// A CTA ended while an mbarrier or a named barrier held arrivals, or announced bytes, of a phase that never completed.
    UnfinishedPhase,
    /// What the launch before wrote or read, touched by a dependent launch before `griddepcontrol.wait`.
    MissingGridWait,
    /// The read-only path (`ld.global.nc`, `ldu`) over memory that the launch itself wrote.
    ReadOnlyPath,
    /// An instruction was executed in a way that the ISA leaves undefined (the message says which rule).
    UndefinedBehavior,
}

impl HazardKind {
    /// The kind in words, as it starts a report.
    pub fn what(self) -> &'static str {
        match self {
            Self::SharedRace => "data race in shared memory",
            Self::GlobalRace => "data race in global memory",
            Self::MissingProxyFence => "missing fence.proxy.async",
            Self::InFlight => "memory in flight touched before its completion was waited for",
            Self::RegisterInFlight => "register in flight touched before the wait",
            Self::MissingWgmmaFence => "missing wgmma.fence",
            Self::MissingCommit => "missing commit_group",
            Self::MissingWait => "missing wait",
            Self::UninitializedRead => "uninitialised value used",
            Self::OutOfBounds => "out of bounds",
            Self::Misaligned => "misaligned address",
            Self::UseAfterFree => "use after free",
            Self::ReadOnlyWrite => "write to read-only memory",
            Self::BarrierDivergence => "barrier divergence",
            Self::MbarrierReinit => "mbarrier initialised twice",
            Self::MbarrierNotInitialized => "no mbarrier here",
            Self::MbarrierOverflow => "mbarrier count out of range",
            Self::MbarrierWrongPhase => "wait on a wrong mbarrier phase",
            Self::MbarrierUnpublished => "mbarrier used before its initialisation was published",
            Self::Deadlock => "deadlock",
            Self::LayoutMismatch => "shared memory read by another swizzle than it was written by",
            Self::RegisterBudget => "more registers than the CTA was given",
            Self::PeerNotStarted => "shared memory of a CTA that may not have started",
            Self::PeerGone => "shared memory of a CTA that may have ended",
            Self::SharedOverflow => "access beyond its shared variable",
            Self::NarrowScope => "scope too narrow",
            Self::UnfinishedPhase => "phase left unfinished",
            Self::MissingGridWait => "missing griddepcontrol.wait",
            Self::ReadOnlyPath => "read-only path over memory that the launch writes",
            Self::UndefinedBehavior => "undefined behaviour",
        }
    }
}

/// How much a hazard matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The kernel is wrong.
    #[default]
    Error,
    /// The ISA does not allow it, but shipped code does it everywhere and cards bear it.
    Strict,
}

/// A kind of hazard at a level; a kind alone is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Graded {
    /// What it is.
    pub kind: HazardKind,
    /// How much it matters.
    pub level: Level,
}

impl From<HazardKind> for Graded {
    fn from(kind: HazardKind) -> Self {
        Graded { kind, level: Level::Error }
    }
}

impl HazardKind {
    /// The kind where it is only [`Level::Strict`].
    pub fn strict(self) -> Graded {
        Graded { kind: self, level: Level::Strict }
    }
}

/// A line of CUDA C++, from `.loc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceLine {
    /// The file as `.file` names it.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A place in the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Line of the PTX text, from 1; 0 if there is none.
    pub ptx_line: u32,
    /// The line of CUDA C++, where `.loc` gives one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<SourceLine>,
    /// Thread in its CTA (`%tid`).
    pub thread: [u32; 3],
    /// CTA in the grid (`%ctaid`).
    pub cta: [u32; 3],
}

/// One thing that is wrong, where it was first met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hazard {
    /// What it is.
    pub kind: HazardKind,
    /// How much it matters.
    #[serde(default)]
    pub level: Level,
    /// The kernel in which it was met.
    #[serde(default)]
    pub kernel: String,
    /// The particulars.
    pub message: String,
    /// Where, and who.
    #[serde(flatten)]
    pub at: Place,
    /// The other party, of a race.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub other: Option<Place>,
    /// The address that was touched, generic for global memory, CTA-relative for shared memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<u64>,
    /// How many times this kind was met at this line.
    pub count: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}", self.ptx_line)?;
        if let Some(source) = &self.source {
            write!(f, " ({}:{})", source.file, source.line)?;
        }
        let ([x, y, z], [i, j, k]) = (self.thread, self.cta);
        write!(f, ", thread ({x},{y},{z}) of CTA ({i},{j},{k})")
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.level == Level::Strict {
            f.write_str("strict: ")?;
        }
        write!(f, "{}: {} at {}", self.kind.what(), self.message, self.at)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if let Some(other) = &self.other {
            write!(f, "; against {other}")?;
        }
        if self.count > 1 {
            write!(f, " [{} times]", self.count)?;
        }
        Ok(())
    }
}

/// Where the machine is, in its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Number of the instruction in its kernel.
    pub pc: u32,
    /// Number of the warp in the launch: linear CTA number times warps a CTA, plus the warp in the CTA.
    pub warp: u32,
    /// Lane in the warp.
    pub lane: u8,
}

impl Site {
    /// The site of `lane` of `warp` at instruction `pc`.
    pub fn new(pc: u32, warp: u32, lane: u32) -> Self {
        Self { pc, warp, lane: lane as u8 }
    }
}

/// Items named in a message, at most.
const NAMED: usize = 16;

/// "1, 2 and 5 more": items as a message names them.
pub fn listed(items: impl IntoIterator<Item = String>) -> String {
    let mut items: Vec<String> = items.into_iter().collect();
    let more = items.len().saturating_sub(NAMED);
    items.truncate(NAMED);
    let list = items.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

struct Found {
    what: Graded,
    message: String,
    at: Site,
    other: Option<Site>,
    address: Option<u64>,
    count: u64,
}

/// Collects what a launch meets, one entry for each kind and instruction.
#[derive(Default)]
pub struct Hazards {
    found: Vec<Found>,
    index: HashMap<(Graded, u32), usize>,
}

impl Hazards {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a hazard of this kind was recorded at an instruction.
    pub fn is_known(&self, kind: HazardKind, pc: u32) -> bool {
        self.index.contains_key(&(kind.into(), pc))
    }

    /// Records a hazard at `at`. The message is only made for the first of a kind at an instruction.
    pub fn report(&mut self, what: impl Into<Graded>, at: Site, address: Option<u64>, message: impl FnOnce() -> String) {
        self.report_pair(what, at, None, address, message);
    }

    /// Records a hazard between two parties: `at` met what `other` had done.
    pub fn report_pair(
        &mut self,
        what: impl Into<Graded>,
        at: Site,
        other: Option<Site>,
        address: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        let next = self.found.len();
        let what = what.into();
        let slot = *self.index.entry((what, at.pc)).or_insert(next);
        if slot == next {
            self.found.push(Found { what, message: message(), at, other, address, count: 1 });
        } else {
            self.found[slot].count += 1;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds what was found after this.
    pub fn append(&mut self, later: Hazards) {
        for found in later.found {
            let next = self.found.len();
            let slot = *self.index.entry((found.what, found.at.pc)).or_insert(next);
            if slot == next {
                self.found.push(found);
            } else {
                self.found[slot].count += found.count;
            }
        }
    }

    /// The hazards of `kernel` by PTX line, given where instructions and warps are. Two instructions of one line make one entry.
    pub fn resolve(&self, kernel: &str, mut place: impl FnMut(Site) -> Place) -> Vec<Hazard> {
        let mut out: Vec<Hazard> = Vec::new();
        for found in &self.found {
            let at = place(found.at);
            let Graded { kind, level } = found.what;
            if let Some(same) = out.iter_mut().find(|h| (h.kind, h.level) == (kind, level) && h.at.ptx_line == at.ptx_line) {
                same.count += found.count;
                continue;
            }
            out.push(Hazard {
                kind,
                level,
                kernel: kernel.to_string(),
                message: found.message.clone(),
                at,
                other: found.other.map(&mut place),
                address: found.address,
                count: found.count,
            });
        }
        out.sort_by_key(|h| (h.at.ptx_line, h.kind, h.level));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(site: Site) -> Place {
        let source = (site.pc > 1).then(|| SourceLine { file: "k.cu".into(), line: site.pc });
        Place { ptx_line: 10 + site.pc / 2, source, thread: [site.lane.into(), 0, 0], cta: [site.warp, 0, 0] }
    }

    #[test]
    fn one_entry_for_each_kind_and_line() {
        let mut hazards = Hazards::new();
        for lane in 0..4 {
            hazards.report(HazardKind::Misaligned, Site::new(2, 1, lane), Some(6), || format!("lane {lane}"));
        }
        hazards.report(HazardKind::Misaligned, Site::new(3, 1, 0), None, || "same line".into());
        hazards.report_pair(HazardKind::SharedRace, Site::new(2, 1, 0), Some(Site::new(0, 2, 5)), None, || "race".into());
        hazards.report(HazardKind::Misaligned.strict(), Site::new(2, 1, 7), None, || "bearable".into());
        let all = hazards.resolve("k", place);
        assert_eq!(all.len(), 3);
        assert_eq!((all[1].kind, all[1].count, all[1].message.as_str()), (HazardKind::Misaligned, 5, "lane 0"));
        assert_eq!((all[2].level, all[2].count, all[2].kernel.as_str()), (Level::Strict, 1, "k"));
        assert!(all[2].to_string().starts_with("strict: misaligned address: bearable at"));
        let text = all[0].to_string();
        assert_eq!(
            text,
            "data race in shared memory: race at PTX line 11 (k.cu:2), thread (0,0,0) of CTA (1,0,0); against PTX line 10, \
             thread (5,0,0) of CTA (2,0,0)"
        );
        let json = serde_json::to_string(&all).unwrap();
        assert!(json.contains("\"kind\":\"shared_race\"") && json.contains("\"ptx_line\":11"), "{json}");
        assert_eq!(serde_json::from_str::<Vec<Hazard>>(&json).unwrap(), all);
    }
}
