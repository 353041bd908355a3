//! A task of your own: two traits, given to a run. Lists are sorted; the base model's corpus is right half of the time, and RL makes it
//! nearly always right.
//!
//! `cargo run --release --example 07_own_task` leaves a run folder, `runs/sorting`, like the flagship's and prints one JSON line.

use std::path::Path;
use std::sync::Arc;

use scratchwork::grpo::config::RunConfig;
use scratchwork::grpo::run::Run;
use scratchwork::grpo::setup::Setup;
use scratchwork::grpo::task::{Lesson, Pool, Question, Task};
use scratchwork::grpo::{Example, Problem, Rng};
use scratchwork::tensor::Device;

#[derive(Debug)]
struct Sorting;

#[derive(Debug)]
struct List(Vec<i64>);

fn joined(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

impl Question for List {
    fn text(&self) -> String {
        joined(&self.0) + "?"
    }

    fn is_right(&self, answer: &str) -> bool {
        self.right_answer().is_some_and(|right| right == answer)
    }

    fn right_answer(&self) -> Option<String> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Some(joined(&sorted))
    }
}

impl Task for Sorting {
    fn name(&self) -> &str {
        "sorting"
    }

    fn draw(&self, rng: &mut Rng) -> Problem {
        List((0..4).map(|_| rng.between(0, 9)).collect()).into()
    }

    fn held_out(&self) -> Vec<Problem> {
        let mut rng = Rng::new(0, "held out", 0);
        (0..64).map(|_| self.draw(&mut rng)).collect()
    }

    fn parse(&self, text: &str) -> Result<Problem, String> {
        let numbers: Result<Vec<i64>, _> = text.trim_end_matches('?').split(',').map(str::parse).collect();
        numbers.map(|numbers| List(numbers).into()).map_err(|e| format!("expected numbers such as 3,1,2?: {e}"))
    }

    /// Half of the lessons sort, the others copy the list as it is.
    fn lesson(&self, lesson: Lesson, pool: &Pool, rng: &mut Rng) -> Option<Example> {
        let problem = pool.problem(rng);
        let given = problem.text().trim_end_matches('?').to_owned();
        let answer = if lesson == Lesson::Trace && rng.chance(0.5) { given } else { problem.right_answer()? };
        let mut example = pool.example(&problem);
        example.push(pool.tokenizer(), &format!("</think><answer>{answer}</answer><eos>"), |_| true);
        Some(example)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = RunConfig::default().overlay_str(include_str!("configs/own_task.toml"), Path::new("own_task.toml"))?;
    let setup = Setup::with_tasks(config, vec![Arc::new(Sorting)], None, Device::cpu())?;
    let summary = Run::create(setup, Path::new("runs/sorting"))?.0.train()?;
    let [base, last] = summary.first_and_last().ok_or("nothing was measured")?;
    println!("{}", serde_json::json!({ "base": base.values["pass@1"], "after_rl": last.values["pass@1"] }));
    Ok(())
}
