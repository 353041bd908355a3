//! A whole run: stage *base*, then stage *R1-Zero*, measured, recorded and saved as it goes.
//!
//! Everything that happens is a function of the configuration and the seed, whatever the machine's threads do, except the seconds
//! in the bill. A run that was killed goes on from its last saved state and ends with the same bits.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use nn::{AdamW, AdamWConfig, CheckpointError, ConfigError, DeepseekV3ForCausalLM, Notice, TooLittleMemory, row_seed};
use tensor::{DType, Device};

use crate::config::RunConfig;
use crate::corpus::Corpus;
use crate::cost::{BeforeAfter, Ledger, Summary};
use crate::evaluate::{Evaluation, behaviour, evaluate, share, shown};
use crate::memory::{self, LONGEST_PROMPT};
use crate::metrics::{EvalMetrics, EvalTask, MetricsError, MetricsWriter, Record, Stage, StepMetrics};
use crate::policy::{self, Size};
use crate::pretrain;
use crate::problem::Problem;
use crate::progress::StageProgress;
use crate::report::{self, ReportError};
use crate::reward::{Accuracy, Combined, Format};
use crate::rng::Rng;
use crate::rollout::{RolloutOptions, rollout};
use crate::rundir::{METRICS, RunDir, RunDirError, RunFormat, SUMMARY};
use crate::setup::{self, Setup, SetupError};
use crate::state::{self, RunState, Snapshot, StateError};
use crate::step::StepError;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::trainer;

/// Pre-training steps between two saved states; RL saves after each.
const SAVE_EVERY: usize = 25;
/// RL steps between two answers shown.
const SHOW_EVERY: usize = 10;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each passes on an error that explains itself
pub enum RunError {
    #[error(transparent)]
    Setup(#[from] SetupError),
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
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("a run of this configuration is too large for this machine: beside the model {0}")]
    Memory(#[from] TooLittleMemory),
    /// A step of training failed; the last saved state is good.
    #[error("stage {stage}, step {step}: {source}; the last good state is in {}", dir.display())]
    Step { stage: Stage, step: usize, source: StepError, dir: PathBuf },
    /// Each difference reads `KEY is FOUND, expected EXPECTED`.
    #[error("the base model in {} is another than this run's: {}", path.display(), differences.join("; "))]
    OtherModel { path: PathBuf, differences: Vec<String> },
}

/// A run in its folder.
pub struct Run {
    setup: Setup,
    dir: RunDir,
    metrics: MetricsWriter,
    tokenizer: Tokenizer,
    policy: DeepseekV3ForCausalLM,
    reference: Option<DeepseekV3ForCausalLM>,
    optimizer: AdamW,
    done: RunState,
    kept: Option<Snapshot>,
    size: Size,
}

impl Run {
    /// Begins a run in a fresh folder; an older run there is moved aside. Returns what the user should know.
    ///
    /// # Errors
    /// The folder cannot be used, the base model does not fit, or there is too little memory.
    pub fn create(setup: Setup, path: &Path) -> Result<(Run, Vec<Notice>), RunError> {
        let mut notices = setup.notices.clone();
        notices.extend(setup.check_base()?);
        let tokenizer = Tokenizer::new();
        let policy = policy::fresh(hub_config(&setup.config), row_seed(setup.config.seed, 0), &setup.device)?;
        if let Some(base) = &setup.base {
            notices.extend(load_base(base, &policy, &tokenizer, &setup.device)?);
        }
        nn::require_memory(memory::needed(&setup, &policy), &setup.device)?;
        let (dir, moved) = RunDir::create(path)?;
        notices.extend(moved.map(|old| Notice(format!("the earlier run is now in {}", old.display()))));
        setup.save(&dir)?;
        let metrics = MetricsWriter::create(&dir.join(METRICS))?;
        let done = RunState {
            format: RunFormat,
            files: state::files(path)?,
            stage: Stage::Base,
            step: 0,
            metrics: metrics.written(),
            ledger: Ledger::new(setup.config.price),
            base_evals: Vec::new(),
            last_evals: Vec::new(),
        };
        let optimizer = optimizer(&policy, &setup.config, Stage::Base);
        let size = Size::of(&policy);
        let mut run = Run { setup, dir, metrics, tokenizer, policy, reference: None, optimizer, done, kept: None, size };
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
        let dir = RunDir::resume(path)?;
        let (recorded, given) = (setup::device_of(path)?, device.name());
        if recorded != given {
            return Err(SetupError::OtherDevice { recorded, given }.into());
        }
        let (done, tensors) = state::load(path, &device)?;
        let metrics = MetricsWriter::resume(&dir.join(METRICS), done.metrics)?;
        let setup = Setup::load(path, device)?;
        let tokenizer = Tokenizer::new();
        let fresh = || policy::fresh(hub_config(&setup.config), 0, &setup.device);
        let policy = fresh()?;
        state::restore(path, &tensors, "policy", &policy)?;
        let mut reference = None;
        if done.stage == Stage::R1Zero && setup.config.rl.beta > 0.0 {
            reference = Some(fresh()?);
            state::restore(path, &tensors, "reference", reference.as_ref().expect("just made"))?;
        }
        let mut optimizer = optimizer(&policy, &setup.config, done.stage);
        state::restore_optimizer(path, &tensors, &mut optimizer)?;
        let size = Size::of(&policy);
        Ok(Run { setup, dir, metrics, tokenizer, policy, reference, optimizer, done, kept: None, size })
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
        let begins = self.done.stage == Stage::Base;
        if begins && self.setup.base.is_none() {
            self.base_stage()?;
        }
        let mut progress = StageProgress::new(Stage::R1Zero, self.config().rl.steps, if begins { 0 } else { self.done.step });
        if begins {
            self.begin_rl(&mut progress)?;
        }
        self.rl_stage(progress)?;
        self.finish()
    }

