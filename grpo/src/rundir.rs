//! The run folder: made, locked, written so that no file in it is ever half there.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Marks a folder as a run's and is locked while the run lives. The lock is the operating system's: it goes with the process.
const LOCK: &str = ".lock";

/// A run folder that this process owns until it is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// What is wrong with a run folder.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It cannot be made, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process writes there.
    #[error("another run is writing to {}: stop it, or choose another folder with --out", .0.display())]
    Busy(PathBuf),
    /// The folder holds something else, which a run must not move or mix with its own files.
    #[error("{} is not empty and not a run folder: choose another with --out", .0.display())]
    Foreign(PathBuf),
    /// Nothing to resume.
    #[error("{} is not a run folder: there is nothing to resume", .0.display())]
    NotARun(PathBuf),
}

impl RunDir {
    /// Makes a folder for a new run. An older run there is kept: its folder is renamed to `PATH.1` (or the next free number) and
    /// that name is returned, to be told to the user.
    ///
    /// # Errors
    /// The folder cannot be made or written, belongs to a running process, or holds something that is not a run.
    pub fn create(path: &Path) -> Result<(Self, Option<PathBuf>), RunDirError> {
        let mut moved = None;
        if path.join(LOCK).exists() {
            // Whoever holds the lock of the older run must have ended. Held until after the rename, so that nobody resumes it meanwhile.
            let _old = lock(path)?;
            let to = next_free(path);
            fs::rename(path, &to).map_err(failed("move the older run in", path))?;
            moved = Some(to);
        } else if path.is_dir() && fs::read_dir(path).map_err(failed("read", path))?.next().is_some() {
            return Err(RunDirError::Foreign(path.into()));
        }
        fs::create_dir_all(path).map_err(failed("create the run folder", path))?;
        Ok((Self { path: path.into(), _lock: lock(path)? }, moved))
    }

    /// Opens the folder of an earlier run to go on with it.
    ///
    /// # Errors
    /// It is no run folder, cannot be written, or belongs to a running process.
    pub fn resume(path: &Path) -> Result<Self, RunDirError> {
        if !path.join(LOCK).is_file() {
            return Err(RunDirError::NotARun(path.into()));
        }
        Ok(Self { path: path.into(), _lock: lock(path)? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file whole or not at all; see [`write_atomic`].
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        let path = self.join(name);
        write_atomic(&path, bytes).map_err(failed("write", &path))
    }

    /// As [`RunDir::write`], for a writer that streams.
    ///
    /// # Errors
    /// The disk or the writer refuses.
    pub fn write_with(&self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), RunDirError> {
        let path = self.join(name);
        write_atomic_with(&path, fill).map_err(failed("write", &path))
    }

    /// Fills a new folder and then puts it in the place of `name`: a reader sees the old files, for a moment none, or the new ones,
    /// never a mixture.
    ///
    /// # Errors
    /// `fill` fails, with its error, or the disk refuses.
    pub fn replace_dir<E: From<RunDirError>>(&self, name: &str, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
        let (path, new, old) = (self.join(name), self.join(&format!(".{name}.new")), self.join(&format!(".{name}.old")));
        for left_over in [&new, &old] {
            remove_dir(left_over)?;
        }
        fs::create_dir(&new).map_err(failed("create", &new))?;
        fill(&new)?;
        if path.exists() {
            fs::rename(&path, &old).map_err(failed("replace", &path))?;
        }
        fs::rename(&new, &path).map_err(failed("replace", &path))?;
        Ok(remove_dir(&old)?)
    }
}

/// Writes a file whole or not at all, at whatever moment the process or the machine stops: a neighbour is written, brought to the
/// disk and renamed.
///
/// # Errors
/// The disk refuses; the old file is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic_with(path, |w| w.write_all(bytes))
}

/// As [`write_atomic`], for a writer that streams.
///
/// # Errors
/// As [`write_atomic`], or what `fill` returns.
pub fn write_atomic_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    let written = File::create(&temporary).and_then(|file| {
        let mut writer = BufWriter::new(file);
        fill(&mut writer)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The rename itself reaches the disk with the folder; only Unix can open one.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn lock(folder: &Path) -> Result<File, RunDirError> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("write to", folder))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunDirError::Busy(folder.into())),
        Err(TryLockError::Error(source)) => Err(RunDirError::Io { action: "lock", path: folder.into(), source }),
    }
}

