//! The domains that are shipped, a folder or file each: what is asked, how an answer is judged, what the base model learns from.

pub mod arithmetic;
pub mod behaviour;
pub mod chain_sum;
pub mod countdown;
pub mod jsonl;

use std::sync::Arc;

use crate::rng::Rng;
use crate::task::{Task, TaskError};
use arithmetic::Notation;

pub use behaviour::{Behaviour, Verdicts};
pub use chain_sum::ChainSum;
pub use countdown::{Countdown, CountdownConfig, TaskConfig};
pub use jsonl::JsonlConfig;

/// How a solver in the base model's corpus goes about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Probability that a trace checks an attempt.
    pub p_check: f64,
    /// Probability that it tries again after a failed check.
    pub p_continue: f64,
    /// Probability that an attempt is written in the second notation.
    pub p_second_notation: f64,
    /// Fewest and most attempts in a drill.
    pub drill_attempts: [usize; 2],
    /// Fewest and most attempts in a full-length drill.
    pub long_attempts: [usize; 2],
}

impl Habits {
    /// The notation of an attempt.
    fn notation(&self, rng: &mut Rng) -> Notation {
        // Nothing is drawn for a corpus in one notation: it is the one that it was before there were two.
        if self.p_second_notation > 0.0 && rng.chance(self.p_second_notation) { Notation::Postfix } else { Notation::Infix }
    }
}

/// The names of the tasks that need no file, in the order in which a run has them by default: the first is the one that it is about.
pub const BUILT_IN: [&str; 2] = ["countdown", "chain_sum"];

/// A task of [`BUILT_IN`] by its name; `None` if nothing is called so.
///
/// # Errors
/// The ranges make no task.
pub fn built_in(name: &str, range: &TaskConfig, habits: &Habits) -> Result<Option<Arc<dyn Task>>, TaskError> {
    Ok(match name {
        "countdown" => Some(Arc::new(countdown::CountdownTask::new(range, *habits)?)),
        "chain_sum" => Some(Arc::new(chain_sum::ChainSums::new(*habits))),
        _ => None,
    })
}
