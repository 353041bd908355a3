//! Files that are replaced as a whole, so that a reader never sees half of one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file beside its place, from where it then takes its name.
///
/// # Errors
/// If it cannot be written; then what was there stays, and nothing is left beside it.
pub fn with(file: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = file.to_path_buf().into_os_string();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let whole = || {
        let mut out = BufWriter::new(File::create(&temporary)?);
        write(&mut out)?;
        out.into_inner().map_err(|e| e.into_error())?;
        fs::rename(&temporary, file)
    };
    whole().inspect_err(|_| _ = fs::remove_file(&temporary))
}
