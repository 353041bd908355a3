//! Chain sums: add and subtract a few numbers. One right answer per problem, so that a majority vote means something.

use std::collections::BTreeSet;

use super::arithmetic::{Calculation, Notation, Operator};
use super::behaviour::{Behaviour, COLUMNS};
use super::{Habits, countdown};
use crate::example::Example;
use crate::jsonl::Row;
use crate::response::Response;
use crate::rng::Rng;
use crate::task::{Column, Counts, Lesson, Pool, Problem, Question, Task};
use crate::verify::parse_number;

/// The fewest and the most terms of a drawn sum.
const TERMS: [i64; 2] = [3, 5];
/// The largest term of a drawn sum; the smallest is 1.
const MAX_VALUE: i64 = 10;
/// Share of the sums that a trace works out; the others are guessed.
const WORKED_OUT: f64 = 0.6;
/// How far a guess can be off.
const GUESS_ERROR: i64 = 3;

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

    /// The sum as it is asked, `3+8-2+6=`.
    pub fn text(&self) -> String {
        let rest: String = self.terms[1..].iter().map(|term| format!("{term:+}")).collect();
        format!("{}{rest}=", self.terms[0])
    }

    /// The one right answer.
    pub fn answer(&self) -> i64 {
        self.terms.iter().sum()
    }

    /// The sum worked out: `3+8=11-2=9+6=15`, or `3,8+11,2-9,6+15`.
    pub fn working(&self, notation: Notation) -> String {
        let operation = |&term: &i64| (if term < 0 { Operator::Subtract } else { Operator::Add }, term.abs());
        let rest: Vec<_> = self.terms[1..].iter().map(operation).collect();
        Calculation::written(self.terms[0], &rest, notation).expect("sums of 32-bit terms fit 64 bits").working
    }
}

impl Question for ChainSum {
    fn text(&self) -> String {
        ChainSum::text(self)
    }

    fn is_right(&self, answer: &str) -> bool {
        parse_number(answer) == Ok(self.answer().into())
    }

    fn right_answer(&self) -> Option<String> {
        Some(self.answer().to_string())
    }

    fn vote(&self, answer: &str) -> Option<String> {
        Some(parse_number(answer).ok()?.to_string())
    }

    fn parts(&self, response: &Response) -> Vec<(&'static str, f64)> {
        countdown::parts(self, response)
    }

    fn observe(&self, response: &Response) -> Counts {
        Counts::from(&Behaviour::of(self.answer(), response))
    }

    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }
}

/// The task of adding and subtracting a few numbers.
#[derive(Clone, Debug)]
pub struct ChainSums {
    habits: Habits,
}

impl ChainSums {
    /// The task; its solvers have these habits.
    pub fn new(habits: Habits) -> ChainSums {
        ChainSums { habits }
    }
}

impl Task for ChainSums {
    fn name(&self) -> &str {
        "chain_sum"
    }

    fn draw(&self, rng: &mut Rng) -> Problem {
        ChainSum::draw(rng).into()
    }

    /// 256 draws, without copies.
    fn held_out(&self) -> Vec<Problem> {
        let mut rng = Rng::new(0, "held-out chain sum", 0);
        let sums: BTreeSet<ChainSum> = (0..256).map(|_| ChainSum::draw(&mut rng)).collect();
        let mut sums = Vec::from_iter(sums);
        rng.shuffle(&mut sums);
        sums.into_iter().map(Problem::from).collect()
    }

    fn parse(&self, text: &str) -> Result<Problem, String> {
        let sum = ChainSum::parse(text).ok_or_else(|| format!("expected a sum such as 3+8-2=, found {text:?}"));
        sum.map(Problem::from)
    }

    /// From `metadata.expression`, as reasoning-gym has it, else from the question.
    fn read(&self, row: &Row) -> Result<Problem, String> {
        self.parse(row.metadata("expression").as_str().unwrap_or(&row.question))
    }

    /// A response to a sum: worked out, or guessed without a thought and then mostly wrong. No wrong arithmetic is shown, so that
    /// these rows do not unteach what drills teach. There are no drills of its own.
    fn lesson(&self, lesson: Lesson, pool: &Pool, rng: &mut Rng) -> Option<Example> {
        let careful = match lesson {
            Lesson::Trace => false,
            Lesson::Curated => true,
            Lesson::Drill | Lesson::LongDrill => return None,
        };
        let sum = loop {
            let sum = ChainSum::draw(rng);
            if !pool.is_held_out(&sum.text()) {
                break sum;
            }
        };
        let (thinking, answer) = if careful {
            (sum.working(Notation::Infix), sum.answer())
        } else if rng.chance(WORKED_OUT) {
            (sum.working(self.habits.notation(rng)), sum.answer())
        } else {
            (String::new(), sum.answer() + rng.between(-GUESS_ERROR, GUESS_ERROR))
        };
        let mut example = pool.example(&sum.into());
        let response = format!("{thinking}</think><answer>{answer}</answer><eos>");
        example.push(pool.tokenizer(), &response, |_| true);
        Some(example)
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
        assert_eq!(problem.working(Notation::Infix), "3+8=11-2=9+6=15");
        assert_eq!(problem.working(Notation::Postfix), "3,8+11,2-9,6+15");
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
            prop_assert!(problem.working(Notation::Infix).ends_with(&end));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>(), sum in "[-+= 0-9]{0,30}") {
            let _ = (ChainSum::parse(&text), ChainSum::parse(&sum));
        }
    }
}
