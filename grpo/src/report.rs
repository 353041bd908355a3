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
use crate::config::{Kind, RunConfig, RunConfigError, StageConfig};
use crate::cost::Summary;
use crate::file_error::{FileError, cannot};
use crate::metrics::{self, EvalMetrics, MetricsError, Record, StepMetrics};
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
            None if config.stages[0].kind != Kind::Pretrain || config.stages[0].imitation(&config)?.steps == 0 => Base::Untrained,
            None => Base::Trained,
        };
        Ok(Self { config, records, summary, own_eval: dir.join(EVAL).is_file(), base })
    }

    /// The name of the stage that is the base of the others.
    pub fn base_stage(&self) -> &str {
        &self.config.stages[0].name
    }

    /// The names of the stages that reinforce the run's own model, in their order.
    pub fn rl_stages(&self) -> impl Iterator<Item = &str> {
        let of_the_model = |stage: &&StageConfig| matches!(stage.kind, Kind::Grpo | Kind::Ppo) && stage.model.is_empty();
        self.config.stages.iter().filter(of_the_model).map(|stage| stage.name.as_str())
    }

    /// The steps of a stage.
    pub fn steps(&self, stage: &str) -> impl Iterator<Item = &StepMetrics> {
        let steps = self.records.iter().filter_map(|r| match r {
            Record::Step(s) => Some(s),
            Record::Eval(_) => None,
        });
        steps.filter(move |s| s.stage == stage)
    }

    /// The steps of reinforcement, each with its place on an axis on which the stages follow one another.
    pub fn rl_steps(&self) -> Vec<(usize, &StepMetrics)> {
        let mut all = Vec::new();
        let mut before = 0;
        for stage in self.rl_stages() {
            all.extend(self.steps(stage).map(|s| (before + s.step, s)));
            before = all.last().map_or(before, |(at, _)| *at);
        }
        all
    }

    /// The place of an evaluation on that axis: the base stage stands at 0, other stages that do not reinforce nowhere.
    pub fn place(&self, e: &EvalMetrics) -> Option<usize> {
        if e.stage == self.base_stage() {
            return Some(0);
        }
        let mut before = 0;
        for stage in self.rl_stages() {
            if stage == e.stage {
                return Some(before + e.step);
            }
            before += self.steps(stage).last().map_or(0, |s| s.step);
        }
        None
    }

    /// The RL steps in which the answers to each question all got the same reward, and those of them in which that was 0.
    pub fn steps_without_advantage(&self) -> (usize, usize) {
        let steps = self.rl_steps().into_iter().map(|(_, s)| s);
        let same = steps.filter(|s| s.get("frac_reward_zero_std") == Some(1.0));
        same.fold((0, 0), |(all, zero), s| (all + 1, zero + usize::from(s.get("reward") == Some(0.0))))
    }

    /// The tasks that were measured, the first of which the run is about.
    pub fn tasks(&self) -> Vec<&str> {
        let mut tasks = Vec::new();
        for e in self.all_evals() {
            if !tasks.contains(&e.task.as_str()) {
                tasks.push(&e.task);
            }
        }
        tasks
    }

    fn all_evals(&self) -> impl Iterator<Item = &EvalMetrics> {
        self.records.iter().filter_map(|r| match r {
            Record::Eval(e) => Some(e),
            Record::Step(_) => None,
        })
    }

    /// The evaluations on a task.
    pub fn evals(&self, task: &str) -> impl Iterator<Item = &EvalMetrics> {
        self.all_evals().filter(move |e| e.task == task)
    }

    /// The evaluations on the task that the run is about.
    pub fn main_evals(&self) -> impl Iterator<Item = &EvalMetrics> {
        let task = self.all_evals().next().map_or("", |e| e.task.as_str());
        self.evals(task)
    }

    /// The evaluations on a task of the base model and, after at least one step of another stage, of the policy as it is now.
    pub fn before_and_after(&self, task: &str) -> (Option<&EvalMetrics>, Option<&EvalMetrics>) {
        let base = self.evals(task).filter(|e| e.stage == self.base_stage()).last();
        let own = |e: &&EvalMetrics| {
            let stage = self.config.stages.iter().find(|stage| stage.name == e.stage);
            e.stage != self.base_stage() && stage.is_none_or(|stage| stage.model.is_empty())
        };
        (base, self.evals(task).filter(own).last())
    }

    /// As [`before_and_after`](Self::before_and_after), on the task that the run is about.
    pub fn main_before_and_after(&self) -> (Option<&EvalMetrics>, Option<&EvalMetrics>) {
        self.tasks().first().map_or((None, None), |task| self.before_and_after(task))
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
