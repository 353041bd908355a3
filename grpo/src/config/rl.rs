//! `[rl]`: the hyperparameters of GRPO and its relatives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schedule;
use crate::reward::Rules;

/// How the policy's loss is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Each answer's mean over its tokens, then the mean over answers (arXiv 2402.03300).
    Grpo,
    /// The mean over all tokens of the batch, so that a long answer weighs more (DAPO, arXiv 2503.14476).
    Dapo,
    /// The sum over tokens divided by a constant length, so that length is no lever (Dr. GRPO, arXiv 2503.20783).
    DrGrpo,
    /// As [`Dapo`](Self::Dapo), and the ratio, clipped, only weighs the log-probability: no token loses its gradient (CISPO,
    /// MiniMax-M1, arXiv 2506.13585).
    Cispo,
}

/// How a group's rewards become advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// Centred and divided by the group's standard deviation.
    Group,
    /// Centred only (Dr. GRPO).
    None,
}

/// What the ratio of new to old probability is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceSampling {
    /// Each token (DeepSeekMath, and all trainers).
    Token,
    /// The whole answer, its length-th root: the geometric mean of its tokens' ratios (GSPO, arXiv 2507.18071).
    Sequence,
    /// The whole answer, as the R1 paper writes it: the product of its tokens' ratios.
    Product,
}

/// From a step on, answers may be so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthLimit {
    /// First step, counted from 0, at which the limit holds.
    pub from_step: usize,
    /// Most tokens an answer may have.
    pub limit: usize,
}

impl LengthLimit {
    /// Answers of at most `limit` tokens from step `from_step` on.
    pub fn new(from_step: usize, limit: usize) -> Self {
        Self { from_step, limit }
    }
}

/// Weights of the rule rewards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardWeights {
    /// For a right answer.
    pub accuracy: f64,
    /// For the template alone. The paper weighs both alike; at this size that rewards a short guess.
    pub format: f64,
    /// For keeping to the first notation: the share of operations written in it.
    pub consistency: f64,
    /// For what `reward_model` says: the probability that the answer is preferred to one of score 0.
    pub preference: f64,
}

impl Default for RewardWeights {
    fn default() -> Self {
        Self { accuracy: 1.0, format: 0.0, consistency: 0.0, preference: 0.0 }
    }
}

impl RewardWeights {
    /// The rules that they make.
    pub fn rules(&self) -> Rules {
        let weights = [("accuracy", self.accuracy), ("format", self.format), ("consistency", self.consistency)];
        Rules::new(weights.map(|(name, weight)| (name.to_owned(), weight)))
    }
}

/// `[rl]`: GRPO, in TRL's words where it has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RlConfig {
    /// Rollout steps; each makes `minibatches × num_iterations` optimizer steps.
    pub steps: usize,
    /// Questions per step.
    pub questions: usize,
    /// The tasks that they are drawn from, with weights; `{}` for the first task alone.
    pub tasks: BTreeMap<String, f64>,
    /// Answers sampled for each question: the group.
    pub num_generations: usize,
    /// Sampling temperature. The policy that is trained is the one that was sampled: its logits are divided by it, too.
    pub temperature: f64,
    /// The limit on an answer's tokens, a schedule by step.
    pub max_completion_length: Vec<LengthLimit>,
    /// Leave answers cut by the limit out of the loss.
    pub mask_truncated_completions: bool,
    /// Weights of the rewards.
    pub reward_weights: RewardWeights,
    /// The stage whose model says which answers are preferred; without it rules alone count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<String>,
    /// The preference counts in so many of the last steps only, for a model of it can be outwitted (R1: 400 of 1700); 0 for in all.
    pub preference_steps: usize,
    /// How rewards become advantages.
    pub scale_rewards: ScaleRewards,
    /// How the loss is averaged.
    pub loss_type: LossType,
    /// What the ratio is taken of.
    pub importance_sampling_level: ImportanceSampling,
    /// Leave groups without variance out of the loss, and out of the number of answers or tokens that it is averaged over, as
    /// DAPO's dynamic sampling does (which fills their places with new ones). Their advantages are 0.
    pub skip_zero_variance: bool,
    /// The ratio is clipped below `1 − epsilon` and, unless `epsilon_high` is set, above `1 + epsilon`.
    pub epsilon: f64,
    /// Upper clip of its own (DAPO's clip-higher); `"none"` takes `epsilon`.
    #[serde(with = "nn::or_none")]
    pub epsilon_high: Option<f64>,
    /// Weight of the KL divergence from the reference.
    pub beta: f64,
    /// Of PPO alone: the λ of its advantages, in TRL's word.
    pub lam: f64,
    /// Of PPO alone: what a reward a token later is worth.
    pub gamma: f64,
    /// Of PPO alone: the weight of the critic's loss.
    pub vf_coef: f64,
    /// The reference becomes a copy of the policy every so many steps; 0 for never.
    pub ref_sync_steps: usize,
    /// Optimizer steps over one pass of a rollout.
    pub minibatches: usize,
    /// Passes over a rollout (μ in the paper).
    pub num_iterations: usize,
    /// AdamW's learning rate at first.
    pub lr: f64,
    /// Share of the steps after which the learning rate falls in a line. What the reward asks for is learned in the first steps;
    /// after that, noise at the full rate wears away what the base model knew of arithmetic.
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

impl Default for RlConfig {
    fn default() -> Self {
        Self {
            steps: 64,
            questions: 32,
            tasks: BTreeMap::new(),
            num_generations: 16,
            temperature: 1.0,
            max_completion_length: vec![LengthLimit::new(0, 120), LengthLimit::new(24, 600)],
            mask_truncated_completions: false,
            reward_weights: RewardWeights::default(),
            reward_model: None,
            preference_steps: 0,
            scale_rewards: ScaleRewards::Group,
            loss_type: LossType::Dapo,
            importance_sampling_level: ImportanceSampling::Token,
            skip_zero_variance: true,
            epsilon: 0.2,
            epsilon_high: None,
            beta: 1e-3,
            lam: 0.95,
            gamma: 1.0,
            vf_coef: 0.5,
            ref_sync_steps: 50,
            minibatches: 2,
            num_iterations: 1,
            lr: 1.5e-4,
            decay_from: 0.25,
            min_lr_ratio: 0.05,
            betas: [0.9, 0.95],
            weight_decay: 0.0,
            grad_clip: 1.0,
        }
    }
}

impl RlConfig {
    /// Learning rate of a step, counted from 0: a plateau, then a linear decay to `min_lr_ratio`.
    pub fn lr_at(&self, step: usize) -> f64 {
        self.lr * schedule(0, self.steps, self.decay_from, self.min_lr_ratio).factor(step as u64)
    }

    /// Most tokens an answer may have in a step, counted from 0.
    pub fn max_completion_length_at(&self, step: usize) -> usize {
        self.max_completion_length.iter().rev().find(|l| l.from_step <= step).map_or(0, |l| l.limit)
    }
}
