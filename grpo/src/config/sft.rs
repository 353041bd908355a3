//! `[sft]`, `[reject]` and `[reward_model]`: imitation of chosen examples, the choice of them, and the model of a preference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::BaseConfig;

/// `[sft]`: supervised fine-tuning on examples that were chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// Optimizer steps.
    pub steps: usize,
    /// Sequences per step.
    pub batch_size: usize,
    /// What they are drawn from, with weights: tasks (their curated examples) and earlier stages (the samples that they kept).
    pub mix: BTreeMap<String, f64>,
    /// Distinct curated examples of each task.
    pub examples: usize,
    /// AdamW's learning rate at its height.
    pub lr: f64,
    /// Steps over which it rises.
    pub warmup_steps: usize,
    /// Share of the steps after which it falls in a line.
    pub decay_from: f64,
    /// Where it ends, as a share of `lr`.
    pub min_lr_ratio: f64,
    /// AdamW's β₁ and β₂.
    pub betas: [f64; 2],
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient.
    pub grad_clip: f64,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            steps: 100,
            batch_size: 64,
            mix: BTreeMap::new(),
            examples: 400,
            lr: 5e-4,
            warmup_steps: 10,
            decay_from: 0.5,
            min_lr_ratio: 0.1,
            betas: [0.9, 0.95],
            weight_decay: 0.01,
            grad_clip: 1.0,
        }
    }
}

impl SftConfig {
    /// The same as hyperparameters of imitation, which leave the router's biases and its balance alone.
    pub fn imitation(&self) -> BaseConfig {
        BaseConfig {
            steps: self.steps,
            batch_size: self.batch_size,
            long_every: 0,
            lr: self.lr,
            warmup_steps: self.warmup_steps,
            decay_from: self.decay_from,
            min_lr_ratio: self.min_lr_ratio,
            betas: self.betas,
            weight_decay: self.weight_decay,
            grad_clip: self.grad_clip,
            bias_update_speed: 0.0,
            seq_aux_alpha: 0.0,
            ..BaseConfig::default()
        }
    }
}

/// `[reject]`: answers sampled from the policy, of which those are kept that keep to the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RejectConfig {
    /// Rollouts.
    pub steps: usize,
    /// Questions of each.
    pub questions: usize,
    /// The tasks that they are drawn from, with weights; `{}` for the first task alone.
    pub tasks: BTreeMap<String, f64>,
    /// Answers sampled for each question.
    pub num_generations: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Most tokens of an answer.
    pub max_completion_length: usize,
    /// Most answers that are kept for a question: the shortest ones, all different.
    pub keep: usize,
    /// An answer that is longer rambles, and is not kept.
    pub longest: usize,
    /// Least share of its operations in the first notation; of a task that knows no notations nothing is asked.
    pub min_consistency: f64,
}

impl Default for RejectConfig {
    fn default() -> Self {
        Self {
            steps: 16,
            questions: 64,
            tasks: BTreeMap::new(),
            num_generations: 8,
            temperature: 1.0,
            max_completion_length: 600,
            keep: 2,
            longest: 300,
            min_consistency: 1.0,
        }
    }
}

/// `[reward_model]`: a small model of which of two answers is preferred (Bradley and Terry, 1952).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardModelConfig {
    /// Optimizer steps; each learns from fresh pairs.
    pub steps: usize,
    /// Questions whose answers are compared in a step.
    pub questions: usize,
    /// The tasks that they are drawn from, with weights; `{}` for the first task alone.
    pub tasks: BTreeMap<String, f64>,
    /// Answers to each; neighbours make the pairs.
    pub num_generations: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Most tokens of an answer.
    pub max_completion_length: usize,
    /// Share of the pairs whose label is the wrong way round, as people's are.
    pub label_noise: f64,
    /// AdamW's learning rate at its height.
    pub lr: f64,
    /// AdamW's β₁ and β₂.
    pub betas: [f64; 2],
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient.
    pub grad_clip: f64,
}

impl Default for RewardModelConfig {
    fn default() -> Self {
        Self {
            steps: 40,
            questions: 32,
            tasks: BTreeMap::new(),
            num_generations: 4,
            temperature: 1.0,
            max_completion_length: 400,
            label_noise: 0.05,
            lr: 3e-4,
            betas: [0.9, 0.95],
            weight_decay: 0.01,
            grad_clip: 1.0,
        }
    }
}
