//! Problems of every kind, and where training takes them from: never from the held-out set.

use std::collections::{BTreeSet, HashSet};

use crate::chain_sum::ChainSum;
use crate::config::TaskConfig;
use crate::countdown::{Countdown, CountdownConfig};
use crate::rng::Rng;
pub use crate::task_error::TaskError;
use crate::tokenizer::{EncodeError, Tokenizer};
use crate::verify::{Uses, check_expression, parse_number};

/// A problem to solve. Two problems are the same when they are equal, whatever the order of a Countdown's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// Many right answers: any expression that uses the numbers and equals the target.
    Countdown(Countdown),
    /// One right answer.
    ChainSum(ChainSum),
}

impl Problem {
    /// The problem as the model reads it.
    pub fn text(&self) -> String {
        match self {
            Problem::Countdown(problem) => problem.text(),
            Problem::ChainSum(problem) => problem.text(),
        }
    }

    /// The token ids of the prompt, `<bos>…<think>`: a response begins with thinking.
    ///
    /// # Errors
    /// A character of the problem that has no token; its position counts from the problem's start.
    pub fn prompt(&self, tokenizer: &Tokenizer) -> Result<Vec<i64>, EncodeError> {
        use crate::tokenizer::token::{BOS, THINK};
        let text = tokenizer.encode(&self.text())?;
        Ok([&[BOS], &text[..], &[THINK]].concat())
    }

    /// Whether `answer`, the text between the answer tags, is right. `uses` is the rule for a Countdown's numbers.
    pub fn is_right(&self, answer: &str, uses: Uses) -> bool {
        match self {
            Problem::Countdown(problem) => check_expression(answer, problem.numbers(), problem.target(), uses).is_ok(),
            Problem::ChainSum(problem) => parse_number(answer) == Ok(problem.answer().into()),
        }
    }

    /// The number that is the one right answer; `None` for a task with several.
    pub fn right_number(&self) -> Option<i64> {
        match self {
            Problem::Countdown(_) => None,
            Problem::ChainSum(problem) => Some(problem.answer()),
        }
    }
}

impl From<Countdown> for Problem {
    fn from(problem: Countdown) -> Problem {
        Problem::Countdown(problem)
    }
}

impl From<ChainSum> for Problem {
    fn from(problem: ChainSum) -> Problem {
        Problem::ChainSum(problem)
    }
}

/// The problems of a run: those held out, and an endless supply of others.
///
/// Pre-training, drills and reinforcement learning all draw from [`countdown`](Self::countdown) and
/// [`chain_sum`](Self::chain_sum), or pass what they make through [`is_held_out`](Self::is_held_out).
#[derive(Clone, Debug)]
pub struct ProblemSet {
    countdown: CountdownConfig,
    held_out: HashSet<Problem>,
    held_out_countdown: Vec<Countdown>,
    held_out_chain_sum: Vec<ChainSum>,
}

impl ProblemSet {
    /// Draws until most distinct problems are known (20,000 times) and holds out a random `share` of them; also 256 chain sums.
    /// `seed` decides which problems are held out, and nothing else: runs of several seeds should be judged by the same ones.
    fn new(countdown: CountdownConfig, share: f64, seed: u64) -> Result<ProblemSet, TaskError> {
        countdown.validate()?;
        let mut rng = Rng::new(seed, "held-out countdown", 0);
        let distinct: BTreeSet<Countdown> = (0..20_000).map(|_| countdown.draw(&mut rng)).collect();
        let mut distinct = Vec::from_iter(distinct);
        rng.shuffle(&mut distinct);
        distinct.truncate((distinct.len() as f64 * share) as usize);

        let mut rng = Rng::new(seed, "held-out chain sum", 0);
        let sums: BTreeSet<ChainSum> = (0..256).map(|_| ChainSum::draw(&mut rng)).collect();
        let mut sums = Vec::from_iter(sums);
        rng.shuffle(&mut sums);

        let (held_out, held_out_countdown) = (HashSet::new(), Vec::new());
        ProblemSet { countdown, held_out, held_out_countdown, held_out_chain_sum: sums }.holding_out(distinct)
    }

    /// The problems of a run's configuration. The held-out ones are the same for every seed.
    ///
    /// # Errors
    /// [`TaskError`] for ranges that make no task, or a share that amounts to no problem at all, for then nothing could be measured.
    pub fn from_config(task: &TaskConfig) -> Result<ProblemSet, TaskError> {
        let set = ProblemSet::new(task.try_into()?, task.held_out, 0)?;
        if set.held_out_countdown.is_empty() {
            let expected = "a share of the task's distinct problems that is at least one of them".into();
            return Err(TaskError::Config { key: "task.held_out", expected, found: task.held_out.to_string() });
        }
        Ok(set)
    }

    /// The same with `problems` (a user's own) as the held-out Countdown problems.
    ///
    /// # Errors
    /// [`TaskError::Problem`] for a problem outside the range, [`TaskError::NothingLeft`] if they are all there is.
    pub fn evaluated_on(self, problems: Vec<Countdown>) -> Result<ProblemSet, TaskError> {
        problems.iter().try_for_each(|problem| self.countdown.check(problem))?;
        self.holding_out(problems)
    }

