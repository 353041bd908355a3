//! Seeing what happens inside a launch. What is not asked for costs nothing.
//!
//! [`Observe`] is what is asked, a part of [`Options`](crate::Options); serde passes it on to another process. [`Observed`] is the
//! answer, a part of the [`Report`](crate::Report).
//!
//! This is a leaf: it knows numbers and names, and nothing of what runs. The machine calls it where an instruction is issued, where
//! lanes wait and go on, where something arrives at a barrier, and where an asynchronous operation lands.

mod interrupt;
mod probe;
pub(crate) mod trace;
mod value;
mod watch;

use serde::{Deserialize, Serialize};

pub use interrupt::Interrupt;
pub use probe::{Probe, Register, Sighting, Table};
pub use trace::{Kind, Request as TraceRequest, Span, Trace, Track};
pub use value::Element;
pub(crate) use watch::Watches;
pub use watch::{Watch, Write};

/// What of a launch is to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observe {
    /// Everything that synchronises, copies or multiplies in the background, step by step.
    pub trace: Option<TraceRequest>,
    /// Registers and shared memory, each time that a thread reaches a line.
    pub probes: Vec<Probe>,
    /// Every write of some bytes.
    pub watches: Vec<Watch>,
}

/// What was seen of a launch.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The trace, if one was wanted.
    pub trace: Option<Trace>,
    /// Threads at the lines that were watched for.
    pub sightings: Vec<Sighting>,
    /// Writes of the bytes that were watched.
    pub writes: Vec<Write>,
}
