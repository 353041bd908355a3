//! What a GPU is asked to do and what it answers: options, launches, reports and faults.

mod args;
mod launch;
mod report;

pub(crate) use args::Kind;
pub use args::{Arg, Args, Argument};
pub use launch::{Dim3, Launch};
pub use report::{Failure, Fault, FaultKind, Report};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::observe::{Interrupt, Observe};

/// When asynchronous operations land.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asynchrony {
    /// As late as the memory model allows, in a seeded order, and early now and then.
    #[default]
    Adversarial,
    /// At once.
    Eager,
}

/// Which lane `elect.sync` picks; the ISA leaves it open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Election {
    /// The lowest of the member mask, as cards do and shipped code counts on.
    #[default]
    Lowest,
    /// Any, by the seed: the same lane each time for the same mask in a launch.
    Seeded,
}

/// What a [`Gpu`](crate::Gpu) does beside computing. Serde passes it on to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Decides every choice that the ISA leaves open.
    pub seed: u64,
    /// Look for hazards.
    pub hazards: bool,
    /// Let strict hazards count as errors: they are then in [`Report::hazards`] with the others.
    pub strict: bool,
    /// Count.
    pub counters: bool,
    /// When asynchronous operations land.
    pub asynchrony: Asynchrony,
    /// Which lane `elect.sync` picks.
    pub election: Election,
    /// Streaming multiprocessors: an H100 SXM has 132. Fewer make a kernel small that is started on as many CTAs as they hold.
    pub multiprocessors: u32,
    /// Warp instructions after which a launch is given up.
    pub step_limit: u64,
    /// Time after which a launch is given up; none if not given.
    pub time_limit: Option<Duration>,
    /// What of a launch is to be seen.
    pub observe: Observe,
    /// Asks a launch under way where it stands, or ends it. Not passed on: it belongs to its process.
    #[serde(skip)]
    pub interrupt: Option<Interrupt>,
    /// Threads that may run CTAs of one launch side by side; 0: as many as there are processors. No result depends on it.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 0,
            hazards: true,
            strict: false,
            counters: true,
            asynchrony: Asynchrony::Adversarial,
            election: Election::Lowest,
            multiprocessors: 132,
            step_limit: u64::MAX,
            time_limit: None,
            observe: Observe::default(),
            interrupt: None,
            threads: 0,
        }
    }
}

impl Options {
    /// What kernels of one's own are best tested with: nothing but the letter of the ISA holds. Strict hazards count, and
    /// `elect.sync` picks any lane.
    pub fn pedantic(seed: u64) -> Options {
        Options { seed, strict: true, election: Election::Seeded, ..Options::default() }
    }
}

/// A module that was loaded into a [`Gpu`](crate::Gpu).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleHandle(pub(crate) usize);
