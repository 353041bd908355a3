//! Measuring a policy on held-out problems.

use std::time::Instant;

use nn::DeepseekV3ForCausalLM;

use crate::behaviour::Behaviour;
use crate::config::EvalConfig;
use crate::eval_stats::{Score, cons_at_k, pass_score};
use crate::metrics::{Answer, BehaviourMetrics, EvalMetrics, EvalTask, Scores, Stage};
use crate::problem::Problem;
use crate::reward::Accuracy;
use crate::rollout::{RolloutError, RolloutOptions, Sample, rollout_with};
use crate::tokenizer::Tokenizer;
use crate::verify::parse_number;

/// The behaviour of some answers, with the lengths of right and wrong ones.
pub fn behaviour(samples: &[Sample]) -> BehaviourMetrics {
    let mut counts = Behaviour::default();
    samples.iter().for_each(|s| counts += s.behaviour);
    let mean_length = |correct: bool| {
        let lengths: Vec<usize> = samples.iter().filter(|s| s.correct == correct).map(|s| s.tokens.len()).collect();
        (!lengths.is_empty()).then(|| lengths.iter().sum::<usize>() as f64 / lengths.len() as f64)
    };
    BehaviourMetrics {
        length_right: mean_length(true),
        length_wrong: mean_length(false),
        ..BehaviourMetrics::of(&counts, samples.len())
    }
}

/// The share of samples for which `f` holds.
pub fn share(samples: &[Sample], f: impl Fn(&Sample) -> bool) -> f64 {
    samples.iter().filter(|s| f(s)).count() as f64 / samples.len().max(1) as f64
}

/// An answer as the report shows it.
pub fn shown(problem: &Problem, sample: &Sample) -> Answer {
    let text = sample.response.text().to_owned();
    Answer { question: problem.text(), text, correct: sample.correct, tokens: sample.tokens.len() }
}

/// Which problems are measured, how and when.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    /// What they are.
    pub task: EvalTask,
    /// The problems, each once: copies would make an interval as of so many problems.
    pub problems: &'a [Problem],
    /// How many samples, which k.
    pub config: &'a EvalConfig,
    /// The limit on an answer's tokens.
    pub limit: usize,
    /// Of the sampling; the same in every evaluation of a run.
    pub seed: u64,
    /// The stage and the steps done in it.
    pub at: (Stage, usize),
}

/// Samples answers at temperature 1 and estimates pass@k, and cons@k where a problem has one right answer. Also returns the sequences'
/// lengths, for the bill. `ended` hears of answers that have ended, as in [`rollout_with`].
///
/// # Errors
/// If the policy gives logits that are not finite.
pub fn evaluate(
    policy: &DeepseekV3ForCausalLM,
    tokenizer: &Tokenizer,
    e: &Evaluation<'_>,
    ended: &(dyn Fn(usize) + Sync),
) -> Result<(EvalMetrics, Vec<usize>), RolloutError> {
    let start = Instant::now();
    let n = e.config.samples;
    let options = RolloutOptions { num_generations: n, max_completion_length: e.limit, temperature: 1.0, seed: e.seed };
    let accuracy = Accuracy::default();
    let problems = e.problems;
    let samples = rollout_with(policy, tokenizer, problems, (&accuracy, &accuracy), &options, ended)?;
    let by_problem: Vec<&[Sample]> = samples.chunks(n).collect();
    let mut scores = Scores::default();
    let outcomes: Vec<Vec<bool>> = by_problem.iter().map(|g| g.iter().map(|s| s.correct).collect()).collect();
    for &k in &e.config.k {
        scores.set(&format!("pass@{k}"), pass_score(&outcomes, k));
    }
    if problems.iter().all(|p| p.right_number().is_some()) {
        let votes = |g: &&[Sample]| g.iter().map(|s| parse_number(s.response.answer()?).ok()).collect::<Vec<_>>();
        for &k in e.config.k.iter().filter(|&&k| k > 1) {
            let of = |(p, g): (&Problem, &&[Sample])| cons_at_k(&votes(g), &p.right_number().expect("checked above").into(), k);
            let scores_of: Vec<f64> = problems.iter().zip(&by_problem).map(of).collect();
            scores.set(&format!("cons@{k}"), Score::share(&scores_of));
        }
    }
    let mean_length = |g: &&[Sample]| g.iter().map(|s| s.tokens.len()).sum::<usize>() as f64 / n as f64;
    scores.set("completion_length", Score::mean(&by_problem.iter().map(mean_length).collect::<Vec<_>>()));
    scores.set_value("format", share(&samples, |s| s.response.answer().is_some()));
    scores.set_value("clipped_ratio", share(&samples, |s| !s.response.finished()));
    scores.behaviour = behaviour(&samples);
    let answers = problems.iter().zip(&by_problem).take(e.config.shown).map(|(p, g)| shown(p, &g[0])).collect();
    let metrics = EvalMetrics {
        stage: e.at.0,
        step: e.at.1,
        task: e.task,
        problems: problems.len(),
        samples: n,
        max_completion_length: e.limit,
        tokens: samples.iter().map(|s| s.tokens.len() as u64).sum(),
        seconds: start.elapsed().as_secs_f64(),
        answers,
        scores,
    };
    Ok((metrics, samples.iter().map(Sample::len).collect()))
}