    fn holding_out(mut self, problems: Vec<Countdown>) -> Result<ProblemSet, TaskError> {
        self.held_out = problems.iter().cloned().map(Problem::from).collect();
        self.held_out.extend(self.held_out_chain_sum.iter().cloned().map(Problem::from));
        self.held_out_countdown = problems;
        // Training redraws what is held out. If a thousand draws find nothing else, it would redraw (nearly) for ever.
        let mut rng = Rng::new(0, "is anything left", 0);
        if (0..1000).all(|_| self.is_held_out(&self.countdown.draw(&mut rng).into())) {
            return Err(TaskError::NothingLeft);
        }
        Ok(self)
    }

    /// The range of Countdown.
    pub fn countdown_config(&self) -> &CountdownConfig {
        &self.countdown
    }

    /// The held-out Countdown problems, in an order that is random (any first few are a fair sample) or the user's.
    pub fn held_out_countdown(&self) -> &[Countdown] {
        &self.held_out_countdown
    }

    /// The held-out chain sums, in random order.
    pub fn held_out_chain_sum(&self) -> &[ChainSum] {
        &self.held_out_chain_sum
    }

    /// Whether training must not see `problem`.
    pub fn is_held_out(&self, problem: &Problem) -> bool {
        self.held_out.contains(problem)
    }

    /// Whether training may see a Countdown problem: it is within the range, and not held out.
    pub fn may_be_trained_on(&self, problem: &Countdown) -> bool {
        self.countdown.check(problem).is_ok() && !self.is_held_out(&problem.clone().into())
    }

    /// A Countdown problem to train on.
    pub fn countdown(&self, rng: &mut Rng) -> Countdown {
        loop {
            let problem = self.countdown.draw(rng);
            if !self.is_held_out(&problem.clone().into()) {
                return problem;
            }
        }
    }

    /// A chain sum to train on.
    pub fn chain_sum(&self, rng: &mut Rng) -> ChainSum {
        loop {
            let problem = ChainSum::draw(rng);
            if !self.is_held_out(&problem.clone().into()) {
                return problem;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    fn problems(share: f64, seed: u64) -> ProblemSet {
        ProblemSet::new(CountdownConfig::default(), share, seed).unwrap()
    }

    #[test]
    fn the_held_out_set_depends_on_its_seed_alone() {
        let first = ProblemSet::from_config(&TaskConfig::default()).unwrap();
        assert_eq!(first.held_out_countdown(), problems(0.2, 0).held_out_countdown());
        assert_eq!(first.held_out_chain_sum(), problems(0.2, 0).held_out_chain_sum());
        assert_ne!(first.held_out_countdown(), problems(0.2, 1).held_out_countdown());
        // 4049 distinct problems exist (715 multisets, their positive signed sums); 20,000 draws find most of them.
        let count = first.held_out_countdown().len();
        assert!((720..=809).contains(&count), "{count}");
        assert!((250..=256).contains(&first.held_out_chain_sum().len()));
    }

    #[test]
    fn a_users_problems_replace_the_held_out_ones() {
        let mine = Countdown::new([1, 2, 3, 4], 10);
        let set = problems(0.2, 0).evaluated_on(vec![mine.clone()]).unwrap();
        assert_eq!(set.held_out_countdown(), std::slice::from_ref(&mine));
        assert!(set.is_held_out(&Countdown::new([4, 3, 2, 1], 10).into()));
        assert!(!set.is_held_out(&Countdown::new([1, 2, 3, 4], 8).into()));
        assert!(set.is_held_out(&set.held_out_chain_sum()[0].clone().into()));
        assert!(set.evaluated_on(vec![Countdown::new([1, 1, 1, 1], 24)]).is_err());
    }

    #[test]
    fn a_task_that_is_all_held_out_is_refused() {
        let one = CountdownConfig { numbers: 2, max_value: 1, max_target: 2, ..CountdownConfig::default() };
        let set = ProblemSet::new(one, 0.0, 0).unwrap();
        let error = set.evaluated_on(vec![Countdown::new([1, 1], 2)]).unwrap_err();
        assert_eq!(error, TaskError::NothingLeft);
    }

    #[test]
    fn answers_are_judged_by_the_task() {
        let countdown = Problem::from(Countdown::new([1, 2, 3, 4], 10));
        assert!(countdown.is_right("4+3+2+1", Uses::ExactlyOnce));
        assert!(!countdown.is_right("10", Uses::ExactlyOnce));
        assert!(!countdown.is_right("4+3*2", Uses::ExactlyOnce));
        assert!(countdown.is_right("4+3*2", Uses::AtMostOnce));
        let sum = Problem::from(ChainSum::parse("3-8").unwrap());
        assert!(sum.is_right("-5", Uses::ExactlyOnce));
        assert!(!sum.is_right("3-8", Uses::ExactlyOnce));
        assert!(!sum.is_right("", Uses::ExactlyOnce));
    }

    #[test]
    fn a_prompt_opens_thinking() {
        let tokenizer = Tokenizer::new();
        let ids = Problem::from(Countdown::new([4, 3, 2, 10], 7)).prompt(&tokenizer).unwrap();
        assert_eq!(tokenizer.decode(&ids), "<bos>2,3,4,10:7<think>");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn training_never_draws_what_is_held_out(held_out_seed: u64, seed: u64, share in 0.0..0.9) {
            let set = problems(share, held_out_seed);
            let mut rng = Rng::new(seed, "test", 0);
            for _ in 0..500 {
                let problem = set.countdown(&mut rng);
                prop_assert!(!set.held_out_countdown().contains(&problem));
                let sum = set.chain_sum(&mut rng);
                prop_assert!(!set.held_out_chain_sum().contains(&sum));
            }
        }
    }
}
