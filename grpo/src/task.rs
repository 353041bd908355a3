//! What a domain of problems must say about itself, so that a run can teach it, ask it and judge it.
//!
//! A [`Question`] is one problem: what the model reads, which answers are right, what is observed of a response. A [`Task`] is where
//! problems come from: drawn or read, with those that nobody trains on. A run holds each task as a [`Pool`], which never gives away
//! what is held out. The domains that are shipped are in [`tasks`](crate::tasks); another is these two traits, implemented by a user
//! and given to [`Setup::with_tasks`](crate::setup::Setup::with_tasks).

mod pool;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{AddAssign, Deref};
use std::sync::Arc;

use crate::example::Example;
use crate::jsonl::Row;
use crate::response::Response;
use crate::rng::Rng;
use crate::tokenizer::{EncodeError, Tokenizer};

pub use pool::Pool;

/// Tokens that a prompt may have, unless its task says otherwise.
pub const LONGEST_PROMPT: usize = 64;

/// One problem of some domain.
pub trait Question: fmt::Debug + Send + Sync {
    /// The problem as the model reads it. Two problems with one text are the same problem.
    fn text(&self) -> String;

    /// Whether `answer`, the text between the answer tags, is right.
    fn is_right(&self, answer: &str) -> bool;

    /// The answer, where only one is right: a majority of answers means something there. None for a problem with several.
    fn right_answer(&self) -> Option<String> {
        None
    }

    /// The vote that an answer casts in a majority: equal answers, however they are written, cast equal votes. None abstains.
    fn vote(&self, answer: &str) -> Option<String> {
        Some(answer.trim().to_owned())
    }

    /// What a response is worth, by part: each a name and a value from 0 to 1. The weights of `[rl.reward_weights]` add them up.
    fn parts(&self, response: &Response) -> Vec<(&'static str, f64)> {
        accuracy_and_format(self, response)
    }

    /// What is counted in a response, under the names that [`columns`](Self::columns) read.
    fn observe(&self, _response: &Response) -> Counts {
        Counts::default()
    }

    /// What metrics and report say about many responses: formulas over the sums of what was counted.
    fn columns(&self) -> &'static [Column] {
        &[]
    }
}

/// The two rules of R1-Zero (arXiv:2501.12948, section 2.2.2): 1 for a right answer in the template, and 1 for the template.
pub fn accuracy_and_format(question: &(impl Question + ?Sized), response: &Response) -> Vec<(&'static str, f64)> {
    let share = |holds: bool| f64::from(u8::from(holds));
    let right = response.answer().is_some_and(|answer| question.is_right(answer));
    vec![("accuracy", share(right)), ("format", share(response.answer().is_some()))]
}

/// A problem, shared by all who look at it; equal to another where their texts are.
#[derive(Clone, Debug)]
pub struct Problem(Arc<dyn Question>);

impl Problem {
    /// The token ids of the prompt, `<bos>…<think>`: a response begins with thinking.
    ///
    /// # Errors
    /// A character of the problem that has no token; its position counts from the problem's start.
    pub fn prompt(&self, tokenizer: &Tokenizer) -> Result<Vec<i64>, EncodeError> {
        use crate::tokenizer::token::{BOS, THINK};
        let text = tokenizer.encode(&self.text())?;
        Ok([&[BOS], &text[..], &[THINK]].concat())
    }
}

impl<Q: Question + 'static> From<Q> for Problem {
    fn from(question: Q) -> Problem {
        Problem(Arc::new(question))
    }
}

impl Deref for Problem {
    type Target = dyn Question;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Problem {
    fn eq(&self, other: &Problem) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Problem {}

impl Hash for Problem {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

/// What was counted in one response or, added up, in many, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, usize>);

impl Counts {
    /// A count; 0 where nothing was counted under the name.
    pub fn get(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The counts with these names and values.
    pub fn of<const N: usize>(counts: [(&'static str, usize); N]) -> Counts {
        Counts(counts.into())
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        other.0.iter().for_each(|(name, count)| *self.0.entry(name).or_default() += count);
    }
}

/// A value of metrics and report.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in `metrics.jsonl`.
    pub name: &'static str,
    /// Its value over some responses, from what was counted in them and how many they are; `None` where there is none.
    pub value: fn(&Counts, usize) -> Option<f64>,
}

/// `part / whole`; `None` of nothing.
pub fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What an example for imitation shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// A solver's whole response, with its faults.
    Trace,
    /// A response as a careful writer would have it: the data of a cold start.
    Curated,
    /// An exercise in what a solver needs, without its decisions.
    Drill,
    /// An exercise as long as a text may get.
    LongDrill,
}

/// A domain of problems.
pub trait Task: fmt::Debug + Send + Sync {
    /// Its name, in configurations, metrics and report.
    fn name(&self) -> &str;

    /// The characters that its prompts, lessons and answers need beside those that every [`Tokenizer`] has.
    fn alphabet(&self) -> String {
        String::new()
    }

    /// The most tokens that a prompt takes.
    fn longest_prompt(&self) -> usize {
        LONGEST_PROMPT
    }

    /// A problem at random, which may be one that is held out.
    fn draw(&self, rng: &mut Rng) -> Problem;

    /// The problems that nobody trains on, unless a user brings others, in an order of which any first few are a fair sample.
    fn held_out(&self) -> Vec<Problem>;

    /// The problem of a text, as [`Question::text`] gives it.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    fn parse(&self, text: &str) -> Result<Problem, String>;

    /// The problem of a line of a file.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    fn read(&self, row: &Row) -> Result<Problem, String> {
        self.parse(&row.question)
    }

    /// An example to imitate, on a problem of `pool` that is not held out; `None` if the task has none of the kind.
    fn lesson(&self, lesson: Lesson, pool: &Pool, rng: &mut Rng) -> Option<Example>;
}

/// A range that makes no task, or a problem outside a task's range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A key of a configuration.
    #[error("{key}: expected {expected}, found {found}")]
    Config {
        /// The key, with its table.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A problem.
    #[error("expected {expected}, found {found}")]
    Problem {
        /// What the task allows.
        expected: String,
        /// What the problem has.
        found: String,
    },
    /// So much is held out that drawing training problems found none.
    #[error("the held-out set leaves no problem to train on")]
    NothingLeft,
    /// A problem that the tokenizer cannot write.
    #[error("the problem {problem:?} of task `{task}` cannot be written: {source}")]
    Unwritable {
        /// The task.
        task: String,
        /// The problem's text.
        problem: String,
        /// The character without a token.
        source: EncodeError,
    },
}