    fn config(&self) -> &RunConfig {
        &self.setup.config
    }

    /// Stage *base*, from where it was left.
    fn base_stage(&mut self) -> Result<(), RunError> {
        let steps = self.config().base.steps;
        let (problems, base) = (self.setup.problems.clone(), self.config().base.clone());
        let corpus = Corpus::new(&base, &problems, self.config().seed);
        let mut progress = StageProgress::new(Stage::Base, steps, self.done.step);
        while self.done.step < steps {
            let start = Instant::now();
            let step = self.done.step;
            let examples = corpus.examples(step as u64);
            let lr = base.lr_at(step);
            let made = pretrain::step(&self.policy, &mut self.optimizer, &examples, lr, &base);
            let made = made.map_err(|source| self.failed(step + 1, source))?;
            self.settle()?;
            let seconds = start.elapsed().as_secs_f64();
            let flops = 3 * self.size.forward_flops(examples.iter().map(|e| e.tokens.len()));
            self.done.ledger.add("base", seconds, made.tokens, flops);
            let record = StepMetrics {
                loss: made.loss,
                grad_norm: made.grad_norm,
                lr,
                expert_load: made.expert_load,
                tokens: made.tokens,
                tokens_per_second: made.tokens as f64 / seconds,
                seconds,
                ..StepMetrics::new(Stage::Base, step + 1)
            };
            self.done.step += 1;
            progress.step(&record);
            self.metrics.write(&Record::Step(record))?;
            if self.done.step.is_multiple_of(SAVE_EVERY) && self.done.step < steps {
                self.keep();
            }
        }
        progress.finish();
        Ok(())
    }

    /// From the base model to the first RL step: it is measured, saved, and becomes the reference.
    fn begin_rl(&mut self, progress: &mut StageProgress) -> Result<(), RunError> {
        self.done.base_evals = self.evaluate(Stage::Base, true, progress)?;
        self.done.last_evals = self.done.base_evals.clone();
        self.write_model("base")?;
        (self.done.stage, self.done.step) = (Stage::R1Zero, 0);
        self.optimizer = optimizer(&self.policy, self.config(), Stage::R1Zero);
        if self.config().rl.beta > 0.0 {
            let reference = policy::fresh(self.policy.config().clone(), 0, &self.setup.device)?;
            policy::copy_weights(&self.policy, &reference);
            self.reference = Some(reference);
        }
        self.keep();
        self.settle()?;
        Ok(report::write(self.dir.path())?)
    }

