//! Asks a trained model: `cargo run --release --example generate -- DIR "3,8,7,2:20"`.
//!
//! DIR is a run folder of `grpo_r1` or a hub checkpoint of one (`config.json`, `model.safetensors`, `tokenizer.json`). What a
//! reader wants to see goes to stderr, the thinking an attempt per line; stdout gets one JSON line:
//! `{"problem","thinking","answer","correct","tokens"}`, and of several samples also `{"samples","pass_rate"}`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use scratchwork::grpo::console::{exit, say};
use scratchwork::grpo::rollout::{RolloutOptions, Sample, rollout};
use scratchwork::grpo::tasks::{ChainSum, Countdown};
use scratchwork::grpo::{Accuracy, Problem, Tokenizer};
use scratchwork::nn::{DeepseekV3ForCausalLM, row_seed};
use scratchwork::tensor::{DType, Device};
use serde_json::json;

/// Answer a problem with a trained model, thinking shown
#[derive(Parser)]
struct Args {
    /// Run folder of grpo_r1, or a checkpoint folder (such as RUN/model or RUN/base)
    dir: PathBuf,
    /// Countdown, "3,8,7,2:20" (make 20 of the four numbers), or a chain sum, "3+8-2="
    problem: String,
    /// Sampling temperature; 0 takes the most probable token each time
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Answers to sample; the first is shown, the share of right ones is counted
    #[arg(long, default_value_t = 1, value_parser = samples)]
    samples: usize,
}

/// Samples that are drawn side by side; of those before only the first is kept.
const TOGETHER: usize = 256;

fn samples(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or("expected 1 to 1000000".into())
}

fn main() -> ExitCode {
    exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<serde_json::Value, Box<dyn Error>> {
    let problem = parse(&args.problem)?;
    let dir = checkpoint(&args.dir)?;
    let tokenizer = Tokenizer::load(&dir)?;
    let (model, notices) = DeepseekV3ForCausalLM::from_pretrained(&dir, DType::F32, &Device::cpu())?;
    notices.iter().for_each(|notice| say(format_args!("note: {notice}")));

    let prompt = problem.prompt(&tokenizer)?.len();
    let room = model.config().max_position_embeddings.saturating_sub(prompt);
    if room == 0 {
        return Err(
            format!("the problem takes {prompt} tokens, the model reads {}", model.config().max_position_embeddings).into()
        );
    }
    let (mut first, mut right) = (None, 0);
    for drawn in (0..args.samples).step_by(TOGETHER) {
        let options = RolloutOptions {
            num_generations: TOGETHER.min(args.samples - drawn),
            max_completion_length: room,
            temperature: args.temperature,
            seed: if drawn == 0 { args.seed } else { row_seed(args.seed, drawn) },
        };
        let samples = rollout(&model, &tokenizer, std::slice::from_ref(&problem), (&Accuracy, &Accuracy), &options)?;
        right += samples.iter().filter(|s| s.correct).count();
        first = first.or_else(|| samples.into_iter().next());
    }
    let first = &first.expect("at least one sample was asked for");
    show(&problem, first);

    let response = &first.response;
    let mut line = json!({
        "problem": problem.text(), "thinking": response.think(), "answer": response.answer(),
        "correct": first.correct, "tokens": response.length(),
    });
    if args.samples > 1 {
        say(format_args!("{right} of {} samples are right", args.samples));
        line["samples"] = args.samples.into();
        line["pass_rate"] = (right as f64 / args.samples as f64).into();
    }
    Ok(line)
}

/// A Countdown problem or a chain sum.
fn parse(text: &str) -> Result<Problem, String> {
    let countdown = || Countdown::parse(text).filter(|c| c.numbers().iter().all(|&n| n > 0)).map(Problem::from);
    let chain_sum = || ChainSum::parse(text).map(Problem::from);
    let problem = if text.contains(':') { countdown() } else { chain_sum() };
    problem.ok_or_else(|| {
        format!("{text:?} is no problem: expected positive numbers and a target, \"3,8,7,2:20\", or a chain sum, \"3+8-2=\"")
    })
}

/// The checkpoint in a folder: its own, or a run's final model.
fn checkpoint(dir: &Path) -> Result<PathBuf, String> {
    let holds_one = |dir: &PathBuf| dir.join("config.json").is_file();
    let (own, last, base) = (dir.to_path_buf(), dir.join("model"), dir.join("base"));
    match [&own, &last].into_iter().find(|dir| holds_one(dir)) {
        Some(found) => Ok(found.clone()),
        None if holds_one(&base) => {
            Err(format!("{}: the run has no final model yet; its base model is in {}", dir.display(), base.display()))
        }
        None => Err(format!("{}: neither config.json nor model/config.json is there", dir.display())),
    }
}

/// The answer for a reader: a line per attempt, which ends with the verdict of its check, `x` or `v`.
fn show(problem: &Problem, sample: &Sample) {
    let response = &sample.response;
    say(problem.text());
    response.think().split_inclusive(['x', 'v']).for_each(|attempt| say(format_args!("  {attempt}")));
    let verdict = if sample.correct { "right" } else { "wrong" };
    match response.answer() {
        Some(answer) => say(format_args!("answer: {answer} ({verdict}, {} tokens)", response.length())),
        None if response.finished() => say(format_args!("no answer in the template: {}", response.text())),
        None => say(format_args!("no answer: cut off at {} tokens", response.length())),
    }
}
