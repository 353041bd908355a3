//! `report.html` and `curve.svg`: the run folder as a page, written from the files in it and nothing else.
//!
//! The page is one file without scripts or links, so that it can be sent, and it can be written while the run goes on.

mod answers;
mod figures;
mod page;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nn::write_atomic;

use crate::chart;
use crate::config::{RunConfig, RunConfigError};
use crate::cost::Summary;
use crate::file_error::{FileError, cannot};
use crate::metrics::{self, EvalMetrics, EvalTask, MetricsError, Record, Stage, StepMetrics};
use crate::rundir::{CONFIG, EVAL, METRICS, SUMMARY, read_formatted};
use crate::setup::{SetupError, SetupFile};

/// A run as its folder has recorded it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// `config.toml`.
    pub config: RunConfig,
    /// `metrics.jsonl`.
    pub records: Vec<Record>,
    /// `summary.json`, once the run has ended.
    pub summary: Option<Summary>,
    /// Whether the problems it is measured on are the user's own: the folder holds them then.
    pub own_eval: bool,
    /// Where its base model is from.
    pub base: Base,
}

/// Where the base model of a run is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Stage *base* of this run, on the corpus of its configuration.
    Trained,
    /// Its weights are random.
    Untrained,
    /// Another place: about what it has learned from nothing is recorded here.
    Given,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// `metrics.jsonl` is missing or broken.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// `config.toml` is missing or broken.
    #[error(transparent)]
    Config(#[from] RunConfigError),
    /// `setup.json` is missing or broken.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// `summary.json` is broken.
    #[error("{}: {message}", path.display())]
    Summary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Recorded {
    /// Reads `config.toml`, `setup.json`, `metrics.jsonl` and, if there is one, `summary.json` of a run folder.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn load(dir: &Path) -> Result<Self, ReportError> {
        let config = RunConfig::default().overlay(&dir.join(CONFIG))?;
        let records = metrics::read(&dir.join(METRICS))?;
        let path = dir.join(SUMMARY);
        let broken = |message: String| ReportError::Summary { path: path.clone(), message };
        let summary = match fs::read_to_string(&path) {
            Ok(text) => Some(read_formatted(&text).map_err(broken)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(broken(e.to_string())),
        };
        let base = match SetupFile::read(dir)?.base {
            Some(_) => Base::Given,
            None if config.base.steps == 0 => Base::Untrained,
            None => Base::Trained,
        };
        Ok(Self { config, records, summary, own_eval: dir.join(EVAL).is_file(), base })
    }

    /// The steps of a stage.
    pub fn steps(&self, stage: Stage) -> impl Iterator<Item = &StepMetrics> {
        let steps = self.records.iter().filter_map(|r| match r {
            Record::Step(s) => Some(s),
            Record::Eval(_) => None,
        });
        steps.filter(move |s| s.stage == stage)
    }

    /// The RL steps in which the answers to each question all got the same reward, and those of them in which that was 0.
    pub fn steps_without_advantage(&self) -> (usize, usize) {
        let same = self.steps(Stage::R1Zero).filter(|s| s.frac_reward_zero_std == Some(1.0));
        same.fold((0, 0), |(all, zero), s| (all + 1, zero + usize::from(s.reward == Some(0.0))))
    }

    /// The evaluations on a task.
    pub fn evals(&self, task: EvalTask) -> impl Iterator<Item = &EvalMetrics> {
        let evals = self.records.iter().filter_map(|r| match r {
            Record::Eval(e) => Some(e),
            Record::Step(_) => None,
        });
        evals.filter(move |e| e.task == task)
    }

    /// The evaluations on a task of the base model and, after at least one RL step, of the policy as it is now.
    pub fn before_and_after(&self, task: EvalTask) -> (Option<&EvalMetrics>, Option<&EvalMetrics>) {
        let last = |stage| self.evals(task).filter(|e| e.stage == stage).last();
        (last(Stage::Base), last(Stage::R1Zero))
    }
}

/// Writes `report.html` and `curve.svg` into a run folder.
///
/// # Errors
/// A file of the run is missing or broken, or a file cannot be written.
pub fn write(dir: &Path) -> Result<(), ReportError> {
    let run = Recorded::load(dir)?;
    for (name, text) in [("report.html", page::html(&run)), ("curve.svg", curve(&run))] {
        let path = dir.join(name);
        write_atomic(&path, text.as_bytes()).map_err(cannot("write", &path))?;
    }
    Ok(())
}

/// The learning curve as a picture of its own: accuracy above, length below.
pub fn curve(run: &Recorded) -> String {
    chart::svg(&figures::curve(run), 860.0, 230.0, true)
}

/// The curves of several runs, by name and folder, in one picture of its own.
///
/// # Errors
/// A file is missing or broken.
pub fn compare(runs: &[(&str, &Path)]) -> Result<String, ReportError> {
    let runs = runs.iter().map(|&(name, folder)| Ok((name, Recorded::load(folder)?))).collect::<Result<Vec<_>, ReportError>>()?;
    Ok(chart::svg(&figures::comparison(&runs), 860.0, 250.0, true))
}

#[cfg(test)]
mod tests;
