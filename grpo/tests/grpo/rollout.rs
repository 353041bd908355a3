//! The log-probabilities that sampling records are those of the training pass, bit for bit.

use grpo::rollout::{RolloutOptions, Sample, rollout};
use grpo::tasks::Countdown;
use grpo::{Rng, Tokenizer, token, trainer};
use nn::{DeepseekV3ForCausalLM, ForwardOptions, Module};
use tensor::{Device, Tensor};

use crate::common::{adamw, answers, copy_of, model, plain_rl, ragged_problems};

fn to_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The training pass over some samples side by side, `spare` columns wider than needed: each sample's log-probabilities.
fn training_pass(model: &DeepseekV3ForCausalLM, samples: &[Sample], spare: usize) -> Vec<Vec<u32>> {
    let width = samples.iter().map(Sample::len).max().unwrap() + spare;
    let row = |s: &Sample| s.sequence().chain(std::iter::repeat(token::PAD)).take(width).collect::<Vec<_>>();
    let ids = Tensor::from_vec(samples.iter().flat_map(row).collect(), [samples.len(), width], &Device::cpu());
    let out = model.forward_with(&ids, &ForwardOptions { mask: Some(&ids.ne(token::PAD)), ..Default::default() });
    let (logp, _) = model.token_log_probs(&out.hidden, &ids, 1.0);
    assert!(logp.requires_grad(), "the pass that is trained, not another");
    let logp = logp.value().to_vec::<f32>();
    let rows = logp.chunks_exact(width - 1).zip(samples);
    rows.map(|(row, s)| to_bits(&row[s.prompt.len() - 1..][..s.tokens.len()])).collect()
}

#[test]
fn sampling_and_training_agree_bit_for_bit() {
    let model = model(2);
    let samples = answers(&model, 6, 60, 11);
    let lengths: Vec<usize> = samples.iter().map(|s| s.tokens.len()).collect();
    assert!(lengths.iter().min() < Some(&12) && lengths.contains(&60), "short and long ones are wanted: {lengths:?}");
    let prompts: Vec<usize> = samples.iter().map(|s| s.prompt.len()).collect();
    assert!(prompts.first() < prompts.get(6), "ragged prompts are wanted: {prompts:?}");

    let recorded: Vec<Vec<u32>> = samples.iter().map(|s| to_bits(&s.logprobs)).collect();
    for (size, spare) in [(1, 0), (1, 5), (4, 0), (7, 1), (samples.len(), 0), (samples.len(), 37)] {
        let passed: Vec<Vec<u32>> = samples.chunks(size).flat_map(|part| training_pass(&model, part, spare)).collect();
        assert_eq!(passed, recorded, "{size} side by side, {spare} columns to spare");
    }
}

#[test]
fn a_sample_does_not_depend_on_the_batch_it_was_drawn_in() {
    let model = model(2);
    let (many, few) = (answers(&model, 6, 30, 5), answers(&model, 2, 30, 5));
    let drawn = |s: &Sample| (s.problem, s.tokens.clone(), to_bits(&s.logprobs), to_bits(&s.entropies));
    for problem in 0..3 {
        for j in 0..2 {
            assert_eq!(drawn(&many[problem * 6 + j]), drawn(&few[problem * 2 + j]));
        }
    }
    // A lower limit cuts, and changes nothing before the cut.
    for (long, short) in many.iter().zip(answers(&model, 6, 10, 5)) {
        assert_eq!(long.tokens[..short.tokens.len()], short.tokens);
    }
}

/// Rewards by the toss of a coin, so that every group has variance.
fn rewarded(mut samples: Vec<Sample>, group: usize) -> Vec<Sample> {
    samples.iter_mut().enumerate().for_each(|(i, s)| s.reward = (i % group % 2) as f64);
    samples
}

