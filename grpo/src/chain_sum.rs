//! Chain sums: add and subtract a few numbers. One right answer per problem, so that a majority vote means something.

use crate::arithmetic::{Attempt, Operator};
use crate::rng::Rng;
use crate::task_error::TaskError;

/// A chain sum, `3+8-2+6`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainSum {
    /// The terms with their signs: the first is positive, none is zero, none is beyond 32 bits.
    terms: Vec<i64>,
}

impl ChainSum {
    /// Reads `3+8-2+6`, with or without spaces and a final `=`. `None` for anything but a sum of positive integers.
    pub fn parse(text: &str) -> Option<ChainSum> {
        let text = text.replace(' ', "").replace('-', "+-");
        let terms = text.strip_suffix('=').unwrap_or(&text).split('+').map(|term| {
            let term: i32 = term.parse().ok()?;
            (term != 0).then_some(i64::from(term))
        });
        let terms: Vec<i64> = terms.collect::<Option<_>>()?;
        Some(ChainSum { terms })
    }

    /// The problem as the model reads it: `3+8-2+6=`.
    pub fn text(&self) -> String {
        let rest: String = self.terms[1..].iter().map(|term| format!("{term:+}")).collect();
        format!("{}{rest}=", self.terms[0])
    }

    /// The one right answer.
    pub fn answer(&self) -> i64 {
        self.terms.iter().sum()
    }

    /// The sum worked out: `3+8=11-2=9+6=15`.
    pub fn working(&self) -> String {
        let operation = |&term: &i64| (if term < 0 { Operator::Subtract } else { Operator::Add }, term.abs());
        let rest: Vec<_> = self.terms[1..].iter().map(operation).collect();
        Attempt::left_to_right(self.terms[0], &rest).expect("sums of 32-bit terms fit 64 bits").working
    }
}

/// The range of the chain-sum task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSumConfig {
    /// The fewest terms.
    pub min_terms: usize,
    /// The most terms.
    pub max_terms: usize,
    /// The largest term; the smallest is 1.
    pub max_value: i64,
}

impl Default for ChainSumConfig {
    /// Three to five terms of 1 to 10.
    fn default() -> Self {
        ChainSumConfig { min_terms: 3, max_terms: 5, max_value: 10 }
    }
}

impl ChainSumConfig {
    /// Checks that the ranges make a task.
    ///
    /// # Errors
    /// [`TaskError::Config`], naming the key.
    pub fn validate(&self) -> Result<(), TaskError> {
        let error = |key, expected: &str, found: String| Err(TaskError::Config { key, expected: expected.into(), found });
        if self.min_terms < 2 {
            return error("chain_sum.min_terms", "at least 2", self.min_terms.to_string());
        }
        if !(self.min_terms..=20).contains(&self.max_terms) {
            return error("chain_sum.max_terms", "min_terms to 20", self.max_terms.to_string());
        }
        if !(1..1000).contains(&self.max_value) {
            return error("chain_sum.max_value", "1 to 999", self.max_value.to_string());
        }
        Ok(())
    }

    /// Checks that `problem` is one this task could pose.
    ///
    /// # Errors
    /// [`TaskError::Problem`] with what is out of range.
    pub fn check(&self, problem: &ChainSum) -> Result<(), TaskError> {
        let error = |expected, found| Err(TaskError::Problem { expected, found });
        let terms = problem.terms.len();
        if !(self.min_terms..=self.max_terms).contains(&terms) {
            return error(format!("{} to {} terms", self.min_terms, self.max_terms), terms.to_string());
        }
        let mut sizes = problem.terms.iter().map(|term| term.abs());
        match sizes.find(|&size| size > self.max_value) {
            Some(size) => error(format!("terms of 1 to {}", self.max_value), size.to_string()),
            None => Ok(()),
        }
    }

    /// A problem at random: the number of terms, the terms and their signs each uniform.
    pub fn draw(&self, rng: &mut Rng) -> ChainSum {
        let terms = rng.between(self.min_terms as i64, self.max_terms as i64);
        let mut terms: Vec<i64> = (0..terms).map(|_| rng.between(1, self.max_value) * rng.choose(&[1, -1])).collect();
        terms[0] = terms[0].abs();
        ChainSum { terms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Expression, Rational};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn reads_and_writes() {
        let problem = ChainSum::parse("3 + 8 - 2 + 6 =").unwrap();
        assert_eq!(problem.text(), "3+8-2+6=");
        assert_eq!(problem.working(), "3+8=11-2=9+6=15");
        assert_eq!(problem.answer(), 15);
        for text in ["", "=", "3+", "3++8", "-3+8", "3+8*2", "3+x", "3-0", "3+8-", "3+99999999999"] {
            assert_eq!(ChainSum::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        let config = ChainSumConfig::default();
        let check = |text| config.check(&ChainSum::parse(text).unwrap()).map_err(|error| error.to_string());
        assert_eq!(check("3+8-10"), Ok(()));
        assert_eq!(check("3+8"), Err("expected 3 to 5 terms, found 2".into()));
        assert_eq!(check("3+8-11"), Err("expected terms of 1 to 10, found 11".into()));
        assert_eq!(config.validate(), Ok(()));
        for wrong in [
            ChainSumConfig { min_terms: 1, ..config.clone() },
            ChainSumConfig { max_terms: 2, ..config.clone() },
            ChainSumConfig { max_value: 0, ..config.clone() },
        ] {
            assert!(wrong.validate().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn drawn_problems_are_in_range_and_mean_what_they_say(seed: u64) {
            let config = ChainSumConfig::default();
            let problem = config.draw(&mut Rng::new(seed, "test", 0));
            prop_assert_eq!(config.check(&problem), Ok(()));
            prop_assert_eq!(ChainSum::parse(&problem.text()), Some(problem.clone()));
            let text = problem.text();
            let value = Expression::parse(text.trim_end_matches('=')).unwrap().value;
            prop_assert_eq!(value, Rational::from(problem.answer()));
            let end = format!("={}", problem.answer());
            prop_assert!(problem.working().ends_with(&end));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>(), sum in "[-+= 0-9]{0,30}") {
            let _ = (ChainSum::parse(&text), ChainSum::parse(&sum));
        }
    }
}
