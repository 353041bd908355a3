//! `metrics.jsonl`: a line with the format, then a line per step and a line per evaluation.
//!
//! Values are named; a stage writes those that it has (pre-training has no reward). A value that is not finite is never written,
//! the writer refuses the record and names the key. A record is one `write`, so a run killed at any moment leaves at most one broken
//! line, the last, which [`read`] leaves out and [`MetricsWriter::resume`] removes.

mod values;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::checksum::checksum;
use crate::eval_stats::Score;
use crate::file_error::{FileError, cannot};
use crate::rundir::RunFormat;

pub use values::Values;

/// One training step.
///
/// Every stage has `loss` (where it trains), `lr`, `grad_norm`, `tokens` (those that went through the model, sampled and trained on),
/// `tokens_per_second` and `seconds`. Stages that learn by reinforcement have, in TRL's words where it has them:
///
/// | name | value |
/// |---|---|
/// | `reward`, `reward_std`, `rewards/PART/mean` | mean reward of the rollout; mean over groups of its standard deviation; a part of it |
/// | `frac_reward_zero_std` | share of groups whose answers all got the same reward: they teach nothing |
/// | `accuracy`, `format` | share of right answers, and of those in the template |
/// | `completion_length`, `max_completion_length`, `clipped_ratio` | mean tokens of an answer, their limit, the share that it cut |
/// | `kl`, `entropy` | k3 estimate of the KL divergence from the reference, and entropy of the next token, per token in nats |
/// | `clip_ratio` | share of tokens whose ratio was clipped |
/// | `logprob_max_diff` | largest difference of a log-probability while sampling and in the training pass, over the step's first minibatch, before any update; 0 is bit for bit |
/// | `expert_load/LAYER` | the busiest expert's load over the mean load |
/// | `length_right`, `length_wrong` | mean tokens of right and of wrong answers |
///
/// and the columns of their tasks ([`Column`](crate::task::Column)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The stage's name.
    pub stage: String,
    /// Steps done in this stage, this one included.
    pub step: usize,
    /// What came out.
    #[serde(flatten)]
    pub values: Values,
}

impl StepMetrics {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name)
    }

    /// The busiest expert's load over the mean, in the layer where that is highest.
    pub fn busiest_expert(&self) -> Option<f64> {
        let loads = self.values.iter().filter(|(name, _)| name.starts_with("expert_load/")).map(|(_, load)| load);
        loads.reduce(f64::max)
    }
}

/// What a policy scores on one set of problems: the objects `base` and `final` of `summary.json`.
///
/// In JSON `{"pass@1": 0.17, "pass@16": 0.92, "completion_length": 36.4, …, "ci": {"pass@1": [0.15, 0.2], …}, "behaviour": {…}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Intervals of the values that have one, by the value's key.
    pub ci: BTreeMap<String, [f64; 2]>,
    /// What the answers did.
    pub behaviour: Values,
    /// By key: `pass@k` (unbiased estimator, arXiv 2107.03374), `cons@k` (accuracy of the majority of k answers, where one answer
    /// is right), `completion_length`, `format`, `clipped_ratio`.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

impl Scores {
    /// Adds a value with its interval.
    pub fn set(&mut self, key: &str, Score { value, low, high }: Score) {
        self.values.insert(key.into(), value);
        self.ci.insert(key.into(), [low, high]);
    }

    /// Adds a value without one.
    pub fn set_value(&mut self, key: &str, value: f64) {
        self.values.insert(key.into(), value);
    }

    /// A value with its interval; without one the interval is the value itself.
    pub fn get(&self, key: &str) -> Option<Score> {
        let value = *self.values.get(key)?;
        let [low, high] = self.ci.get(key).copied().unwrap_or([value, value]);
        Some(Score { value, low, high })
    }
}

/// One answer, kept for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question as a reader writes it.
    pub question: String,
    /// All that the policy wrote, tags and verdicts included.
    pub text: String,
    /// Whether it is right.
    pub correct: bool,
    /// Its tokens.
    pub tokens: usize,
}

/// One evaluation on held-out problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalMetrics {
    /// The stage whose policy was measured.
    pub stage: String,
    /// Steps done in that stage.
    pub step: usize,
    /// The task of its problems.
    pub task: String,
    /// How many distinct ones.
    pub problems: usize,
    /// Answers sampled for each.
    pub samples: usize,
    /// The limit on an answer's tokens.
    pub max_completion_length: usize,
    /// Tokens sampled.
    pub tokens: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The first answer to each of the first few problems, the same problems in every evaluation.
    pub answers: Vec<Answer>,
    /// What came out.
    #[serde(flatten)]
    pub scores: Scores,
}

/// A line of `metrics.jsonl`: an evaluation has `"event": "eval"`, a step has `"event": "step"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// A training step.
    Step(StepMetrics),
    /// An evaluation.
    Eval(EvalMetrics),
}

/// What a line is. The first holds the format; in older files none does.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Format {
        format: RunFormat,
    },
    #[serde(other)]
    Record,
}

