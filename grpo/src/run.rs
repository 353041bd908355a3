//! The driver of a run: it makes the stages' steps, and shows, measures, records, saves and bills what they do.
//!
//! Everything that happens is a function of the configuration and the seed, whatever the machine's threads do, except the seconds
//! in the bill. A run that was killed goes on from its last saved state and ends with the same bits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nn::{AdamW, AdamWConfig, CheckpointError, ConfigError, DeepseekV3ForCausalLM, Notice, TooLittleMemory, row_seed};
use tensor::{DType, Device};

use crate::config::{RunConfig, RunConfigError};
use crate::cost::{Ledger, Measured, Summary};
use crate::evaluate::{Evaluation, evaluate};
use crate::memory;
use crate::metrics::{EvalMetrics, MetricsError, MetricsWriter, Record, StepMetrics};
use crate::policy::{self, Size};
use crate::progress::StageProgress;
use crate::report::{self, ReportError};
use crate::rundir::{METRICS, RunDir, RunDirError, RunFormat, SUMMARY};
use crate::setup::{self, Setup, SetupError};
use crate::stage::{BeginError, POLICY, Stage, Workspace};
use crate::stages;
use crate::state::{self, RunState, Snapshot, StateError};
use crate::step::StepError;
use crate::task::Task;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each passes on an error that explains itself
pub enum RunError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Config(#[from] RunConfigError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Model(#[from] ConfigError),
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("a run of this configuration is too large for this machine: beside the model {0}")]
    Memory(#[from] TooLittleMemory),
    /// A step of training failed; the last saved state is good.
    #[error("stage {stage}, step {step}: {source}; the last good state is in {}", dir.display())]
    Step { stage: String, step: usize, source: StepError, dir: PathBuf },
    /// Each difference reads `KEY is FOUND, expected EXPECTED`.
    #[error("the base model in {} is another than this run's: {}", path.display(), differences.join("; "))]
    OtherModel { path: PathBuf, differences: Vec<String> },
}

/// A run in its folder.
pub struct Run {
    work: Workspace,
    stages: Vec<Box<dyn Stage>>,
    dir: RunDir,
    metrics: MetricsWriter,
    done: RunState,
    kept: Option<Snapshot>,
    /// Of the stage that is under way, once it has been.
    progress: Option<StageProgress>,
}

impl Run {
    /// Begins a run in a fresh folder; an older run there is moved aside. Returns what the user should know.
    ///
    /// # Errors
    /// The folder cannot be used, the base model does not fit, or there is too little memory.
    pub fn create(setup: Setup, path: &Path) -> Result<(Run, Vec<Notice>), RunError> {
        let mut notices = setup.notices.clone();
        notices.extend(setup.check_base()?);
        let stages = stages::build(&setup)?;
        let policy = policy::fresh(hub_config(&setup, 0)?, row_seed(setup.config.seed, 0), &setup.device)?;
        if let Some(base) = &setup.base {
            notices.extend(load_base(base, &policy, &setup.tokenizer, &setup.device)?);
        }
        nn::require_memory(memory::needed(&setup, &policy)?, &setup.device)?;
        let (dir, moved) = RunDir::create(path)?;
        notices.extend(moved.map(|old| Notice(format!("the earlier run is now in {}", old.display()))));
        setup.save(&dir)?;
        let metrics = MetricsWriter::create(&dir.join(METRICS))?;
        let done = RunState {
            format: RunFormat,
            files: state::files(path)?,
            stage: stages[0].name().to_owned(),
            step: 0,
            measured: false,
            models: BTreeMap::new(),
            metrics: metrics.written(),
            ledger: Ledger::new(setup.config.price),
            samples: BTreeMap::new(),
            ends: Vec::new(),
        };
        let models = BTreeMap::from([(POLICY.to_owned(), policy)]);
        let optimizer = AdamW::new(Vec::new(), AdamWConfig::default());
        let work = Workspace { setup, models, samples: BTreeMap::new(), folder: path.into(), optimizer };
        let mut run = Run { work, stages, dir, metrics, done, kept: None, progress: None };
        run.begin(0)?;
        // From here on it can be resumed, however soon it ends.
        run.keep();
        run.settle()?;
        Ok((run, notices))
    }

    /// Goes on with the run in a folder, on the device it began on.
    ///
    /// # Errors
    /// It is no run folder, a file in it is not as the run left it, or the device is another.
    pub fn resume(path: &Path, device: Device) -> Result<Run, RunError> {
        Self::resume_with(path, Vec::new(), device)
    }

