//! The curves of several runs in one picture: `cargo run --release --example compare_runs -- OUT.svg RUN RUN …`.
//!
//! A run goes by the name of its folder. stdout gets one line of JSON, `{"runs","picture"}`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use scratchwork::grpo::console::exit;
use scratchwork::grpo::report;
use scratchwork::nn::write_atomic;

/// Draw accuracy and length over the RL stage of several runs
#[derive(Parser)]
struct Args {
    /// The picture to write
    out: PathBuf,
    /// Run folders of grpo_r1
    #[arg(required = true)]
    runs: Vec<PathBuf>,
}

fn main() -> ExitCode {
    exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<serde_json::Value, Box<dyn Error>> {
    let name = |folder: &PathBuf| folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let names: Vec<String> = args.runs.iter().map(name).collect();
    let runs: Vec<_> = names.iter().map(String::as_str).zip(args.runs.iter().map(PathBuf::as_path)).collect();
    let picture = report::compare(&runs)?;
    write_atomic(&args.out, picture.as_bytes()).map_err(|e| format!("cannot write {}: {e}", args.out.display()))?;
    Ok(serde_json::json!({ "runs": names, "picture": args.out }))
}
