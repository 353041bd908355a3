//! Every hyperparameter of a run, in one TOML file.
//!
//! [`RunConfig::default`] is the run that `grpo_r1` makes without arguments. A file given with `--config` is laid over it key by
//! key; what the file does not name keeps its value, what it misspells is refused. The run folder holds the complete result.

mod control;
mod rl;
mod sft;
mod stage;
#[cfg(test)]
mod tests;
mod validate;

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use nn::Schedule;
use serde::{Deserialize, Serialize};

use crate::file_error::{FileError, cannot};
use crate::rundir::{Head, RunFormat};
use crate::tasks::{BUILT_IN, Habits, JsonlConfig, TaskConfig};
use crate::tokenizer::Tokenizer;

pub use control::Control;
pub use rl::{ImportanceSampling, LengthLimit, LossType, RewardWeights, RlConfig, ScaleRewards};
pub use sft::{RejectConfig, RewardModelConfig, SftConfig};
pub use stage::{Kind, StageConfig};

/// A whole run: a seed, a price and one table of hyperparameters per concern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Of the file that this is written to; a file without one is read as well.
    pub format: RunFormat,
    /// Seeds the weights, the corpus, the problems and every sampled token.
    pub seed: u64,
    /// Dollars per hour of the device, for the cost table.
    pub price: f64,
    /// The tasks by name, built in or from `[[jsonl]]`; the first is what the run is about.
    pub tasks: Vec<String>,
    /// What happens, in its order.
    #[serde(rename = "stage")]
    pub stages: Vec<StageConfig>,
    /// Tasks whose problems are in files.
    pub jsonl: Vec<JsonlConfig>,
    /// The DeepSeek-V3 model, in the words of its hub `config.json`. `vocab_size` is at least the tokenizer's, and
    /// `max_position_embeddings` is raised to the run's longest sequence.
    pub model: nn::Config,
    /// Which problems there are of the task that is built in first.
    pub task: TaskConfig,
    /// What stages that imitate have in common, pre-training on traces and drills above all.
    pub base: BaseConfig,
    /// What stages that reinforce have in common.
    pub rl: RlConfig,
    /// What stages of supervised fine-tuning have in common.
    pub sft: SftConfig,
    /// What stages of rejection sampling have in common.
    pub reject: RejectConfig,
    /// What reward models have in common.
    pub reward_model: RewardModelConfig,
    /// How often and how thoroughly the policy is measured.
    pub eval: EvalConfig,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            format: RunFormat,
            seed: 0,
            // What two cores of a rented machine cost, within a factor of two; DeepSeek counts 2 dollars per H800 hour.
            price: 0.10,
            tasks: BUILT_IN.map(String::from).into(),
            stages: vec![StageConfig::new(Kind::Pretrain, "base"), StageConfig::new(Kind::Grpo, "r1_zero")],
            jsonl: Vec::new(),
            model: flagship_model(),
            task: TaskConfig::default(),
            base: BaseConfig::default(),
            rl: RlConfig::default(),
            sft: SftConfig::default(),
            reject: RejectConfig::default(),
            reward_model: RewardModelConfig::default(),
            eval: EvalConfig::default(),
        }
    }
}

/// The flagship's model. Its tokenizer has that `vocab_size`.
fn flagship_model() -> nn::Config {
    nn::Config {
        vocab_size: Tokenizer::new().vocab_size(),
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        q_lora_rank: None,
        kv_lora_rank: 48,
        qk_nope_head_dim: 16,
        qk_rope_head_dim: 16,
        v_head_dim: 32,
        max_position_embeddings: 64,
        initializer_range: 0.05,
        first_k_dense_replace: 1,
        n_routed_experts: 8,
        num_experts_per_tok: 2,
        moe_intermediate_size: 96,
        n_group: 1,
        topk_group: 1,
        routed_scaling_factor: 1.0,
        ..nn::Config::default()
    }
}

