//! The pre-training corpus: traces of uneven quality, drills, and a few chain sums.
//!
//! A *trace* shows a solver who tries expressions at random, sometimes checks one, sometimes tries again after a failed check,
//! and often just stops with what it has. A *drill* teaches arithmetic and verdicts on attempts that are simply given: no loss
//! falls on whether to check, to go on or to stop. What reinforcement learning can build on is therefore all there, and rare.

mod drill;
mod trace;

use crate::config::BaseConfig;
use crate::problem::{Problem, ProblemSet};
use crate::rng::Rng;
use crate::tokenizer::{Tokenizer, token};

/// A sequence to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The prompt and what follows.
    pub tokens: Vec<i64>,
    /// For each token whether predicting it counts in the loss. The prompt's tokens never do.
    pub loss_mask: Vec<bool>,
}

impl Example {
    /// The prompt alone, nothing to learn yet.
    fn of(problem: &Problem, tokenizer: &Tokenizer) -> Example {
        let tokens = problem.prompt(tokenizer).expect("drawn problems are written in the tokenizer's characters");
        Example { loss_mask: vec![false; tokens.len()], tokens }
    }

    /// Appends `text`; `counts` says of its `i`th token whether it counts in the loss.
    fn push(&mut self, tokenizer: &Tokenizer, text: &str, counts: impl Fn(usize) -> bool) {
        let tokens = tokenizer.encode(text).expect("the corpus writes only the tokenizer's characters");
        self.loss_mask.extend((0..tokens.len()).map(counts));
        self.tokens.extend(tokens);
    }
}

/// Examples side by side, padded to the right with `<pad>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many examples.
    pub rows: usize,
    /// The length of the longest.
    pub width: usize,
    /// Token ids, `[rows, width]`.
    pub ids: Vec<i64>,
    /// Whether a token counts in the loss, `[rows, width]`.
    pub loss_mask: Vec<bool>,
}

impl Batch {
    /// The label that cross-entropy ignores by default, as in PyTorch.
    pub const IGNORE_INDEX: i64 = -100;

    /// Pads `examples` to the longest.
    pub fn of(examples: &[&Example]) -> Batch {
        let width = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let mut batch = Batch { rows: examples.len(), width, ids: Vec::new(), loss_mask: Vec::new() };
        for example in examples {
            let padding = width - example.tokens.len();
            batch.ids.extend(example.tokens.iter().chain(std::iter::repeat_n(&token::PAD, padding)));
            batch.loss_mask.extend(example.loss_mask.iter().chain(std::iter::repeat_n(&false, padding)));
        }
        batch
    }

    /// What the model reads, `[rows, width - 1]`: every token but the last.
    pub fn inputs(&self) -> Vec<i64> {
        let rows = self.ids.chunks_exact(self.width.max(1));
        rows.flat_map(|row| &row[..row.len() - 1]).copied().collect()
    }

    /// What it should say next, `[rows, width - 1]`: every token but the first, [`IGNORE_INDEX`](Self::IGNORE_INDEX) where it
    /// does not count.
    pub fn labels(&self) -> Vec<i64> {
        let rows = self.ids.chunks_exact(self.width.max(1)).zip(self.loss_mask.chunks_exact(self.width.max(1)));
        let label = |(&id, &counts): (&i64, &bool)| if counts { id } else { Self::IGNORE_INDEX };
        rows.flat_map(|(ids, mask)| ids[1..].iter().zip(&mask[1..]).map(label)).collect()
    }
}

/// The corpus of a run: an endless sequence of batches, each a function of the seed and its step alone.
#[derive(Clone, Debug)]
pub struct Corpus<'a> {
    config: &'a BaseConfig,
    problems: &'a ProblemSet,
    tokenizer: Tokenizer,
    seed: u64,
}

