//! What a GPU is asked to do and what it answers: options, launches, reports and faults.

mod args;
mod launch;
mod report;

pub use args::{Arg, Args, Argument};
pub use launch::{Dim3, Launch};
pub use report::{Failure, Fault, FaultKind, Report};

/// When asynchronous operations land.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asynchrony {
    /// As late as the memory model allows, in a seeded order, and early now and then.
    #[default]
    Adversarial,
    /// At once.
    Eager,
}

/// What a [`Gpu`](crate::Gpu) does beside computing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides every choice that the ISA leaves open.
    pub seed: u64,
    /// Look for hazards.
    pub hazards: bool,
    /// Count.
    pub counters: bool,
    /// When asynchronous operations land.
    pub asynchrony: Asynchrony,
    /// Warp instructions after which a launch is given up.
    pub step_limit: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, hazards: true, counters: true, asynchrony: Asynchrony::Adversarial, step_limit: u64::MAX }
    }
}

/// A module that was loaded into a [`Gpu`](crate::Gpu).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleHandle(pub(crate) usize);