    /// Goes on with a run that has tasks of its user's ([`Setup::with_tasks`]), which are given again.
    ///
    /// # Errors
    /// As [`resume`](Self::resume), or the tasks are others.
    pub fn resume_with(path: &Path, tasks: Vec<Arc<dyn Task>>, device: Device) -> Result<Run, RunError> {
        let dir = RunDir::resume(path)?;
        let (recorded, given) = (setup::device_of(path)?, device.name());
        if recorded != given {
            return Err(SetupError::OtherDevice { recorded, given }.into());
        }
        let (done, tensors) = state::load(path, &device)?;
        let metrics = MetricsWriter::resume(&dir.join(METRICS), done.metrics)?;
        let setup = Setup::load_with(path, tasks, device)?;
        let stages = stages::build(&setup)?;
        let mut models = BTreeMap::new();
        for (name, config) in &done.models {
            let model = policy::fresh(config.clone(), 0, &setup.device)?;
            state::restore(path, &tensors, name, &model)?;
            models.insert(name.clone(), model);
        }
        let optimizer = AdamW::new(Vec::new(), AdamWConfig::default());
        let (samples, folder) = (done.samples.clone(), path.into());
        let mut run = Run {
            work: Workspace { setup, models, samples, folder, optimizer },
            stages,
            dir,
            metrics,
            done,
            kept: None,
            progress: None,
        };
        run.work.optimizer = run.stage().optimizer(&run.work);
        state::restore_optimizer(path, &tensors, &mut run.work.optimizer)?;
        Ok(run)
    }

    /// Trains to the end and writes everything there is to write.
    ///
    /// # Errors
    /// The disk refuses, or a step fails; the last good state stays.
    pub fn train(self) -> Result<Summary, RunError> {
        // On a thread of the pool: from outside, each of thousands of operations a step would wake the pool and be woken by it.
        rayon::scope(|_| self.train_here())
    }

    fn train_here(mut self) -> Result<Summary, RunError> {
        while self.advance()? {}
        self.finish()
    }

