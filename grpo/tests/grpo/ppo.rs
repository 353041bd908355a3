//! An update of policy and critic: against plain loops, and by what it should bring about.

use grpo::Rng;
use grpo::config::RlConfig;
use grpo::ppo::{gae, update};
use grpo::rollout::Sample;
use nn::{AdamW, AdamWConfig, DeepseekV3ForCausalLM, Module};
use proptest::prelude::{prop, prop_assert, proptest};
use tensor::{Device, Tensor};

use crate::common::{bits, copy_of, model, noise, plain_rl, ragged_problems, sample};

proptest! {
    /// By its definition, a double sum.
    #[test]
    fn advantages_are_sums_of_surprises(
        steps in prop::collection::vec((-1.0..1.0, -2.0..2.0), 1..12),
        gamma in 0.0..1.0,
        lambda in 0.0..1.0,
    ) {
        let (rewards, values): (Vec<f64>, Vec<f64>) = steps.into_iter().unzip();
        let n = rewards.len();
        let next = |t: usize| if t + 1 < n { values[t + 1] } else { 0.0 };
        for (t, a) in gae(&rewards, &values, gamma, lambda).into_iter().enumerate() {
            let mut stated = 0.0;
            for k in t..n {
                let surprise = rewards[k] + gamma * next(k) - values[k];
                stated += (gamma * lambda).powi((k - t) as i32) * surprise;
            }
            prop_assert!((a - stated).abs() < 1e-12 * n as f64, "{} {}", a, stated);
        }
    }
}

fn both(policy: &DeepseekV3ForCausalLM, critic: &DeepseekV3ForCausalLM) -> AdamW {
    let named = |prefix: &str, model: &DeepseekV3ForCausalLM| {
        model.named_parameters().into_iter().map(|(name, p)| (format!("{prefix}{name}"), p)).collect::<Vec<_>>()
    };
    AdamW::new([named("", policy), named("critic/", critic)].concat(), AdamWConfig { weight_decay: 0.0, ..Default::default() })
}

fn samples(policy: &DeepseekV3ForCausalLM) -> Vec<Sample> {
    let problem = &ragged_problems()[2];
    (0..6).map(|i| sample(policy, problem, noise(5 + i as usize, i), f64::from(u8::from(i % 2 == 0)))).collect()
}

fn logp(model: &DeepseekV3ForCausalLM, s: &Sample) -> f64 {
    let ids = Tensor::from_vec(s.sequence().collect(), [1, s.len()], &Device::cpu());
    model.log_probs(&ids, 1.0).0.value().to_f64_vec()[s.prompt.len() - 1..].iter().sum()
}

#[test]
fn what_is_rewarded_becomes_more_probable_and_what_comes_is_foretold() {
    let policy = model(4);
    let (critic, answers) = (copy_of(&policy), samples(&policy));
    let mut optimizer = both(&policy, &critic);
    let before: Vec<f64> = answers.iter().map(|s| logp(&policy, s)).collect();
    let rl = RlConfig { lam: 1.0, vf_coef: 1.0, lr: 2e-3, ..plain_rl() };
    let mut losses = Vec::new();
    for step in 0..60 {
        let made = update([&policy, &critic], None, &mut optimizer, &answers, &rl, step.min(1), &mut Rng::new(0, "t", step as u64));
        let made = made.unwrap();
        if step == 0 {
            assert_eq!((made.policy.logprob_max_diff, made.policy.clip_ratio), (Some(0.0), Some(0.0)));
            // Half the mean of (1 or 0, less what the critic says)².
            let after: Vec<f64> = answers.iter().map(|s| logp(&policy, s)).collect();
            let moved = |right: bool| (0..6).filter(|i| (i % 2 == 0) == right).map(|i| after[i] - before[i]).sum::<f64>();
            assert!(moved(true) > 0.0 && moved(false) < 0.0, "{} {}", moved(true), moved(false));
        }
        losses.push((made.value_loss, made.explained_variance.unwrap()));
    }
    // The critic knows these answers by now.
    assert!(losses[59].0 < losses[0].0 / 3.0 && losses[59].1 > 0.5, "{losses:?}");
}

/// At λ = 1 and γ = 1 each token's return is the answer's reward, less the penalties still to come: a reference like the policy has none.
#[test]
fn the_penalty_is_in_the_reward() {
    let policy = model(4);
    let answers = samples(&policy);
    let run = |reference: Option<&DeepseekV3ForCausalLM>, beta: f64| {
        let (policy, critic) = (copy_of(&policy), copy_of(&policy));
        let rl = RlConfig { beta, ..plain_rl() };
        update([&policy, &critic], reference, &mut both(&policy, &critic), &answers, &rl, 0, &mut Rng::new(0, "t", 0)).unwrap();
        bits(&policy)
    };
    let without = run(None, 0.0);
    assert!(run(Some(&copy_of(&policy)), 0.5) == without);
    assert!(run(Some(&model(9)), 0.5) != without && run(Some(&model(9)), 0.0) == without);
}
