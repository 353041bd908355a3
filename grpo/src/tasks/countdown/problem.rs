use serde::{Deserialize, Serialize};

use super::parts;
use crate::response::Response;
use crate::rng::Rng;
use crate::task::{Column, Counts, Question, TaskError};
use crate::tasks::arithmetic::{Calculation, Notation, Operator};
use crate::tasks::behaviour::{Behaviour, COLUMNS};
use crate::verify::{Uses, check_expression, is_reachable};

/// A Countdown problem.
///
/// The numbers are kept sorted: two problems are the same when their sorted numbers and their targets are, and the prompt
/// says nothing about the order that leads to the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Countdown {
    numbers: Vec<i64>,
    target: i64,
}

impl Countdown {
    /// The problem of making `target` from `numbers`, given in any order.
    pub fn new(numbers: impl Into<Vec<i64>>, target: i64) -> Countdown {
        let mut numbers = numbers.into();
        numbers.sort_unstable();
        Countdown { numbers, target }
    }

    /// The numbers to use, ascending.
    pub fn numbers(&self) -> &[i64] {
        &self.numbers
    }

    /// The value to reach.
    pub fn target(&self) -> i64 {
        self.target
    }

    /// The problem as it is asked, `2,3,7,8:20`.
    pub fn text(&self) -> String {
        let numbers: Vec<String> = self.numbers.iter().map(i64::to_string).collect();
        format!("{}:{}", numbers.join(","), self.target)
    }

    /// Reads what [`text`](Self::text) writes; spaces do no harm.
    pub fn parse(text: &str) -> Option<Countdown> {
        let (numbers, target) = text.split_once(':')?;
        let numbers: Result<Vec<i64>, _> = numbers.split(',').map(|number| number.trim().parse()).collect();
        Some(Countdown::new(numbers.ok()?, target.trim().parse().ok()?))
    }
}

impl Question for Countdown {
    fn text(&self) -> String {
        Countdown::text(self)
    }

    fn is_right(&self, answer: &str) -> bool {
        check_expression(answer, &self.numbers, self.target, Uses::ExactlyOnce).is_ok()
    }

    fn parts(&self, response: &Response) -> Vec<(&'static str, f64)> {
        parts(self, response)
    }

    fn observe(&self, response: &Response) -> Counts {
        Counts::from(&Behaviour::of(self.target, response))
    }

    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }
}

/// `[task]`: Countdown as in TinyZero, and which of its problems nobody trains on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// Numbers a problem gives.
    pub numbers: usize,
    /// Numbers are drawn from 1 to this.
    pub max_value: usize,
    /// The operators that drawn problems are made with and that traces and drills use, out of `+-*`. Answers may use any of `+-*/`
    /// and brackets.
    pub operators: String,
    /// Targets lie between 1 and this.
    pub max_target: usize,
    /// Share of the distinct problems that is kept from pre-training, drills and RL.
    pub held_out: f64,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self { numbers: 4, max_value: 10, operators: "+-".into(), max_target: 99, held_out: 0.2 }
    }
}

/// The range of the Countdown task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountdownConfig {
    /// How many numbers are given.
    pub numbers: usize,
    /// The largest number; the smallest is 1.
    pub max_value: i64,
    /// The operators that drawn problems are made with and that the corpus's attempts apply from left to right, out of `+ - *` (a
    /// division may leave a remainder). An answer may use others, and brackets.
    pub operators: Vec<Operator>,
    /// The largest target; the smallest is 1.
    pub max_target: i64,
}

impl Default for CountdownConfig {
    /// Four numbers of 1 to 10, `+` and `-`, targets of 1 to 99.
    fn default() -> Self {
        CountdownConfig { numbers: 4, max_value: 10, operators: vec![Operator::Add, Operator::Subtract], max_target: 99 }
    }
}

impl TryFrom<&TaskConfig> for CountdownConfig {
    type Error = TaskError;

    fn try_from(task: &TaskConfig) -> Result<Self, TaskError> {
        let operators: Option<Vec<Operator>> = task.operators.chars().map(Operator::from_symbol).collect();
        let config = CountdownConfig {
            numbers: task.numbers,
            max_value: i64::try_from(task.max_value).unwrap_or(i64::MAX),
            operators: operators.unwrap_or_default(),
            max_target: i64::try_from(task.max_target).unwrap_or(i64::MAX),
        };
        config.validate()?;
        Ok(config)
    }
}

