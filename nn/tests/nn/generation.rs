//! Generation: bit-equality with the training pass, independence of the batch, and the statistics of sampling.

use crate::common::{cpu, ids, model, small, tiny};
use nn::{Completion, Config, DeepseekV3ForCausalLM, Generate, GenerateError, Module, Sampling};
use tensor::{DType, Tensor};

/// Prompts of different lengths.
fn prompts(n: usize, vocab_size: usize) -> Vec<Vec<i64>> {
    (0..n).map(|i| ids(i as u64, [1, 1 + (i * 5) % 9], vocab_size).to_vec::<i64>()).collect()
}

/// The log-probabilities and entropies of a training pass over all finished sequences, padded on the right.
fn training_pass(
    model: &DeepseekV3ForCausalLM,
    prompts: &[Vec<i64>],
    done: &[Completion],
    temperature: f64,
    padding: usize,
) -> Vec<(Vec<f32>, Vec<f32>)> {
    let whole: Vec<Vec<i64>> = done.iter().map(|c| [&prompts[c.prompt][..], &c.tokens].concat()).collect();
    let len = whole.iter().map(Vec::len).max().unwrap() + padding;
    let padded = whole.iter().flat_map(|w| w.iter().copied().chain(std::iter::repeat(7)).take(len)).collect();
    let (log_probs, entropy) = model.log_probs(&Tensor::from_vec(padded, [whole.len(), len], &cpu()), temperature);
    let (log_probs, entropy) = (log_probs.value().to_vec::<f32>(), entropy.to_vec::<f32>());
    let of = |values: &[f32], row: usize, c: &Completion| {
        let first = row * (len - 1) + prompts[c.prompt].len() - 1;
        values[first..first + c.tokens.len()].to_vec()
    };
    done.iter().enumerate().map(|(r, c)| (of(&log_probs, r, c), of(&entropy, r, c))).collect()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn recorded_log_probabilities_are_those_of_the_training_pass() {
    let grouped = Config { q_lora_rank: Some(20), n_group: 4, topk_group: 2, ..small() };
    for (seed, (config, temperature)) in [(small(), 1.0), (grouped, 1.0), (small(), 0.7)].into_iter().enumerate() {
        let model = model(config, seed as u64, DType::F32);
        let prompts = prompts(7, 30);
        let sampling = Sampling { temperature, ..Sampling::default() };
        let stop_tokens = vec![3, 4];
        let options = Generate { num_generations: 5, max_new_tokens: 80, stop_tokens, seed: 11, sampling, ..Generate::default() };
        let done = model.generate(&prompts, &options).unwrap();
        assert_eq!(done.len(), 35);
        let lengths: Vec<usize> = done.iter().map(|c| c.tokens.len()).collect();
        assert!(lengths.iter().max() > lengths.iter().min(), "rows must finish at different times: {lengths:?}");
        for padding in [0, 9] {
            for (c, (log_probs, entropies)) in done.iter().zip(training_pass(&model, &prompts, &done, temperature, padding)) {
                assert!(same_bits(&c.logprobs, &log_probs), "prompt {}: {:?} {log_probs:?}", c.prompt, c.logprobs);
                assert!(c.entropies.iter().zip(&entropies).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}

/// A training batch of other rows, or of one, gives the same bits: routing of other tokens does not matter.
#[test]
fn a_row_does_not_depend_on_the_batch() {
    let model = model(small(), 4, DType::F32);
    let all = ids(8, [9, 33], 30);
    let (together, _) = model.log_probs(&all, 1.0);
    let together = together.value();
    for row in 0..9 {
        let (alone, _) = model.log_probs(&all.narrow(0, row, 1).narrow(1, 0, 20 + row as usize), 1.0);
        let want = together.narrow(0, row, 1).narrow(1, 0, 19 + row as usize).to_vec::<f32>();
        assert!(same_bits(&alone.value().to_vec::<f32>(), &want), "row {row}");
    }
}

#[test]
fn a_completion_depends_on_prompt_seed_and_settings_alone() {
    let model = model(small(), 5, DType::F32);
    let prompts = prompts(6, 30);
    let seeds: Vec<u64> = (0..6).map(|i| 100 + i).collect();
    let options = Generate {
        num_generations: 4,
        max_new_tokens: 40,
        stop_tokens: vec![3],
        prompt_seeds: Some(seeds.clone()),
        ..Generate::default()
    };
    let together = model.generate(&prompts, &options).unwrap();
    assert_eq!(together, model.generate(&prompts, &options).unwrap());
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = Generate { prompt_seeds: Some(vec![seeds[i]]), ..options.clone() };
        let alone = model.generate(std::slice::from_ref(prompt), &alone).unwrap();
        for (a, b) in alone.iter().zip(&together[i * 4..]) {
            assert_eq!(a.tokens, b.tokens);
            assert!(same_bits(&a.logprobs, &b.logprobs) && same_bits(&a.entropies, &b.entropies));
        }
        assert!((1..4).any(|j| together[i * 4 + j].tokens != together[i * 4].tokens), "samples of one prompt must differ");
    }
    let other = model.generate(&prompts, &Generate { prompt_seeds: None, seed: 1, ..options }).unwrap();
    assert!(other.iter().zip(&together).any(|(a, b)| a.tokens != b.tokens));
}

#[test]
fn completions_end_at_stop_tokens_or_the_limit() {
    let model = model(small(), 6, DType::F32);
    let options = Generate { num_generations: 20, max_new_tokens: 12, stop_tokens: vec![1, 2, 5], ..Generate::default() };
    let mut steps = Vec::new();
    let done = model.generate_with(&prompts(4, 30), &options, &mut |p| steps.push(p)).unwrap();
    for c in &done {
        let (last, before) = c.tokens.split_last().unwrap();
        assert!(before.iter().all(|t| !options.stop_tokens.contains(t)));
        assert_eq!(c.stopped, options.stop_tokens.contains(last));
        assert!(c.stopped || c.tokens.len() == 12);
        assert!(c.tokens.len() == c.logprobs.len() && c.tokens.len() == c.entropies.len());
    }
    assert!(done.iter().any(|c| c.stopped) && done.iter().any(|c| !c.stopped));
    assert_eq!(done.iter().map(|c| c.prompt).collect::<Vec<_>>(), (0..80).map(|i| i / 20).collect::<Vec<_>>());
    let last = steps.last().unwrap();
    assert_eq!((last.step, last.active, last.tokens), (12, 0, done.iter().map(|c| c.tokens.len()).sum()));
    assert!(
        steps
            .windows(2)
            .all(|w| w[1].step == w[0].step + 1 && w[1].active <= w[0].active && w[1].tokens == w[0].tokens + w[0].active)
    );
    let none = model.generate(&prompts(2, 30), &Generate { max_new_tokens: 0, ..Generate::default() }).unwrap();
    assert!(none.len() == 2 && none.iter().all(|c| c.tokens.is_empty()));
    assert!(model.generate(&[], &Generate::default()).unwrap().is_empty());
}

/// Frequencies of the first token against the model's distribution, reshaped by plain loops.
#[test]
fn sampled_frequencies_follow_the_distribution() {
    let model = model(Config { initializer_range: 0.3, ..small() }, 7, DType::F32);
    let prompt = vec![vec![5, 9, 2]];
    let logits = model.forward(&Tensor::from_slice(&prompt[0], [1, 3], &cpu())).value().narrow(1, 2, 1).to_f64_vec();
    let n = 8000;
    for sampling in [
        Sampling::default(),
        Sampling { temperature: 0.6, ..Sampling::default() },
        Sampling { top_k: Some(4), ..Sampling::default() },
        Sampling { top_p: 0.7, ..Sampling::default() },
        Sampling { temperature: 1.7, top_k: Some(12), top_p: 0.9 },
    ] {
        let mut order: Vec<usize> = (0..30).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        order.truncate(sampling.top_k.unwrap_or(30));
        let weight = |i: usize| (logits[i] / sampling.temperature).exp();
        let mut total: f64 = order.iter().map(|&i| weight(i)).sum();
        let mut kept = Vec::new();
        let mut sum = 0.0;
        for &i in &order {
            if sum >= sampling.top_p * total {
                break;
            }
            sum += weight(i);
            kept.push(i);
        }
        total = sum;
        let options = Generate { num_generations: n, max_new_tokens: 1, sampling, seed: 3, ..Generate::default() };
        let mut counts = [0usize; 30];
        model.generate(&prompt, &options).unwrap().iter().for_each(|c| counts[c.tokens[0] as usize] += 1);
        // Cells expected fewer than five times are put together, as the approximation by chi-square wants.
        let (mut chi, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
        for (i, &drawn) in counts.iter().enumerate() {
            let expected = if kept.contains(&i) { weight(i) / total * n as f64 } else { 0.0 };
            assert!(expected > 0.0 || drawn == 0, "{sampling:?}: token {i} is cut off but was drawn {drawn} times");
            if expected < 5.0 {
                rare = (rare.0 + expected, rare.1 + drawn as f64);
            } else {
                chi += (drawn as f64 - expected).powi(2) / expected;
                cells += 1.0;
            }
        }
        if rare.0 > 0.0 {
            chi += (rare.1 - rare.0).powi(2) / rare.0.max(1.0);
            cells += 1.0;
        }
        // Mean and variance of chi-square: cells − 1 and twice that; five deviations.
        let limit = cells - 1.0 + 5.0 * (2.0 * (cells - 1.0f64).max(1.0)).sqrt();
        assert!(cells >= 2.0 && chi < limit, "{sampling:?}: chi-square {chi} over {cells} cells");
    }
}

#[test]
fn temperature_zero_and_top_k_one_are_greedy() {
    let model = model(small(), 8, DType::F32);
    let prompts = prompts(5, 30);
    let run = |sampling| model.generate(&prompts, &Generate { max_new_tokens: 10, sampling, ..Generate::default() }).unwrap();
    let greedy = run(Sampling { temperature: 0.0, ..Sampling::default() });
    assert_eq!(greedy, run(Sampling { top_k: Some(1), ..Sampling::default() }));
    assert_eq!(greedy, run(Sampling { top_p: 1e-9, ..Sampling::default() }));
    for c in greedy {
        let mut tokens = prompts[c.prompt].clone();
        for next in c.tokens {
            let ids = Tensor::from_slice(&tokens, [1, tokens.len()], &cpu());
            let last = model.forward(&ids).value().narrow(1, tokens.len() as isize - 1, 1);
            assert_eq!(last.argmax(None, false).item::<i64>(), next);
            tokens.push(next);
        }
    }
}

#[test]
fn half_precision_generates_too() {
    let model = model(small(), 9, DType::BF16);
    let options = Generate { max_new_tokens: 6, num_generations: 2, ..Generate::default() };
    let prompts = prompts(3, 30);
    let done = model.generate(&prompts, &options).unwrap();
    for (c, (log_probs, _)) in done.iter().zip(training_pass(&model, &prompts, &done, 1.0, 2)) {
        assert!(same_bits(&c.logprobs, &log_probs), "{:?} {log_probs:?}", c.logprobs);
    }
}

#[test]
fn impossible_requests_are_refused() {
    let model = model(tiny(), 1, DType::F32);
    let refused = |prompts: &[Vec<i64>], options: Generate| model.generate(prompts, &options).unwrap_err();
    let sampling = |sampling| Generate { sampling, ..Generate::default() };
    let ok = [vec![1i64]];
    assert_eq!(refused(&[vec![1], vec![]], Generate::default()), GenerateError::EmptyPrompt { prompt: 1 });
    let unknown = GenerateError::UnknownToken { prompt: 0, token: 13, vocab_size: 13 };
    assert_eq!(refused(&[vec![1, 13]], Generate::default()), unknown);
    for (options, name) in [
        (sampling(Sampling { temperature: -1.0, ..Sampling::default() }), "temperature"),
        (sampling(Sampling { temperature: f64::NAN, ..Sampling::default() }), "temperature"),
        (sampling(Sampling { top_k: Some(0), ..Sampling::default() }), "top_k"),
        (sampling(Sampling { top_p: 0.0, ..Sampling::default() }), "top_p"),
        (sampling(Sampling { top_p: 1.5, ..Sampling::default() }), "top_p"),
        (Generate { num_generations: 0, ..Generate::default() }, "num_generations"),
        (Generate { prompt_seeds: Some(vec![1, 2]), ..Generate::default() }, "prompt_seeds"),
    ] {
        assert!(matches!(refused(&ok, options), GenerateError::Setting { setting, .. } if setting == name), "{name}");
    }

    let (_, norm) = model.named_parameters().into_iter().find(|(name, _)| name == "model.norm.weight").unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        norm.set_value(norm.value().full_like(bad));
        assert_eq!(refused(&ok, Generate::default()), GenerateError::NotFinite { prompt: 0, position: 1 }, "{bad}");
    }
}

/// The limit is the rule: what 0 takes, with certainty, however near to 0 the temperature is.
#[test]
fn temperatures_near_0_take_the_most_probable_token() {
    let model = model(tiny(), 4, DType::F32);
    let of = |temperature| {
        let sampling = Sampling { temperature, ..Sampling::default() };
        model.generate(&[vec![1, 4]], &Generate { max_new_tokens: 3, sampling, ..Generate::default() }).unwrap().remove(0)
    };
    let greedy = of(0.0).tokens;
    for temperature in [1e-30, 1e-38, 1e-41, 1e-300, f64::from_bits(1)] {
        let completion = of(temperature);
        assert_eq!(completion.tokens, greedy, "{temperature:e}");
        assert!(completion.logprobs.iter().chain(&completion.entropies).all(|&x| x == 0.0), "{temperature:e}: {completion:?}");
        // Another token has no probability, a finite logarithm, and a gradient that can be used.
        let sequence = [&[1, 4], &greedy[..2], &[(greedy[2] + 1) % 13]].concat();
        let (log_probs, entropy) = model.log_probs(&Tensor::from_slice(&sequence, [1, 5], &cpu()), temperature);
        let values = log_probs.value().to_vec::<f32>();
        assert!(values[1..3] == [0.0, 0.0] && values[3] < -1e20 && values[3].is_finite(), "{temperature:e}: {values:?}");
        assert!(entropy.to_vec::<f32>().iter().all(|&h| h == 0.0), "{temperature:e}: {entropy:?}");
        log_probs.narrow(1, 1, 2).sum((), false).backward();
        let gradients = model.named_parameters().into_iter().filter_map(|(_, p)| p.grad());
        assert!(gradients.flat_map(|g| g.to_f64_vec()).all(|g| g == 0.0), "{temperature:e}");
        model.zero_grad();
    }
}
