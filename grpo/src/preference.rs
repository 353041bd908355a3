//! A reward model after Bradley and Terry: the better of two answers is preferred with the probability `σ(s − s')` of their scores.
//!
//! A score is read from a language model's output after an answer's last token: the logit of `v` less that of `x`, the two tokens
//! that say right and wrong. That is a linear head on the last hidden state, whose weight is the difference of two rows of the
//! output matrix; it needs no parameter of its own, and begins with what the policy knows of verdicts.

use autograd::{Var, backward_parts, no_grad};
use nn::{AdamW, DeepseekV3ForCausalLM, ForwardOptions};
use rayon::prelude::*;
use tensor::Tensor;

use crate::rollout::Sample;
use crate::step::{StepError, finite, micro_batches};
use crate::tokenizer::token;

/// Two answers to one question by their indices, the preferred one first.
pub type Pair = [usize; 2];

/// The scores of some answers, a value each `[answers]`.
fn scores_of(model: &DeepseekV3ForCausalLM, answers: &[&Sample]) -> Var {
    let device = model.device();
    let width = answers.iter().map(|s| s.len()).max().unwrap_or(0);
    let row = |s: &&Sample| s.sequence().chain(std::iter::repeat(token::PAD)).take(width).collect::<Vec<_>>();
    let ids = Tensor::from_vec(answers.iter().flat_map(row).collect(), [answers.len(), width], &device);
    let mask = ids.ne(token::PAD);
    let out = model.forward_with(&ids, &ForwardOptions { mask: Some(&mask), ..Default::default() });
    let last: Vec<i64> = answers.iter().enumerate().map(|(i, s)| (i * width + s.len() - 1) as i64).collect();
    let hidden = out.hidden.flatten(0, 1).index_select(0, &Tensor::from_slice(&last, last.len(), &device));
    let logits = model.logits(&hidden);
    logits.select(1, token::RIGHT as isize).sub(&logits.select(1, token::WRONG as isize))
}

/// The scores of some answers.
pub fn scores(model: &DeepseekV3ForCausalLM, answers: &[Sample]) -> Vec<f64> {
    let all: Vec<usize> = (0..answers.len()).collect();
    let parts = micro_batches(&all, |i| answers[i].len());
    let scored: Vec<Vec<f64>> = parts
        .par_iter()
        .map(|part| {
            let of: Vec<&Sample> = part.iter().map(|&i| &answers[i]).collect();
            no_grad(|| scores_of(model, &of).value().to_f64_vec())
        })
        .collect();
    let mut scores = vec![0.0; answers.len()];
    parts.iter().flatten().zip(scored.iter().flatten()).for_each(|(&i, &score)| scores[i] = score);
    scores
}

/// The probability that an answer of this score is preferred to one of score 0.
pub fn probability(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

/// The share of pairs whose preferred answer has the higher score; `None` of no pairs.
pub fn pairs_right(scores: &[f64], pairs: &[Pair]) -> Option<f64> {
    let right = pairs.iter().filter(|[better, worse]| scores[*better] > scores[*worse]).count();
    (!pairs.is_empty()).then(|| right as f64 / pairs.len() as f64)
}

/// One optimizer step on pairs: the mean of `−log σ(s − s')`. Returns it and the gradient's norm.
///
/// # Errors
/// The loss or a gradient is not finite.
pub fn step(
    model: &DeepseekV3ForCausalLM,
    optimizer: &mut AdamW,
    answers: &[Sample],
    pairs: &[Pair],
    lr: f64,
    grad_clip: f64,
) -> Result<(f64, f64), StepError> {
    optimizer.zero_grad();
    let all: Vec<usize> = (0..pairs.len()).collect();
    let longest = |i: usize| pairs[i].iter().map(|&answer| answers[answer].len()).max().unwrap_or(0);
    // Each pair has two sequences.
    let parts = micro_batches(&all, |i| 2 * longest(i));
    let losses = backward_parts(&parts, |part| {
        let of = |side: usize| part.iter().map(|&i| &answers[pairs[i][side]]).collect::<Vec<_>>();
        let (better, worse) = (of(0), of(1));
        let margin = scores_of(model, &[better, worse].concat());
        let n = part.len() as isize;
        let margin = margin.narrow(0, n, part.len()).sub(&margin.narrow(0, 0, part.len()));
        // log(1 + e^(s' − s)); softplus is the identity from 30 on, where the two agree in f32.
        let loss = margin.softplus(1.0, 30.0).sum((), false).div(pairs.len() as f64);
        let value = finite(&loss.value())?;
        Ok::<_, StepError>((loss, value))
    })?;
    let grad_norm = optimizer.step_clipped(lr, grad_clip)?;
    Ok((losses.iter().sum(), grad_norm))
}
