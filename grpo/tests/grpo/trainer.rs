//! One update: what is trained on, what the gradient is, what is refused.

use autograd::Var;
use grpo::config::{ImportanceSampling, LossType, RlConfig};
use grpo::objective::{Fixed, Objective, advantages, padded, token_weight};
use grpo::rollout::Sample;
use grpo::step::StepError;
use grpo::trainer::{Update, update};
use grpo::{Rng, token};
use nn::{AdamW, AdamWConfig, DeepseekV3ForCausalLM, Module, OptimError};
use tensor::{DType, Device, Tensor};

use crate::common::{adamw, bits, copy_of, model, noise, plain_rl, ragged_problems, sample};

fn updated(policy: &DeepseekV3ForCausalLM, samples: &[Sample], rl: &RlConfig) -> Update {
    update(policy, None, &mut adamw(policy), samples, rl, 0, &mut Rng::new(0, "test", 0)).unwrap()
}

/// Answers of the given lengths and rewards to one problem.
fn samples(policy: &DeepseekV3ForCausalLM, of: &[(usize, f64)]) -> Vec<Sample> {
    let problem = &ragged_problems()[2];
    of.iter().enumerate().map(|(i, &(length, reward))| sample(policy, problem, noise(length, i as u64), reward)).collect()
}

/// Of every sample in one pass, with nothing cut: the gradient of each parameter.
fn whole_gradient(policy: &DeepseekV3ForCausalLM, samples: &[Sample], rl: &RlConfig) -> Vec<Tensor> {
    let (cpu, width) = (Device::cpu(), samples.iter().map(Sample::len).max().unwrap());
    let row = |s: &Sample| s.sequence().chain(std::iter::repeat(token::PAD)).take(width).collect::<Vec<_>>();
    let ids = Tensor::from_vec(samples.iter().flat_map(row).collect(), [samples.len(), width], &cpu);
    let a: Vec<f64> = samples
        .chunks(rl.num_generations)
        .flat_map(|g| advantages(&g.iter().map(|s| s.reward).collect::<Vec<_>>(), rl.scale_rewards))
        .collect();
    let tokens = samples.iter().map(|s| s.tokens.len()).sum();
    let of = |value: &dyn Fn(usize, &Sample) -> Vec<f32>| {
        let rows: Vec<Vec<f32>> = samples.iter().enumerate().map(|(i, s)| value(i, s)).collect();
        let rows: Vec<(usize, &[f32])> = samples.iter().zip(&rows).map(|(s, row)| (s.prompt.len() - 1, &row[..])).collect();
        padded(&rows, width - 1, &cpu)
    };
    let each = |value: &dyn Fn(usize, &Sample) -> f64| of(&|i, s| vec![value(i, s) as f32; s.tokens.len()]);
    let fixed = Fixed {
        old: of(&|_, s| s.logprobs.clone()),
        reference: None,
        advantages: each(&|i, _| a[i]),
        weights: each(&|_, s| token_weight(rl.loss_type, s.tokens.len(), samples.len(), tokens, rl.max_completion_length_at(0))),
        mask: each(&|_, _| 1.0),
    };
    policy.zero_grad();
    Objective::from(rl).loss(&policy.log_probs(&ids, rl.temperature).0, &fixed).loss.backward();
    policy.named_parameters().iter().map(|(_, p)| p.grad().unwrap()).collect()
}

fn norm(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).square().sum((), false).item::<f64>().sqrt()
}

#[test]
fn gradients_of_parts_add_up_to_the_whole() {
    let policy = model(1);
    // More tokens than go through the model at once, in lengths that cut the batch into uneven parts.
    let lengths = (0..24).map(|i| (if i % 7 == 0 { 20 } else { 330 + i }, f64::from(u8::from(i % 3 == 0)))).collect::<Vec<_>>();
    let answers = samples(&policy, &lengths);
    let tokens: usize = answers.iter().map(Sample::len).sum();
    assert!(tokens > 4096, "{tokens} tokens fit in one part");
    for loss_type in [LossType::Grpo, LossType::Dapo, LossType::DrGrpo] {
        let rl = RlConfig { loss_type, num_generations: 8, ..plain_rl() };
        let policy = copy_of(&policy);
        let whole = whole_gradient(&policy, &answers, &rl);
        let report = updated(&policy, &answers, &rl);
        // Each entry is a sum over the tokens, in another order: n·u of what is added up.
        let bound = tokens as f64 * f64::from(f32::EPSILON) / 2.0;
        let total = whole.iter().map(|g| norm(g).powi(2)).sum::<f64>().sqrt();
        assert!((report.grad_norm - total).abs() <= bound * total, "{} and {total}", report.grad_norm);
        for ((name, p), whole) in policy.named_parameters().iter().zip(&whole) {
            let difference = norm(&p.grad().unwrap().sub(whole));
            assert!(difference <= bound * total, "{name}: {difference} of {total}");
        }
        let mut trained = report.lengths;
        trained.sort_unstable();
        let mut all: Vec<usize> = answers.iter().map(Sample::len).collect();
        all.sort_unstable();
        assert_eq!(trained, all);
    }
}

