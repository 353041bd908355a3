//! A model, samples and folders small enough for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use grpo::config::{RlConfig, RunConfig};
use grpo::rollout::{RolloutOptions, Sample, rollout};
use grpo::tasks::Countdown;
use grpo::{Accuracy, Problem, Response, Rng, Tokenizer, policy, token};
use nn::{AdamW, AdamWConfig, Config, DeepseekV3ForCausalLM, Module};
use tensor::{Device, Tensor};

/// Two layers, one of them a mixture, and every dimension different from the others where it can be.
pub fn tiny() -> Config {
    // Wide enough that the distributions are far from uniform.
    Config { initializer_range: 0.4, ..micro().model }
}

pub fn model(seed: u64) -> DeepseekV3ForCausalLM {
    let config = policy::hub_config(&tiny(), 256);
    policy::fresh(config, seed, &Device::cpu()).unwrap()
}

pub fn copy_of(model: &DeepseekV3ForCausalLM) -> DeepseekV3ForCausalLM {
    let copy = policy::fresh(model.config().clone(), 0, &Device::cpu()).unwrap();
    policy::copy_weights(model, &copy);
    copy
}

pub fn adamw(model: &DeepseekV3ForCausalLM) -> AdamW {
    AdamW::new(model.named_parameters(), AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() })
}

/// Every parameter and buffer in bits.
pub fn bits(model: &DeepseekV3ForCausalLM) -> Vec<(String, Vec<u8>)> {
    model.state_dict().into_iter().map(|(name, value)| (name, value.to_bytes())).collect()
}

/// Problems whose prompts have different lengths.
pub fn ragged_problems() -> Vec<Problem> {
    [([1, 1, 1, 2], 3), ([10, 10, 10, 9], 39), ([2, 3, 7, 8], 20)].map(|(n, t)| Countdown::new(n, t).into()).into()
}

pub fn answers(model: &DeepseekV3ForCausalLM, num_generations: usize, limit: usize, seed: u64) -> Vec<Sample> {
    let options = RolloutOptions { num_generations, max_completion_length: limit, temperature: 1.0, seed };
    rollout(model, &Tokenizer::new(), &ragged_problems(), (&Accuracy, &Accuracy), &options).unwrap()
}

/// A sample with these tokens and this reward, its log-probabilities those of `model`.
pub fn sample(model: &DeepseekV3ForCausalLM, problem: &Problem, tokens: Vec<i64>, reward: f64) -> Sample {
    let tokenizer = Tokenizer::new();
    let prompt = problem.prompt(&tokenizer).unwrap();
    let ids: Vec<i64> = prompt.iter().chain(&tokens).copied().collect();
    let logp = autograd::no_grad(|| model.log_probs(&Tensor::from_slice(&ids, [1, ids.len()], &Device::cpu()), 1.0).0.value());
    let response = Response::from_tokens(&tokenizer, &tokens);
    Sample {
        problem: 0,
        logprobs: logp.to_vec::<f32>()[prompt.len() - 1..].to_vec(),
        entropies: vec![0.0; tokens.len()],
        counts: problem.observe(&response),
        parts: problem.parts(&response),
        prompt,
        tokens,
        response,
        reward,
        correct: reward == 1.0,
    }
}

/// `length` tokens that are no tags, then an end.
pub fn noise(length: usize, seed: u64) -> Vec<i64> {
    let mut rng = Rng::new(seed, "noise", 0);
    let mut tokens: Vec<i64> = (1..length).map(|_| token::RIGHT + 1 + rng.below(20) as i64).collect();
    tokens.push(token::EOS);
    tokens
}

/// One optimizer step per rollout, everything trained on, no clipping of the gradient.
pub fn plain_rl() -> RlConfig {
    RlConfig { num_generations: 2, minibatches: 1, beta: 0.0, lr: 1e-3, grad_clip: 1e9, ..RlConfig::default() }
}

/// A run that takes a second, of the model of [`tiny`].
const MICRO: &str = include_str!("../../../tests/fixtures/micro.toml");

pub fn micro() -> RunConfig {
    micro_with("")
}

/// [`MICRO`] with some keys (TOML) laid over it.
pub fn micro_with(over: &str) -> RunConfig {
    let from = Path::new("test.toml");
    RunConfig::default().overlay_str(MICRO, from).unwrap().overlay_str(over, from).unwrap()
}

/// A folder of one test, gone with the guard.
pub struct Temp(PathBuf);

impl Temp {
    pub fn new() -> Temp {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("scratchwork-grpo-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Temp(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
