//! What a run comes to hold, foretold from its configuration, so that one that cannot end well does not begin.

use nn::{DeepseekV3ForCausalLM, Module};

use crate::config::{BaseConfig, Kind, RlConfig, RunConfigError};
use crate::rollout::TOGETHER;
use crate::setup::Setup;
use crate::step::MICRO_BATCH_TOKENS;

/// Tokens of an attempt with its check, about.
const ATTEMPT: usize = 24;
/// Bytes of a token to learn from: its id, and whether it counts.
const LEARNED: f64 = 9.0;
/// Bytes of a sampled token: its id, log-probability and entropy, twice while answers are gathered, and its text.
const SAMPLED: f64 = 36.0;

/// The most tokens that a sequence of the run may have.
///
/// # Errors
/// A stage's keys are refused.
pub fn longest_sequence(setup: &Setup) -> Result<usize, RunConfigError> {
    let mut limit = longest_answer(&setup.config.rl);
    for stage in &setup.config.stages {
        limit = limit.max(match stage.kind {
            Kind::Grpo | Kind::Ppo => longest_answer(&stage.reinforcement(&setup.config)?),
            Kind::Reject => stage.rejection(&setup.config)?.max_completion_length,
            Kind::RewardModel => stage.preference(&setup.config)?.max_completion_length,
            Kind::Pretrain | Kind::Sft | Kind::Distill => 0,
        });
    }
    Ok(limit + setup.longest_prompt())
}

fn longest_answer(rl: &RlConfig) -> usize {
    rl.max_completion_length.iter().map(|l| l.limit).max().unwrap_or(0)
}

/// What a critic takes beside the policy, in parameters of a model: as much as a policy that is trained.
fn critic(kind: Kind) -> usize {
    if kind == Kind::Ppo { 1 + 2 + 3 + 3 } else { 0 }
}

/// The bytes that a run comes to hold beside its model, if answers grow as long as they may: what the optimizer and the saved state
/// keep of each parameter, and what the hungriest of its stages holds at once. A working space of single operations comes on top.
///
/// # Errors
/// A stage's keys are refused.
pub fn needed(setup: &Setup, model: &DeepseekV3ForCausalLM) -> Result<u64, RunConfigError> {
    let (c, config) = (model.config(), &setup.config);
    let n = |count: usize| count as f64;
    let threads = n(rayon::current_num_threads());
    let prompt = setup.longest_prompt();

    let heads = n(c.num_hidden_layers) * n(c.num_attention_heads) * n(c.qk_head_dim() + c.v_head_dim);
    let experts = n(c.moe_intermediate_size) * n(c.num_experts_per_tok + c.n_shared_experts);
    let layer = 12.0 * n(c.hidden_size) + 3.0 * experts.max(n(c.intermediate_size));
    let activations = n(c.num_hidden_layers) * layer + 4.0 * heads;
    // Each thread learns from a part of a batch.
    let part = |longest: f64| threads * longest.max(n(MICRO_BATCH_TOKENS)) * activations * 4.0;
    let answers = |problems: usize, each: usize, longest: f64| {
        let all = n(problems) * n(each);
        let side_by_side = all.min(threads * n(each.max(TOGETHER)));
        longest * (all * SAMPLED + side_by_side * heads * 4.0)
    };
    let imitation = |base: &BaseConfig| {
        let text = |attempts: [usize; 2]| n(prompt + ATTEMPT * attempts[1]);
        let batch = |rows: usize, longest: f64| n(rows) * longest * LEARNED + part(longest);
        let long = if base.long_every > 0 { batch(base.long_batch_size, text(base.long_attempts)) } else { 0.0 };
        batch(base.batch_size, text(base.drill_attempts)).max(long)
    };
    let reinforcement = |rl: &RlConfig| {
        let longest = n(prompt + longest_answer(rl));
        answers(rl.questions, rl.num_generations, longest) + part(longest)
    };
    let held_out = setup.pools[0].held_out().len();
    let measured = if setup.eval_file.is_some() { held_out } else { config.eval.problems.min(held_out) };
    let mut hungriest = answers(measured, config.eval.samples, n(longest_sequence(setup)?));
    let mut references = 0;
    for stage in &config.stages {
        hungriest = hungriest.max(match stage.kind {
            Kind::Pretrain => imitation(&stage.imitation(config)?),
            Kind::Sft | Kind::Distill => {
                let sft = stage.fine_tuning(config)?;
                let longest = n(longest_sequence(setup)?);
                n(sft.batch_size) * longest * LEARNED + part(longest)
            }
            Kind::Reject => {
                let reject = stage.rejection(config)?;
                answers(reject.questions, reject.num_generations, n(prompt + reject.max_completion_length))
            }
            Kind::RewardModel => {
                let model = stage.preference(config)?;
                let longest = n(prompt + model.max_completion_length);
                references = references.max(2);
                answers(model.questions, model.num_generations, longest) + part(2.0 * longest)
            }
            Kind::Grpo | Kind::Ppo => {
                let rl = stage.reinforcement(config)?;
                references = references
                    .max(2 * (usize::from(rl.beta > 0.0) + usize::from(rl.reward_model.is_some())) + critic(stage.kind));
                reinforcement(&rl)
            }
        });
    }
    // The gradient; the moments; weights and moments of the last state, and once more as a file; the reference and its copy there.
    let parameters = n(1 + 2 + 3 + 3 + references) * n(model.num_parameters());
    Ok((4.0 * parameters + hungriest) as u64)
}