#[test]
fn a_rewarded_answer_becomes_more_probable() {
    for loss_type in [LossType::Grpo, LossType::Dapo, LossType::DrGrpo, LossType::Cispo] {
        for importance_sampling_level in [ImportanceSampling::Token, ImportanceSampling::Sequence, ImportanceSampling::Product] {
            let policy = model(4);
            let answers = samples(&policy, &[(6, 1.0), (9, 0.0)]);
            let rl = RlConfig { loss_type, importance_sampling_level, ..plain_rl() };
            updated(&policy, &answers, &rl);
            let problem = &ragged_problems()[2];
            let logp = |s: &Sample| s.logprobs.iter().sum::<f32>();
            let after: Vec<f32> = answers.iter().map(|s| logp(&sample(&policy, problem, s.tokens.clone(), 0.0))).collect();
            assert!(after[0] > logp(&answers[0]), "{loss_type:?} {importance_sampling_level:?}");
            assert!(after[1] < logp(&answers[1]), "{loss_type:?} {importance_sampling_level:?}");
        }
    }
}

#[test]
fn a_group_without_variance_is_left_out() {
    let policy = model(6);
    let all = samples(&policy, &[(5, 1.0), (8, 1.0), (6, 0.0), (9, 1.0), (4, 0.0), (7, 0.0)]);
    let (with, without) = (copy_of(&policy), copy_of(&policy));
    let report = updated(&with, &all, &plain_rl());
    let prompt = all[0].prompt.len();
    assert_eq!(report.lengths.len(), 2);
    assert_eq!(report.lengths.iter().sum::<usize>(), 2 * prompt + 6 + 9);
    assert_eq!(report.frac_reward_zero_std, 2.0 / 3.0);
    assert!((report.reward_std - 0.5f64.sqrt() / 3.0).abs() < 1e-12);
    updated(&without, &all[2..4], &plain_rl());
    assert_eq!(bits(&with), bits(&without));

    // Kept, they are part of the mean, and add nothing to the gradient.
    let kept = updated(&copy_of(&policy), &all, &RlConfig { skip_zero_variance: false, ..plain_rl() });
    assert_eq!((kept.lengths.len(), kept.frac_reward_zero_std), (6, 2.0 / 3.0));
    let shrunk = 15.0 / (5.0 + 8.0 + 6.0 + 9.0 + 4.0 + 7.0); // tokens of the one group over those of all
    assert!((kept.grad_norm - report.grad_norm * shrunk).abs() < 1e-5 * report.grad_norm);
}

#[test]
fn an_average_answer_of_a_group_with_variance_is_kept() {
    let policy = model(6);
    let answers = samples(&policy, &[(5, 0.0), (8, 0.5), (6, 1.0)]);
    let report = updated(&policy, &answers, &RlConfig { num_generations: 3, ..plain_rl() });
    assert_eq!((report.lengths.len(), report.frac_reward_zero_std), (3, 0.0));
}

#[test]
fn without_any_variance_nothing_moves() {
    let policy = model(6);
    let before = bits(&policy);
    let mut optimizer = adamw(&policy);
    let answers = samples(&policy, &[(5, 1.0), (8, 1.0), (6, 0.0), (9, 0.0)]);
    let report = update(&policy, None, &mut optimizer, &answers, &plain_rl(), 0, &mut Rng::new(0, "test", 0)).unwrap();
    assert_eq!(Update { frac_reward_zero_std: 1.0, ..Update::default() }, report);
    assert_eq!((optimizer.steps(), bits(&policy)), (0, before));
}

/// Nothing to learn from, in every way in which that comes about: a gradient of exactly 0 or no step, and nothing that is not finite.
#[test]
fn what_carries_no_advantage_has_no_gradient() {
    let policy = model(6);
    let before = bits(&policy);
    let answers = samples(&policy, &[(5, 1.0), (8, 1.0), (6, 0.0), (9, 0.0)]);
    // Kept, such groups make a step with a gradient of 0: without momentum and weight decay it moves nothing.
    let mut optimizer = adamw(&policy);
    let rl = RlConfig { skip_zero_variance: false, ..plain_rl() };
    let report = update(&policy, None, &mut optimizer, &answers, &rl, 0, &mut Rng::new(0, "test", 0)).unwrap();
    assert_eq!((report.loss, report.grad_norm, optimizer.steps()), (0.0, 0.0, 1));
    assert_eq!(bits(&policy), before);
    // All cut by the limit and left out: no step.
    let problem = &ragged_problems()[0];
    let cut: Vec<Sample> = (0..2).map(|i| sample(&policy, problem, noise(8, i)[..7].to_vec(), i as f64)).collect();
    let rl = RlConfig { mask_truncated_completions: true, ..plain_rl() };
    for of in [&cut[..], &[]] {
        let report = update(&policy, None, &mut optimizer, of, &rl, 0, &mut Rng::new(0, "test", 0)).unwrap();
        assert!([report.loss, report.grad_norm, report.reward_std, report.frac_reward_zero_std].iter().all(|x| x.is_finite()));
        assert_eq!((report.lengths.len(), optimizer.steps()), (0, 1));
        // A mean over nothing is not 0, and nothing was compared.
        assert_eq!((report.kl, report.clip_ratio, report.logprob_max_diff), (None, None, None));
    }
    assert_eq!(bits(&policy), before);
}

