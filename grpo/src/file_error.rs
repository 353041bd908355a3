//! What a file system refuses.

use std::io;
use std::path::{Path, PathBuf};

/// A file or folder with which something cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// The error of an `action` on `path`, for `map_err`.
pub(crate) fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_path_buf();
    move |source| FileError { action, path, source }
}
