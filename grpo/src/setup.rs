//! What a run is made of, and how a run folder remembers it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nn::Notice;
use serde::{Deserialize, Serialize};
use tensor::Device;

use crate::config::{Control, Kind, RunConfig, RunConfigError, StageConfig};
use crate::jsonl::{self, DataError};
use crate::rng::{Rng, weighted};
use crate::rundir::{CONFIG, EVAL, PROBLEMS, RunDir, RunDirError, RunFormat, SETUP, check_resumable, read_formatted};
use crate::state::{self, StateError};
use crate::task::{Lesson, Pool, Problem, Task, TaskError};
use crate::tasks::{self, jsonl::JsonlTask};
use crate::tokenizer::Tokenizer;

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
    /// A name that no task has.
    #[error("tasks: expected names that are built in ({}) or of a [[jsonl]], found {name:?}", tasks::BUILT_IN.join(", "))]
    UnknownTask {
        /// The name.
        name: String,
    },
    /// A stage that mixes a task in which the run does not have.
    #[error("stage `{stage}`: expected `tasks` and `mix` to name tasks of the run ({}), found {found:?}", known.join(", "))]
    UnknownMixed {
        /// The stage.
        stage: String,
        /// The tasks that there are.
        known: Vec<String>,
        /// What it names.
        found: String,
    },
    /// A task that has nothing to imitate, in a run that pre-trains on it.
    #[error("task `{0}` has no traces to imitate: give it lessons, or the run a base model (--base) or a base stage of 0 steps")]
    NoTraces(String),
    /// A run with tasks of its user's, resumed without them.
    #[error("this run has tasks of its own ({}): expected them with Run::resume_with, found ({})", expected.join(", "), found.join(", "))]
    OtherTasks {
        /// Their names.
        expected: Vec<String>,
        /// The names of those given.
        found: Vec<String>,
    },
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

