//! What a response is worth.

use crate::response::Response;
use crate::task::Problem;

/// A rule that scores responses. Implement it to train on your own.
///
/// ```
/// use grpo::{Response, Problem, Reward};
/// struct Brevity;
/// impl Reward for Brevity {
///     fn name(&self) -> &str { "brevity" }
///     fn score(&self, _: &Problem, response: &Response) -> f64 {
///         1.0 / (1.0 + response.length() as f64)
///     }
/// }
/// let problem = Problem::from(grpo::tasks::Countdown::new([1, 2], 3));
/// assert_eq!(Brevity.score(&problem, &Response::from_text("1+2=3", 5)), 1.0 / 6.0);
/// ```
pub trait Reward: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &str;
    /// The score of one response. One that is not finite ends the [`rollout`](crate::rollout::rollout) with an error.
    fn score(&self, problem: &Problem, response: &Response) -> f64;
}

/// 1 for a right answer in the template, else 0: the accuracy reward of DeepSeek-R1 (arXiv:2501.12948, section 2.2.2).
#[derive(Clone, Copy, Debug)]
pub struct Accuracy;

impl Reward for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }

    fn score(&self, problem: &Problem, response: &Response) -> f64 {
        let right = response.answer().is_some_and(|answer| problem.is_right(answer));
        f64::from(u8::from(right))
    }
}

/// 1 for a finished response that keeps to the template, else 0, whatever the answer.
///
/// Given the same weight as accuracy it rewards short guesses, which keep to the template most surely.
#[derive(Clone, Copy, Debug)]
pub struct Format;

impl Reward for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn score(&self, _: &Problem, response: &Response) -> f64 {
        f64::from(u8::from(response.answer().is_some()))
    }
}

/// The parts that a task gives its responses, each with a weight: the rules of a run. A part without a weight counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    weights: Vec<(String, f64)>,
}

impl Rules {
    /// The rules with these weights, by the parts' names.
    pub fn new(weights: impl IntoIterator<Item = (String, f64)>) -> Rules {
        Rules { weights: weights.into_iter().collect() }
    }
}

impl Reward for Rules {
    fn name(&self) -> &str {
        "rules"
    }

    fn score(&self, problem: &Problem, response: &Response) -> f64 {
        let weight = |name: &str| self.weights.iter().find(|(of, _)| of == name).map_or(0.0, |(_, weight)| *weight);
        problem.parts(response).iter().map(|(name, value)| weight(name) * value).sum()
    }
}

/// A weighted sum of rewards.
///
/// ```
/// use grpo::{Accuracy, Combined, Format, Reward};
/// let reward = Combined::new().with(1.0, Accuracy).with(0.1, Format);
/// assert_eq!(reward.name(), "1*accuracy+0.1*format");
/// ```
#[derive(Default)]
pub struct Combined {
    name: String,
    parts: Vec<(f64, Box<dyn Reward>)>,
}

impl Combined {
    /// The empty sum, 0 for everything.
    pub fn new() -> Combined {
        Combined::default()
    }

    /// The same with `weight · reward` added.
    ///
    /// # Panics
    /// If `weight` is not finite.
    #[track_caller]
    pub fn with(mut self, weight: f64, reward: impl Reward + 'static) -> Combined {
        assert!(weight.is_finite(), "Combined: the weight of {} is {weight}", reward.name());
        let plus = if self.parts.is_empty() { "" } else { "+" };
        self.name += &format!("{plus}{weight}*{}", reward.name());
        self.parts.push((weight, Box::new(reward)));
        self
    }

    /// The weights and rewards, in the order in which they were added.
    pub fn parts(&self) -> impl Iterator<Item = (f64, &dyn Reward)> {
        self.parts.iter().map(|(weight, reward)| (*weight, reward.as_ref()))
    }
}

impl Reward for Combined {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, problem: &Problem, response: &Response) -> f64 {
        self.parts().map(|(weight, reward)| weight * reward.score(problem, response)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Countdown;
    use crate::tokenizer::Tokenizer;
    use proptest::prelude::{any, prop_assert, proptest};

    fn response(text: &str) -> Response {
        let tokenizer = Tokenizer::new();
        Response::from_tokens(&tokenizer, &tokenizer.encode(text).unwrap())
    }

    #[test]
    fn rewards_score() {
        let problem = Problem::from(Countdown::new([2, 4], 6));
        let right = response("</think><answer>4+2</answer><eos>");
        let wrong = response("</think><answer>4-2</answer><eos>");
        let broken = response("</think>4+2<eos>");
        let scores = |reward: &dyn Reward| [&right, &wrong, &broken].map(|response| reward.score(&problem, response));
        assert_eq!(scores(&Accuracy), [1.0, 0.0, 0.0]);
        assert_eq!(scores(&Format), [1.0, 1.0, 0.0]);
        let both = Combined::new().with(2.0, Accuracy).with(0.5, Format);
        assert_eq!(scores(&both), [2.5, 0.5, 0.0]);
        let rules = Rules::new([("accuracy".into(), 2.0), ("format".into(), 0.5)]);
        assert_eq!(scores(&rules), scores(&both));
        assert_eq!(scores(&Rules::new([("consistency".into(), 1.0)])), [0.0; 3]);
        let names: Vec<_> = both.parts().map(|(weight, reward)| (weight, reward.name())).collect();
        assert_eq!(names, [(2.0, "accuracy"), (0.5, "format")]);
    }

    proptest! {
        #[test]
        fn any_text_is_scored(think in any::<String>(), answer in any::<String>()) {
            let text = format!("{think}</think><answer>{answer}</answer><eos>");
            let response = Response::from_text(text, 1);
            let score = Accuracy.score(&Problem::from(Countdown::new([2, 4], 6)), &response);
            prop_assert!(score == 0.0 || score == 1.0);
        }
    }
}