    /// Stage *R1-Zero*, from where it was left.
    fn rl_stage(&mut self, mut progress: StageProgress) -> Result<(), RunError> {
        let rl = self.config().rl.clone();
        while self.done.step < rl.steps {
            let record = self.rl_step(&progress)?;
            self.settle()?;
            self.done.step += 1;
            let step = self.done.step;
            progress.step(&record);
            self.metrics.write(&Record::Step(record))?;
            if let (Some(reference), true) = (&self.reference, rl.ref_sync_steps > 0 && step.is_multiple_of(rl.ref_sync_steps)) {
                policy::copy_weights(&self.policy, reference);
            }
            let every = self.config().eval.every;
            if step == rl.steps || (every > 0 && step.is_multiple_of(every)) {
                self.done.last_evals = self.evaluate(Stage::R1Zero, step == rl.steps, &mut progress)?;
                let pass = |e: &EvalMetrics| e.scores.get("pass@1").map_or(0.0, |s| 100.0 * s.value);
                let e = &self.done.last_evals[0];
                progress.say(&format!("after step {step}: {:.1} % of the held-out problems at the first answer", pass(e)));
                report::write(self.dir.path())?;
            }
            self.keep();
        }
        // The last evaluation has looked at it.
        self.settle()?;
        progress.finish();
        Ok(())
    }

    /// Rollout and update.
    fn rl_step(&mut self, progress: &StageProgress) -> Result<StepMetrics, RunError> {
        let start = Instant::now();
        let (config, step) = (&self.setup.config, self.done.step);
        let (rl, seed) = (&config.rl, config.seed);
        let questions = self.setup.questions(step);
        let weights = &rl.reward_weights;
        let (accuracy, reward) =
            (Accuracy::default(), Combined::new().with(weights.accuracy, Accuracy::default()).with(weights.format, Format));
        let limit = rl.max_completion_length_at(step);
        let options = RolloutOptions {
            num_generations: rl.num_generations,
            max_completion_length: limit,
            temperature: rl.temperature,
            seed: row_seed(row_seed(seed, 1), step),
        };
        let samples = rollout(&self.policy, &self.tokenizer, &questions, (&accuracy, &reward), &options);
        let samples = samples.map_err(|e| self.failed(step + 1, e.into()))?;
        let mut rng = Rng::new(seed, "minibatches", step as u64);
        let update = trainer::update(&self.policy, self.reference.as_ref(), &mut self.optimizer, &samples, rl, step, &mut rng);
        let update = update.map_err(|source| self.failed(step + 1, source))?;
        let seconds = start.elapsed().as_secs_f64();

        let (n, generated) = (samples.len() as f64, samples.iter().map(|s| s.tokens.len()).sum::<usize>());
        let trained: usize = update.lengths.iter().sum();
        let passes = if self.reference.is_some() { 4 } else { 3 };
        let flops = self.size.forward_flops(samples.iter().map(|s| s.len()))
            + passes * self.size.forward_flops(update.lengths.iter().copied());
        let tokens = (samples.iter().map(|s| s.len()).sum::<usize>() + trained) as u64;
        self.done.ledger.add("r1_zero", seconds, tokens, flops);
        if step.is_multiple_of(SHOW_EVERY) {
            progress.sample(&shown(&questions[0], &samples[0]));
        }
        let entropy: f64 = samples.iter().flat_map(|s| &s.entropies).map(|&e| e as f64).sum();
        Ok(StepMetrics {
            reward: Some(samples.iter().map(|s| s.reward).sum::<f64>() / n),
            reward_std: Some(update.reward_std),
            frac_reward_zero_std: Some(update.frac_reward_zero_std),
            accuracy: Some(share(&samples, |s| s.correct)),
            format: Some(share(&samples, |s| s.response.answer().is_some())),
            completion_length: Some(generated as f64 / n),
            max_completion_length: Some(limit),
            clipped_ratio: Some(share(&samples, |s| !s.response.finished())),
            kl: update.kl,
            entropy: Some(entropy / generated.max(1) as f64),
            clip_ratio: update.clip_ratio,
            logprob_max_diff: update.logprob_max_diff,
            loss: update.loss,
            grad_norm: update.grad_norm,
            lr: rl.lr_at(step),
            expert_load: update.expert_load,
            tokens,
            tokens_per_second: tokens as f64 / seconds,
            seconds,
            behaviour: behaviour(&samples),
            ..StepMetrics::new(Stage::R1Zero, step + 1)
        })
    }