impl CountdownConfig {
    /// Checks that the ranges make a task.
    ///
    /// # Errors
    /// [`TaskError::Config`], naming the key.
    pub fn validate(&self) -> Result<(), TaskError> {
        let require = |ok, key, expected: &str, found: String| {
            if ok { Ok(()) } else { Err(TaskError::Config { key, expected: expected.into(), found }) }
        };
        // Six numbers below 1000 multiply to less than 10^18, inside i64.
        require((2..=6).contains(&self.numbers), "task.numbers", "2 to 6", self.numbers.to_string())?;
        require((1..1000).contains(&self.max_value), "task.max_value", "1 to 999", self.max_value.to_string())?;
        let usable = !self.operators.is_empty() && !self.operators.contains(&Operator::Divide);
        require(usable, "task.operators", "one or more of + - *", format!("{:?}", self.symbols()))?;
        let mut rng = Rng::new(0, "does the range hold problems", 0);
        let hits = (0..10_000).filter(|_| self.try_draw(&mut rng).is_some()).count();
        // Drawing tries until one hits: with fewer it would take long.
        require(
            hits >= 100,
            "task.max_target",
            "targets that at least one expression in a hundred makes",
            self.max_target.to_string(),
        )
    }

    fn symbols(&self) -> String {
        self.operators.iter().map(|operator| operator.symbol()).collect()
    }

    /// Checks that `problem` is one this task could pose.
    ///
    /// # Errors
    /// [`TaskError::Problem`]: a wrong count, a number or target outside the range, or a target for which the
    /// [verifier](crate::verify::check_expression) would accept no expression.
    pub fn check(&self, problem: &Countdown) -> Result<(), TaskError> {
        let error = |expected, found| Err(TaskError::Problem { expected, found });
        if problem.numbers.len() != self.numbers {
            return error(format!("{} numbers", self.numbers), format!("{}", problem.numbers.len()));
        }
        if let Some(number) = problem.numbers.iter().find(|&&number| !(1..=self.max_value).contains(&number)) {
            return error(format!("numbers of 1 to {}", self.max_value), number.to_string());
        }
        if !(1..=self.max_target).contains(&problem.target) {
            return error(format!("a target of 1 to {}", self.max_target), problem.target.to_string());
        }
        if !is_reachable(&problem.numbers, problem.target) {
            let expected = format!("a target that some expression of {:?} equals, each used once", problem.numbers);
            return error(expected, problem.target.to_string());
        }
        Ok(())
    }

    /// An attempt at random: the numbers in a random order, an operator at random between them.
    pub fn attempt(&self, numbers: &[i64], rng: &mut Rng) -> Calculation {
        self.attempt_in(Notation::Infix, numbers, rng)
    }

    /// As [`attempt`](Self::attempt), its working in a notation.
    pub fn attempt_in(&self, notation: Notation, numbers: &[i64], rng: &mut Rng) -> Calculation {
        let mut order = numbers.to_vec();
        rng.shuffle(&mut order);
        let rest: Vec<_> = order[1..].iter().map(|&number| (rng.choose(&self.operators), number)).collect();
        Calculation::written(order[0], &rest, notation).expect("sums and products of the range fit an i64")
    }

    /// A problem at random: numbers drawn uniformly, the target the value of a random attempt at them.
    pub fn draw(&self, rng: &mut Rng) -> Countdown {
        loop {
            if let Some(problem) = self.try_draw(rng) {
                return problem;
            }
        }
    }

