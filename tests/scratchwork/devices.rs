//! One GRPO step on the interpreted GPU, against the same step on the CPU.

use std::path::Path;

use scratchwork::grpo::config::{RlConfig, RunConfig};
use scratchwork::grpo::objective::advantages;
use scratchwork::grpo::rollout::{RolloutOptions, rollout};
use scratchwork::grpo::tasks::Countdown;
use scratchwork::grpo::trainer::update;
use scratchwork::grpo::{Accuracy, Problem, Rng, Tokenizer, policy};
use scratchwork::nn::{AdamW, AdamWConfig, Config, DeepseekV3ForCausalLM, Module};
use scratchwork::tensor::{DType, Device};

/// Two layers, one of them a mixture of experts.
fn tiny() -> Config {
    let micro = RunConfig::default().overlay_str(include_str!("../fixtures/micro.toml"), Path::new("micro.toml")).unwrap();
    // Wide enough that the distributions are far from uniform.
    Config { initializer_range: 0.4, ..micro.model }
}

#[test]
fn a_grpo_step_on_the_interpreted_gpu_has_the_loss_of_the_cpus() {
    let folder = std::env::temp_dir().join(format!("scratchwork-devices-{}", std::process::id()));
    let gpu = scratchwork::device("interpreted:5").unwrap();
    let cpu_policy = policy::fresh(policy::hub_config(&tiny(), 128), 3, &Device::cpu()).unwrap();
    cpu_policy.save_pretrained(&folder).unwrap();
    let (gpu_policy, _) = DeepseekV3ForCausalLM::from_pretrained(&folder, DType::F32, &gpu).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();

    // Rollout on the GPU, rewards by decree, so that there is something to learn.
    let problems: Vec<Problem> = [([1, 1, 1, 2], 3), ([2, 3, 7, 8], 20)].map(|(n, t)| Countdown::new(n, t).into()).into();
    let options = RolloutOptions { num_generations: 2, max_completion_length: 5, temperature: 1.0, seed: 9 };
    let reward = Accuracy;
    let mut samples = rollout(&gpu_policy, &Tokenizer::new(), &problems, (&reward, &reward), &options).unwrap();
    samples.iter_mut().enumerate().for_each(|(i, s)| s.reward = (i % 2) as f64);

    let rl = RlConfig { num_generations: 2, minibatches: 1, num_iterations: 1, beta: 0.0, lr: 1e-3, ..RlConfig::default() };
    let step = |policy: &DeepseekV3ForCausalLM| {
        let mut optimizer = AdamW::new(policy.named_parameters(), AdamWConfig::default());
        update(policy, None, &mut optimizer, &samples, &rl, 8, &mut Rng::new(0, "test", 0)).unwrap()
    };
    let (ours, cpus) = (step(&gpu_policy), step(&cpu_policy));

    // Each token's loss is advantage · ratio, and the weights of the tokens add up to at most 1. A ratio is the exponential of
    // what the log-probability of training differs from that of sampling, which both updates report at its largest.
    let differences = [&ours, &cpus].map(|update| update.logprob_max_diff.unwrap());
    assert!(differences.iter().all(|&d| d < 1e-4), "{ours:?} {cpus:?}");
    let advantage = advantages(&[0.0, 1.0], rl.scale_rewards).iter().fold(0.0f64, |m, a| m.max(a.abs()));
    let tokens: usize = ours.lengths.iter().sum();
    let roundings = (tokens + 8) as f64 * f64::from(f32::EPSILON);
    let bound = advantage * (differences[0].exp_m1() + differences[1].exp_m1() + roundings);
    assert!((ours.loss - cpus.loss).abs() <= bound, "{} and {}, allowed {bound:e}", ours.loss, cpus.loss);
    assert!(ours.grad_norm > 0.0 && (ours.grad_norm / cpus.grad_norm - 1.0).abs() < 1e-3, "{ours:?} {cpus:?}");
    assert_eq!(ours.lengths, cpus.lengths);
    gpu.synchronize().expect("no fault, no hazard");
}
