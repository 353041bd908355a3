//! Chain sums: add and subtract a few numbers. One right answer per problem, so that a majority vote means something.

use crate::arithmetic::{Calculation, Operator};
use crate::rng::Rng;

/// The fewest and the most terms of a drawn sum.
const TERMS: [i64; 2] = [3, 5];
/// The largest term of a drawn sum; the smallest is 1.
const MAX_VALUE: i64 = 10;

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

    /// A sum at random: the number of terms, the terms and their signs each uniform.
    pub fn draw(rng: &mut Rng) -> ChainSum {
        let terms = rng.between(TERMS[0], TERMS[1]);
        let mut terms: Vec<i64> = (0..terms).map(|_| rng.between(1, MAX_VALUE) * rng.choose(&[1, -1])).collect();
        terms[0] = terms[0].abs();
        ChainSum { terms }
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
        Calculation::left_to_right(self.terms[0], &rest).expect("sums of 32-bit terms fit 64 bits").working
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

    proptest! {
        #[test]
        fn drawn_problems_are_in_range_and_mean_what_they_say(seed: u64) {
            let problem = ChainSum::draw(&mut Rng::new(seed, "test", 0));
            prop_assert!((3..=5).contains(&problem.terms.len()) && problem.terms.iter().all(|t| (1..=10).contains(&t.abs())));
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
