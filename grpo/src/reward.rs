//! What a response is, and what it is worth.

use std::ops::Range;

use crate::problem::Problem;
use crate::tokenizer::Tokenizer;
use crate::verify::Uses;

/// What a policy wrote after a prompt, taken apart. The only place where a response is parsed.
///
/// The prompt ends with `<think>`, so that a response which keeps to the template reads
/// `thinking</think><answer>answer</answer><eos>`, with no other tag in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    text: String,
    length: usize,
    think: Range<usize>,
    answer: Option<Range<usize>>,
    finished: bool,
}

const END: &str = "<eos>";

impl Response {
    /// Takes apart the tokens that were generated; what follows an `<eos>` is ignored.
    pub fn from_tokens(tokenizer: &Tokenizer, tokens: &[i64]) -> Response {
        let end = tokens.iter().position(|&id| id == crate::token::EOS);
        let tokens = &tokens[..end.map_or(tokens.len(), |end| end + 1)];
        Self::from_text(tokenizer.decode(tokens), tokens.len())
    }

    /// Takes apart a text of `length` tokens.
    pub fn from_text(text: impl Into<String>, length: usize) -> Response {
        let mut text = text.into();
        let end = text.find(END);
        text.truncate(end.map_or(text.len(), |end| end + END.len()));
        let close = text.find("</think>");
        let mut response =
            Response { think: 0..close.or(end).unwrap_or(text.len()), answer: None, finished: end.is_some(), length, text };
        response.answer = response.find_answer();
        response
    }

    fn find_answer(&self) -> Option<Range<usize>> {
        let rest = self.text.get(self.think.end..)?;
        let answer = rest.strip_prefix("</think><answer>")?.strip_suffix("</answer><eos>")?;
        let start = self.think.end + "</think><answer>".len();
        let no_tag = |part: &str| !part.contains(['<', '>']);
        (no_tag(self.think()) && no_tag(answer)).then_some(start..start + answer.len())
    }

    /// All of it, up to and with the `<eos>`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many tokens it has, its `<eos>` counted.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The thinking: what stands before `</think>`, or everything if thinking never ended.
    pub fn think(&self) -> &str {
        &self.text[self.think.clone()]
    }

    /// The text between the answer tags, if the response is finished and keeps to the template.
    pub fn answer(&self) -> Option<&str> {
        self.answer.clone().map(|range| &self.text[range])
    }

    /// Whether it ended by itself. A response that is not finished was cut off at the length limit.
    pub fn finished(&self) -> bool {
        self.finished
    }
}

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
/// let problem = Problem::from(grpo::Countdown::new([1, 2], 3));
/// assert_eq!(Brevity.score(&problem, &Response::from_text("1+2=3", 5)), 1.0 / 6.0);
/// ```
pub trait Reward: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &str;
    /// The score of one response. One that is not finite ends the [`rollout`](crate::rollout::rollout) with an error.
    fn score(&self, problem: &Problem, response: &Response) -> f64;
}

/// 1 for a right answer in the template, else 0: the accuracy reward of DeepSeek-R1 (arXiv:2501.12948, section 2.2.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Accuracy {
    /// The rule for a Countdown's numbers.
    pub uses: Uses,
}

impl Reward for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }

    fn score(&self, problem: &Problem, response: &Response) -> f64 {
        let right = response.answer().is_some_and(|answer| problem.is_right(answer, self.uses));
        f64::from(u8::from(right))
    }
}

/// 1 for a finished response that keeps to the template, else 0, whatever the answer.
///
/// Given the same weight as accuracy it rewards short guesses, which keep to the template most surely.
#[derive(Clone, Copy, Debug, Default)]
pub struct Format;

impl Reward for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn score(&self, _: &Problem, response: &Response) -> f64 {
        f64::from(u8::from(response.answer().is_some()))
    }
}

/// A weighted sum of rewards.
///
/// ```
/// use grpo::{Accuracy, Combined, Format, Reward};
/// let reward = Combined::new().with(1.0, Accuracy::default()).with(0.1, Format);
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
    use crate::countdown::Countdown;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    fn response(text: &str) -> Response {
        let tokenizer = Tokenizer::new();
        Response::from_tokens(&tokenizer, &tokenizer.encode(text).unwrap())
    }

    #[test]
    fn a_response_is_taken_apart() {
        let whole = response("2+4=6?6v</think><answer>2+4</answer><eos><pad><pad>");
        assert_eq!((whole.think(), whole.answer(), whole.finished()), ("2+4=6?6v", Some("2+4"), true));
        assert_eq!(whole.length(), 15);
        assert!(whole.text().ends_with("<eos>"));

        let cut = response("2+4=6?7x");
        assert_eq!((cut.think(), cut.answer(), cut.finished()), ("2+4=6?7x", None, false));
        let cut_late = response("2+4=6</think><answer>2+4</answer>");
        assert_eq!((cut_late.think(), cut_late.answer(), cut_late.finished()), ("2+4=6", None, false));
        let silent = response("2+4<eos>");
        assert_eq!((silent.think(), silent.answer(), silent.finished()), ("2+4", None, true));
    }

    #[test]
    fn only_the_template_has_an_answer() {
        for text in [
            "<answer>3</answer><eos>",
            "1</think>2<answer>3</answer><eos>",
            "1</think><answer>3</answer>2<eos>",
            "1<think></think><answer>3</answer><eos>",
            "1</think></think><answer>3</answer><eos>",
            "1</think><answer>3</think></answer><eos>",
            "1</think><answer>3</answer><answer>3</answer><eos>",
            "1<pad></think><answer>3</answer><eos>",
            "1</think><answer>3<eos>",
        ] {
            assert_eq!(response(text).answer(), None, "{text}");
        }
        assert_eq!(response("</think><answer></answer><eos>").answer(), Some(""));
    }

    #[test]
    fn rewards_score() {
        let problem = Problem::from(Countdown::new([2, 4], 6));
        let right = response("</think><answer>4+2</answer><eos>");
        let wrong = response("</think><answer>4-2</answer><eos>");
        let broken = response("</think>4+2<eos>");
        let scores = |reward: &dyn Reward| [&right, &wrong, &broken].map(|response| reward.score(&problem, response));
        assert_eq!(scores(&Accuracy::default()), [1.0, 0.0, 0.0]);
        assert_eq!(scores(&Format), [1.0, 1.0, 0.0]);
        let both = Combined::new().with(2.0, Accuracy::default()).with(0.5, Format);
        assert_eq!(scores(&both), [2.5, 0.5, 0.0]);
        let names: Vec<_> = both.parts().map(|(weight, reward)| (weight, reward.name())).collect();
        assert_eq!(names, [(2.0, "accuracy"), (0.5, "format")]);
    }

    proptest! {
        #[test]
        fn any_tokens_are_taken_apart(tokens in prop::collection::vec(-1i64..31, 0..40)) {
            let response = Response::from_tokens(&Tokenizer::new(), &tokens);
            let eos = tokens.iter().position(|&id| id == crate::token::EOS);
            prop_assert_eq!(response.finished(), eos.is_some());
            prop_assert_eq!(response.length(), eos.map_or(tokens.len(), |at| at + 1));
            prop_assert!(response.text().starts_with(response.think()));
        }

        #[test]
        fn any_text_is_scored(think in any::<String>(), answer in any::<String>()) {
            let text = format!("{think}</think><answer>{answer}</answer><eos>");
            let response = Response::from_text(text, 1);
            let score = Accuracy::default().score(&Problem::from(Countdown::new([2, 4], 6)), &response);
            prop_assert!(score == 0.0 || score == 1.0);
        }
    }
}
