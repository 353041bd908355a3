//! What a solver does while it thinks: attempts, checks, verdicts, retries, arithmetic.

use std::ops::AddAssign;

use super::arithmetic::{Notation, Operator};
use crate::response::Response;
use crate::task::{Column, Counts, ratio};

/// Counts over the thinking of one response, or, added up, of many.
///
/// Thinking is read as attempts (`2+4=6-1=5`), each of which may end in a check of its value against the target with a
/// verdict (`?7x`, or `?5v`). A policy may write anything; what does not read so is counted as far as it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Stretches of working, each up to a verdict or to the end of the thinking.
    pub attempts: usize,
    /// `?`
    pub checks: usize,
    /// Checks with the verdict `x`.
    pub failed_checks: usize,
    /// Attempts begun right after a failed check.
    pub retries: usize,
    /// `a∘b=c`, or `a,b∘c`
    pub steps: usize,
    /// Steps whose result is right.
    pub right_steps: usize,
    /// Marks of the first and of the second [`Notation`].
    pub notations: [usize; 2],
    /// Verdicts on an attempt whose value can be read, against the truth.
    pub verdicts: Verdicts,
}

/// Verdicts against the truth. The truth is whether the value that the attempt *states* is the problem's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// `v` where the value is the target.
    pub accepted_right: usize,
    /// `v` where it is not.
    pub accepted_wrong: usize,
    /// `x` where the value is the target.
    pub rejected_right: usize,
    /// `x` where it is not.
    pub rejected_wrong: usize,
}

impl Verdicts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.accepted_right + self.accepted_wrong + self.rejected_right + self.rejected_wrong
    }

    /// Those that say the truth.
    pub fn right(&self) -> usize {
        self.accepted_right + self.rejected_wrong
    }

    /// The share that says the truth; `None` without verdicts.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.right(), self.total())
    }

    /// The share of attempts that hit; `None` without verdicts.
    pub fn hit_rate(&self) -> Option<f64> {
        ratio(self.accepted_right + self.rejected_right, self.total())
    }

    /// The mean of the shares of right verdicts on hits and on misses, so that calling everything a miss, which is mostly
    /// true, scores only one half; `None` unless both occur.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let on_hits = ratio(self.accepted_right, self.accepted_right + self.rejected_right)?;
        let on_misses = ratio(self.rejected_wrong, self.rejected_wrong + self.accepted_wrong)?;
        Some((on_hits + on_misses) / 2.0)
    }
}

impl AddAssign for Verdicts {
    fn add_assign(&mut self, other: Verdicts) {
        self.accepted_right += other.accepted_right;
        self.accepted_wrong += other.accepted_wrong;
        self.rejected_right += other.rejected_right;
        self.rejected_wrong += other.rejected_wrong;
    }
}

impl AddAssign for Behaviour {
    fn add_assign(&mut self, other: Behaviour) {
        self.attempts += other.attempts;
        self.checks += other.checks;
        self.failed_checks += other.failed_checks;
        self.retries += other.retries;
        self.steps += other.steps;
        self.right_steps += other.right_steps;
        self.notations = [0, 1].map(|i| self.notations[i] + other.notations[i]);
        self.verdicts += other.verdicts;
    }
}

/// A stretch of thinking: `2+4=6?7x` works out 6, checks it against 7 and finds that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// What stands before the `?`, or all but the verdict.
    pub working: &'a str,
    /// What stands between the `?` and the verdict.
    pub check: Option<&'a str>,
    /// Whether it says `v` and not `x`; `None` where the thinking ends without.
    pub verdict: Option<bool>,
}

/// The thinking as attempts, each up to a verdict or to the end.
///
/// ```
/// use grpo::tasks::behaviour::{Attempt, attempts};
/// let expected = [
///     Attempt { working: "2+4=6", check: Some("7"), verdict: Some(false) },
///     Attempt { working: "4+3=7", check: None, verdict: None },
/// ];
/// assert!(attempts("2+4=6?7x4+3=7").eq(expected));
/// ```
pub fn attempts(thinking: &str) -> impl Iterator<Item = Attempt<'_>> {
    thinking.split_inclusive(['x', 'v']).map(|stretch| {
        let (body, verdict) = match (stretch.strip_suffix('v'), stretch.strip_suffix('x')) {
            (Some(body), _) => (body, Some(true)),
            (_, Some(body)) => (body, Some(false)),
            _ => (stretch, None),
        };
        match body.split_once('?') {
            Some((working, check)) => Attempt { working, check: Some(check), verdict },
            None => Attempt { working: body, check: None, verdict },
        }
    })
}