impl<'a> Corpus<'a> {
    /// The corpus that `config` describes, on problems that are not held out.
    pub fn new(config: &'a BaseConfig, problems: &'a ProblemSet, seed: u64) -> Corpus<'a> {
        Corpus { config, problems, tokenizer: Tokenizer::new(), seed }
    }

    /// The examples of a step: every `long_every`th step full-length drills only; else drills, chain sums and, for the rest,
    /// traces.
    pub fn examples(&self, step: u64) -> Vec<Example> {
        let BaseConfig { batch_size, drill_share, chain_sum_share, .. } = *self.config;
        let mut rng = Rng::new(self.seed, "corpus", step);
        let long = self.config.long_every as u64;
        if long > 0 && step % long == long - 1 {
            return (0..self.config.long_batch_size).map(|_| self.long_drill(&mut rng)).collect();
        }
        let rows = |share: f64| (batch_size as f64 * share) as usize;
        let drills = rows(drill_share);
        let sums = rows(chain_sum_share).min(batch_size - drills);
        let mut examples = Vec::with_capacity(batch_size);
        examples.extend((0..drills).map(|_| self.drill(&mut rng)));
        examples.extend((0..sums).map(|_| self.chain_sum(&mut rng)));
        examples.extend((drills + sums..batch_size).map(|_| self.trace(&mut rng)));
        examples
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::countdown::Countdown;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    /// Made once: listing the distinct problems takes most of a test's time.
    static PROBLEMS: LazyLock<ProblemSet> = LazyLock::new(|| ProblemSet::from_config(&Default::default()).unwrap());

    #[test]
    fn a_batch_is_padded_and_shifted() {
        let example = |tokens: &[i64], mask: &[bool]| Example { tokens: tokens.into(), loss_mask: mask.into() };
        let examples = [example(&[1, 9, 2, 8], &[false, false, true, true]), example(&[1, 7], &[false, true])];
        let batch = Batch::of(&[&examples[0], &examples[1]]);
        assert_eq!((batch.rows, batch.width, batch.loss_mask.iter().filter(|&&counts| counts).count()), (2, 4, 3));
        assert_eq!(batch.ids, [1, 9, 2, 8, 1, 7, 0, 0]);
        assert_eq!(batch.inputs(), [1, 9, 2, 1, 7, 0]);
        assert_eq!(batch.labels(), [-100, 2, 8, 7, -100, -100]);
        let empty = Batch::of(&[]);
        assert_eq!((empty.rows, empty.width, empty.inputs(), empty.labels()), (0, 0, vec![], vec![]));
    }

    #[test]
    fn batches_are_mixed_as_configured() {
        let config = BaseConfig::default();
        let corpus = Corpus::new(&config, &PROBLEMS, 3);
        let short = corpus.examples(4);
        assert_eq!(short.len(), 128);
        // Traces and chain sums are in the loss whole, but for the prompt; in a drill, what follows the prompt is a decision.
        let whole = |example: &&Example| {
            let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
            example.loss_mask[open + 1..].iter().all(|&counts| counts)
        };
        assert_eq!(short.iter().filter(whole).count(), 128 - 51); // all but the drills
        let colon = corpus.tokenizer.encode(":").unwrap()[0];
        assert_eq!(short.iter().filter(|example| !example.tokens.contains(&colon)).count(), 12); // the chain sums
        let long = corpus.examples(5);
        assert_eq!(long.len(), 16);
        assert_eq!(long.iter().filter(whole).count(), 0);
        let width = |examples: &[Example]| examples.iter().map(|e| e.tokens.len()).max().unwrap();
        assert!(width(&long) > 250 && width(&short) < 200, "{} {}", width(&long), width(&short));
    }

    #[test]
    fn a_batch_depends_on_seed_and_step_alone() {
        let config = BaseConfig::default();
        let corpus = Corpus::new(&config, &PROBLEMS, 3);
        let seventh = corpus.examples(7);
        corpus.examples(8);
        assert_eq!(corpus.examples(7), seventh);
        assert_ne!(corpus.examples(8), seventh);
        assert_ne!(Corpus::new(&config, &PROBLEMS, 4).examples(7), seventh);
    }

    #[test]
    fn the_shares_can_be_anything() {
        for (drill_share, chain_sum_share) in [(0.0, 0.0), (1.0, 1.0), (0.7, 0.7)] {
            let config = BaseConfig { batch_size: 10, long_every: 0, drill_share, chain_sum_share, ..BaseConfig::default() };
            let corpus = Corpus::new(&config, &PROBLEMS, 0);
            assert!((0..12).all(|step| corpus.examples(step).len() == 10));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_example_poses_a_held_out_problem(seed: u64, step in 0u64..1000) {
            let config = BaseConfig::default();
            let corpus = Corpus::new(&config, &PROBLEMS, seed);
            for example in corpus.examples(step) {
                let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
                let text = corpus.tokenizer.decode(&example.tokens[1..open]);
                match Countdown::parse(&text) {
                    Some(problem) => prop_assert!(!PROBLEMS.held_out_countdown().contains(&problem)),
                    None => prop_assert!(PROBLEMS.held_out_chain_sum().iter().all(|sum| sum.text() != text)),
                }
                prop_assert_eq!(example.tokens.len(), example.loss_mask.len());
                prop_assert!(example.loss_mask[..=open].iter().all(|counts| !counts));
            }
        }
    }
}
