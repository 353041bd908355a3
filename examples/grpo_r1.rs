//! The flagship: DeepSeek-R1-Zero at desk scale. A base model is pre-trained on traces of uneven quality and then learns to
//! reason by pure reinforcement learning on rule rewards. With `--recipe r1` it goes on through the stages of DeepSeek-R1.
//!
//! `cargo run --release --example grpo_r1` needs no arguments, no GPU and no download.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use scratchwork::grpo::config::{Control, RunConfig};
use scratchwork::grpo::console::{exit, say};
use scratchwork::grpo::cost::{Measured, Summary};
use scratchwork::grpo::run::Run;
use scratchwork::grpo::setup::{Setup, device_of};
use scratchwork::tensor::{Device, profile};
use signal_hook::{consts::SIGINT, flag};

/// Train a base model on Countdown, then let it learn to reason by pure RL (GRPO with rule rewards)
#[derive(Parser)]
struct Args {
    /// Seed of weights, corpus, problems and samples
    #[arg(long)]
    seed: Option<u64>,
    /// RL steps, instead of the configuration's
    #[arg(long)]
    steps: Option<usize>,
    /// Where to compute: cpu, cuda, cuda:NUMBER (a card), interpreted or interpreted:SEED (a card played by an interpreter)
    /// [default: cpu, or where the resumed run began]
    #[arg(long)]
    device: Option<String>,
    /// What happens: r1-zero (a base model, then RL) or r1 (cold start, RL, rejection sampling, RL for all, distillation); both are
    /// files in examples/configs
    #[arg(long, value_name = "NAME", default_value = "r1-zero")]
    recipe: Recipe,
    /// TOML file with any of the hyperparameters; what it leaves out keeps its default (a run folder's config.toml names them all)
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Countdown problems (JSONL as reasoning-gym writes them) to hold out and be measured on, instead of the built-in set
    #[arg(long, value_name = "FILE.jsonl")]
    eval: Option<PathBuf>,
    /// Countdown problems (JSONL) for the RL stage, instead of drawn ones
    #[arg(long, value_name = "FILE.jsonl")]
    problems: Option<PathBuf>,
    /// Skip pre-training: start from the base model of another run's folder, or from a checkpoint
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Counter-experiment: no-retries, no-drills or no-limit-jump
    #[arg(long, value_name = "NAME")]
    control: Option<Control>,
    /// Run folder; an older run there is moved aside
    #[arg(long, value_name = "DIR", default_value = "runs/grpo_r1")]
    out: PathBuf,
    /// Go on, bit for bit, with the interrupted run in a folder
    #[arg(long, value_name = "DIR",
          conflicts_with_all = ["seed", "steps", "recipe", "config", "eval", "problems", "base", "control", "out", "price", "quick"])]
    resume: Option<PathBuf>,
    /// Dollars per device hour, for the cost table
    #[arg(long, value_name = "DOLLARS")]
    price: Option<f64>,
    /// Print a table of the time by operation at the end
    #[arg(long)]
    profile: bool,
    /// A smoke run of less than a minute: every stage once, little learned
    #[arg(long)]
    quick: bool,
}

/// The recipes that need no file, each the file of its name.
#[derive(Clone, Copy, ValueEnum)]
enum Recipe {
    R1Zero,
    R1,
}

impl Recipe {
    fn toml(self) -> (&'static str, &'static str) {
        match self {
            Recipe::R1Zero => ("examples/configs/r1_zero.toml", include_str!("configs/r1_zero.toml")),
            Recipe::R1 => ("examples/configs/r1.toml", include_str!("configs/r1.toml")),
        }
    }
}

