//! `ptxi`: kernels run and checked on the interpreted GPU.
//!
//! The interpreter's own speed: divide `instructions` by `seconds` in what `ptxi run tests/launches/speed_simt.json --schedules 2`
//! prints; `speed_gemm.json` is for the copy engine and wgmma.

mod run;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use ptx::launch::read_text;
use ptx::{Election, Module};

/// A Hopper GPU in a process.
///
/// Exit status: 0 where nothing is wrong, 1 where a kernel is (a hazard, a trap, a failed assertion, a deadlock, a result that
/// differs from the card's), 2 for a bad file or flag.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the kernels of a launch file (the format is in the documentation of `ptx::launch`).
    ///
    /// Prints one line of JSON: launches, instructions, seconds, hazards, and strict ones apart. What kernels print, hazards in words and tables go to
    /// standard error.
    Run(Run),
    /// Parse PTX files and decode every instruction, so that one the interpreter does not know is seen before it runs.
    Check {
        /// PTX files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Run {
    /// The launch file.
    launch: PathBuf,
    /// Decides the interleaving and everything else that the ISA leaves open.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Run so many seeds, from `--seed` on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    schedules: u64,
    /// Count by kernel and line; a table, and "counters" in the JSON.
    #[arg(long)]
    counters: bool,
    /// Schedules at the same time; as many as there are processors if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Let strict hazards, which break the letter of the ISA and nothing else, count as errors.
    #[arg(long)]
    strict: bool,
    /// A JSON file of hazards not to report, by kernel, kind and line (the format is in the documentation of `ptx::suppress`).
    #[arg(long, value_name = "FILE")]
    suppress: Option<PathBuf>,
    /// Which lane `elect.sync` picks: the lowest, as cards do, or any, as the ISA allows.
    #[arg(long, value_enum, default_value_t = Elect::Lowest)]
    elect: Elect,
    /// Where to run. `both` compares every buffer that is dumped or compared.
    #[arg(long, value_enum, default_value_t = On::Interpreter)]
    on: On,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Elect {
    Lowest,
    Seeded,
}

impl From<Elect> for Election {
    fn from(elect: Elect) -> Election {
        match elect {
            Elect::Lowest => Election::Lowest,
            Elect::Seeded => Election::Seeded,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Interpreter,
    Card,
    Both,
}

/// How a command ended, short of a bad file.
enum Verdict {
    Clean,
    Wrong,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check { files } => check(&files),
    };
    match result {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(1),
        Err(message) => {
            note(format_args!("error: {message}\n"));
            ExitCode::from(2)
        }
    }
}

/// A line of results. That nobody reads them is no error; that they cannot be written is.
fn say(line: impl Display) -> Result<(), String> {
    match writeln!(io::stdout(), "{line}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {e}")),
        _ => Ok(()),
    }
}

/// To standard error, for those who listen.
fn note(text: impl Display) {
    let _ = write!(io::stderr(), "{text}");
}

fn check(files: &[PathBuf]) -> Result<Verdict, String> {
    let mut errors = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let parsed =
            read_text(file).map_err(|e| e.to_string()).and_then(|text| Module::parse(&name, &text).map_err(|e| e.to_string()));
        match parsed {
            Ok(module) => say(format_args!("{name}: {}", module.kernels().collect::<Vec<_>>().join(", ")))?,
            Err(message) => errors.push(message),
        }
    }
    if errors.is_empty() { Ok(Verdict::Clean) } else { Err(errors.join("\n")) }
}
