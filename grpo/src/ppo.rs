//! Proximal Policy Optimization (Schulman et al., arXiv:1707.06347) with generalized advantage estimation (arXiv:1506.02438), to be
//! held against GRPO as the R1 paper does (supplement A.3): a critic says what to expect at each token, and the KL penalty is in the
//! reward.
//!
//! The critic is a language model whose value of a state is the logit of `v` less that of `x` there, as
//! [`preference`](crate::preference) reads a score: a linear head on the hidden state.

use autograd::{Var, backward_parts, no_grad};
use nn::{AdamW, DeepseekV3ForCausalLM, ForwardOptions};
use rayon::prelude::*;
use tensor::Tensor;

use crate::config::RlConfig;
use crate::objective::{Objective, token_weight};
use crate::rng::Rng;
use crate::rollout::Sample;
use crate::step::{Load, StepError, add_load, finite, load_ratios, micro_batches};
use crate::tokenizer::token;
use crate::trainer::{MicroBatch, Update};

/// The advantage of each token of an answer: `A_t = Σ_k (γλ)^k δ_{t+k}` with `δ_t = r_t + γ V_{t+1} − V_t`, nothing being expected
/// after the last one.
///
/// ```
/// // λ = 1: what came, less what was expected. λ = 0: how much more is expected a step later.
/// assert_eq!(grpo::ppo::gae(&[0.0, 0.0, 1.0], &[0.5, 0.25, 0.75], 1.0, 1.0), [0.5, 0.75, 0.25]);
/// assert_eq!(grpo::ppo::gae(&[0.0, 0.0, 1.0], &[0.5, 0.25, 0.75], 1.0, 0.0), [-0.25, 0.5, 0.25]);
/// ```
///
/// # Panics
/// If there are not as many values as rewards.
#[track_caller]
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    assert_eq!(rewards.len(), values.len(), "gae: a value for each reward");
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * next_value - values[t];
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    advantages
}

/// The critic's values of every state of some sequences but the last, `[answers, width − 1]`: position `t` is before token `t + 1`.
fn values_of(critic: &DeepseekV3ForCausalLM, ids: &Tensor, attended: &Tensor) -> Var {
    let out = critic.forward_with(ids, &ForwardOptions { mask: Some(attended), ..Default::default() });
    let logits = critic.logits(&out.hidden.narrow(1, 0, ids.dim(1) - 1));
    logits.select(2, token::RIGHT as isize).sub(&logits.select(2, token::WRONG as isize))
}

/// What is expected before each token of each answer, and the log-probabilities of the tokens under the reference, if there is one.
fn expected(
    critic: &DeepseekV3ForCausalLM,
    reference: Option<(&DeepseekV3ForCausalLM, f64)>,
    samples: &[Sample],
) -> Vec<(Vec<f64>, Option<Vec<f64>>)> {
    let all: Vec<usize> = (0..samples.len()).collect();
    let parts = micro_batches(&all, |i| samples[i].len());
    let of_part = |part: &Vec<usize>| {
        let (ids, attended) = MicroBatch::sequences(critic, part, samples);
        let values = no_grad(|| values_of(critic, &ids, &attended).value().to_f64_vec());
        let logp = reference.map(|(model, temperature)| no_grad(|| model.log_probs(&ids, temperature).0.value().to_f64_vec()));
        let width = ids.dim(1) - 1;
        let rows = part.iter().enumerate().map(|(row, &i)| {
            let start = row * width + samples[i].prompt.len() - 1;
            let own = start..start + samples[i].tokens.len();
            (i, (values[own.clone()].to_vec(), logp.as_ref().map(|logp| logp[own].to_vec())))
        });
        rows.collect::<Vec<_>>()
    };
    let mut found: Vec<_> = parts.par_iter().map(of_part).collect::<Vec<_>>().concat();
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, expected)| expected).collect()
}

/// What an update of policy and critic did.
#[derive(Clone, Debug, Default)]
pub struct PpoUpdate {
    /// Of the policy. There are no groups: `reward_std` and `frac_reward_zero_std` are 0.
    pub policy: Update,
    /// Mean over the optimizer steps of the critic's loss, half the squared error per token.
    pub value_loss: f64,
    /// Share of the returns' variance that the critic foretold before it learned from them; `None` where all returns are alike.
    pub explained_variance: Option<f64>,
}