    /// Makes the next step of the stage that is under way or, after its last one, ends it and begins the next stage. False at the
    /// end of the run. A run that is dropped instead goes on, when it is resumed, from the state that was saved last.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn advance(&mut self) -> Result<bool, RunError> {
        let begun = |stage: &dyn Stage, done| StageProgress::new(stage.name(), stage.steps(), done);
        let mut progress = self.progress.take().unwrap_or_else(|| begun(self.stage(), self.done.step));
        if self.done.step < self.stage().steps() {
            self.step(&mut progress)?;
            self.progress = Some(progress);
            return Ok(true);
        }
        self.end(&mut progress)?;
        progress.finish();
        let next = self.index() + 1;
        let more = next < self.stages.len();
        if more {
            self.begin(next)?;
        }
        // The last evaluation has looked at it.
        self.keep();
        self.settle()?;
        if more {
            report::write(self.dir.path())?;
        }
        Ok(more)
    }

    fn config(&self) -> &RunConfig {
        &self.work.setup.config
    }

    fn index(&self) -> usize {
        self.stages.iter().position(|stage| stage.name() == self.done.stage).expect("the state names a stage of its run")
    }

    fn stage(&self) -> &dyn Stage {
        &*self.stages[self.index()]
    }

    /// Makes what a stage begins with.
    fn begin(&mut self, index: usize) -> Result<(), RunError> {
        let stage = &self.stages[index];
        // Models of the stage before, such as its reference, are its own.
        self.work.models.retain(|name, _| name == POLICY);
        let setup = &self.work.setup;
        let config = hub_config(setup, index)?;
        let policy = if let Some(from) = &setup.config.stages[index].from {
            let path = self.dir.join(self.folder_of(from));
            let (model, _) = DeepseekV3ForCausalLM::from_pretrained(&path, DType::F32, &setup.device)?;
            let differences = differences(model.config(), &config);
            if !differences.is_empty() {
                return Err(RunError::OtherModel { path, differences });
            }
            Some(model)
        } else if !differences(self.work.policy().config(), &config).is_empty() {
            Some(policy::fresh(config, row_seed(row_seed(setup.config.seed, 4), index), &setup.device)?)
        } else {
            None
        };
        if let Some(policy) = policy {
            self.work.models.insert(POLICY.to_owned(), policy);
        }
        stage.begin(&mut self.work)?;
        self.work.optimizer = stage.optimizer(&self.work);
        (self.done.stage, self.done.step, self.done.measured) = (stage.name().to_owned(), 0, false);
        Ok(())
    }

    /// A step of the stage.
    fn step(&mut self, progress: &mut StageProgress) -> Result<(), RunError> {
        let (index, step) = (self.index(), self.done.step);
        let start = Instant::now();
        let made = self.stages[index].step(&mut self.work, step).map_err(|source| self.failed(step + 1, source))?;
        self.settle()?;
        let seconds = start.elapsed().as_secs_f64();
        self.done.ledger.add(&self.done.stage, seconds, made.tokens, made.flops);
        if let Some(answer) = &made.shown {
            progress.sample(answer);
        }
        let mut values = made.values;
        values.set("tokens", made.tokens as f64);
        values.set("tokens_per_second", made.tokens as f64 / seconds);
        values.set("seconds", seconds);
        self.done.step += 1;
        let record = StepMetrics { stage: self.done.stage.clone(), step: self.done.step, values };
        progress.step(&record);
        self.metrics.write(&Record::Step(record))?;
        if self.done.step == self.stage().steps() {
            // What it ends with is measured before it is saved.
            return Ok(());
        }
        let every = self.stage().eval_every();
        if every > 0 && self.done.step.is_multiple_of(every) {
            self.evaluate(false, progress)?;
            report::write(self.dir.path())?;
        }
        if self.done.step.is_multiple_of(self.stage().save_every()) {
            self.keep();
        }
        Ok(())
    }

    /// Measures what a stage ends with and writes its checkpoint. A stage without steps has what came before it.
    fn end(&mut self, progress: &mut StageProgress) -> Result<(), RunError> {
        if self.done.measured {
            return Ok(());
        }
        let trained = self.stage().trains().map(str::to_owned);
        if trained.as_deref() == Some(POLICY) && (self.stage().steps() > 0 || self.done.ends.is_empty()) {
            let ends = self.evaluate(true, progress)?;
            self.done.ends.extend(ends);
        }
        self.done.measured = true;
        let name = self.done.stage.clone();
        if let Some(samples) = self.work.samples.get(&name) {
            let lines: String = samples.iter().map(|s| serde_json::to_string(s).expect("plain data") + "\n").collect();
            self.dir.write(&format!("{name}.jsonl"), lines.as_bytes())?;
        }
        if let Some(model) = trained {
            self.write_model(self.folder_of(&name), &model)?;
        }
        Ok(())
    }

    /// Measures the policy on the held-out problems of each task and records it. `test`: on the problems of the summary, every one of
    /// a user's own file, else the last held-out ones. On the way it is measured on the first ones, so that who chooses settings by
    /// the curve has not looked at the test; of a user's own file they are a part.
    fn evaluate(&mut self, test: bool, progress: &mut StageProgress) -> Result<Vec<EvalMetrics>, RunError> {
        let Workspace { setup, models, .. } = &self.work;
        let (config, own, step) = (&setup.config, setup.eval_file.is_some(), self.done.step);
        let limit = self.stage().limit(step);
        let size = Size::of(&models[POLICY]);
        let mut all = Vec::new();
        for (i, pool) in setup.pools.iter().enumerate() {
            let held_out = pool.held_out();
            let most = config.eval.problems.min(if own { held_out.len() } else { (held_out.len() / 2).max(1) });
            let problems = match i {
                0 if test && own => held_out,
                0 if test => &held_out[held_out.len().saturating_sub(most)..],
                0 => &held_out[..most.min(held_out.len())],
                _ => &held_out[..config.eval.others_problems.min(held_out.len())],
            };
            if problems.is_empty() {
                continue;
            }
            let seed = row_seed(row_seed(config.seed, 2), i);
            let at = (self.done.stage.as_str(), step);
            let evaluation = Evaluation { task: pool.name(), problems, config: &config.eval, limit, seed, at };
            let answers = problems.len() * config.eval.samples;
            let shown = Mutex::new((&mut *progress, 0));
            let ended = |more| {
                let mut shown = shown.lock().expect("nothing panics while it is held");
                let first = shown.1 == 0;
                shown.1 += more;
                let words = format!("measuring: {} of {answers} answers", shown.1);
                shown.0.status(words, first);
            };
            let measured = evaluate(&models[POLICY], &setup.tokenizer, &evaluation, &ended);
            let (metrics, lengths) = measured.map_err(|e| self.failed(step, e.into()))?;
            let tokens = lengths.iter().sum::<usize>() as u64;
            self.done.ledger.add("evaluation", metrics.seconds, tokens, size.forward_flops(lengths));
            self.metrics.write(&Record::Eval(metrics.clone()))?;
            all.push(metrics);
        }
        if let Some(score) = all.first().and_then(|e| e.scores.get("pass@1")) {
            let pass = 100.0 * score.value;
            progress
                .say(&format!("{} after step {step}: {pass:.1} % of the held-out problems at the first answer", self.done.stage));
        }
        Ok(all)
    }

    /// The summary and the report.
    fn finish(self) -> Result<Summary, RunError> {
        let peak = tensor::cpu::peak_memory();
        let result = self.config().result_stage().name.clone();
        let size = Size::of(&policy::fresh(hub_config(&self.work.setup, 0)?, 0, &self.work.setup.device)?);
        let measured = |e: &EvalMetrics| Measured { stage: e.stage.clone(), task: e.task.clone(), scores: e.scores.clone() };
        let setup = &self.work.setup;
        let summary = Summary {
            format: RunFormat,
            result,
            measured: self.done.ends.iter().map(measured).collect(),
            stages: self.done.ledger.stages.clone(),
            price: self.config().price,
            seed: self.config().seed,
            device: setup.device.name(),
            parameters: [size.parameters, size.active],
            peak_memory: [peak.used as u64, peak.held as u64],
            control: setup.control.map(|c| c.to_string()),
            command: setup.command.clone(),
        };
        self.dir.write(SUMMARY, &serde_json::to_vec_pretty(&summary).expect("plain data"))?;
        report::write(self.dir.path())?;
        Ok(summary)
    }

    /// Takes a snapshot, to be written once it has proved good.
    fn keep(&mut self) {
        self.done.metrics = self.metrics.written();
        self.done.samples.clone_from(&self.work.samples);
        let models = self.work.models.iter().map(|(name, model)| (name.as_str(), model));
        self.kept = Some(Snapshot::of(&self.done, models, &self.work.optimizer));
    }

    /// Writes the last snapshot: a step has been made from it, or its policy measured. Weights that the step before has ruined
    /// would show only then.
    fn settle(&mut self) -> Result<(), RunError> {
        if let Some(kept) = self.kept.take() {
            self.metrics.sync()?;
            kept.write(&self.dir)?;
        }
        Ok(())
    }

    /// The folder of a stage's checkpoint: the run's result has a place of its own.
    fn folder_of<'a>(&self, stage: &'a str) -> &'a str {
        if self.config().result_stage().name == stage { "model" } else { stage }
    }

    /// A hub checkpoint with its tokenizer.
    fn write_model(&self, name: &str, model: &str) -> Result<(), RunError> {
        self.dir.replace_dir(name, |folder| {
            self.work.model(model).save_pretrained(folder)?;
            Ok(self.work.setup.tokenizer.save(folder)?)
        })
    }

    fn failed(&self, step: usize, source: StepError) -> RunError {
        RunError::Step { stage: self.done.stage.clone(), step, source, dir: self.dir.path().into() }
    }
}

