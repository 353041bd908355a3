//! What a GPU is asked to do and what it answers: options, launches, reports and faults.

use std::fmt;

use crate::counters::Counters;
use crate::hazard::{Hazard, Place};

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

/// A kernel launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The module.
    pub module: ModuleHandle,
    /// The kernel's name.
    pub entry: String,
    /// CTAs.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// CTAs of a cluster; `[1, 1, 1]` for none.
    pub cluster: [u32; 3],
    /// Dynamic shared memory of a CTA.
    pub shared_bytes: u32,
    /// Parameters, laid out as [`Module::params`](crate::Module::params) says.
    pub params: Vec<u8>,
}

/// What came of a launch that ran to its end.
#[derive(Debug, Default)]
pub struct Report {
    /// Instructions executed, summed over threads.
    pub instructions: u64,
    /// What was found wrong.
    pub hazards: Vec<Hazard>,
    /// Counters, if wanted.
    pub counters: Option<Counters>,
    /// What the kernel printed.
    pub printed: String,
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The launch was refused.
    InvalidLaunch,
    /// `trap` was executed.
    Trap,
    /// A device assertion failed.
    Assert,
    /// Nothing can go on.
    Deadlock,
    /// An access outside of memory, or misaligned.
    IllegalAddress,
    /// Something else that ends a kernel.
    IllegalInstruction,
    /// The launch took too many steps.
    StepLimit,
}

/// Why a launch ended early.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// The particulars.
    pub message: String,
    /// Where.
    pub at: Option<Box<Place>>,
    /// What was found wrong up to then.
    pub hazards: Vec<Hazard>,
    /// What the kernel had printed.
    pub printed: String,
}

impl Fault {
    /// A fault without hazards yet.
    pub fn new(kind: FaultKind, message: String, at: Option<Place>) -> Fault {
        Fault { kind, message, at: at.map(Box::new), hazards: Vec::new(), printed: String::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(at) = &self.at {
            write!(f, " at {at}")?;
        }
        Ok(())
    }
}
