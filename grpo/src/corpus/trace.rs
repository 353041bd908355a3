use super::{Corpus, Example};
use crate::problem::Problem;
use crate::rng::Rng;

/// No attempt is begun once the thinking is longer than this. Reached by one trace in some hundred.
const MAX_THINKING: usize = 90;
/// Share of the chain sums that are worked out; the others are guessed.
const WORKED_OUT: f64 = 0.6;
/// How far a guess can be off.
const GUESS_ERROR: i64 = 3;

impl Corpus<'_> {
    /// A solver's response to a Countdown problem. Everything after the prompt counts in the loss.
    pub(super) fn trace(&self, rng: &mut Rng) -> Example {
        let problem = self.problems.countdown(rng);
        let task = self.problems.countdown_config();
        let mut response = String::new();
        let answer = loop {
            let attempt = task.attempt(problem.numbers(), rng);
            response += &attempt.working;
            if !rng.chance(self.config.p_check) {
                break attempt.expression;
            }
            let hit = attempt.value == problem.target();
            response += &format!("?{}{}", problem.target(), if hit { 'v' } else { 'x' });
            if hit || !rng.chance(self.config.p_continue) || response.len() > MAX_THINKING {
                break attempt.expression;
            }
        };
        response += &format!("</think><answer>{answer}</answer><eos>");
        let mut example = Example::of(&problem.into(), &self.tokenizer);
        example.push(&self.tokenizer, &response, |_| true);
        example
    }

    /// A solver's response to a chain sum: worked out, or guessed without a thought and then mostly wrong. No wrong
    /// arithmetic is shown, so that these rows do not unteach what the drills teach.
    pub(super) fn chain_sum(&self, rng: &mut Rng) -> Example {
        let problem = self.problems.chain_sum(rng);
        let (thinking, answer) = if rng.chance(WORKED_OUT) {
            (problem.working(), problem.answer())
        } else {
            (String::new(), problem.answer() + rng.between(-GUESS_ERROR, GUESS_ERROR))
        };
        let mut example = Example::of(&Problem::ChainSum(problem), &self.tokenizer);
        let response = format!("{thinking}</think><answer>{answer}</answer><eos>");
        example.push(&self.tokenizer, &response, |_| true);
        example
    }
}

#[cfg(test)]
mod tests {
    use crate::arithmetic::{Calculation, Operator};
    use crate::config::{BaseConfig, Control, RunConfig, TaskConfig};
    use crate::corpus::{Corpus, Example};
    use crate::countdown::Countdown;
    use crate::problem::{Problem, ProblemSet};
    use crate::reward::{Accuracy, Response, Reward};
    use crate::rng::Rng;
    use crate::tokenizer::{Tokenizer, token};
    use crate::{Behaviour, ChainSum};

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
        let problems = ProblemSet::from_config(&TaskConfig::default()).unwrap();
        let config = BaseConfig::default();
        let corpus = Corpus::new(&config, &problems, 0);
        let mut rng = Rng::new(5, "test", 0);
        let count = 20_000;
        let (mut right, mut expected) = (0.0, 0.0);
        let mut behaviour = Behaviour::default();
        for _ in 0..count {
            let (text, response) = take_apart(&corpus.trace(&mut rng));
            let problem = Countdown::parse(&text).unwrap();
            let s = chance_of_a_hit(&problem);
            expected += s / (1.0 - (1.0 - s) * config.p_check * config.p_continue) / count as f64;
            let problem = Problem::from(problem);
            right += Accuracy::default().score(&problem, &response) / count as f64;
            behaviour += Behaviour::of(&problem, &response);
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
        let problems = ProblemSet::from_config(&TaskConfig::default()).unwrap();
        let mut run = RunConfig::default();
        Control::NoRetries.apply(&mut run);
        let corpus = Corpus::new(&run.base, &problems, 0);
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
        let problems = ProblemSet::from_config(&TaskConfig::default()).unwrap();
        let config = BaseConfig::default();
        let corpus = Corpus::new(&config, &problems, 0);
        let mut rng = Rng::new(6, "test", 0);
        let count = 5000;
        let mut right = 0.0;
        for _ in 0..count {
            let (text, response) = take_apart(&corpus.chain_sum(&mut rng));
            let problem = Problem::from(ChainSum::parse(&text).unwrap());
            let score = Accuracy::default().score(&problem, &response);
            right += score / f64::from(count);
            let behaviour = Behaviour::of(&problem, &response);
            assert_eq!(behaviour.steps, behaviour.right_steps);
            assert!(response.think().is_empty() || score == 1.0);
        }
        let expected: f64 = 0.6 + 0.4 / 7.0;
        let error = (expected * (1.0 - expected) / f64::from(count)).sqrt();
        assert!((right - expected).abs() < 4.0 * error, "{right}");
    }
}
