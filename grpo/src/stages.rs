//! The kinds of stages, a file each, and the list that a configuration describes.

mod pretrain;
mod reinforce;
mod reject;
mod reward_model;
mod sft;

use nn::{AdamW, AdamWConfig, Module, row_seed};

use crate::config::{Kind, RunConfigError};
use crate::metrics::Values;
use crate::setup::Setup;
use crate::stage::{POLICY, Stage, Workspace};

/// The stages of a run.
///
/// # Errors
/// A stage's keys are refused.
pub fn build(setup: &Setup) -> Result<Vec<Box<dyn Stage>>, RunConfigError> {
    let config = &setup.config;
    let longest = config.rl.max_completion_length.iter().map(|l| l.limit).max().unwrap_or(0);
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    for (i, stage) in config.stages.iter().enumerate() {
        let name = stage.name.clone();
        // Each has randomness of its own. The first of a kind has the run's, so that what comes before it changes nothing.
        let of_its_kind = config.stages[..i].iter().filter(|other| other.kind == stage.kind).count();
        let seed = if of_its_kind == 0 { config.seed } else { row_seed(row_seed(config.seed, 3), i) };
        stages.push(match stage.kind {
            Kind::Pretrain => {
                let mut base = stage.imitation(config)?;
                // The given base model stands for the first one.
                if i == 0 && setup.base.is_some() {
                    base.steps = 0;
                }
                Box::new(pretrain::Pretrain { name, base, seed, limit: config.rl.max_completion_length_at(0) })
            }
            Kind::Sft | Kind::Distill => Box::new(sft::Sft { name, sft: stage.fine_tuning(config)?, seed, limit: longest }),
            Kind::Reject => Box::new(reject::Reject { name, reject: stage.rejection(config)?, seed }),
            Kind::RewardModel => Box::new(reward_model::RewardModel { name, config: stage.preference(config)?, seed }),
            Kind::Grpo | Kind::Ppo => Box::new(reinforce::Reinforce {
                name,
                rl: stage.reinforcement(config)?,
                has_critic: stage.kind == Kind::Ppo,
                seed,
                eval_every: config.eval.every,
            }),
        });
    }
    Ok(stages)
}

/// AdamW over the parameters of some models of the workspace; those of other models than the policy have its name in front.
fn adamw(work: &Workspace, models: &[&str], betas: [f64; 2], weight_decay: f64) -> AdamW {
    let mut all = Vec::new();
    for &model in models {
        let prefix = if model == POLICY { String::new() } else { format!("{model}/") };
        all.extend(work.model(model).named_parameters().into_iter().map(|(name, p)| (format!("{prefix}{name}"), p)));
    }
    let config = AdamWConfig { beta1: betas[0], beta2: betas[1], weight_decay, ..AdamWConfig::default() };
    AdamW::new(all, config)
}

/// The loads of the experts, a value for each mixture layer.
fn set_expert_load(values: &mut Values, load: &[f64]) {
    load.iter().enumerate().for_each(|(layer, load)| values.set(format!("expert_load/{layer}"), *load));
}