#[test]
fn answers_cut_by_the_limit_are_left_out_on_request() {
    let policy = model(6);
    let problem = &ragged_problems()[0];
    let cut = sample(&policy, problem, noise(8, 1)[..7].to_vec(), 1.0);
    let whole = sample(&policy, problem, noise(5, 2), 0.0);
    assert!(!cut.response.finished() && whole.response.finished());
    let answers = [cut, whole];
    let lengths = |mask_truncated_completions| {
        updated(&copy_of(&policy), &answers, &RlConfig { mask_truncated_completions, ..plain_rl() }).lengths
    };
    assert_eq!(lengths(true), [answers[1].len()]);
    assert_eq!(lengths(false).len(), 2);
}

#[test]
fn passes_and_minibatches_are_optimizer_steps() {
    let policy = model(8);
    let reference = copy_of(&policy);
    let answers = samples(&policy, &[(5, 1.0), (8, 0.0), (6, 0.0), (9, 1.0), (4, 1.0), (7, 0.0), (12, 0.0), (3, 1.0)]);
    let rl = RlConfig { minibatches: 2, num_iterations: 3, beta: 0.05, lr: 2e-2, ..plain_rl() };
    let mut optimizer = adamw(&policy);
    let report = update(&policy, Some(&reference), &mut optimizer, &answers, &rl, 0, &mut Rng::new(0, "test", 0)).unwrap();
    assert_eq!((optimizer.steps(), report.lengths.len()), (6, 3 * answers.len()));
    // The first step knows nothing of the later ones, in which the policy has left the one that sampled.
    assert_eq!(report.logprob_max_diff, Some(0.0));
    assert!(report.clip_ratio.is_some_and(|ratio| ratio > 0.0 && ratio < 1.0), "{report:?}");
    assert!(report.kl.unwrap() > 0.0, "{report:?}");
    assert!(report.expert_load.len() == 1 && (1.0..=4.0).contains(&report.expert_load[0]), "{:?}", report.expert_load);
    // The reference is looked at and not trained.
    assert!(reference.named_parameters().iter().all(|(_, p)| p.grad().is_none()));
}

/// At a temperature near 0 tokens are certain or impossible: an update from such answers has a loss and leaves numbers.
#[test]
fn a_temperature_near_0_trains_without_nan() {
    for temperature in [1e-30, 1e-41, 1e-300] {
        let policy = model(8);
        let reference = copy_of(&model(9));
        let answers = samples(&policy, &[(5, 1.0), (8, 0.0), (6, 0.0), (9, 1.0)]);
        let rl = RlConfig { temperature, beta: 0.05, ..plain_rl() };
        let mut optimizer = adamw(&policy);
        let report = update(&policy, Some(&reference), &mut optimizer, &answers, &rl, 0, &mut Rng::new(0, "test", 0)).unwrap();
        assert!(report.loss.is_finite() && report.kl.unwrap().is_finite(), "{temperature:e}: {report:?}");
        assert!(policy.state_dict().iter().all(|(_, t)| t.to_f64_vec().iter().all(|x| x.is_finite())), "{temperature:e}");
    }
}

#[test]
fn a_parameter_without_a_gradient_is_named() {
    let policy = model(6);
    let before = bits(&policy);
    let lonely = Var::parameter(Tensor::zeros(3, DType::F32, &Device::cpu()));
    let parameters = policy.named_parameters().into_iter().chain([("lonely".to_owned(), lonely)]).collect();
    let mut optimizer = AdamW::new(parameters, AdamWConfig::default());
    let answers = samples(&policy, &[(5, 1.0), (8, 0.0)]);
    let error = update(&policy, None, &mut optimizer, &answers, &plain_rl(), 0, &mut Rng::new(0, "test", 0)).unwrap_err();
    assert!(matches!(&error, StepError::Optim(OptimError::NoGradient(name)) if name == "lonely"), "{error}");
    assert_eq!(error.to_string(), "parameter `lonely` has no gradient");
    assert_eq!(bits(&policy), before);
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_step() {
    let policy = model(6);
    let answers = samples(&policy, &[(5, 1.0), (8, 0.0)]);
    let (_, weight) = policy.named_parameters().pop().unwrap();
    weight.set_value(weight.value().mul(f64::NAN));
    let before = bits(&policy);
    let mut optimizer = adamw(&policy);
    let error = update(&policy, None, &mut optimizer, &answers, &plain_rl(), 0, &mut Rng::new(0, "test", 0)).unwrap_err();
    assert_eq!(error.to_string(), "the loss is NaN");
    assert_eq!((optimizer.steps(), bits(&policy)), (0, before));
}
