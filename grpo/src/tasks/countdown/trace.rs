use super::CountdownTask;
use crate::example::Example;
use crate::rng::Rng;
use crate::task::Pool;
use crate::tasks::arithmetic::Notation;

/// No attempt is begun once the thinking is longer than this. Reached by one trace in some hundred.
const MAX_THINKING: usize = 90;
/// Attempts of a curated trace, at most: so many have room under the first limit of RL.
const CURATED_ATTEMPTS: usize = 4;

impl CountdownTask {
    /// A solver's response to a Countdown problem. Everything after the prompt counts in the loss.
    pub(super) fn trace(&self, pool: &Pool, rng: &mut Rng) -> Example {
        let problem = self.problem(pool, rng);
        let mut thinking = String::new();
        let answer = loop {
            let (_, attempt) = self.attempt(problem.numbers(), rng);
            thinking += &attempt.working;
            if !rng.chance(self.habits.p_check) {
                break attempt.expression;
            }
            let hit = attempt.value == problem.target();
            thinking += &check(problem.target(), hit);
            if hit || !rng.chance(self.habits.p_continue) || thinking.len() > MAX_THINKING {
                break attempt.expression;
            }
        };
        written(pool, problem.into(), &thinking, &answer)
    }

    /// A response as a careful writer has it: in the first notation, each attempt checked, and the last one hits. What is curated
    /// is the form: attempts are as blind as in a trace.
    pub(super) fn curated(&self, pool: &Pool, rng: &mut Rng) -> Example {
        loop {
            let problem = self.problem(pool, rng);
            let mut thinking = String::new();
            for _ in 0..CURATED_ATTEMPTS {
                let attempt = self.range.attempt_in(Notation::Infix, problem.numbers(), rng);
                let hit = attempt.value == problem.target();
                thinking += &(attempt.working + &check(problem.target(), hit));
                if hit {
                    return written(pool, problem.into(), &thinking, &attempt.expression);
                }
            }
        }
    }
}

fn check(target: i64, hit: bool) -> String {
    format!("?{target}{}", if hit { 'v' } else { 'x' })
}

