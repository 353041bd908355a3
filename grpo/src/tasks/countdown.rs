//! Countdown: make the target from the given numbers, each used once.
//!
//! What the base model learns from: a *trace* shows a solver who tries expressions at random, sometimes checks one, sometimes tries
//! again after a failed check, and often just stops with what it has. A *drill* teaches arithmetic and verdicts on attempts that are
//! simply given: no loss falls on whether to check, to go on or to stop. What reinforcement learning can build on is therefore all
//! there, and rare.

mod drill;
mod problem;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeSet;

use serde_json::Value;

use super::Habits;
use super::arithmetic::{Calculation, Notation};
use crate::example::Example;
use crate::jsonl::{Row, brief};
use crate::response::Response;
use crate::rng::Rng;
use crate::task::{Lesson, Pool, Problem, Question, Task, TaskError, accuracy_and_format};

pub use problem::{Countdown, CountdownConfig, TaskConfig};

/// The parts of an arithmetic task's reward: accuracy, format, and consistency, the share of the operations that are written in the
/// first notation, as R1's reward for language consistency is the share of words in the wanted language. Without an operation it
/// is 0: who shows nothing has not kept to a language.
pub(super) fn parts(question: &impl Question, response: &Response) -> Vec<(&'static str, f64)> {
    let marks = [Notation::Infix, Notation::Postfix].map(|notation| response.think().matches(notation.mark()).count());
    let consistency = marks[0] as f64 / (marks[0] + marks[1]).max(1) as f64;
    let mut parts = accuracy_and_format(question, response);
    parts.push(("consistency", consistency));
    parts
}

/// The task with its range, its held-out problems and its solvers' habits.
#[derive(Clone, Debug)]
pub struct CountdownTask {
    range: CountdownConfig,
    habits: Habits,
    held_out: Vec<Countdown>,
}

impl CountdownTask {
    /// The task of a configuration. It draws until most distinct problems are known (20,000 times) and holds out a random share of
    /// them, the same for every seed of a run.
    ///
    /// # Errors
    /// [`TaskError`] for ranges that make no task, or a share that amounts to no problem at all, for then nothing could be measured.
    pub fn new(config: &TaskConfig, habits: Habits) -> Result<CountdownTask, TaskError> {
        let task = CountdownTask::holding_out(config.try_into()?, config.held_out, 0, habits);
        if task.held_out.is_empty() {
            let expected = "a share of the task's distinct problems that is at least one of them".into();
            return Err(TaskError::Config { key: "task.held_out", expected, found: config.held_out.to_string() });
        }
        Ok(task)
    }

    /// `seed` decides which problems are held out, and nothing else.
    fn holding_out(range: CountdownConfig, share: f64, seed: u64, habits: Habits) -> CountdownTask {
        let mut rng = Rng::new(seed, "held-out countdown", 0);
        let distinct: BTreeSet<Countdown> = (0..20_000).map(|_| range.draw(&mut rng)).collect();
        let mut held_out = Vec::from_iter(distinct);
        rng.shuffle(&mut held_out);
        held_out.truncate((held_out.len() as f64 * share) as usize);
        CountdownTask { range, habits, held_out }
    }

    /// The range.
    pub fn range(&self) -> &CountdownConfig {
        &self.range
    }

    /// A problem to train on.
    fn problem(&self, pool: &Pool, rng: &mut Rng) -> Countdown {
        loop {
            let problem = self.range.draw(rng);
            if !pool.is_held_out(&problem.text()) {
                return problem;
            }
        }
    }

    /// A solver's attempt, in the notation that comes to its mind.
    fn attempt(&self, numbers: &[i64], rng: &mut Rng) -> (Notation, Calculation) {
        let notation = self.habits.notation(rng);
        (notation, self.range.attempt_in(notation, numbers, rng))
    }
}

impl Task for CountdownTask {
    fn name(&self) -> &str {
        "countdown"
    }

    fn draw(&self, rng: &mut Rng) -> Problem {
        self.range.draw(rng).into()
    }

    fn held_out(&self) -> Vec<Problem> {
        self.held_out.iter().cloned().map(Problem::from).collect()
    }

    fn parse(&self, text: &str) -> Result<Problem, String> {
        let problem =
            Countdown::parse(text).ok_or_else(|| format!("expected numbers and a target such as 2,3,7,8:20, found {text:?}"))?;
        self.range.check(&problem).map_err(|error| error.to_string())?;
        Ok(problem.into())
    }

    /// From `metadata.numbers` and `metadata.target`, as reasoning-gym writes them.
    fn read(&self, row: &Row) -> Result<Problem, String> {
        let integer = |key: &str, value: &Value| {
            value.as_i64().ok_or_else(|| format!("metadata.{key}: expected an integer, found {}", brief(value)))
        };
        let numbers = row.metadata("numbers");
        let Some(list) = numbers.as_array() else {
            return Err(format!("metadata.numbers: expected a list of integers, found {}", brief(numbers)));
        };
        let numbers: Vec<i64> = list.iter().map(|number| integer("numbers", number)).collect::<Result<_, _>>()?;
        let problem = Countdown::new(numbers, integer("target", row.metadata("target"))?);
        self.range.check(&problem).map_err(|error| error.to_string())?;
        Ok(problem.into())
    }

    fn lesson(&self, lesson: Lesson, pool: &Pool, rng: &mut Rng) -> Option<Example> {
        Some(match lesson {
            Lesson::Trace => self.trace(pool, rng),
            Lesson::Curated => self.curated(pool, rng),
            Lesson::Drill => self.drill(pool, rng),
            Lesson::LongDrill => self.long_drill(pool, rng),
        })
    }
}
