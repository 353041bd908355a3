use std::collections::HashSet;
use std::sync::Arc;

use super::{Lesson, Problem, Task, TaskError};
use crate::example::Example;
use crate::rng::Rng;
use crate::tokenizer::Tokenizer;

/// The problems of a task in a run: those held out, and an endless supply of others.
///
/// Whatever trains takes its problems from [`problem`](Self::problem) or [`lesson`](Self::lesson), or passes what it makes through
/// [`is_held_out`](Self::is_held_out).
#[derive(Clone, Debug)]
pub struct Pool {
    task: Arc<dyn Task>,
    tokenizer: Tokenizer,
    held_out: Vec<Problem>,
    texts: HashSet<String>,
}

impl Pool {
    /// The task with the problems that it holds out itself. They are the same for every seed of a run: runs of several seeds should
    /// be judged by the same ones.
    ///
    /// # Errors
    /// Nothing is left to train on, or a problem cannot be written with the tokenizer.
    pub fn new(task: Arc<dyn Task>, tokenizer: &Tokenizer) -> Result<Pool, TaskError> {
        let held_out = task.held_out();
        let pool = Pool { task, tokenizer: tokenizer.clone(), held_out: Vec::new(), texts: HashSet::new() };
        pool.holding_out(held_out)
    }

    /// The same with `problems` (a user's own) as the held-out ones.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn holding_out(mut self, problems: Vec<Problem>) -> Result<Pool, TaskError> {
        self.texts = problems.iter().map(|problem| problem.text()).collect();
        for problem in &problems {
            problem.prompt(&self.tokenizer).map_err(|source| TaskError::Unwritable {
                task: self.task.name().into(),
                problem: problem.text(),
                source,
            })?;
        }
        self.held_out = problems;
        // Training redraws what is held out. If a thousand draws find nothing else, it would redraw (nearly) for ever.
        let mut rng = Rng::new(0, "is anything left", 0);
        if (0..1000).all(|_| self.is_held_out(&self.task.draw(&mut rng).text())) {
            return Err(TaskError::NothingLeft);
        }
        Ok(self)
    }

    /// The task.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.task.name()
    }

    /// What its problems and lessons are written with.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The held-out problems, in an order that is random (any first few are a fair sample) or the user's.
    pub fn held_out(&self) -> &[Problem] {
        &self.held_out
    }

    /// Whether training must not see the problem of this text.
    pub fn is_held_out(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    /// Whether training may see the problem of this text: it is one of the task, and not held out.
    pub fn may_be_trained_on(&self, text: &str) -> bool {
        !self.is_held_out(text) && self.task.parse(text).is_ok()
    }

    /// A problem to train on.
    pub fn problem(&self, rng: &mut Rng) -> Problem {
        loop {
            let problem = self.task.draw(rng);
            if !self.is_held_out(&problem.text()) {
                return problem;
            }
        }
    }

    /// An example to imitate; `None` if the task has none of the kind.
    pub fn lesson(&self, lesson: Lesson, rng: &mut Rng) -> Option<Example> {
        self.task.lesson(lesson, self, rng)
    }

    /// The prompt of a problem of this pool, nothing to learn yet.
    ///
    /// # Panics
    /// If the problem cannot be written: a task names all that it writes.
    pub fn example(&self, problem: &Problem) -> Example {
        Example::of(problem.prompt(&self.tokenizer).expect("a task writes only the characters that it names"))
    }
}
