//! One GRPO update: a rollout becomes minibatches, a minibatch an optimizer step.

use autograd::{backward_parts, no_grad};
use nn::{AdamW, DeepseekV3ForCausalLM, ForwardOptions};
use tensor::Tensor;

use crate::config::RlConfig;
use crate::objective::{Fixed, Objective, advantages, has_spread, padded, spread, token_weight};
use crate::rng::Rng;
use crate::rollout::Sample;
use crate::step::{Load, StepError, add_load, finite, load_ratios, micro_batches};
use crate::token;

/// What an update did. Means are over the tokens that were trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Mean over the optimizer steps.
    pub loss: f64,
    /// Mean over the optimizer steps, before clipping.
    pub grad_norm: f64,
    /// Mean k3 estimate of the KL divergence from the reference; `None` without one, or where no answer was trained on.
    pub kl: Option<f64>,
    /// Share of tokens whose ratio was clipped; `None` where no answer was trained on.
    pub clip_ratio: Option<f64>,
    /// Largest difference between the log-probabilities of sampling and those of the training pass, over the answers of the first
    /// minibatch: before any update. `None` where no answer was trained on.
    pub logprob_max_diff: Option<f64>,
    /// Mean over groups of the rewards' standard deviation.
    pub reward_std: f64,
    /// Share of groups without variance.
    pub frac_reward_zero_std: f64,
    /// For each mixture layer the busiest expert's load over the mean.
    pub expert_load: Vec<f64>,
    /// Lengths of the sequences that were trained on, per pass.
    pub lengths: Vec<usize>,
}

/// Learns from a rollout of groups of `num_generations` answers: `num_iterations` passes of `minibatches` optimizer steps. Answers
/// of groups without variance are left out (if `skip_zero_variance`), and those cut by the limit (if `mask_truncated_completions`).
/// Where that leaves no answer, no optimizer step is made: weights, moments and the optimizer's count of steps stay as they are. With
/// fewer answers than `minibatches` there are fewer steps. Kept answers without an advantage (groups without variance that are not
/// left out) have a gradient of 0, but for the KL term: such a step is made, and moves the weights by momentum and weight decay alone.
/// `step`, counted from 0, is where the schedules of learning rate and length stand; `rng` draws the minibatches.
///
/// # Errors
/// If the loss or a gradient is not finite, or a gradient is missing. The optimizer steps before that one have been made.
pub fn update(
    policy: &DeepseekV3ForCausalLM,
    reference: Option<&DeepseekV3ForCausalLM>,
    optimizer: &mut AdamW,
    samples: &[Sample],
    rl: &RlConfig,
    step: usize,
    rng: &mut Rng,
) -> Result<Update, StepError> {
    let groups: Vec<Vec<f64>> = samples.chunks(rl.num_generations).map(|g| g.iter().map(|s| s.reward).collect()).collect();
    let advantages = groups.iter().flat_map(|g| advantages(g, rl.scale_rewards));
    let advantages: Vec<Vec<f32>> = advantages.zip(samples).map(|(a, s)| vec![a as f32; s.tokens.len()]).collect();
    let mut report = Update {
        reward_std: groups.iter().map(|g| spread(g)).sum::<f64>() / groups.len().max(1) as f64,
        frac_reward_zero_std: groups.iter().filter(|g| !has_spread(g)).count() as f64 / groups.len().max(1) as f64,
        ..Update::default()
    };
    let teaches = |&i: &usize| {
        !(samples[i].tokens.is_empty()
            || rl.skip_zero_variance && !has_spread(&groups[i / rl.num_generations])
            || rl.mask_truncated_completions && !samples[i].response.finished())
    };
    let mut kept: Vec<usize> = (0..samples.len()).filter(teaches).collect();
    let objective = Objective::from(rl);
    let (lr, limit) = (rl.lr_at(step), rl.max_completion_length_at(step));
    let reference = reference.filter(|_| rl.beta > 0.0).map(|reference| (reference, rl.temperature));
    let (mut kl, mut clipped, mut tokens, mut steps, mut load) = (0.0, 0.0, 0, 0, Load::new());
    for _ in 0..rl.num_iterations {
        rng.shuffle(&mut kept);
        for minibatch in kept.chunks(kept.len().div_ceil(rl.minibatches).max(1)) {
            let of_all = (minibatch.len(), minibatch.iter().map(|&i| samples[i].tokens.len()).sum::<usize>());
            optimizer.zero_grad();
            let parts = micro_batches(minibatch, |i| samples[i].len());
            let done = backward_parts(&parts, |part| {
                let weight = |s: &Sample| token_weight(rl.loss_type, s.tokens.len(), of_all.0, of_all.1, limit);
                let batch = MicroBatch::new(policy, reference, part, samples, &advantages, weight);
                let out = policy.forward_with(&batch.ids, &ForwardOptions { mask: Some(&batch.attended), ..Default::default() });
                let (logp, _) = policy.token_log_probs(&out.hidden, &batch.ids, rl.temperature);
                let part = objective.loss(&logp, &batch.fixed);
                let value = finite(&part.loss.value())?;
                Ok::<_, StepError>((part.loss, (value, part.kl, part.clipped, part.max_diff, out.expert_load)))
            })?;
            let mut loss = 0.0;
            for (value, part_kl, part_clipped, max_diff, part_load) in done {
                loss += value;
                kl += part_kl;
                clipped += part_clipped;
                if steps == 0 {
                    report.logprob_max_diff = Some(report.logprob_max_diff.map_or(max_diff, |most| most.max(max_diff)));
                }
                add_load(&mut load, part_load);
            }
            report.grad_norm += optimizer.step_clipped(lr, rl.grad_clip)?;
            report.loss += loss;
            report.lengths.extend(minibatch.iter().map(|&i| samples[i].len()));
            tokens += of_all.1;
            steps += 1;
        }
    }
    report.loss /= steps.max(1) as f64;
    report.grad_norm /= steps.max(1) as f64;
    let mean = |sum: f64| (tokens > 0).then(|| sum / tokens as f64);
    report.kl = reference.and_then(|_| mean(kl));
    report.clip_ratio = mean(clipped);
    report.expert_load = load_ratios(&load);
    Ok(report)
}