fn written(pool: &Pool, problem: crate::task::Problem, thinking: &str, answer: &str) -> Example {
    let mut example = pool.example(&problem);
    example.push(pool.tokenizer(), &format!("{thinking}</think><answer>{answer}</answer><eos>"), |_| true);
    example
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::Response;
    use crate::config::{BaseConfig, Control, RunConfig};
    use crate::corpus::Corpus;
    use crate::example::Example;
    use crate::rng::Rng;
    use crate::setup::pools;
    use crate::task::{Lesson, Pool, Question};
    use crate::tasks::arithmetic::{Calculation, Operator};
    use crate::tasks::countdown::{Countdown, CountdownTask};
    use crate::tasks::{Behaviour, ChainSum, Habits, TaskConfig};
    use crate::tokenizer::{Tokenizer, token};

    fn take_apart(example: &Example) -> (String, Response) {
        let tokenizer = Tokenizer::new();
        let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
        let response = Response::from_tokens(&tokenizer, &example.tokens[open + 1..]);
        assert!(example.loss_mask[open + 1..].iter().all(|&counts| counts));
        (tokenizer.decode(&example.tokens[1..open]), response)
    }

    /// The chance that one random attempt hits, by listing every order and every choice of signs.
    fn chance_of_a_hit(problem: &Countdown) -> f64 {
        let (mut hits, mut total) = (0, 0);
        for code in 0..256usize {
            let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6];
            if (0..4).any(|place| !order.contains(&place)) {
                continue;
            }
            for signs in 0..8 {
                let operator = |bit: usize| if signs >> bit & 1 == 1 { Operator::Add } else { Operator::Subtract };
                let rest: Vec<_> = (0..3).map(|i| (operator(i), problem.numbers()[order[i + 1]])).collect();
                let attempt = Calculation::left_to_right(problem.numbers()[order[0]], &rest).unwrap();
                hits += usize::from(attempt.value == problem.target());
                total += 1;
            }
        }
        assert_eq!(total, 24 * 8);
        hits as f64 / total as f64
    }

    #[test]
    fn traces_answer_right_as_often_as_the_formula_says() {
        let config = BaseConfig::default();
        let pools = pools(&RunConfig::default()).unwrap();
        let mut rng = Rng::new(5, "test", 0);
        let count = 20_000;
        let (mut right, mut expected) = (0.0, 0.0);
        let mut behaviour = Behaviour::default();
        for _ in 0..count {
            let (text, response) = take_apart(&pools[0].lesson(Lesson::Trace, &mut rng).unwrap());
            let problem = Countdown::parse(&text).unwrap();
            let s = chance_of_a_hit(&problem);
            expected += s / (1.0 - (1.0 - s) * config.p_check * config.p_continue) / count as f64;
            right += problem.parts(&response)[0].1 / count as f64;
            behaviour += Behaviour::of(problem.target(), &response);
            assert!(response.answer().is_some() && response.length() < 150, "{}", response.text());
        }
        // Four standard errors of a proportion near 0.17 in 20,000, plus what the limit on thinking takes: a fifth attempt is
        // reached with 0.27^4 = 0.005, and would be right with 0.17.
        assert!((right - expected).abs() < 4.0 * (0.17 * 0.83 / count as f64).sqrt() + 0.001, "{right} {expected}");
        assert!((0.15..0.19).contains(&right), "{right}");
        // What traces say is true, and retrying is rare.
        assert_eq!(behaviour.steps, behaviour.right_steps);
        assert_eq!(behaviour.verdicts.right(), behaviour.checks);
        let failed = behaviour.failed_checks as f64;
        assert!((behaviour.retries as f64 / failed - 0.55).abs() < 4.0 * (0.55 * 0.45 / failed).sqrt());
        assert!((0.3..0.4).contains(&(behaviour.retries as f64 / count as f64)));
    }

    #[test]
    fn without_retries_no_trace_tries_again() {
        let mut run = RunConfig::default();
        Control::NoRetries.apply(&mut run);
        let pools = pools(&run).unwrap();
        let corpus = Corpus::new(&run.base, &pools, 0);
        for step in 0..40 {
            for example in corpus.examples(step) {
                let wrong = example.tokens.iter().position(|&id| id == token::WRONG);
                let after = wrong.and_then(|at| example.tokens.get(at + 1));
                assert!(after.is_none_or(|&id| id == token::END_THINK));
            }
        }
    }

    #[test]
    fn chain_sums_are_mostly_worked_out() {
        let pools = pools(&RunConfig::default()).unwrap();
        let mut rng = Rng::new(6, "test", 0);
        let count = 5000;
        let mut right = 0.0;
        for _ in 0..count {
            let (text, response) = take_apart(&pools[1].lesson(Lesson::Trace, &mut rng).unwrap());
            let problem = ChainSum::parse(&text).unwrap();
            let score = problem.parts(&response)[0].1;
            right += score / f64::from(count);
            let behaviour = Behaviour::of(problem.answer(), &response);
            assert_eq!(behaviour.steps, behaviour.right_steps);
            assert!(response.think().is_empty() || score == 1.0);
        }
        let expected: f64 = 0.6 + 0.4 / 7.0;
        let error = (expected * (1.0 - expected) / f64::from(count)).sqrt();
        assert!((right - expected).abs() < 4.0 * error, "{right}");
    }

    #[test]
    fn curated_traces_are_right_checked_and_in_one_notation() {
        let habits = Habits { p_second_notation: 0.5, ..BaseConfig::default().habits() };
        let task = CountdownTask::new(&TaskConfig::default(), habits).unwrap();
        let pool = Pool::new(Arc::new(task), &Tokenizer::new()).unwrap();
        let mut rng = Rng::new(7, "test", 0);
        let mut traces = Behaviour::default();
        for _ in 0..500 {
            let (text, response) = take_apart(&pool.lesson(Lesson::Curated, &mut rng).unwrap());
            let problem = Countdown::parse(&text).unwrap();
            let behaviour = Behaviour::of(problem.target(), &response);
            assert_eq!(problem.parts(&response), [("accuracy", 1.0), ("format", 1.0), ("consistency", 1.0)]);
            assert_eq!((behaviour.checks, behaviour.verdicts.right()), (behaviour.attempts, behaviour.attempts));
            assert!(!pool.is_held_out(&text) && (1..=4).contains(&behaviour.attempts) && response.length() < 120);
            let (text, response) = take_apart(&pool.lesson(Lesson::Trace, &mut rng).unwrap());
            traces += Behaviour::of(Countdown::parse(&text).unwrap().target(), &response);
        }
        // The corpus, in turn, mixes.
        let share = traces.notations[1] as f64 / traces.steps as f64;
        assert!((0.4..0.6).contains(&share) && traces.steps == traces.right_steps, "{share}");
    }
}