/// Learns from a rollout: advantages by [`gae`], centred and scaled over the batch, then `num_iterations` passes of `minibatches`
/// optimizer steps over policy and critic together, whose parameters `optimizer` has. Every answer is trained on.
///
/// # Errors
/// If a loss or a gradient is not finite, or a gradient is missing. The optimizer steps before that one have been made.
pub fn update(
    models: [&DeepseekV3ForCausalLM; 2],
    reference: Option<&DeepseekV3ForCausalLM>,
    optimizer: &mut AdamW,
    samples: &[Sample],
    rl: &RlConfig,
    step: usize,
    rng: &mut Rng,
) -> Result<PpoUpdate, StepError> {
    let [policy, critic] = models;
    let mut kept: Vec<usize> = (0..samples.len()).filter(|&i| !samples[i].tokens.is_empty()).collect();
    let reference = reference.filter(|_| rl.beta > 0.0).map(|model| (model, rl.temperature));
    let expected = expected(critic, reference, samples);
    let mut advantages: Vec<Vec<f64>> = Vec::new();
    for (sample, (values, logp)) in samples.iter().zip(&expected) {
        let penalty = |t: usize| logp.as_ref().map_or(0.0, |logp| rl.beta * (f64::from(sample.logprobs[t]) - logp[t]));
        let mut rewards: Vec<f64> = (0..values.len()).map(|t| -penalty(t)).collect();
        if let Some(last) = rewards.last_mut() {
            *last += sample.reward;
        }
        advantages.push(gae(&rewards, values, rl.gamma, rl.lam));
    }
    let returns: Vec<Vec<f64>> =
        advantages.iter().zip(&expected).map(|(a, (v, _))| a.iter().zip(v).map(|(a, v)| a + v).collect()).collect();
    let mut report = PpoUpdate { explained_variance: explained(&returns, &advantages), ..PpoUpdate::default() };
    whiten(&mut advantages);
    let single = |rows: &[Vec<f64>]| rows.iter().map(|row| row.iter().map(|&x| x as f32).collect()).collect::<Vec<Vec<f32>>>();
    let (advantages, returns) = (single(&advantages), single(&returns));

    // The penalty is in the reward: none is in the loss.
    let objective = Objective { beta: 0.0, ..Objective::from(rl) };
    let (lr, limit) = (rl.lr_at(step), rl.max_completion_length_at(step));
    let (mut clipped, mut tokens, mut steps, mut load) = (0.0, 0, 0, Load::new());
    for _ in 0..rl.num_iterations {
        rng.shuffle(&mut kept);
        for minibatch in kept.chunks(kept.len().div_ceil(rl.minibatches).max(1)) {
            let of_all = (minibatch.len(), minibatch.iter().map(|&i| samples[i].tokens.len()).sum::<usize>());
            optimizer.zero_grad();
            let parts = micro_batches(minibatch, |i| samples[i].len());
            let weight = |s: &Sample| token_weight(rl.loss_type, s.tokens.len(), of_all.0, of_all.1, limit);
            let done = backward_parts(&parts, |part| {
                let batch = MicroBatch::new(policy, None, part, samples, &advantages, weight);
                let out = policy.forward_with(&batch.ids, &ForwardOptions { mask: Some(&batch.attended), ..Default::default() });
                let (logp, _) = policy.token_log_probs(&out.hidden, &batch.ids, rl.temperature);
                let part = objective.loss(&logp, &batch.fixed);
                let value = finite(&part.loss.value())?;
                Ok::<_, StepError>((part.loss, (value, part.clipped, part.max_diff, out.expert_load)))
            })?;
            let values = backward_parts(&parts, |part| {
                let batch = MicroBatch::new(critic, None, part, samples, &returns, |_| 1.0 / of_all.1 as f64);
                // The returns stand where a policy's advantages do.
                let error = values_of(critic, &batch.ids, &batch.attended).sub(&Var::from(&batch.fixed.advantages));
                let loss = error.square().mul(&Var::from(&batch.fixed.weights)).sum((), false).mul(0.5);
                let value = finite(&loss.value())?;
                Ok::<_, StepError>((loss.mul(rl.vf_coef), value))
            })?;
            for (value, part_clipped, max_diff, part_load) in done {
                report.policy.loss += value;
                clipped += part_clipped;
                if steps == 0 {
                    let most = report.policy.logprob_max_diff.map_or(max_diff, |most: f64| most.max(max_diff));
                    report.policy.logprob_max_diff = Some(most);
                }
                add_load(&mut load, part_load);
            }
            report.value_loss += values.iter().sum::<f64>();
            report.policy.grad_norm += optimizer.step_clipped(lr, rl.grad_clip)?;
            report.policy.lengths.extend(minibatch.iter().map(|&i| samples[i].len()));
            tokens += of_all.1;
            steps += 1;
        }
    }
    let n = steps.max(1) as f64;
    (report.policy.loss, report.policy.grad_norm, report.value_loss) =
        (report.policy.loss / n, report.policy.grad_norm / n, report.value_loss / n);
    report.policy.clip_ratio = (tokens > 0).then(|| clipped / tokens as f64);
    report.policy.expert_load = load_ratios(&load);
    Ok(report)
}

/// Centres and scales over all tokens.
fn whiten(advantages: &mut [Vec<f64>]) {
    let all: Vec<f64> = advantages.concat();
    let (mean, variance) = moments(&all);
    let divisor = variance.sqrt() + 1e-8;
    advantages.iter_mut().flatten().for_each(|a| *a = (*a - mean) / divisor);
}

fn moments(all: &[f64]) -> (f64, f64) {
    let n = all.len().max(1) as f64;
    let mean = all.iter().sum::<f64>() / n;
    (mean, all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

/// `1 − var(R − V) / var R`, of the returns `R = A + V`: what is left of them is the advantage.
fn explained(returns: &[Vec<f64>], errors: &[Vec<f64>]) -> Option<f64> {
    let [(_, of_returns), (_, of_errors)] = [returns, errors].map(|rows| moments(&rows.concat()));
    (of_returns > 1e-12).then(|| 1.0 - of_errors / of_returns)
}