/// The config of a stage's model.
fn hub_config(setup: &Setup, stage: usize) -> Result<nn::Config, RunConfigError> {
    let longest = memory::longest_sequence(setup)?;
    let model = setup.config.stages[stage].model(&setup.config)?;
    let model = nn::Config { vocab_size: model.vocab_size.max(setup.tokenizer.vocab_size()), ..model };
    Ok(policy::hub_config(&model, longest.next_multiple_of(64)))
}

/// Gives the policy the weights of a base model: a run folder (its `base/`) or a checkpoint.
fn load_base(
    path: &Path,
    policy: &DeepseekV3ForCausalLM,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<Vec<Notice>, RunError> {
    let folder = if path.join("base/config.json").is_file() { path.join("base") } else { path.to_path_buf() };
    let (base, notices) = DeepseekV3ForCausalLM::from_pretrained(&folder, DType::F32, device)?;
    let mut differences = differences(base.config(), policy.config());
    if folder.join("tokenizer.json").exists() && Tokenizer::load(&folder)? != *tokenizer {
        differences.push("tokenizer.json holds other tokens than expected".into());
    }
    if !differences.is_empty() {
        return Err(RunError::OtherModel { path: folder, differences });
    }
    policy::copy_weights(&base, policy);
    Ok(notices)
}

/// The keys in which two models differ, but for those that change no result.
fn differences(found: &nn::Config, expected: &nn::Config) -> Vec<String> {
    let keys = |c: &nn::Config| -> serde_json::Map<String, serde_json::Value> {
        let same = nn::Config { max_position_embeddings: 0, initializer_range: 0.0, other: Default::default(), ..c.clone() };
        serde_json::from_str(&same.to_json()).expect("a config is a JSON object")
    };
    let (found, expected) = (keys(found), keys(expected));
    let value = |value: Option<&serde_json::Value>| value.map_or("absent".into(), ToString::to_string);
    let all: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let different = all.into_iter().filter(|&key| found.get(key) != expected.get(key));
    different.map(|key| format!("{key} is {}, expected {}", value(found.get(key)), value(expected.get(key)))).collect()
}