fn main() -> ExitCode {
    exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<String, Box<dyn std::error::Error>> {
    let recorded = args.resume.as_deref().map(device_of).transpose()?.unwrap_or("cpu".into());
    let device = scratchwork::device(args.device.as_ref().unwrap_or(&recorded)).map_err(|e| format!("--device {e}"))?;
    if args.profile {
        profile::start();
    }
    let (folder, run) = match &args.resume {
        Some(folder) => (folder, Run::resume(folder, device)?),
        None => {
            let (run, notices) = Run::create(setup(args, device)?, &args.out)?;
            notices.iter().for_each(|n| say(format_args!("note: {}", n.0)));
            (&args.out, run)
        }
    };
    end_on_interrupt(folder)?;
    let summary = run.train()?;
    let percent = |s: &scratchwork::grpo::metrics::Scores| s.get("pass@1").map_or(0.0, |p| 100.0 * p.value);
    let length = |s: &scratchwork::grpo::metrics::Scores| s.get("completion_length").map_or(0.0, |p| p.value);
    let [base, last] = summary.first_and_last().ok_or("the run measured nothing")?;
    let ([used, held], bytes) = (summary.peak_memory, scratchwork::nn::bytes);
    let mut lines = stages(&summary);
    lines.extend([
        format!("held-out pass@1 {:.1} % -> {:.1} %", percent(base), percent(last)),
        format!("mean answer     {:.0} -> {:.0} tokens", length(base), length(last)),
        format!("memory          {} of tensors at most, {} with what was kept for reuse", bytes(used), bytes(held)),
        format!("report          {}", folder.join("report.html").display()),
        format!("model           {}", folder.join("model").display()),
    ]);
    if args.profile {
        lines.push(format!("\n{}", profile::report()));
    }
    Ok(lines.join("\n"))
}

/// A line for each stage that was measured, where there are more than two.
fn stages(summary: &Summary) -> Vec<String> {
    let first = summary.measured.first().map(|m| m.task.as_str());
    let of_it: Vec<_> = summary.measured.iter().filter(|m| Some(m.task.as_str()) == first).collect();
    let line = |m: &&Measured| {
        let value = |key: &str| m.scores.get(key).map_or(0.0, |score| score.value);
        let consistency =
            m.scores.behaviour.get("consistency").map_or(String::new(), |c| format!(", {:.0} % consistent", 100.0 * c));
        let (pass, length) = (100.0 * value("pass@1"), value("completion_length"));
        format!("{:15} pass@1 {pass:.1} %, {length:.0} tokens{consistency}", m.stage)
    };
    if of_it.len() > 2 { of_it.iter().map(line).collect() } else { Vec::new() }
}

/// From now on Ctrl-C says how the run goes on and ends it: what is on the disk is good at every moment. A second one ends it even if
/// nobody takes what is said.
fn end_on_interrupt(folder: &Path) -> std::io::Result<()> {
    const CODE: i32 = 128 + SIGINT;
    let pressed = Arc::new(AtomicBool::new(false));
    // In this order, so that the first one finds the flag not set.
    flag::register_conditional_shutdown(SIGINT, CODE, pressed.clone())?;
    flag::register(SIGINT, pressed.clone())?;
    let words = format!("interrupted: the run goes on with --resume {}", folder.display());
    std::thread::spawn(move || {
        while !pressed.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        say(words);
        std::process::exit(CODE);
    });
    Ok(())
}

/// Flags over the configuration file over the defaults.
fn setup(args: &Args, device: Device) -> Result<Setup, Box<dyn std::error::Error>> {
    let mut config = if args.quick { RunConfig::quick() } else { RunConfig::default() };
    let (path, text) = args.recipe.toml();
    config = config.overlay_str(text, Path::new(path))?;
    if args.quick && config.stages.len() > 2 {
        config = config.quickened();
    }
    if let Some(file) = &args.config {
        config = config.overlay(file)?;
    }
    config.seed = args.seed.unwrap_or(config.seed);
    config.rl.steps = args.steps.unwrap_or(config.rl.steps);
    config.price = args.price.unwrap_or(config.price);
    let mut setup = Setup::new(config, args.control, args.base.clone(), device)?;
    setup.command = std::iter::once("grpo_r1".to_owned()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" ");
    if let Some(file) = &args.eval {
        setup = setup.evaluated_on(file)?;
    }
    if let Some(file) = &args.problems {
        setup = setup.trained_on(file)?;
    }
    Ok(setup)
}