/// What metrics and report say of [`Behaviour`].
pub static COLUMNS: [Column; 10] = [
    // Expressions tried, per answer.
    Column { name: "attempts", value: |c, n| ratio(c.get("attempts"), n) },
    // Attempts checked against the target, per answer, whatever the verdict.
    Column { name: "checks", value: |c, n| ratio(c.get("checks"), n) },
    // Checks whose verdict was "wrong", per answer.
    Column { name: "failed_checks", value: |c, n| ratio(c.get("failed_checks"), n) },
    // Attempts begun right after a failed check, per answer.
    Column { name: "retries", value: |c, n| ratio(c.get("retries"), n) },
    // Share of failed checks after which another attempt was begun.
    Column { name: "retry_rate", value: |c, _| ratio(c.get("retries"), c.get("failed_checks")) },
    // Share of verdicts that are true of the value they follow.
    Column { name: "verdict_accuracy", value: |c, _| Verdicts::from(c).accuracy() },
    // Mean of that share on hits and on misses, so that calling everything a miss earns only one half.
    Column { name: "balanced_verdict_accuracy", value: |c, _| Verdicts::from(c).balanced_accuracy() },
    // Share of the operations worked out that are right.
    Column { name: "arithmetic_accuracy", value: |c, _| ratio(c.get("right_steps"), c.get("steps")) },
    // Share of checked attempts whose value is the target: whether proposals get better, or only more.
    Column { name: "hit_rate", value: |c, _| Verdicts::from(c).hit_rate() },
    // Share of the operations that are written in the first notation.
    Column {
        name: "consistency",
        value: |c, _| ratio(c.get("first_notation"), c.get("first_notation") + c.get("second_notation")),
    },
];

impl From<&Behaviour> for Counts {
    fn from(b: &Behaviour) -> Counts {
        Counts::of([
            ("attempts", b.attempts),
            ("checks", b.checks),
            ("failed_checks", b.failed_checks),
            ("retries", b.retries),
            ("steps", b.steps),
            ("right_steps", b.right_steps),
            ("first_notation", b.notations[0]),
            ("second_notation", b.notations[1]),
            ("accepted_right", b.verdicts.accepted_right),
            ("accepted_wrong", b.verdicts.accepted_wrong),
            ("rejected_right", b.verdicts.rejected_right),
            ("rejected_wrong", b.verdicts.rejected_wrong),
        ])
    }
}

impl From<&Counts> for Verdicts {
    fn from(c: &Counts) -> Verdicts {
        let [accepted_right, accepted_wrong, rejected_right, rejected_wrong] =
            ["accepted_right", "accepted_wrong", "rejected_right", "rejected_wrong"].map(|name| c.get(name));
        Verdicts { accepted_right, accepted_wrong, rejected_right, rejected_wrong }
    }
}

impl Behaviour {
    /// Reads the thinking of `response` to a problem whose attempts should come to `target`.
    pub fn of(target: i64, response: &Response) -> Behaviour {
        let target = Some(target);
        let marks = [Notation::Infix, Notation::Postfix].map(|notation| response.think().matches(notation.mark()).count());
        let mut counts = Behaviour { notations: marks, ..Behaviour::default() };
        let mut after_failure = false;
        for Attempt { working, check, verdict } in attempts(response.think()) {
            if !working.is_empty() {
                counts.attempts += 1;
                counts.retries += usize::from(after_failure);
            }
            let value = counts.read_working(working);
            counts.checks += check.map_or(0, |check| 1 + check.matches('?').count());
            let failed = check.is_some() && verdict == Some(false);
            counts.failed_checks += usize::from(failed);
            let checks_a_number = check.is_some_and(|check| check.parse::<i64>().is_ok());
            if let (Some(value), Some(verdict), true) = (value, verdict, checks_a_number) {
                let count = match (verdict, Some(value) == target) {
                    (true, true) => &mut counts.verdicts.accepted_right,
                    (true, false) => &mut counts.verdicts.accepted_wrong,
                    (false, true) => &mut counts.verdicts.rejected_right,
                    (false, false) => &mut counts.verdicts.rejected_wrong,
                };
                *count += 1;
            }
            after_failure = failed;
        }
        counts
    }

    /// Counts the steps of one attempt. Gives the last stated value if all of the working can be read.
    fn read_working(&mut self, working: &str) -> Option<i64> {
        let (mut value, mut rest) = leading_integer(working)?;
        while let Some(symbol) = rest.chars().next() {
            let (operator, operand, after) = if symbol == Notation::Postfix.mark() {
                let (operand, after) = leading_integer(&rest[1..])?;
                let operator = Operator::from_symbol(after.chars().next()?)?;
                (operator, operand, &after[1..])
            } else {
                let operator = Operator::from_symbol(symbol)?;
                let (operand, after) = leading_integer(&rest[1..])?;
                (operator, operand, after.strip_prefix('=')?)
            };
            let (stated, after) = leading_integer(after)?;
            self.steps += 1;
            self.right_steps += usize::from(operator.apply(value, operand) == Some(stated));
            // The next step goes on from what was stated, so that one slip is counted once.
            (value, rest) = (stated, after);
        }
        Some(value)
    }
}