/// `[base]`: the corpus of uneven traces and the optimizer that learns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseConfig {
    /// Optimizer steps.
    pub steps: usize,
    /// Sequences per step.
    pub batch_size: usize,
    /// Every so many steps a batch holds full-length drills instead; 0 for never. Without them a longer limit in RL buys nothing.
    pub long_every: usize,
    /// Sequences in such a batch.
    pub long_batch_size: usize,
    /// Share of a batch that drills arithmetic and verdicts instead of showing traces.
    pub drill_share: f64,
    /// Share of a batch that shows the other tasks, in turn.
    pub others_share: f64,
    /// Probability that a trace checks an attempt against the target.
    pub p_check: f64,
    /// Probability that a trace tries again after a failed check. Rare and undirected: all the retrying that RL can build on.
    pub p_continue: f64,
    /// Probability that an attempt is written in the second notation, the corpus's other "language".
    pub p_second_notation: f64,
    /// Fewest and most attempts in a drill.
    pub drill_attempts: [usize; 2],
    /// Fewest and most attempts in a full-length drill.
    pub long_attempts: [usize; 2],
    /// AdamW's learning rate at its height.
    pub lr: f64,
    /// Steps over which the learning rate rises.
    pub warmup_steps: usize,
    /// Share of the steps after which the learning rate falls in a line.
    pub decay_from: f64,
    /// Where it ends, as a share of `lr`.
    pub min_lr_ratio: f64,
    /// AdamW's β₁ and β₂.
    pub betas: [f64; 2],
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient.
    pub grad_clip: f64,
    /// Step γ of the auxiliary-loss-free bias update; 0 leaves the biases alone. RL leaves them alone: a router that moves between
    /// sampling and training would make another policy of the one that sampled.
    pub bias_update_speed: f64,
    /// Weight α of the sequence-wise balance loss; RL has none.
    pub seq_aux_alpha: f64,
}

impl Default for BaseConfig {
    fn default() -> Self {
        Self {
            steps: 850,
            batch_size: 128,
            long_every: 3,
            long_batch_size: 16,
            drill_share: 0.4,
            others_share: 0.1,
            p_check: 0.55,
            p_continue: 0.55,
            p_second_notation: 0.0,
            drill_attempts: [1, 4],
            long_attempts: [8, 33],
            lr: 2e-3,
            warmup_steps: 100,
            decay_from: 0.6,
            min_lr_ratio: 0.05,
            betas: [0.9, 0.95],
            weight_decay: 0.01,
            grad_clip: 1.0,
            bias_update_speed: 1e-3,
            seq_aux_alpha: 0.0,
        }
    }
}

impl BaseConfig {
    /// How the solvers of its corpus go about it.
    pub fn habits(&self) -> Habits {
        Habits {
            p_check: self.p_check,
            p_continue: self.p_continue,
            p_second_notation: self.p_second_notation,
            drill_attempts: self.drill_attempts,
            long_attempts: self.long_attempts,
        }
    }

    /// Learning rate of a step, counted from 0: a linear warm-up, a plateau, a linear decay to `min_lr_ratio`.
    pub fn lr_at(&self, step: usize) -> f64 {
        self.lr * schedule(self.warmup_steps, self.steps, self.decay_from, self.min_lr_ratio).factor(step as u64)
    }
}

/// The schedule that begins to fall after the share `decay_from` of its steps.
fn schedule(warmup: usize, steps: usize, decay_from: f64, floor: f64) -> Schedule {
    let decay = ((1.0 - decay_from) * steps as f64).round() as u64;
    Schedule::WarmupStableDecay { warmup: warmup as u64, decay, total: steps as u64, floor }
}