/// Answers side by side, and what is fixed about them.
pub(crate) struct MicroBatch {
    /// Prompt and answer, padded on the right, `[answers, width]`.
    pub ids: Tensor,
    /// What is not padding, `[answers, width]`.
    pub attended: Tensor,
    /// `[answers, width − 1]`: position `t` is about token `t + 1`.
    pub fixed: Fixed,
}

impl MicroBatch {
    /// Prompts and answers of the samples, padded, and what is not padding.
    pub fn sequences(policy: &DeepseekV3ForCausalLM, which: &[usize], samples: &[Sample]) -> (Tensor, Tensor) {
        let width = which.iter().map(|&i| samples[i].len()).max().unwrap_or(0);
        let row = |&i: &usize| samples[i].sequence().chain(std::iter::repeat(token::PAD)).take(width).collect::<Vec<_>>();
        let ids = Tensor::from_vec(which.iter().flat_map(row).collect(), [which.len(), width], &policy.device());
        let attended = ids.ne(token::PAD);
        (ids, attended)
    }

    /// `advantages` has a value for each token of each sample.
    pub fn new(
        policy: &DeepseekV3ForCausalLM,
        reference: Option<(&DeepseekV3ForCausalLM, f64)>,
        which: &[usize],
        samples: &[Sample],
        advantages: &[Vec<f32>],
        weight: impl Fn(&Sample) -> f64,
    ) -> MicroBatch {
        let device = policy.device();
        let (ids, attended) = Self::sequences(policy, which, samples);
        let width = ids.dim(1);
        let of = |value: &dyn Fn(usize) -> Vec<f32>| {
            let rows: Vec<Vec<f32>> = which.iter().map(|&i| value(i)).collect();
            let rows: Vec<(usize, &[f32])> =
                which.iter().zip(&rows).map(|(&i, r)| (samples[i].prompt.len() - 1, &r[..])).collect();
            padded(&rows, width - 1, &device)
        };
        let constant = |value: &dyn Fn(usize) -> f64| of(&|i| vec![value(i) as f32; samples[i].tokens.len()]);
        MicroBatch {
            fixed: Fixed {
                old: of(&|i| samples[i].logprobs.clone()),
                reference: reference.map(|(r, temperature)| no_grad(|| r.log_probs(&ids, temperature).0.value())),
                advantages: of(&|i| advantages[i].clone()),
                weights: constant(&|i| weight(&samples[i])),
                mask: constant(&|_| 1.0),
            },
            attended,
            ids,
        }
    }
}