/// The pools of a configuration's tasks that need no file.
///
/// # Errors
/// A range makes no task, or a name is of no task that is built in.
pub fn pools(config: &RunConfig) -> Result<Vec<Pool>, SetupError> {
    let mut pools = Vec::new();
    for name in &config.tasks {
        let task = tasks::built_in(name, &config.task, &config.base.habits())?
            .ok_or_else(|| SetupError::UnknownTask { name: name.clone() })?;
        pools.push(Pool::new(task, &Tokenizer::new())?);
    }
    Ok(pools)
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Every hyperparameter, a control experiment already applied.
    pub config: RunConfig,
    /// The tasks, each with the problems to train on and those held out. The first is what the run is about.
    pub pools: Vec<Pool>,
    /// What all of them are written with.
    pub tokenizer: Tokenizer,
    /// The files of `[[jsonl]]` tasks by their names in a run folder, and the text of each.
    pub data: Vec<(String, Vec<u8>)>,
    /// The names of the tasks that a user's program brought.
    pub own_tasks: Vec<String>,
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
    #[serde(default)]
    own_tasks: Vec<String>,
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
    /// A setup with the tasks that the configuration describes.
    ///
    /// # Errors
    /// A value out of range, or a file of problems that cannot be read.
    pub fn new(config: RunConfig, control: Option<Control>, base: Option<PathBuf>, device: Device) -> Result<Setup, SetupError> {
        Self::reading(config, control, base, device, None)
    }

    /// A setup with a user's own tasks, the first of which the run is about, in the place of those that the configuration names.
    ///
    /// # Errors
    /// A value out of range, or a task whose problems cannot be written.
    pub fn with_tasks(
        config: RunConfig,
        tasks: Vec<Arc<dyn Task>>,
        base: Option<PathBuf>,
        device: Device,
    ) -> Result<Setup, SetupError> {
        let own_tasks = tasks.iter().map(|task| task.name().to_owned()).collect();
        let setup = Self::of(config, tasks, base, device)?;
        Ok(Setup { own_tasks, ..setup })
    }

    /// As [`new`](Self::new), with the files of `[[jsonl]]` tasks from a run folder, if one is given.
    fn reading(
        mut config: RunConfig,
        control: Option<Control>,
        base: Option<PathBuf>,
        device: Device,
        folder: Option<&Path>,
    ) -> Result<Setup, SetupError> {
        if let Some(control) = control {
            control.apply(&mut config);
        }
        config.validate()?;
        let (mut all, mut data): (Vec<Arc<dyn Task>>, _) = (Vec::new(), Vec::new());
        for name in &config.tasks {
            if let Some(task) = tasks::built_in(name, &config.task, &config.base.habits())? {
                all.push(task);
                continue;
            }
            let own = config.jsonl.iter().find(|task| task.name == *name);
            let own = own.ok_or_else(|| SetupError::UnknownTask { name: name.clone() })?;
            let [train, test] = [("train", &own.train), ("test", &own.test)].map(|(part, path)| {
                let copy = format!("{name}.{part}.jsonl");
                let text = jsonl::load(folder.map(|folder| folder.join(&copy)).as_ref().unwrap_or(path));
                text.map(|text| (copy, text))
            });
            let (train, test) = (train?, test?);
            all.push(Arc::new(JsonlTask::new(own, &train.1, &test.1)?));
            data.extend([train, test]);
        }
        let setup = Self::of(config, all, base, device)?;
        Ok(Setup { control, data, ..setup })
    }

    fn of(config: RunConfig, tasks: Vec<Arc<dyn Task>>, base: Option<PathBuf>, device: Device) -> Result<Setup, SetupError> {
        config.validate()?;
        let alphabet: String = tasks.iter().map(|task| task.alphabet()).collect();
        let tokenizer = Tokenizer::with(&alphabet);
        let pools = tasks.into_iter().map(|task| Pool::new(task, &tokenizer)).collect::<Result<Vec<_>, _>>()?;
        let (command, notices) = (String::new(), Vec::new());
        let (data, own_tasks, eval_file, rl_problems, control) = (Vec::new(), Vec::new(), None, None, None);
        let setup =
            Setup { config, pools, tokenizer, data, own_tasks, eval_file, rl_problems, base, control, device, command, notices };
        setup.check_stages()?;
        Ok(setup)
    }

    /// Whether the tasks have what the stages ask of them.
    fn check_stages(&self) -> Result<(), SetupError> {
        for (i, stage) in self.config.stages.iter().enumerate() {
            match stage.kind {
                Kind::Pretrain => {
                    let first = &self.pools[0];
                    let learns = stage.imitation(&self.config)?.steps > 0 && !(i == 0 && self.base.is_some());
                    if learns && first.lesson(Lesson::Trace, &mut Rng::new(0, "is there a trace", 0)).is_none() {
                        return Err(SetupError::NoTraces(first.name().into()));
                    }
                }
                Kind::Grpo | Kind::Ppo => self.check_mixed(stage, stage.reinforcement(&self.config)?.tasks.keys())?,
                Kind::Reject => self.check_mixed(stage, stage.rejection(&self.config)?.tasks.keys())?,
                Kind::RewardModel => self.check_mixed(stage, stage.preference(&self.config)?.tasks.keys())?,
                Kind::Sft | Kind::Distill => {
                    let mix = stage.fine_tuning(&self.config)?.mix;
                    let is_stage = |name: &&String| self.config.stages.iter().any(|other| other.name == **name);
                    self.check_mixed(stage, mix.keys().filter(|name| !is_stage(name)))?;
                    for pool in self.pools.iter().filter(|pool| mix.contains_key(pool.name())) {
                        let mut rng = Rng::new(0, "is there a trace", 0);
                        let example = pool.lesson(Lesson::Curated, &mut rng).or_else(|| pool.lesson(Lesson::Trace, &mut rng));
                        if example.is_none() {
                            return Err(SetupError::NoTraces(pool.name().into()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether each name is that of a task.
    fn check_mixed<'a>(&self, stage: &StageConfig, names: impl IntoIterator<Item = &'a String>) -> Result<(), SetupError> {
        let known: Vec<String> = self.pools.iter().map(|pool| pool.name().to_owned()).collect();
        match names.into_iter().find(|name| !known.contains(name)) {
            Some(found) => Err(SetupError::UnknownMixed { stage: stage.name.clone(), known, found: found.clone() }),
            None => Ok(()),
        }
    }

    /// The most tokens that a prompt takes.
    pub fn longest_prompt(&self) -> usize {
        self.pools.iter().map(|pool| pool.task().longest_prompt()).max().unwrap_or(0)
    }

    /// The same, measured on problems of the first task from a file, which no stage then trains on. One that is listed several times is measured once: copies would make an interval as of so many problems.
    ///
    /// # Errors
    /// The first line that is no such problem, by its number.
    pub fn evaluated_on(mut self, path: &Path) -> Result<Setup, SetupError> {
        let text = jsonl::load(path)?;
        let task = self.pools[0].task().clone();
        let mut problems = self.readable(&text, path, &*task)?;
        let (listed, mut seen) = (problems.len(), HashSet::new());
        problems.retain(|problem| seen.insert(problem.clone()));
        if problems.len() < listed {
            let copies = listed - problems.len();
            self.notice(format!("{}: {copies} of {listed} problems are copies of others and are left out", path.display()));
        }
        let first = self.pools.remove(0).holding_out(problems)?;
        self.pools.insert(0, first);
        self.eval_file = Some(text);
        Ok(self)
    }

    /// The same with RL on problems of the first task from a file, without those held out; call it after
    /// [`evaluated_on`](Setup::evaluated_on).
    ///
    /// # Errors
    /// The first line that is no such problem, by its number, or a file whose problems are all held out.
    pub fn trained_on(mut self, path: &Path) -> Result<Setup, SetupError> {
        let text = jsonl::load(path)?;
        let first = &self.pools[0];
        let given = self.readable(&text, path, &**first.task())?;
        let all = given.len();
        let kept: Vec<Problem> = given.into_iter().filter(|p| !first.is_held_out(&p.text())).collect();
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

    /// The problems of a file, which must be written with the tokenizer.
    fn readable(&self, text: &[u8], path: &Path, task: &dyn Task) -> Result<Vec<Problem>, DataError> {
        jsonl::read(text, path, |row| {
            let problem = task.read(row)?;
            problem.prompt(&self.tokenizer).map_err(|error| error.to_string())?;
            Ok(problem)
        })
    }

    /// `count` problems of a step, counted from 0, from tasks with weights, or from the first one: a function of seed and step.
    pub fn problems(&self, tasks: &BTreeMap<String, f64>, count: usize, seed: u64, step: usize) -> Vec<Problem> {
        let mut rng = Rng::new(seed, "questions", step as u64);
        let one = || {
            let name = if tasks.is_empty() { self.pools[0].name() } else { weighted(tasks, &mut rng) };
            let task = self.pools.iter().position(|pool| pool.name() == name).expect("checked when the setup was made");
            match &self.rl_problems {
                Some((_, given)) if task == 0 => given[rng.below(given.len())].clone(),
                _ => self.pools[task].problem(&mut rng),
            }
        };
        std::iter::repeat_with(one).take(count).collect()
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
        let theirs = SetupFile::read(&path)?;
        if !theirs.own_tasks.is_empty() || !self.own_tasks.is_empty() {
            let unknown = "a run with tasks of its own does not tell which problems its base model has seen";
            return Ok(Some(Notice(format!("{}: {unknown}", path.display()))));
        }
        let theirs = Setup::load(&path, self.device.clone())?;
        if corpus(theirs.control) != expected {
            return Err(SetupError::BaseOfOtherCorpus { path, expected });
        }
        let ours = self.pools[0].held_out();
        let may_have_seen = |p: &&Problem| theirs.pools.iter().any(|pool| pool.may_be_trained_on(&p.text()));
        let seen = ours.iter().filter(may_have_seen).count();
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
        for (name, text) in &self.data {
            dir.write(name, text)?;
        }
        for (name, text) in [(EVAL, self.eval_file.as_ref()), (PROBLEMS, self.rl_problems.as_ref().map(|(text, _)| text))] {
            if let Some(text) = text {
                dir.write(name, text)?;
            }
        }
        let (base, device, command) = (self.base.clone(), self.device.name(), self.command.clone());
        let own_tasks = self.own_tasks.clone();
        let file = SetupFile { format: RunFormat, base, control: self.control, device, command, own_tasks };
        dir.write(SETUP, &serde_json::to_vec_pretty(&file).expect("plain data"))
    }

    /// The setup of the run in a folder.
    ///
    /// # Errors
    /// Something is missing or not valid.
    pub fn load(folder: &Path, device: Device) -> Result<Setup, SetupError> {
        Self::load_with(folder, Vec::new(), device)
    }

    /// The setup of a run that had tasks of its user's, which are given again; as [`load`](Self::load) where there were none.
    ///
    /// # Errors
    /// As [`load`](Self::load), or the run had other tasks.
    pub fn load_with(folder: &Path, tasks: Vec<Arc<dyn Task>>, device: Device) -> Result<Setup, SetupError> {
        let config = RunConfig::default().overlay(&folder.join(CONFIG))?;
        let file = SetupFile::read(folder)?;
        let found: Vec<String> = tasks.iter().map(|task| task.name().to_owned()).collect();
        if found != file.own_tasks {
            return Err(SetupError::OtherTasks { expected: file.own_tasks, found });
        }
        // The configuration in the folder has the control applied already.
        let mut setup = match tasks.is_empty() {
            true => Setup::reading(config, None, file.base, device, Some(folder))?,
            false => Setup::with_tasks(config, tasks, file.base, device)?,
        };
        (setup.control, setup.command) = (file.control, file.command);
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
