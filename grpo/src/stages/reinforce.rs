use nn::{AdamW, DeepseekV3ForCausalLM, row_seed};
use tensor::DType;

use super::{adamw, set_expert_load};
use crate::config::RlConfig;
use crate::evaluate::{observed, share, shown};
use crate::metrics::Values;
use crate::policy::{self, Size};
use crate::reward::Accuracy;
use crate::rng::Rng;
use crate::rollout::{RolloutOptions, Sample, rollout};
use crate::stage::{BeginError, CRITIC, POLICY, REFERENCE, REWARD, Stage, Stepped, Workspace};
use crate::step::StepError;
use crate::trainer;
use crate::{ppo, preference};

/// Steps between two answers shown.
const SHOW_EVERY: usize = 10;

/// Rollouts and updates: Group Relative Policy Optimization or, with a critic, Proximal Policy Optimization.
#[derive(Clone, Debug)]
pub struct Reinforce {
    pub name: String,
    pub rl: RlConfig,
    pub has_critic: bool,
    pub seed: u64,
    pub eval_every: usize,
}

impl Stage for Reinforce {
    fn name(&self) -> &str {
        &self.name
    }

    fn steps(&self) -> usize {
        self.rl.steps
    }

    fn save_every(&self) -> usize {
        1
    }

    fn eval_every(&self) -> usize {
        self.eval_every
    }

    fn limit(&self, steps: usize) -> usize {
        self.rl.max_completion_length_at(steps.saturating_sub(1))
    }

    fn begin(&self, work: &mut Workspace) -> Result<(), BeginError> {
        if self.rl.beta > 0.0 {
            work.copy(POLICY, REFERENCE)?;
        }
        if self.has_critic {
            work.copy(POLICY, CRITIC)?;
        }
        if let Some(stage) = &self.rl.reward_model {
            let (model, _) = DeepseekV3ForCausalLM::from_pretrained(&work.folder.join(stage), DType::F32, &work.setup.device)?;
            work.models.insert(REWARD.to_owned(), model);
        }
        Ok(())
    }

    fn optimizer(&self, work: &Workspace) -> AdamW {
        let models: &[&str] = if self.has_critic { &[POLICY, CRITIC] } else { &[POLICY] };
        adamw(work, models, self.rl.betas, self.rl.weight_decay)
    }

    fn step(&self, work: &mut Workspace, step: usize) -> Result<Stepped, StepError> {
        let rl = &self.rl;
        let questions = work.setup.problems(&rl.tasks, rl.questions, self.seed, step);
        let limit = rl.max_completion_length_at(step);
        let options = RolloutOptions {
            num_generations: rl.num_generations,
            max_completion_length: limit,
            temperature: rl.temperature,
            seed: row_seed(row_seed(self.seed, 1), step),
        };
        let rules = rl.reward_weights.rules();
        let (policy, reference) = (&work.models[POLICY], work.models.get(REFERENCE));
        let mut samples = rollout(policy, &work.setup.tokenizer, &questions, (&Accuracy, &rules), &options)?;
        let prefers = rl.preference_steps == 0 || step + rl.preference_steps >= rl.steps;
        let judge = work.models.get(REWARD).filter(|_| prefers && rl.reward_weights.preference > 0.0);
        if let Some(model) = judge {
            for (sample, score) in preference::scores(model, &samples).into_iter().enumerate() {
                let probability = preference::probability(score);
                samples[sample].reward += rl.reward_weights.preference * probability;
                samples[sample].parts.push(("preference", probability));
            }
        }
        let mut rng = Rng::new(self.seed, "minibatches", step as u64);
        let mut values = Values::new();
        let update = if let Some(critic) = work.models.get(CRITIC) {
            let made = ppo::update([policy, critic], reference, &mut work.optimizer, &samples, rl, step, &mut rng)?;
            values = values.with("value_loss", made.value_loss).with("explained_variance", made.explained_variance);
            made.policy
        } else {
            trainer::update(policy, reference, &mut work.optimizer, &samples, rl, step, &mut rng)?
        };

        let size = Size::of(policy);
        // Forward and backward, the reference's forward pass; a critic's three, and one to say what to expect.
        let passes = 3 + u64::from(reference.is_some()) + if self.has_critic { 4 } else { 0 };
        let sampled: usize = samples.iter().map(Sample::len).sum();
        let judged = if let Some(model) = judge { Size::of(model).forward_flops(samples.iter().map(Sample::len)) } else { 0 };
        let flops = judged
            + size.forward_flops(samples.iter().map(Sample::len))
            + passes * size.forward_flops(update.lengths.iter().copied());
        let tokens = (sampled + update.lengths.iter().sum::<usize>()) as u64;

        let (n, generated) = (samples.len() as f64, samples.iter().map(|s| s.tokens.len()).sum::<usize>());
        let entropy: f64 = samples.iter().flat_map(|s| &s.entropies).map(|&e| e as f64).sum();
        let mut values = values
            .with("reward", samples.iter().map(|s| s.reward).sum::<f64>() / n)
            // Only GRPO has groups to speak of.
            .with("reward_std", (!self.has_critic).then_some(update.reward_std))
            .with("frac_reward_zero_std", (!self.has_critic).then_some(update.frac_reward_zero_std));
        for (name, mean) in parts(&samples) {
            values.set(format!("rewards/{name}/mean"), mean);
        }
        let mut values = values
            .with("accuracy", share(&samples, |s| s.correct))
            .with("format", share(&samples, |s| s.response.answer().is_some()))
            .with("completion_length", generated as f64 / n)
            .with("max_completion_length", limit as f64)
            .with("clipped_ratio", share(&samples, |s| !s.response.finished()))
            .with("kl", update.kl)
            .with("entropy", entropy / generated.max(1) as f64)
            .with("clip_ratio", update.clip_ratio)
            .with("logprob_max_diff", update.logprob_max_diff)
            .with("loss", update.loss)
            .with("grad_norm", update.grad_norm)
            .with("lr", rl.lr_at(step));
        set_expert_load(&mut values, &update.expert_load);
        values.extend(&observed(&samples, &questions));
        // The reference becomes the policy as it is after this step.
        if let (Some(reference), true) = (reference, rl.ref_sync_steps > 0 && (step + 1).is_multiple_of(rl.ref_sync_steps)) {
            policy::copy_weights(policy, reference);
        }
        let shown = step.is_multiple_of(SHOW_EVERY).then(|| shown(&questions[0], &samples[0]));
        Ok(Stepped { values, tokens, flops, shown })
    }
}

/// The mean of each part of the reward, over the answers that have it.
fn parts(samples: &[Sample]) -> Vec<(&'static str, f64)> {
    let mut sums: Vec<(&'static str, f64, usize)> = Vec::new();
    for &(name, value) in samples.iter().flat_map(|s| &s.parts) {
        match sums.iter_mut().find(|(other, ..)| *other == name) {
            Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
            None => sums.push((name, value, 1)),
        }
    }
    sums.into_iter().map(|(name, sum, count)| (name, sum / count as f64)).collect()
}