/// Splits `-12+3` into −12 and `+3`.
fn leading_integer(text: &str) -> Option<(i64, &str)> {
    let sign = usize::from(text.starts_with('-'));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(sign + digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};

    fn behaviour(think: &str) -> Behaviour {
        let text = format!("{think}</think><answer>1</answer><eos>");
        Behaviour::of(12, &Response::from_text(text, 0))
    }

    #[test]
    fn counts_a_typical_answer() {
        let counts = behaviour("1+6=7+6=13+1=14?12x6-6=0-1=-1+1=0?12x6+6=12-1=11+1=12?12v");
        let verdicts = Verdicts { accepted_right: 1, rejected_wrong: 2, ..Verdicts::default() };
        let expected = Behaviour {
            attempts: 3,
            checks: 3,
            failed_checks: 2,
            retries: 2,
            steps: 9,
            right_steps: 9,
            notations: [9, 0],
            verdicts,
        };
        assert_eq!(counts, expected);
        assert_eq!(verdicts.accuracy(), Some(1.0));
    }

    #[test]
    fn an_unchecked_attempt_and_none() {
        let once = Behaviour { attempts: 1, steps: 1, right_steps: 1, notations: [1, 0], ..Behaviour::default() };
        assert_eq!(behaviour("1+6=7"), once);
        assert_eq!(behaviour(""), Behaviour::default());
        let once_more = Behaviour {
            attempts: 2,
            checks: 1,
            failed_checks: 1,
            retries: 1,
            steps: 2,
            right_steps: 2,
            notations: [2, 0],
            verdicts: Verdicts { rejected_wrong: 1, ..Verdicts::default() },
        };
        assert_eq!(behaviour("1+6=7?12x1+1=2"), once_more);
    }

    #[test]
    fn mistakes_are_told_from_truth() {
        // The sum is wrong, the verdict on the stated value right; then a wrong verdict on a hit, and one on a miss.
        let counts = behaviour("1+6=12?12v6+6=12?12x6+1=7?12v");
        assert_eq!((counts.steps, counts.right_steps), (3, 2));
        assert_eq!(counts.verdicts, Verdicts { accepted_right: 1, accepted_wrong: 1, rejected_right: 1, rejected_wrong: 0 });
        assert_eq!((counts.verdicts.right(), counts.verdicts.total()), (1, 3));
        assert_eq!(counts.verdicts.balanced_accuracy(), Some(0.25));
        // A slip counts once: 7+6=14 is wrong, 14-1=13 follows from it.
        let slip = behaviour("1+6=7+6=14-1=13");
        assert_eq!((slip.steps, slip.right_steps), (3, 2));
    }

    #[test]
    fn what_cannot_be_read_is_no_verdict() {
        for think in ["6+6?12v", "6++6=12?12v", "6+6=12?v", "6+6=12??12v", "6+6=12v", "=12?12v"] {
            assert_eq!(behaviour(think).verdicts.total(), 0, "{think}");
        }
        assert_eq!(behaviour("6+6=12??12v").checks, 2);
        assert_eq!(behaviour("6+6=12x").failed_checks, 0);
    }

    #[test]
    fn both_notations_are_read() {
        let infix = behaviour("1+6=7-1=6+6=12?12v");
        let postfix = behaviour("1,6+7,1-6,6+12?12v");
        assert_eq!((infix.notations, postfix.notations), ([3, 0], [0, 3]));
        assert_eq!(Behaviour { notations: [3, 0], ..postfix }, infix);
        // Negative results, and both in one attempt.
        let mixed = behaviour("1,6--5+6=1,6*6?12x");
        assert_eq!((mixed.steps, mixed.right_steps, mixed.notations), (3, 3, [1, 2]));
        assert_eq!(mixed.verdicts.rejected_wrong, 1);
        for think in ["1,?12v", "1,6?12v", "1,6+?12v", ",6+7?12v"] {
            assert_eq!(behaviour(think).verdicts.total(), 0, "{think}");
        }
        let column = |name: &str, of: &Behaviour| {
            let column = COLUMNS.iter().find(|column| column.name == name).unwrap();
            (column.value)(&Counts::from(of), 1)
        };
        assert_eq!(column("consistency", &mixed), Some(1.0 / 3.0));
        assert_eq!((column("consistency", &behaviour("")), column("hit_rate", &infix)), (None, Some(1.0)));
    }

    #[test]
    fn counts_add_up() {
        let mut total = behaviour("1+6=7?12x");
        total += behaviour("6+6=12?12v");
        assert_eq!((total.attempts, total.checks, total.failed_checks, total.steps), (2, 2, 1, 2));
        assert_eq!(total.verdicts.balanced_accuracy(), Some(1.0));
    }

    proptest! {
        #[test]
        fn anything_is_counted(text in any::<String>(), working in "[-+*/=,?xv0-9]{0,60}") {
            for think in [text, working] {
                let counts = behaviour(&think);
                prop_assert!(counts.right_steps <= counts.steps && counts.retries <= counts.failed_checks);
                prop_assert!(counts.verdicts.total() <= counts.checks && counts.failed_checks <= counts.checks);
            }
        }
    }
}
