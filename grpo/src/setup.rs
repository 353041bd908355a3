//! What a run is made of, and how a run folder remembers it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use nn::Notice;
use serde::{Deserialize, Serialize};
use tensor::Device;

use crate::config::{Control, RunConfig, RunConfigError};
use crate::countdown::CountdownConfig;
use crate::jsonl::{self, DataError, read_countdown};
use crate::problem::{Problem, ProblemSet, TaskError};
use crate::rng::Rng;
use crate::rundir::{CONFIG, EVAL, PROBLEMS, RunDir, RunDirError, RunFormat, SETUP, check_resumable, read_formatted};
use crate::state::{self, StateError};

/// A setup that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] RunConfigError),
    /// A file of problems.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The ranges of the task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A file of problems of which none may be trained on.
    #[error("{}: every problem in it is held out, none is left to train on", .0.display())]
    AllHeldOut(PathBuf),
    /// A base model that learned from another corpus than the control experiment says.
    #[error("--base {}: it was not made {}, which changes what a base model learns from", path.display(), how(*.expected))]
    BaseOfOtherCorpus {
        /// Where the base model is.
        path: PathBuf,
        /// The control that this run asks for.
        expected: Option<Control>,
    },
    /// A base model that may have been trained on what this run measures.
    #[error(
        "{}: {seen} of the {held_out} problems that are held out here were not held out there: \
         make the base model with the same --eval and [task]",
        path.display()
    )]
    BaseHasSeen {
        /// Where the base model is.
        path: PathBuf,
        /// Problems that it may have seen.
        seen: usize,
        /// Problems that this run holds out.
        held_out: usize,
    },
    /// A run that began on another device.
    #[error("this run began on {recorded}: it goes on bit for bit only there, not on {given}")]
    OtherDevice {
        /// Where it began.
        recorded: String,
        /// Where it should go on.
        given: String,
    },
    /// No run folder.
    #[error(transparent)]
    Dir(#[from] RunDirError),
    /// The saved state, or what belongs to it.
    #[error(transparent)]
    State(#[from] StateError),
    /// `setup.json`.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

fn how(control: Option<Control>) -> String {
    control.map_or("without a --control".into(), |control| format!("with --control {control}"))
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Every hyperparameter, a control experiment already applied.
    pub config: RunConfig,
    /// Problems to train on and those held out.
    pub problems: ProblemSet,
    /// The text of the user's own evaluation set, of which the base model and the final policy answer every problem. Kept in memory:
    /// the file may lie in an older run's folder, which is about to be moved, or be a pipe.
    pub eval_file: Option<Vec<u8>>,
    /// The RL stage's problems, instead of drawn ones, and the text that they come from; none of them is held out.
    pub rl_problems: Option<(Vec<u8>, Vec<Problem>)>,
    /// A finished base model, instead of pre-training one.
    pub base: Option<PathBuf>,
    /// The control experiment, if it is one.
    pub control: Option<Control>,
    /// Where it computes.
    pub device: Device,
    /// The program and its arguments, for the record.
    pub command: String,
    /// What the user should know of the files given.
    pub notices: Vec<Notice>,
}

/// `setup.json`: what the folder remembers beside configuration and problems.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupFile {
    #[serde(default)]
    format: RunFormat,
    pub(crate) base: Option<PathBuf>,
    control: Option<Control>,
    device: String,
    command: String,
}

impl SetupFile {
    pub(crate) fn read(folder: &Path) -> Result<SetupFile, SetupError> {
        let path = folder.join(SETUP);
        let text = fs::read_to_string(&path).map_err(|e| e.to_string());
        text.and_then(|text| read_formatted(&text)).map_err(|message| SetupError::File { path, message })
    }
}

/// The name of the device that the run in a folder computes on.
///
/// # Errors
/// It is no run folder, or not as the run left it.
pub fn device_of(folder: &Path) -> Result<String, SetupError> {
    check_resumable(folder)?;
    state::check(folder)?;
    Ok(SetupFile::read(folder)?.device)
}

impl Setup {
    /// A setup with the problems that the configuration describes.
    ///
    /// # Errors
    /// A value out of range.
    pub fn new(
        mut config: RunConfig,
        control: Option<Control>,
        base: Option<PathBuf>,
        device: Device,
    ) -> Result<Setup, SetupError> {
        if let Some(control) = control {
            control.apply(&mut config);
        }
        config.validate()?;
        let problems = ProblemSet::from_config(&config.task)?;
        let (command, notices) = (String::new(), Vec::new());
        Ok(Setup { config, problems, eval_file: None, rl_problems: None, base, control, device, command, notices })
    }

    /// The same, measured on the Countdown problems of a file, which pre-training, drills and RL then never see. One that is listed
    /// several times is measured once: copies would make an interval as of so many problems.
    ///
    /// # Errors
    /// The first line that is no such problem, by its number.
    pub fn evaluated_on(mut self, path: &Path) -> Result<Setup, SetupError> {
        let text = jsonl::load(path)?;
        let mut problems = read_countdown(&text, path, self.problems.countdown_config())?;
        let (listed, mut seen) = (problems.len(), HashSet::new());
        problems.retain(|problem| seen.insert(problem.clone()));
        if problems.len() < listed {
            let copies = listed - problems.len();
            self.notice(format!("{}: {copies} of {listed} problems are copies of others and are left out", path.display()));
        }
        self.problems = self.problems.evaluated_on(problems)?;
        self.eval_file = Some(text);
        Ok(self)
    }

    /// The same with RL on the Countdown problems of a file, without those held out; call it after
    /// [`evaluated_on`](Setup::evaluated_on).
    ///
    /// # Errors
    /// The first line that is no such problem, by its number, or a file whose problems are all held out.
    pub fn trained_on(mut self, path: &Path) -> Result<Setup, SetupError> {
        let text = jsonl::load(path)?;
        let given = read_countdown(&text, path, &CountdownConfig::try_from(&self.config.task)?)?;
        let all = given.len();
        let kept: Vec<Problem> = given.into_iter().map(Problem::from).filter(|p| !self.problems.is_held_out(p)).collect();
        if kept.is_empty() {
            return Err(SetupError::AllHeldOut(path.into()));
        }
        if kept.len() < all {
            let held_out = all - kept.len();
            self.notice(format!("{}: {held_out} of {all} problems are held out and are left out", path.display()));
        }
        self.rl_problems = Some((text, kept));
        Ok(self)
    }

    fn notice(&mut self, words: String) {
        self.notices.push(Notice(words));
    }

    /// The problems of an RL step, counted from 0: a function of the seed and the step.
    pub fn questions(&self, step: usize) -> Vec<Problem> {
        let mut rng = Rng::new(self.config.seed, "questions", step as u64);
        let one = || match &self.rl_problems {
            Some((_, given)) => given[rng.below(given.len())].clone(),
            None => self.problems.countdown(&mut rng).into(),
        };
        std::iter::repeat_with(one).take(self.config.rl.questions).collect()
    }

    /// Whether the given base model may be measured on the problems that are held out here: it must not have been trained on them,
    /// and its corpus must be the one of the control experiment. A run folder tells; about a bare checkpoint, or where the run had its
    /// base model from another, there is a notice.
    ///
    /// # Errors
    /// It was trained otherwise, or its folder cannot be read.
    pub fn check_base(&self) -> Result<Option<Notice>, SetupError> {
        let Some(path) = self.base.clone() else { return Ok(None) };
        let corpus = |control: Option<Control>| control.filter(|c| c.changes_base());
        let expected = corpus(self.control);
        if !path.join(SETUP).is_file() {
            let unknown = "nothing tells what this model was trained on; it may have seen the problems that are held out here";
            return match expected {
                Some(_) => Err(SetupError::BaseOfOtherCorpus { path, expected }),
                None => Ok(Some(Notice(format!("{}: {unknown}", path.display())))),
            };
        }
        let theirs = Setup::load(&path, self.device.clone())?;
        if corpus(theirs.control) != expected {
            return Err(SetupError::BaseOfOtherCorpus { path, expected });
        }
        let ours = self.problems.held_out_countdown();
        let seen = ours.iter().filter(|p| theirs.problems.may_be_trained_on(p)).count();
        if seen > 0 {
            return Err(SetupError::BaseHasSeen { path, seen, held_out: ours.len() });
        }
        let unchecked = "whether that one has seen the problems that are held out here is not known";
        Ok(theirs.base.map(|of| Notice(format!("{}: its base model came from {}; {unchecked}", path.display(), of.display()))))
    }

    /// Writes everything that [`Setup::load`] needs.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, dir: &RunDir) -> Result<(), RunDirError> {
        dir.write(CONFIG, self.config.to_toml().as_bytes())?;
        for (name, text) in [(EVAL, self.eval_file.as_ref()), (PROBLEMS, self.rl_problems.as_ref().map(|(text, _)| text))] {
            if let Some(text) = text {
                dir.write(name, text)?;
            }
        }
        let (base, device, command) = (self.base.clone(), self.device.name(), self.command.clone());
        let file = SetupFile { format: RunFormat, base, control: self.control, device, command };
        dir.write(SETUP, &serde_json::to_vec_pretty(&file).expect("plain data"))
    }

    /// The setup of the run in a folder.
    ///
    /// # Errors
    /// Something is missing or not valid.
    pub fn load(folder: &Path, device: Device) -> Result<Setup, SetupError> {
        let config = RunConfig::default().overlay(&folder.join(CONFIG))?;
        let file = SetupFile::read(folder)?;
        // The configuration in the folder has the control applied already.
        let mut setup = Setup { base: file.base, control: file.control, ..Setup::new(config, None, None, device)? };
        setup.command = file.command;
        let (eval, problems) = (folder.join(EVAL), folder.join(PROBLEMS));
        if eval.is_file() {
            setup = setup.evaluated_on(&eval)?;
        }
        if problems.is_file() {
            setup = setup.trained_on(&problems)?;
        }
        Ok(setup)
    }
}
