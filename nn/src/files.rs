//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Writes a file whole or not at all, at whatever moment the process or the machine stops: a neighbour is written, brought to the
/// disk and renamed.
///
/// # Errors
/// The disk refuses; the old file is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic_with(path, |to| fs::write(to, bytes))
}

/// As [`write_atomic`], for a `write` that makes the file at the path that it gets.
///
/// # Errors
/// As [`write_atomic`], or what `write` returns.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The name is always the same, so that what a kill leaves is written over by the next attempt.
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    let to_disk = || File::options().write(true).open(&temporary)?.sync_all();
    let written = write(&temporary).and_then(|()| to_disk()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The rename itself reaches the disk with the folder; only Unix can open one.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = std::env::temp_dir().join(format!("nn-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("state");
        write_atomic(&file, b"good").unwrap();
        let torn = write_atomic_with(&file, |to| {
            fs::write(to, b"half")?;
            Err(io::Error::other("power cut"))
        });
        assert!(torn.unwrap_err().to_string().contains("power cut"));
        assert_eq!(fs::read(&file).unwrap(), b"good");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
