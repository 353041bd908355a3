//! The pre-training corpus: traces of uneven quality, drills, and a few problems of the other tasks.
//!
//! What traces and drills are, a task says itself ([`Lesson`]); how they are mixed is said here.

use crate::config::BaseConfig;
use crate::example::Example;
use crate::rng::Rng;
use crate::task::{Lesson, Pool};

/// The corpus of a run: an endless sequence of batches, each a function of the seed and its step alone.
#[derive(Clone, Debug)]
pub struct Corpus<'a> {
    config: &'a BaseConfig,
    pools: &'a [Pool],
    seed: u64,
}

impl<'a> Corpus<'a> {
    /// The corpus that `config` describes, on problems that are not held out. The first pool is what the run is about.
    ///
    /// # Panics
    /// If there is no pool.
    #[track_caller]
    pub fn new(config: &'a BaseConfig, pools: &'a [Pool], seed: u64) -> Corpus<'a> {
        assert!(!pools.is_empty(), "a corpus of no task");
        Corpus { config, pools, seed }
    }

    /// The examples of a step: every `long_every`th step full-length drills only; else drills, traces of the other tasks in turn
    /// and, for the rest, traces. A task without drills shows traces instead, one without traces nothing.
    pub fn examples(&self, step: u64) -> Vec<Example> {
        let BaseConfig { batch_size, drill_share, others_share, .. } = *self.config;
        let (main, others) = self.pools.split_first().expect("checked above");
        let mut rng = Rng::new(self.seed, "corpus", step);
        let mut examples = Vec::with_capacity(batch_size);
        let mut show = |pool: &Pool, lesson, rows: usize| {
            let mut one = || pool.lesson(lesson, &mut rng).or_else(|| pool.lesson(Lesson::Trace, &mut rng));
            examples.extend((0..rows).filter_map(|_| one()));
        };
        let long = self.config.long_every as u64;
        if long > 0 && step % long == long - 1 {
            show(main, Lesson::LongDrill, self.config.long_batch_size);
            return examples;
        }
        let rows = |share: f64| (batch_size as f64 * share) as usize;
        let drills = rows(drill_share);
        let side = if others.is_empty() { 0 } else { rows(others_share).min(batch_size - drills) };
        show(main, Lesson::Drill, drills);
        (0..side).for_each(|i| show(&others[i % others.len()], Lesson::Trace, 1));
        show(main, Lesson::Trace, batch_size - drills - side);
        examples
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::config::RunConfig;
    use crate::setup::pools;
    use crate::tasks::Countdown;
    use crate::tokenizer::{Tokenizer, token};
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    /// Made once: listing the distinct problems takes most of a test's time.
    static POOLS: LazyLock<Vec<Pool>> = LazyLock::new(|| pools(&RunConfig::default()).unwrap());

    #[test]
    fn batches_are_mixed_as_configured() {
        let config = BaseConfig::default();
        let corpus = Corpus::new(&config, &POOLS, 3);
        let short = corpus.examples(4);
        assert_eq!(short.len(), 128);
        // Traces and chain sums are in the loss whole, but for the prompt; in a drill, what follows the prompt is a decision.
        let whole = |example: &&Example| {
            let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
            example.loss_mask[open + 1..].iter().all(|&counts| counts)
        };
        assert_eq!(short.iter().filter(whole).count(), 128 - 51); // all but the drills
        let colon = Tokenizer::new().encode(":").unwrap()[0];
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
        let corpus = Corpus::new(&config, &POOLS, 3);
        let seventh = corpus.examples(7);
        corpus.examples(8);
        assert_eq!(corpus.examples(7), seventh);
        assert_ne!(corpus.examples(8), seventh);
        assert_ne!(Corpus::new(&config, &POOLS, 4).examples(7), seventh);
    }

    #[test]
    fn the_shares_can_be_anything() {
        for (drill_share, others_share) in [(0.0, 0.0), (1.0, 1.0), (0.7, 0.7)] {
            let config = BaseConfig { batch_size: 10, long_every: 0, drill_share, others_share, ..BaseConfig::default() };
            let corpus = Corpus::new(&config, &POOLS, 0);
            assert!((0..12).all(|step| corpus.examples(step).len() == 10));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_example_poses_a_held_out_problem(seed: u64, step in 0u64..1000) {
            let config = BaseConfig::default();
            let corpus = Corpus::new(&config, &POOLS, seed);
            for example in corpus.examples(step) {
                let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
                let text = Tokenizer::new().decode(&example.tokens[1..open]);
                let pool = usize::from(Countdown::parse(&text).is_none());
                prop_assert!(POOLS[pool].held_out().iter().all(|problem| problem.text() != text));
                prop_assert_eq!(example.tokens.len(), example.loss_mask.len());
                prop_assert!(example.loss_mask[..=open].iter().all(|counts| !counts));
            }
        }
    }
}
