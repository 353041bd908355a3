//! Rollouts: answers sampled from the policy, taken apart and scored.

use nn::{DeepseekV3ForCausalLM, Generate, GenerateError, Sampling, row_seed};
use rayon::prelude::*;

use crate::response::Response;
use crate::reward::Reward;
use crate::task::{Counts, Problem};
use crate::tokenizer::{Tokenizer, token};

/// Answers that are sampled side by side, at most. Each part of a rollout has a thread of its own: that its steps wait for nobody is
/// worth more than larger products. An answer does not depend on its neighbours, so no bit changes.
pub(crate) const TOGETHER: usize = 256;

/// Why there is no rollout.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The policy.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A reward that is no number.
    #[error("the reward `{name}` of an answer to {problem} is {value}")]
    Reward {
        /// The reward's name.
        name: String,
        /// The problem.
        problem: String,
        /// NaN or an infinity.
        value: f64,
    },
}

/// How answers are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutOptions {
    /// Answers for each problem.
    pub num_generations: usize,
    /// The limit on an answer's tokens.
    pub max_completion_length: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Of all randomness.
    pub seed: u64,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which of the problems.
    pub problem: usize,
    /// The prompt's tokens.
    pub prompt: Vec<i64>,
    /// What was generated.
    pub tokens: Vec<i64>,
    /// Log-probability of each generated token under the policy that drew it.
    pub logprobs: Vec<f32>,
    /// Entropy, in nats, of the distribution each was drawn from.
    pub entropies: Vec<f32>,
    /// The answer taken apart.
    pub response: Response,
    /// What was counted in it.
    pub counts: Counts,
    /// What it is worth, by part.
    pub parts: Vec<(&'static str, f64)>,
    /// What the reward says.
    pub reward: f64,
    /// Whether it is right.
    pub correct: bool,
}

impl Sample {
    /// Prompt and answer.
    pub fn sequence(&self) -> impl Iterator<Item = i64> {
        self.prompt.iter().chain(&self.tokens).copied()
    }

    /// Tokens of prompt and answer.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.tokens.len()
    }

    /// Never: a prompt has tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Samples `num_generations` answers to each problem, in the order of the problems, and scores them. `correct` is what `accuracy`
/// says, `reward` what `reward` says.
///
/// # Errors
/// If the policy gives logits, or `reward` a score, that is not finite.
///
/// # Panics
/// If a problem cannot be written in the tokenizer's characters: readers refuse those.
pub fn rollout(
    policy: &DeepseekV3ForCausalLM,
    tokenizer: &Tokenizer,
    problems: &[Problem],
    rewards: (&dyn Reward, &dyn Reward),
    options: &RolloutOptions,
) -> Result<Vec<Sample>, RolloutError> {
    rollout_with(policy, tokenizer, problems, rewards, options, &|_| ())
}

/// As [`rollout`]; `ended` hears of each answer that has ended, as so many more.
///
/// # Errors
/// As [`rollout`].
///
/// # Panics
/// As [`rollout`].
pub fn rollout_with(
    policy: &DeepseekV3ForCausalLM,
    tokenizer: &Tokenizer,
    problems: &[Problem],
    (accuracy, reward): (&dyn Reward, &dyn Reward),
    options: &RolloutOptions,
    ended: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Sample>, RolloutError> {
    let prompt = |p: &Problem| p.prompt(tokenizer).expect("a problem of the tokenizer's characters");
    let prompts: Vec<Vec<i64>> = problems.iter().map(prompt).collect();
    let generate = Generate {
        num_generations: options.num_generations,
        max_new_tokens: options.max_completion_length,
        stop_tokens: vec![token::EOS],
        sampling: Sampling { temperature: options.temperature, ..Sampling::default() },
        ..Generate::default()
    };
    let per = (TOGETHER / options.num_generations.max(1)).min(prompts.len().div_ceil(rayon::current_num_threads())).max(1);
    let parts: Vec<(usize, &[Vec<i64>])> = prompts.chunks(per).enumerate().map(|(c, part)| (c * per, part)).collect();
    let answers = parts.par_iter().map(|&(first, part)| {
        let seeds = (first..first + part.len()).map(|i| row_seed(options.seed, i)).collect();
        let mut active = part.len() * options.num_generations;
        let mut heard = |now: nn::Progress| {
            ended(active - now.active);
            active = now.active;
        };
        let answers = policy.generate_with(part, &Generate { prompt_seeds: Some(seeds), ..generate.clone() }, &mut heard);
        let mut answers = answers.map_err(|e| e.with_prompts_from(first))?;
        answers.iter_mut().for_each(|answer| answer.prompt += first);
        Ok(answers)
    });
    // All parts first: collected into one result, the error would be of the part that happens to fail first.
    let answers: Vec<Result<_, GenerateError>> = answers.collect();
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let score = |answer: nn::Completion| {
        let problem = &problems[answer.prompt];
        let response = Response::from_tokens(tokenizer, &answer.tokens);
        let value = reward.score(problem, &response);
        if !value.is_finite() {
            return Err(RolloutError::Reward { name: reward.name().into(), problem: problem.text(), value });
        }
        Ok(Sample {
            problem: answer.prompt,
            prompt: prompts[answer.prompt].clone(),
            counts: problem.observe(&response),
            parts: problem.parts(&response),
            reward: value,
            correct: accuracy.score(problem, &response) == 1.0,
            response,
            tokens: answer.tokens,
            logprobs: answer.logprobs,
            entropies: answer.entropies,
        })
    };
    answers.into_iter().map(score).collect()
}
