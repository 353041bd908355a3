//! The run folder: made, locked, written so that no file in it is ever half there.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use nn::write_atomic;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::file_error::{FileError, cannot};

/// Marks a folder as a run's and is locked while the run lives. The lock is the operating system's: it goes with the process.
const LOCK: &str = ".lock";

/// The format of a run folder's files, raised whenever older ones are not understood any more.
const FORMAT: u32 = 2;

/// The complete configuration.
pub const CONFIG: &str = "config.toml";
/// What a run is made of beside configuration and problems.
pub const SETUP: &str = "setup.json";
/// The user's own evaluation set.
pub const EVAL: &str = "eval.jsonl";
/// The user's own problems for RL.
pub const PROBLEMS: &str = "problems.jsonl";
/// A record for each step and each evaluation.
pub const METRICS: &str = "metrics.jsonl";
/// The run in one object.
pub const SUMMARY: &str = "summary.json";
/// What a run goes on from.
pub const STATE: &str = "state.safetensors";

/// The `format` of each file in a run folder: the number of this program's format. Any other is refused when it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RunFormat;

impl From<RunFormat> for u32 {
    fn from(_: RunFormat) -> u32 {
        FORMAT
    }
}

impl TryFrom<u32> for RunFormat {
    type Error = String;

    fn try_from(format: u32) -> Result<RunFormat, String> {
        match format {
            FORMAT => Ok(RunFormat),
            _ => Err(format!("it has the format {format}, this program reads format {FORMAT}")),
        }
    }
}

/// What is looked at before everything else in a file. One that is older than such numbers has none.
#[derive(Deserialize)]
pub(crate) struct Head {
    #[serde(default, rename = "format")]
    _format: RunFormat,
}

/// Reads a JSON object of this program's format.
///
/// # Errors
/// What is wrong, in words.
pub fn read_formatted<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str::<Head>(text).and_then(|_| serde_json::from_str(text)).map_err(|e| e.to_string())
}

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
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process writes there.
    #[error("another run is writing to {}: stop it, or choose another folder with --out", .0.display())]
    Busy(PathBuf),
    /// The folder holds something else, which a run must not move or mix with its own files.
    #[error("{} is not empty and not a run folder: choose another with --out", .0.display())]
    Foreign(PathBuf),
    /// Nothing to resume.
    #[error("{} is not a run folder: there is nothing to resume", .0.display())]
    NotARun(PathBuf),
    /// A run that ended before it had saved anything.
    #[error("the run in {} was stopped before its first state was saved: begin it again with --out", .0.display())]
    NoState(PathBuf),
}

/// Whether there is something to resume in a folder.
///
/// # Errors
/// [`RunDirError::NotARun`] or [`RunDirError::NoState`].
pub fn check_resumable(folder: &Path) -> Result<(), RunDirError> {
    if !folder.join(LOCK).is_file() {
        return Err(RunDirError::NotARun(folder.into()));
    }
    if folder.join(STATE).exists() { Ok(()) } else { Err(RunDirError::NoState(folder.into())) }
}

impl RunDir {
    /// Makes a folder for a new run. An older run there is kept: its folder is renamed to `PATH.1` (or the next free number) and
    /// that name is returned, for the user to be informed.
    ///
    /// # Errors
    /// The folder cannot be made or written, belongs to a running process, or holds something that is not a run.
    pub fn create(path: &Path) -> Result<(Self, Option<PathBuf>), RunDirError> {
        let mut moved = None;
        // The lock is looked at last: one that another run has made since is not taken for somebody's files.
        let is_foreign = || -> Result<bool, RunDirError> {
            let holds_something = path.is_dir() && fs::read_dir(path).map_err(cannot("read", path))?.next().is_some();
            Ok(holds_something && !path.join(LOCK).exists())
        };
        // Twice, because another run may move an older one away between the two looks.
        if is_foreign()? && is_foreign()? {
            return Err(RunDirError::Foreign(path.into()));
        }
        if path.join(LOCK).exists() {
            // Whoever holds the lock of the older run must have ended. Held until after the rename, so that nobody resumes it meanwhile.
            let _old = lock(path)?;
            let to = next_free(path);
            fs::rename(path, &to).map_err(cannot("move the older run in", path))?;
            moved = Some(to);
        }
        fs::create_dir_all(path).map_err(cannot("create the run folder", path))?;
        Ok((Self { path: path.into(), _lock: lock(path)? }, moved))
    }

