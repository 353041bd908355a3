//! What a launch answers: one [`Report`], whether it ran to its end or not.

use std::fmt;

use crate::counters::Counters;
use crate::hazard::{Hazard, Place};
use crate::observe::Observed;

/// What came of a launch: what it did, what was found wrong, and what ended it early, if anything did.
///
/// A test asks for [`Report::assert_clean`], a program for [`Report::clean`]; both look at hazards and faults alike.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The kernel's name.
    pub kernel: String,
    /// The seed of the [`Gpu`](crate::Gpu) that it ran on: the same launches with the same seed give the same report.
    pub seed: u64,
    /// Instructions executed, summed over threads.
    pub instructions: u64,
    /// What was found wrong.
    pub hazards: Vec<Hazard>,
    /// What breaks the letter of the ISA and nothing else; empty with [`Options::strict`](crate::Options::strict).
    pub strict: Vec<Hazard>,
    /// Why the launch ended early; the rest of the report then says how far it came.
    pub fault: Option<Fault>,
    /// Counters, if wanted.
    pub counters: Option<Counters>,
    /// What the kernel printed.
    pub printed: String,
    /// What was to be seen.
    pub observed: Observed,
    /// Where every warp stood when a limit or an interrupt ended the launch, as a table.
    pub standing: String,
}

impl Report {
    /// Of a launch that could not begin.
    pub fn refused(kernel: &str, message: String) -> Report {
        let fault = Some(Fault::new(FaultKind::InvalidLaunch, message, None));
        Report { kernel: kernel.into(), fault, ..Report::default() }
    }

    /// The kernel ran to its end and nothing was found wrong.
    pub fn is_clean(&self) -> bool {
        self.fault.is_none() && self.hazards.is_empty()
    }

    /// The report of a launch with which nothing is wrong.
    ///
    /// # Errors
    /// [`Failure`], if the launch ended early or a hazard was found.
    pub fn clean(self) -> Result<Report, Failure> {
        if self.is_clean() { Ok(self) } else { Err(Failure(Box::new(self))) }
    }

    /// The report of a launch with which nothing is wrong.
    ///
    /// # Panics
    /// At the caller's line, with the fault and every hazard in words, if the launch ended early or a hazard was found.
    #[track_caller]
    pub fn assert_clean(self) -> Report {
        self.clean().unwrap_or_else(|failure| panic!("{failure}"))
    }
}

/// A launch that is not clean; its text lists the fault and every hazard, a line each.
#[derive(Debug, thiserror::Error)]
pub struct Failure(pub Box<Report>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { kernel, seed, hazards, fault, .. } = &*self.0;
        write!(f, "`{kernel}` with seed {seed}: ")?;
        match (fault, hazards.len()) {
            (Some(fault), _) => write!(f, "{fault}")?,
            (None, 1) => write!(f, "1 hazard")?,
            (None, n) => write!(f, "{n} hazards")?,
        }
        hazards.iter().try_for_each(|hazard| write!(f, "\n  {hazard}"))
    }
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
    /// The launch took too long.
    TimeLimit,
    /// Somebody ended the launch from outside ([`Interrupt::stop`](crate::observe::Interrupt::stop)).
    Interrupted,
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
}

impl Fault {
    /// A fault at a place, if it has one.
    pub fn new(kind: FaultKind, message: String, at: Option<Place>) -> Fault {
        Fault { kind, message, at: at.map(Box::new) }
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