/// `[eval]`: how the policy is measured on held-out problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Measure every so many RL steps, besides before the first and after the last; 0 for those two only.
    pub every: usize,
    /// Held-out problems of the first task.
    pub problems: usize,
    /// Held-out problems of each other task.
    pub others_problems: usize,
    /// Answers sampled for each problem at temperature 1.
    pub samples: usize,
    /// The k of pass@k.
    pub k: Vec<usize>,
    /// Problems whose answers the report shows.
    pub shown: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every: 16, problems: 128, others_problems: 64, samples: 16, k: vec![1, 4, 16], shown: 6 }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum RunConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not TOML, a value of another type, or an unknown key (the message lists the known ones).
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, and what was expected there.
        message: String,
    },
    /// A value outside its range.
    #[error("{key} = {value} is out of range: expected {expected}")]
    Range {
        /// The key with its table, as `rl.epsilon`.
        key: Cow<'static, str>,
        /// What was given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A stage that cannot be.
    #[error("stage `{name}`: {message}")]
    Stage {
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// No such control experiment.
    #[error("unknown control {0:?}: expected no-retries, no-drills or no-limit-jump")]
    Control(String),
}

impl RunConfig {
    /// A smoke run for CI: every stage once, nothing learned.
    pub fn quick() -> Self {
        let mut c = Self::default();
        c.base = BaseConfig { steps: 24, batch_size: 32, long_batch_size: 8, warmup_steps: 4, ..c.base };
        c.rl.steps = 4;
        c.rl.questions = 8;
        c.rl.num_generations = 8;
        c.rl.max_completion_length = vec![LengthLimit::new(0, 40), LengthLimit::new(2, 80)];
        c.eval = EvalConfig { every: 2, problems: 8, others_problems: 4, shown: 2, ..c.eval };
        c
    }

    /// The stage whose policy is the run's result: the last one that trains the run's own model, and no student.
    pub fn result_stage(&self) -> &StageConfig {
        let trains = |stage: &&StageConfig| stage.model.is_empty() && !matches!(stage.kind, Kind::Reject | Kind::RewardModel);
        self.stages.iter().rfind(trains).unwrap_or(&self.stages[0])
    }

    /// The same with every stage cut down as [`quick`](Self::quick) is: few steps, few and short answers, whatever a stage's own keys say.
    pub fn quickened(mut self) -> Self {
        let quick = Self::quick();
        (self.base, self.eval) = (quick.base, EvalConfig { every: 0, samples: 4, k: vec![1, 4], ..quick.eval });
        let limits = quick.rl.max_completion_length.clone();
        (self.rl.steps, self.rl.questions, self.rl.num_generations) =
            (quick.rl.steps, quick.rl.questions, quick.rl.num_generations);
        self.rl.max_completion_length = limits;
        for stage in &mut self.stages {
            let cut: &[(&str, i64)] = match stage.kind {
                Kind::Pretrain => &[("steps", 24), ("batch_size", 32), ("long_batch_size", 8), ("warmup_steps", 4)],
                Kind::Sft | Kind::Distill => &[("steps", 6), ("batch_size", 16), ("examples", 32), ("warmup_steps", 2)],
                Kind::Grpo | Kind::Ppo => &[("steps", 2), ("questions", 4), ("num_generations", 4), ("preference_steps", 1)],
                Kind::Reject => &[("steps", 2), ("questions", 4), ("num_generations", 4), ("max_completion_length", 80)],
                Kind::RewardModel => &[("steps", 2), ("questions", 4), ("num_generations", 4), ("max_completion_length", 80)],
            };
            for &(key, value) in cut {
                stage.over.insert(key.to_owned(), value.into());
            }
            if matches!(stage.kind, Kind::Grpo | Kind::Ppo) {
                stage.over.remove("max_completion_length");
            }
            // Nobody has learned enough for an answer to be kept: what can be imitated is curated.
            if matches!(stage.kind, Kind::Sft | Kind::Distill) {
                let mix = self.tasks.first().map(|task| (task.clone(), toml::Value::Float(1.0)));
                stage.over.insert("mix".to_owned(), mix.into_iter().collect::<toml::Table>().into());
            }
        }
        self
    }

    /// This configuration with the keys of a TOML file laid over it.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown key, or leads to a value out of range.
    pub fn overlay(&self, path: &Path) -> Result<Self, RunConfigError> {
        let bytes = fs::read(path).map_err(cannot("read", path))?;
        let refuse = |e: nn::text::TextError| RunConfigError::Parse { path: path.into(), message: e.to_string() };
        self.overlay_str(nn::text::decode(&bytes).map_err(refuse)?, path)
    }

    /// As [`RunConfig::overlay`], of a text that came from `path`.
    ///
    /// # Errors
    /// As [`RunConfig::overlay`].
    pub fn overlay_str(&self, text: &str, path: &Path) -> Result<Self, RunConfigError> {
        let refuse = |e: toml::de::Error| RunConfigError::Parse { path: path.into(), message: e.to_string() };
        // A newer file may hold what cannot be read here: its format is looked at first.
        toml::from_str::<Head>(text).map_err(refuse)?;
        // Straight from the text: only there does an error know its line.
        toml::from_str::<Self>(text).map_err(refuse)?;
        let mut merged = toml::Table::try_from(self).expect("a configuration is a TOML table");
        merge(&mut merged, toml::from_str(text).map_err(refuse)?);
        let config: Self = merged.try_into().map_err(refuse)?;
        config.validate()?;
        Ok(config)
    }

    /// All of it as TOML; [`RunConfig::overlay_str`] over any configuration gives the same one back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration is a TOML table")
    }
}

/// Lays `over` on `under`, table by table; any other value replaces what was there.
fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(u)), toml::Value::Table(o)) => merge(u, o),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}