fn next_free(path: &Path) -> PathBuf {
    // Without the slash that completion puts at the end.
    let plain: PathBuf = path.components().collect();
    let numbered = |n: usize| {
        let mut name = plain.clone().into_os_string();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    (1..).map(numbered).find(|p| !p.exists()).expect("numbers do not end")
}

fn remove_dir(path: &Path) -> Result<(), RunDirError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_path_buf();
    move |source| RunDirError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, gone with the guard.
    struct Temp(PathBuf);
    impl Temp {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("grpo-rundir-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }
    impl Drop for Temp {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn an_older_run_is_moved_aside_and_a_living_one_is_left_alone() {
        let temp = Temp::new("older");
        let out = temp.0.join("runs/a");
        let (first, moved) = RunDir::create(&out).unwrap();
        assert_eq!(moved, None);
        first.write("who", b"first").unwrap();
        for e in [RunDir::create(&out).unwrap_err(), RunDir::resume(&out).unwrap_err()] {
            assert!(matches!(e, RunDirError::Busy(_)), "{e}");
        }
        drop(first);
        let resumed = RunDir::resume(&out).unwrap();
        assert_eq!(fs::read(resumed.join("who")).unwrap(), b"first");
        drop(resumed);

        let (second, moved) = RunDir::create(&out).unwrap();
        assert_eq!(moved, Some(temp.0.join("runs/a.1")));
        assert_eq!(fs::read(temp.0.join("runs/a.1/who")).unwrap(), b"first");
        assert!(!second.join("who").exists());
        drop(second);
        assert_eq!(RunDir::create(&temp.0.join("runs/a/")).unwrap().1, Some(temp.0.join("runs/a.2")));
    }

    #[test]
    fn what_cannot_be_a_run_folder_is_refused() {
        let temp = Temp::new("refused");
        fs::write(temp.0.join("thesis.tex"), "").unwrap();
        assert!(matches!(RunDir::create(&temp.0).unwrap_err(), RunDirError::Foreign(_)));
        assert!(matches!(RunDir::resume(&temp.0).unwrap_err(), RunDirError::NotARun(_)));
        let below_a_file = temp.0.join("thesis.tex/run");
        let e = RunDir::create(&below_a_file).unwrap_err().to_string();
        assert!(e.contains("cannot create the run folder") && e.contains("thesis.tex/run"), "{e}");
        assert_eq!(fs::read_dir(&temp.0).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let temp = Temp::new("atomic");
        let (run, _) = RunDir::create(&temp.0.join("run")).unwrap();
        run.write("state", b"good").unwrap();
        let torn = run.write_with("state", |w| {
            w.write_all(b"half")?;
            Err(io::Error::other("power cut"))
        });
        assert!(torn.unwrap_err().to_string().contains("power cut"));
        assert_eq!(fs::read(run.join("state")).unwrap(), b"good");
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 2, "the lock and the state");
    }

    #[test]
    fn a_folder_is_replaced_as_a_whole() {
        let temp = Temp::new("replace");
        let (run, _) = RunDir::create(&temp.0.join("run")).unwrap();
        run.replace_dir("model", |d| run.write(&format!("{}/a", d.file_name().unwrap().display()), b"1")).unwrap();
        let failed = run.replace_dir("model", |d| Err(RunDirError::Foreign(d.into())));
        assert!(failed.is_err());
        assert!(run.join("model/a").exists());
        run.replace_dir::<RunDirError>("model", |_| Ok(())).unwrap();
        assert!(run.join("model").exists() && !run.join("model/a").exists());
    }
}
