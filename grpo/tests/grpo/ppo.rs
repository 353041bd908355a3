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

/// Every other one is worth `right`.
fn samples(policy: &DeepseekV3ForCausalLM, right: f64) -> Vec<Sample> {
    let problem = &ragged_problems()[2];
    (0..6).map(|i| sample(policy, problem, noise(5 + i as usize, i), if i % 2 == 0 { right } else { 0.0 })).collect()
}

fn logp(model: &DeepseekV3ForCausalLM, s: &Sample) -> f64 {
    let ids = Tensor::from_vec(s.sequence().collect(), [1, s.len()], &Device::cpu());
    model.log_probs(&ids, 1.0).0.value().to_f64_vec()[s.prompt.len() - 1..].iter().sum()
}

#[test]
fn what_is_rewarded_becomes_more_probable() {
    let policy = model(4);
    // Worth so much that what an untrained critic expects does not matter.
    let (critic, answers) = (copy_of(&policy), samples(&policy, 1000.0));
    let before: Vec<f64> = answers.iter().map(|s| logp(&policy, s)).collect();
    let rl = RlConfig { lam: 1.0, vf_coef: 0.0, ..plain_rl() };
    let made = update([&policy, &critic], None, &mut both(&policy, &critic), &answers, &rl, 0, &mut Rng::new(0, "t", 0)).unwrap();
    assert_eq!((made.policy.logprob_max_diff, made.policy.clip_ratio), (Some(0.0), Some(0.0)));
    let moved = |i: usize| logp(&policy, &answers[i]) - before[i];
    let [right, wrong] = [[0, 2, 4], [1, 3, 5]].map(|of| of.map(moved).iter().sum::<f64>());
    assert!(right > 0.0 && wrong < 0.0, "{right} {wrong}");
}

#[test]
fn the_critic_learns_what_comes() {
    let policy = model(4);
    let (critic, answers) = (copy_of(&policy), samples(&policy, 1.0));
    let mut optimizer = both(&policy, &critic);
    let rl = RlConfig { lam: 1.0, vf_coef: 1.0, lr: 2e-3, ..plain_rl() };
    let made = (0..60).map(|i| {
        let made = update([&policy, &critic], None, &mut optimizer, &answers, &rl, 0, &mut Rng::new(0, "t", i)).unwrap();
        (made.value_loss, made.explained_variance.unwrap())
    });
    let made: Vec<(f64, f64)> = made.collect();
    assert!(made[59].0 < made[0].0 / 3.0 && made[59].1 > 0.5 && made[0].1 < made[59].1, "{made:?}");
}

/// At λ = 1 and γ = 1 each token's return is the answer's reward, less the penalties still to come: a reference like the policy has none.
#[test]
fn the_penalty_is_in_the_reward() {
    let policy = model(4);
    let answers = samples(&policy, 1.0);
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