#[test]
fn a_reward_that_is_no_number_is_named() {
    struct Broken;
    impl grpo::Reward for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn score(&self, _: &grpo::Problem, _: &grpo::Response) -> f64 {
            f64::NAN
        }
    }
    let options = RolloutOptions { num_generations: 2, max_completion_length: 4, temperature: 1.0, seed: 0 };
    let accuracy = grpo::Accuracy;
    let problems = ragged_problems();
    let error = rollout(&model(0), &Tokenizer::new(), &problems, (&accuracy, &Broken), &options).unwrap_err().to_string();
    assert!(error.contains("`broken`") && error.contains(&problems[0].text()) && error.contains("NaN"), "{error}");
}

#[test]
fn logits_that_are_no_numbers_name_the_problem_they_came_from() {
    let policy = model(0);
    let eight = Tokenizer::new().encode("8").unwrap()[0] as usize;
    let (_, table) = policy.named_parameters().into_iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap();
    let mut weights = table.value().to_vec::<f32>();
    let width = table.dim(1);
    weights[eight * width..][..width].fill(f32::NAN);
    table.set_value(Tensor::from_vec(weights, table.shape().to_vec(), &Device::cpu()));
    // Enough problems for several parts; only the last has an 8.
    let mut problems = vec![Countdown::new([1, 1, 1, 2], 3).into(); 40];
    problems.push(Countdown::new([1, 1, 1, 8], 9).into());
    let options = RolloutOptions { num_generations: 32, max_completion_length: 1, temperature: 1.0, seed: 0 };
    let accuracy = grpo::Accuracy;
    let error = rollout(&policy, &Tokenizer::new(), &problems, (&accuracy, &accuracy), &options).unwrap_err().to_string();
    assert!(error.starts_with("prompt 40: the logits"), "{error}");
}

/// At another temperature the policy is another: what is recorded, trained and referred to is the one that was sampled.
#[test]
fn a_temperature_is_part_of_the_policy() {
    let rl = grpo::config::RlConfig { num_generations: 4, beta: 0.1, temperature: 0.7, ..plain_rl() };
    let policy = model(5);
    let options = RolloutOptions { num_generations: 4, max_completion_length: 50, temperature: 0.7, seed: 3 };
    let accuracy = grpo::Accuracy;
    let samples = rollout(&policy, &Tokenizer::new(), &ragged_problems(), (&accuracy, &accuracy), &options).unwrap();
    let reference = copy_of(&policy);
    let rng = &mut Rng::new(0, "test", 0);
    let update = trainer::update(&policy, Some(&reference), &mut adamw(&policy), &rewarded(samples, 4), &rl, 0, rng).unwrap();
    assert_eq!((update.logprob_max_diff, update.kl), (Some(0.0), Some(0.0)));
}

#[test]
fn before_the_first_update_the_difference_is_zero_and_can_be_otherwise() {
    let rl = grpo::config::RlConfig { num_generations: 4, beta: 0.1, ..plain_rl() };
    let sampler = model(5);
    let samples = rewarded(answers(&sampler, 4, 50, 3), 4);
    let update = |policy: &DeepseekV3ForCausalLM| {
        let reference = copy_of(&sampler);
        let rng = &mut Rng::new(0, "test", 0);
        trainer::update(policy, Some(&reference), &mut adamw(policy), &samples, &rl, 0, rng).unwrap()
    };
    let same = update(&copy_of(&sampler));
    assert_eq!((same.logprob_max_diff, same.kl, same.clip_ratio), (Some(0.0), Some(0.0), Some(0.0)));

    // One weight of one expert, by one part in a thousand: the policy that is trained is not the one that sampled.
    let other = copy_of(&sampler);
    let (name, weight) = other.named_parameters().into_iter().find(|(name, _)| name.contains("experts.0.down_proj")).unwrap();
    let mut values = weight.value().to_vec::<f32>();
    values[0] *= 1.0 + 1e-3;
    weight.set_value(Tensor::from_vec(values, weight.value().shape().clone(), &Device::cpu()));
    let difference = update(&other).logprob_max_diff.unwrap();
    assert!(difference > 0.0, "{name} was changed");
}