    /// Opens the folder of an earlier run to go on with it.
    ///
    /// # Errors
    /// It is no run folder, holds no state, cannot be written, or belongs to a running process.
    pub fn resume(path: &Path) -> Result<Self, RunDirError> {
        check_resumable(path)?;
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
        Ok(write_atomic(&path, bytes).map_err(cannot("write", &path))?)
    }

    /// Fills a new folder and then puts it in the place of `name`: a reader sees the old files, for a moment none, or the new ones,
    /// never a mixture.
    ///
    /// # Errors
    /// `fill` fails, with its error, or the disk refuses.
    pub fn replace_dir<E: From<RunDirError>>(&self, name: &str, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
        let (path, new, old) = (self.join(name), self.join(&format!(".{name}.new")), self.join(&format!(".{name}.old")));
        let left_over = remove_dir(&new).and_then(|()| remove_dir(&old));
        left_over.and_then(|()| fs::create_dir(&new).map_err(cannot("create", &new))).map_err(RunDirError::from)?;
        fill(&new)?;
        let aside = if path.exists() { fs::rename(&path, &old) } else { Ok(()) };
        let replaced = aside.and_then(|()| fs::rename(&new, &path)).map_err(cannot("replace", &path));
        Ok(replaced.and_then(|()| remove_dir(&old)).map_err(RunDirError::from)?)
    }
}

fn lock(folder: &Path) -> Result<File, RunDirError> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(cannot("write to", folder))?;
    match file.try_lock() {
        // Before it was locked, another process may have moved its folder aside and begun a run of its own.
        Ok(()) if is_at(&file, &path) => Ok(file),
        Ok(()) | Err(TryLockError::WouldBlock) => Err(RunDirError::Busy(folder.into())),
        Err(TryLockError::Error(e)) => Err(cannot("lock", folder)(e).into()),
    }
}

/// Whether an open file is the one that `path` leads to now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |of: io::Result<fs::Metadata>| of.map(|m| (m.dev(), m.ino())).ok();
    id(file.metadata()).is_some_and(|own| id(fs::metadata(path)) == Some(own))
}

/// Elsewhere a folder with an open file in it cannot be moved.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
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

fn remove_dir(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(e)),
        _ => Ok(()),
    }
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
        first.write(STATE, b"").unwrap();
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

    /// Whoever believes to own the folder owns what is at its path, and is alone.
    #[test]
    fn of_runs_that_begin_at_once_one_goes_on() {
        let temp = Temp::new("at-once");
        let out = temp.0.join("run");
        for round in 0..200 {
            let begin = std::sync::Barrier::new(4);
            let owners: Vec<_> = std::thread::scope(|scope| {
                let run = || {
                    begin.wait();
                    RunDir::create(&out)
                };
                let runs = [(); 4].map(|()| scope.spawn(run));
                runs.into_iter().map(|run| run.join().unwrap()).collect()
            });
            let alive: Vec<&RunDir> = owners.iter().flatten().map(|(run, _)| run).collect();
            assert!(alive.len() <= 1, "round {round}: {} runs in one folder", alive.len());
            assert!(alive.iter().all(|run| is_at(&run._lock, &out.join(LOCK))), "round {round}");
            for refused in owners.iter().filter_map(|o| o.as_ref().err()) {
                assert!(!matches!(refused, RunDirError::Foreign(_)), "round {round}: {refused}");
            }
        }
    }

    #[test]
    fn a_run_killed_before_its_first_state_can_be_begun_again() {
        let temp = Temp::new("no-state");
        let out = temp.0.join("run");
        // What a kill can leave, one file after the other.
        let files = [LOCK, ".config.toml.new", CONFIG, EVAL, SETUP, METRICS, ".state.safetensors.new"];
        for left in 0..=files.len() {
            fs::create_dir_all(&out).unwrap();
            files[..left].iter().for_each(|name| fs::write(out.join(name), "half").unwrap());
            let refused = RunDir::resume(&out).unwrap_err();
            if left > 0 {
                let said = refused.to_string();
                assert!(said.contains("before its first state was saved") && said.contains("--out"), "{said}");
            }
            let (begun, _) = RunDir::create(&out).unwrap();
            assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "after {left} files");
            drop(begun);
            fs::remove_dir_all(&out).unwrap();
        }
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
