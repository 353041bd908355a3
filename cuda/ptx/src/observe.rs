//! Seeing what happens inside a launch. What is not asked for costs nothing.
//!
//! [`Observe`] is what is asked, a part of [`Options`](crate::Options); serde passes it on to another process. [`Observed`] is the
//! answer, a part of the [`Report`](crate::Report).
//!
//! This is a leaf: it knows numbers and names, and nothing of what runs. The machine calls it where an instruction is issued, where
//! lanes wait and go on, where something arrives at a barrier, and where an asynchronous operation lands.

mod interrupt;
pub(crate) mod trace;

use serde::{Deserialize, Serialize};

pub use interrupt::Interrupt;
pub use trace::{Kind, Request as TraceRequest, Span, Trace, Track};

/// What of a launch is to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observe {
    /// Everything that synchronises, copies or multiplies in the background, step by step.
    pub trace: Option<TraceRequest>,
}

/// What was seen of a launch.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The trace, if one was wanted.
    pub trace: Option<Trace>,
}