/// What is wrong with a metrics file, or with a record for one.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line, not the last, is no record.
    #[error("{}, line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was expected.
        message: String,
    },
    /// A value is NaN or infinite.
    #[error("{key} is {value} at step {step} of stage {stage}")]
    NonFinite {
        /// The key of the value.
        key: String,
        /// NaN or an infinity.
        value: f64,
        /// Where it arose.
        stage: String,
        /// Where it arose.
        step: usize,
    },
    /// The file holds fewer lines than the state that is resumed knows of.
    #[error("{} has {found} lines, the saved state was written after {expected}: put the file back as it was, or begin a new run",
        path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// Complete lines in it.
        found: usize,
        /// Lines there were.
        expected: usize,
    },
    /// The file holds other lines than when the state that is resumed was saved.
    #[error("{}: the first {lines} lines are not those that were written (their checksum differs): \
             put the file back as it was, or begin a new run", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Lines there were.
        lines: usize,
    },
}

impl Record {
    /// Refuses a record with a value that is not finite.
    ///
    /// # Errors
    /// [`MetricsError::NonFinite`] names the first such key.
    pub fn check_finite(&self) -> Result<(), MetricsError> {
        // JSON would write NaN as null; TOML's value keeps it, with its key.
        let value = toml::Value::try_from(self).expect("a record is a TOML table");
        let (stage, step) = match self {
            Self::Step(s) => (&s.stage, s.step),
            Self::Eval(e) => (&e.stage, e.step),
        };
        match non_finite(&value, "") {
            Some((key, value)) => Err(MetricsError::NonFinite { key, value, stage: stage.clone(), step }),
            None => Ok(()),
        }
    }
}

fn non_finite(value: &toml::Value, key: &str) -> Option<(String, f64)> {
    let join = |k: &str| {
        if key.is_empty() { k.to_string() } else { format!("{key}.{k}") }
    };
    match value {
        toml::Value::Float(f) if !f.is_finite() => Some((key.into(), *f)),
        toml::Value::Array(a) => a.iter().enumerate().find_map(|(i, v)| non_finite(v, &format!("{key}[{i}]"))),
        toml::Value::Table(t) => t.iter().find_map(|(k, v)| non_finite(v, &join(k))),
        _ => None,
    }
}

/// Appends records to `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    written: Written,
}

/// What a metrics file held when a state was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The first, which holds the format, and one for each record.
    pub lines: usize,
    /// Their [`checksum`], line after line.
    pub checksum: u64,
}

impl Written {
    /// With a line more.
    fn and(self, line: &[u8]) -> Written {
        Written { lines: self.lines + 1, checksum: checksum(self.checksum, line) }
    }
}

impl MetricsWriter {
    /// Starts a new file, without records yet.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        let file = File::create(path).map_err(cannot("create", path))?;
        let mut new = Self { path: path.into(), file, written: Written::default() };
        new.append(&Line::Format { format: RunFormat })?;
        Ok(new)
    }

    /// Goes on after the records that were `written` when the resumed state was saved; what came later is dropped, for it will be
    /// written again.
    ///
    /// # Errors
    /// The file cannot be read or rewritten, has fewer lines than that, or other ones.
    pub fn resume(path: &Path, written: Written) -> Result<Self, MetricsError> {
        let text = fs::read(path).map_err(cannot("read", path))?;
        let lines = || text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n"));
        let (mut found, mut end) = (Written::default(), 0);
        for line in lines().take(written.lines) {
            (found, end) = (found.and(line), end + line.len());
        }
        if found.lines < written.lines {
            return Err(MetricsError::Shorter { path: path.into(), found: found.lines, expected: written.lines });
        }
        if found != written {
            return Err(MetricsError::Changed { path: path.into(), lines: written.lines });
        }
        if end < text.len() {
            nn::write_atomic(path, &text[..end]).map_err(cannot("write", path))?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(cannot("write", path))?;
        Ok(Self { path: path.into(), file, written })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// A value is not finite (nothing is written then), or the disk refuses.
    pub fn write(&mut self, record: &Record) -> Result<(), MetricsError> {
        record.check_finite()?;
        self.append(record)
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), MetricsError> {
        let mut line = serde_json::to_vec(line).expect("plain data");
        line.push(b'\n');
        self.file.write_all(&line).map_err(cannot("write", &self.path))?;
        self.written = self.written.and(&line);
        Ok(())
    }

    /// Brings what was written to the disk, so that a state which counts these lines can follow.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<(), MetricsError> {
        Ok(self.file.sync_data().map_err(cannot("write", &self.path))?)
    }

    /// What is in the file: a saved state must remember it for [`MetricsWriter::resume`].
    pub fn written(&self) -> Written {
        self.written
    }
}

/// Reads the records of `metrics.jsonl`, without a last line that was cut while it was written.
///
/// # Errors
/// The file cannot be read or has another format, or a complete line is no record.
pub fn read(path: &Path) -> Result<Vec<Record>, MetricsError> {
    let text = fs::read(path).map_err(cannot("read", path))?;
    let complete = text.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let parse = |(i, line)| {
        let parsed = serde_json::from_slice(line).and_then(|kind| match kind {
            Line::Format { .. } => Ok(None),
            Line::Record => serde_json::from_slice(line).map(Some),
        });
        parsed.map_err(|e| MetricsError::Parse { path: path.into(), line: i + 1, message: e.to_string() }).transpose()
    };
    text[..complete].split_inclusive(|b| *b == b'\n').enumerate().filter_map(parse).collect()
}

#[cfg(test)]
mod tests;