    /// Measures the policy on both held-out sets and records it. `test`: on the problems of the summary, every one of a user's own
    /// file, else the last held-out ones. On the way it is measured on the first ones, so that who chooses settings by the curve has
    /// not looked at the test; of a user's own file they are a part.
    fn evaluate(&mut self, stage: Stage, test: bool, progress: &mut StageProgress) -> Result<Vec<EvalMetrics>, RunError> {
        let config = &self.setup.config;
        let held_out = &self.setup.problems;
        let all = held_out.held_out_countdown();
        let own = self.setup.eval_file.is_some();
        let most = config.eval.problems.min(if own { all.len() } else { (all.len() / 2).max(1) });
        let countdown = match test {
            true if own => all,
            true => &all[all.len() - most..],
            false => &all[..most],
        };
        let countdown: Vec<Problem> = countdown.iter().cloned().map(Problem::from).collect();
        let sums: Vec<Problem> =
            held_out.held_out_chain_sum().iter().take(config.eval.chain_sum_problems).cloned().map(Problem::from).collect();
        let step = self.done.step;
        let limit = config.rl.max_completion_length_at(if stage == Stage::Base { 0 } else { step.saturating_sub(1) });
        let mut all = Vec::new();
        for (i, (task, problems)) in [(EvalTask::Countdown, &countdown), (EvalTask::ChainSum, &sums)].into_iter().enumerate() {
            if problems.is_empty() {
                continue;
            }
            let seed = row_seed(row_seed(config.seed, 2), i);
            let evaluation = Evaluation { task, problems, config: &config.eval, limit, seed, at: (stage, step) };
            let answers = problems.len() * config.eval.samples;
            let shown = Mutex::new((&mut *progress, 0));
            let ended = |more| {
                let mut shown = shown.lock().expect("nothing panics while it is held");
                shown.1 += more;
                let words = format!("measuring: {} of {answers} answers", shown.1);
                shown.0.status(words);
            };
            let measured = evaluate(&self.policy, &self.tokenizer, &evaluation, &ended);
            let (metrics, lengths) = measured.map_err(|e| self.failed(step, e.into()))?;
            let tokens = lengths.iter().sum::<usize>() as u64;
            self.done.ledger.add("evaluation", metrics.seconds, tokens, self.size.forward_flops(lengths));
            self.metrics.write(&Record::Eval(metrics.clone()))?;
            all.push(metrics);
        }
        Ok(all)
    }

    /// The checkpoint, the summary and the report.
    fn finish(self) -> Result<Summary, RunError> {
        self.write_model("model")?;
        let scores = |evals: &[EvalMetrics], task| evals.iter().find(|e| e.task == task).map(|e| e.scores.clone());
        let both = |task| {
            let (base, last) = (scores(&self.done.base_evals, task)?, scores(&self.done.last_evals, task)?);
            Some(BeforeAfter { base, last })
        };
        let peak = tensor::cpu::peak_memory();
        let summary = Summary {
            format: RunFormat,
            countdown: both(EvalTask::Countdown).expect("every run measures Countdown"),
            chain_sum: both(EvalTask::ChainSum),
            stages: self.done.ledger.stages.clone(),
            price: self.config().price,
            seed: self.config().seed,
            device: self.setup.device.name(),
            parameters: [self.size.parameters, self.size.active],
            peak_memory: [peak.used as u64, peak.held as u64],
            control: self.setup.control.map(|c| c.to_string()),
            command: self.setup.command.clone(),
        };
        self.dir.write(SUMMARY, &serde_json::to_vec_pretty(&summary).expect("plain data"))?;
        report::write(self.dir.path())?;
        Ok(summary)
    }

    /// Takes a snapshot, to be written once it has proved good.
    fn keep(&mut self) {
        self.done.metrics = self.metrics.written();
        self.kept = Some(Snapshot::of(&self.done, &self.policy, self.reference.as_ref(), &self.optimizer));
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

    /// A hub checkpoint with its tokenizer.
    fn write_model(&self, name: &str) -> Result<(), RunError> {
        self.dir.replace_dir(name, |folder| {
            self.policy.save_pretrained(folder)?;
            Ok(self.tokenizer.save(folder)?)
        })
    }

    fn failed(&self, step: usize, source: StepError) -> RunError {
        RunError::Step { stage: self.done.stage, step, source, dir: self.dir.path().into() }
    }
}

fn hub_config(config: &RunConfig) -> nn::Config {
    let limit = config.rl.max_completion_length.iter().map(|l| l.limit).max().unwrap_or(0);
    policy::hub_config(&config.model, (limit + LONGEST_PROMPT).next_multiple_of(64))
}

fn optimizer(policy: &DeepseekV3ForCausalLM, config: &RunConfig, stage: Stage) -> AdamW {
    use nn::Module;
    let (betas, weight_decay) = match stage {
        Stage::Base => (config.base.betas, config.base.weight_decay),
        Stage::R1Zero => (config.rl.betas, config.rl.weight_decay),
    };
    AdamW::new(
        policy.named_parameters(),
        AdamWConfig { beta1: betas[0], beta2: betas[1], weight_decay, ..AdamWConfig::default() },
    )
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
