//! What can be wrong with a task, whichever it is.

/// A range that makes no task, or a problem outside a task's range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A key of a configuration.
    #[error("{key}: expected {expected}, found {found}")]
    Config {
        /// The key, with its table.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A problem.
    #[error("expected {expected}, found {found}")]
    Problem {
        /// What the task allows.
        expected: String,
        /// What the problem has.
        found: String,
    },
    /// So much is held out that drawing training problems found none.
    #[error("the held-out set leaves no problem to train on")]
    NothingLeft,
}