    fn try_draw(&self, rng: &mut Rng) -> Option<Countdown> {
        let numbers: Vec<i64> = (0..self.numbers).map(|_| rng.between(1, self.max_value)).collect();
        let target = self.attempt(&numbers, rng).value;
        (1..=self.max_target).contains(&target).then(|| Countdown::new(numbers, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, prop_assume, proptest};

    #[test]
    fn order_does_not_matter() {
        assert_eq!(Countdown::new([8, 2, 3, 7], 20), Countdown::new([3, 8, 7, 2], 20));
        assert_ne!(Countdown::new([8, 2, 3, 7], 20), Countdown::new([8, 2, 3, 7], 4));
        assert_eq!(Countdown::new([8, 2, 3, 7], 20).text(), "2,3,7,8:20");
        assert_eq!(Countdown::parse("3, 8,7,2: 20"), Some(Countdown::new([2, 3, 7, 8], 20)));
        assert_eq!(Countdown::parse("3,8"), None);
        assert_eq!(Countdown::parse("3,,8:2"), None);
    }

    #[test]
    fn a_problem_outside_the_range_is_refused() {
        let config = CountdownConfig::default();
        let check = |numbers: &[i64], target| config.check(&Countdown::new(numbers, target)).map_err(|e| e.to_string());
        assert_eq!(check(&[3, 8, 7, 2], 20), Ok(()));
        assert_eq!(check(&[3, 8, 7], 18), Err("expected 4 numbers, found 3".into()));
        assert_eq!(check(&[3, 8, 70, 2], 20), Err("expected numbers of 1 to 10, found 70".into()));
        assert_eq!(check(&[3, 8, 0, 2], 13), Err("expected numbers of 1 to 10, found 0".into()));
        assert_eq!(check(&[3, 8, 7, 2], 100), Err("expected a target of 1 to 99, found 100".into()));
        let unreachable = "expected a target that some expression of [1, 1, 1, 1] equals, each used once, found 24";
        assert_eq!(check(&[1, 1, 1, 1], 24), Err(unreachable.into()));
        // Not with + and - from left to right, which is how attempts are drawn; but 8*3-7+2 is right, and so is 6/(1-3/4).
        assert_eq!(check(&[3, 8, 7, 2], 19), Ok(()));
        assert_eq!(check(&[1, 3, 4, 6], 24), Ok(()));
    }

    #[test]
    fn a_config_that_makes_no_task_is_refused() {
        assert_eq!(CountdownConfig::default().validate(), Ok(()));
        let refused = |config: CountdownConfig| config.validate().unwrap_err().to_string();
        let default = CountdownConfig::default;
        assert!(refused(CountdownConfig { numbers: 7, ..default() }).starts_with("task.numbers"));
        assert!(refused(CountdownConfig { max_value: 0, ..default() }).starts_with("task.max_value"));
        assert!(refused(CountdownConfig { operators: vec![], ..default() }).starts_with("task.operators"));
        assert!(refused(CountdownConfig { operators: vec![Operator::Divide], ..default() }).starts_with("task.operators"));
        let unreachable = CountdownConfig { operators: vec![Operator::Add], max_target: 3, ..default() };
        assert!(refused(unreachable).starts_with("task.max_target"));
        // Products of four numbers up to 60 that are at most 40: a draw in ten thousand.
        let rare = CountdownConfig { operators: vec![Operator::Multiply], max_value: 60, max_target: 40, ..default() };
        assert!(refused(rare).starts_with("task.max_target"));
        let task = TaskConfig { operators: "+*".into(), max_value: 20, ..TaskConfig::default() };
        let config = CountdownConfig::try_from(&task).unwrap();
        assert_eq!((config.symbols().as_str(), config.max_value, config.numbers), ("+*", 20, 4));
        assert_eq!(CountdownConfig::try_from(&TaskConfig::default()), Ok(default()));
        let error = CountdownConfig::try_from(&TaskConfig { operators: "+%".into(), ..task }).unwrap_err();
        assert!(error.to_string().starts_with("task.operators"));
    }

    fn config() -> impl Strategy<Value = CountdownConfig> {
        let symbols = prop::sample::subsequence(vec!['-', '*'], 0..=2);
        (2usize..=5, 1i64..=30, symbols, 5i64..=200).prop_map(|(numbers, max_value, symbols, max_target)| {
            let others = symbols.into_iter().filter_map(Operator::from_symbol);
            let operators = std::iter::once(Operator::Add).chain(others).collect();
            CountdownConfig { numbers, max_value, operators, max_target }
        })
    }

    proptest! {
        #[test]
        fn drawn_problems_are_in_range_and_attempts_use_each_number(config in config(), seed: u64) {
            prop_assume!(config.validate().is_ok());
            let mut rng = Rng::new(seed, "test", 0);
            let problem = config.draw(&mut rng);
            prop_assert_eq!(config.check(&problem), Ok(()));
            prop_assert_eq!(Countdown::parse(&problem.text()), Some(problem.clone()));
            let attempt = config.attempt(problem.numbers(), &mut rng);
            let checked = check_expression(&attempt.expression, problem.numbers(), attempt.value, Uses::ExactlyOnce);
            prop_assert_eq!(checked, Ok(()));
            prop_assert!(is_reachable(problem.numbers(), attempt.value));
        }
    }
}
