//! Measuring a policy on held-out problems.

use std::time::Instant;

use nn::DeepseekV3ForCausalLM;

use crate::config::EvalConfig;
use crate::eval_stats::{Score, cons_at_k, pass_score};
use crate::metrics::{Answer, EvalMetrics, Scores, Values};
use crate::reward::Accuracy;
use crate::rollout::{RolloutError, RolloutOptions, Sample, rollout_with};
use crate::task::{Column, Counts, Problem};
use crate::tokenizer::Tokenizer;

/// The columns of the problems' tasks over some answers to them, and the lengths of right and wrong ones. Of a column that only some
/// of the tasks have, only their answers count.
pub fn observed(samples: &[Sample], problems: &[Problem]) -> Values {
    let mut columns: Vec<&'static Column> = Vec::new();
    for column in problems.iter().flat_map(|problem| problem.columns()) {
        if columns.iter().all(|other| other.name != column.name) {
            columns.push(column);
        }
    }
    let mut values = Values::new();
    for column in columns {
        let (mut counts, mut answers) = (Counts::default(), 0);
        for sample in samples.iter().filter(|s| problems[s.problem].columns().iter().any(|other| other.name == column.name)) {
            counts += &sample.counts;
            answers += 1;
        }
        values.set(column.name, (column.value)(&counts, answers));
    }
    let mean_length = |correct: bool| {
        let lengths: Vec<usize> = samples.iter().filter(|s| s.correct == correct).map(|s| s.tokens.len()).collect();
        (!lengths.is_empty()).then(|| lengths.iter().sum::<usize>() as f64 / lengths.len() as f64)
    };
    values.with("length_right", mean_length(true)).with("length_wrong", mean_length(false))
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
    /// The task that they are of.
    pub task: &'a str,
    /// The problems, each once: copies would make an interval as of so many problems.
    pub problems: &'a [Problem],
    /// How many samples, which k.
    pub config: &'a EvalConfig,
    /// The limit on an answer's tokens.
    pub limit: usize,
    /// Of the sampling; the same in every evaluation of a run.
    pub seed: u64,
    /// The stage and the steps done in it.
    pub at: (&'a str, usize),
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
    let problems = e.problems;
    let samples = rollout_with(policy, tokenizer, problems, (&Accuracy, &Accuracy), &options, ended)?;
    let by_problem: Vec<&[Sample]> = samples.chunks(n).collect();
    let mut scores = Scores::default();
    let outcomes: Vec<Vec<bool>> = by_problem.iter().map(|g| g.iter().map(|s| s.correct).collect()).collect();
    for &k in &e.config.k {
        scores.set(&format!("pass@{k}"), pass_score(&outcomes, k));
    }
    let truths: Option<Vec<Option<String>>> = problems.iter().map(|p| Some(p.vote(&p.right_answer()?))).collect();
    if let Some(truths) = truths {
        let votes = |(p, g): (&Problem, &&[Sample])| g.iter().map(|s| p.vote(s.response.answer()?)).collect::<Vec<_>>();
        let votes: Vec<Vec<Option<String>>> = problems.iter().zip(&by_problem).map(votes).collect();
        for &k in e.config.k.iter().filter(|&&k| k > 1) {
            // A right answer that cannot be read as a vote is never the majority.
            let of =
                |(truth, votes): (&Option<String>, &Vec<Option<String>>)| truth.as_ref().map_or(0.0, |t| cons_at_k(votes, t, k));
            scores.set(&format!("cons@{k}"), Score::share(&truths.iter().zip(&votes).map(of).collect::<Vec<_>>()));
        }
    }
    let mean_length = |g: &&[Sample]| g.iter().map(|s| s.tokens.len()).sum::<usize>() as f64 / n as f64;
    scores.set("completion_length", Score::mean(&by_problem.iter().map(mean_length).collect::<Vec<_>>()));
    scores.set_value("format", share(&samples, |s| s.response.answer().is_some()));
    scores.set_value("clipped_ratio", share(&samples, |s| !s.response.finished()));
    scores.behaviour = observed(&samples, problems);
    let answers = problems.iter().zip(&by_problem).take(e.config.shown).map(|(p, g)| shown(p, &g[0])).collect();
    let metrics = EvalMetrics {
        stage: e.at.0.to_owned(),
        step: e.at.1,
        task: e.task.to_owned(),
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
