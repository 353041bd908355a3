//! What is wrong with a launch file.

use std::path::PathBuf;

use thiserror::Error;

use crate::driver::DriverError;

/// Why a launch file is not run.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not JSON.
    #[error("{}: not JSON: {message}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The parser's complaint, with line and column.
        message: String,
    },
    /// A key has a value that it cannot have.
    #[error("{}: {key}: {message}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The key, as a path such as `args[2].u32`.
        key: String,
        /// What was expected.
        message: String,
    },
    /// The PTX is not what the interpreter knows.
    #[error("{0}")]
    Ptx(String),
    /// The GPU refuses.
    #[error(transparent)]
    Driver(#[from] DriverError),
}
