//! A reward of your own, the advantages of a group, and GRPO on a tiny fresh model until it does what is rewarded.
//!
//! `cargo run --release --example 06_custom_reward` explains itself on stderr and prints one JSON line on stdout.

use std::process::ExitCode;

use scratchwork::grpo::config::{RlConfig, RunConfig, ScaleRewards};
use scratchwork::grpo::console::{exit, say};
use scratchwork::grpo::rollout::{RolloutOptions, Sample, rollout};
use scratchwork::grpo::tasks::Countdown;
use scratchwork::grpo::{Problem, Response, Reward, Rng, Tokenizer, objective::advantages, policy, trainer::update};
use scratchwork::nn::{AdamW, AdamWConfig, Config, Module, row_seed};
use scratchwork::tensor::Device;
use serde_json::json;

/// The share of digits in what was written.
struct Digits;

impl Reward for Digits {
    fn name(&self) -> &str {
        "digits"
    }

    fn score(&self, _: &Problem, response: &Response) -> f64 {
        let digits = response.text().chars().filter(char::is_ascii_digit).count();
        digits as f64 / response.length().max(1) as f64
    }
}

const LIMIT: usize = 12;

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    // The group is the baseline: an answer is as good as it is better than its siblings.
    let problem = Problem::from(Countdown::new([2, 3, 7, 8], 20));
    let group = ["2+3+7+8", "20", "x?v"].map(|text| Digits.score(&problem, &Response::from_text(text, text.len())));
    say(format_args!("rewards {group:.2?}, advantages {:.2?}\n", advantages(&group, ScaleRewards::Group)));

    let tokenizer = Tokenizer::new();
    let tiny = Config { hidden_size: 32, num_hidden_layers: 2, intermediate_size: 64, ..RunConfig::default().model };
    let model = policy::fresh(policy::hub_config(&tiny, 64), 0, &Device::cpu())?;
    let mut adamw = AdamW::new(model.named_parameters(), AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() });

    let rl = RlConfig { questions: 4, num_generations: 16, beta: 0.0, lr: 3e-3, decay_from: 1.0, ..RlConfig::default() };
    let mean = |samples: &[Sample]| samples.iter().map(|s| s.reward).sum::<f64>() / samples.len() as f64;
    let mut curve = Vec::new();
    for step in 0..=30 {
        let seed = row_seed(0, step);
        let options = RolloutOptions { num_generations: 16, max_completion_length: LIMIT, temperature: 1.0, seed };
        let problems = vec![problem.clone(); rl.questions];
        let samples = rollout(&model, &tokenizer, &problems, (&Digits, &Digits), &options)?;
        curve.push(mean(&samples));
        if step % 10 == 0 {
            say(format_args!("step {step:2}: share of digits {:.2}, for example {}", curve[step], samples[0].response.text()));
        }
        update(&model, None, &mut adamw, &samples, &rl, step, &mut Rng::new(0, "minibatches", step as u64))?;
    }
    Ok(json!({ "first": curve[0], "last": curve[30] }))
}
