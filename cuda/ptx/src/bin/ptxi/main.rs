//! `ptxi`: kernels run and checked on the interpreted GPU.
//!
//! The interpreter's own speed: divide `instructions` by `seconds` in what `ptxi run tests/launches/speed_simt.json --schedules 2`
//! prints; `speed_gemm.json` is for the copy engine and wgmma.

#[cfg(target_os = "linux")]
mod exec;
mod run;
mod seeing;
mod time;

use std::ffi::OsString;
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
/// differs from the card's), 2 for a bad file or flag, 130 where Ctrl-C ended a launch.
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
    /// Run a CUDA program whose kernels the interpreter takes over: no GPU and no driver are needed.
    ///
    /// The program must be linked with CUDA's shared runtime (`nvcc -cudart shared`) or the driver alone, and must hold PTX for sm_90a
    /// or less (`-gencode arch=compute_90a,code=compute_90a`). Hazards are named on standard error when they are met. The exit status
    /// is the program's own; where that is 0 and a kernel was wrong, or something was asked for that is not offered, it is 1.
    Exec(Exec),
    /// Foretell how long the kernels of a launch file take on a card, without one and without their data.
    ///
    /// Prints a table for each launch, or with --json a line of JSON. Every figure is foretold: how far to trust them is in
    /// docs/time.md of this crate. Buffers that hold random numbers, or a byte over more than 1 MiB, count as not known; a branch or an
    /// address that hangs on what is not known is an error that names its line.
    Time(Time),
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
    #[command(flatten)]
    rules: Rules,
    /// Run so many seeds, from `--seed` on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    schedules: u64,
    /// Count by kernel and line; a table, and "counters" in the JSON.
    #[arg(long)]
    counters: bool,
    /// Threads: schedules at the same time, and CTAs of a launch with what is left; as many as there are processors if not given. No
    /// result depends on it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Where to run. `both` compares every buffer that is dumped or compared.
    #[arg(long, value_enum, default_value_t = On::Interpreter)]
    on: On,
    #[command(flatten)]
    seeing: seeing::Seeing,
}

#[derive(clap::Args)]
struct Time {
    /// The launch file.
    launch: PathBuf,
    /// The card: h100-sxm, h100-pcie, h800 or h200.
    #[arg(long, default_value = "h100-sxm")]
    card: String,
    /// Print JSON, a line for each launch.
    #[arg(long)]
    json: bool,
    /// Draw what one multiprocessor does, as SVG: its tensor cores, copies, and a warp of each four, coloured by what it waits for.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Write the same, with every warp and instruction, in Chrome's trace format, which Perfetto opens.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The clocks that these show.
    #[arg(long, value_name = "FROM..TO", default_value = "0..20000", value_parser = time::clocks)]
    clocks: std::ops::Range<u64>,
    /// The multiprocessor that they show.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..132))]
    multiprocessor: u32,
}

#[derive(clap::Args)]
struct Exec {
    #[command(flatten)]
    rules: Rules,
    /// Do not look for hazards: faster.
    #[arg(long)]
    no_hazards: bool,
    /// Count by kernel and line; a table on standard error, and "counters" in the JSON.
    #[arg(long)]
    counters: bool,
    /// Multiprocessors of the device; an H100 has 132. Programs that start as many CTAs as fit the device become small.
    #[arg(long, value_name = "N", default_value_t = 132, value_parser = clap::value_parser!(u32).range(1..=132))]
    multiprocessors: u32,
    /// Write each launch to this folder, as a launch file with its buffers and its PTX, as they were before it.
    #[arg(long)]
    capture: Option<PathBuf>,
    /// Write the chosen launches and do not run them: for shapes that are too large to run here. What they would have written stays
    /// as it was.
    #[arg(long, requires = "capture")]
    capture_only: bool,
    /// Look at, count and capture only kernels whose (mangled) name contains this. The others run all the same, since later launches
    /// need their results, and what they write counts as written.
    #[arg(long)]
    only: Option<String>,
    /// Look at, count and capture only the launch with this number; the first is 1.
    #[arg(long)]
    launch: Option<u64>,
    /// Write a summary as JSON: launches, instructions, seconds, status, hazards, faults, what was refused.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The library that stands in for CUDA's; by default it lies beside ptxi.
    #[arg(long)]
    standin: Option<PathBuf>,
    #[command(flatten)]
    seeing: seeing::Seeing,
    /// The program.
    program: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// What a kernel is held to: the same for launch files and programs.
#[derive(clap::Args)]
struct Rules {
    /// Decides the interleaving and everything else that the ISA leaves open.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Let strict hazards, which break the letter of the ISA and nothing else, count as errors.
    #[arg(long)]
    strict: bool,
    /// A JSON file of hazards not to report, by kernel, kind and line (the format is in the documentation of `ptx::suppress`).
    #[arg(long, value_name = "FILE")]
    suppress: Option<PathBuf>,
    /// Which lane `elect.sync` picks: the lowest, as cards do, or any, as the ISA allows.
    #[arg(long, value_enum, default_value_t = Elect::Lowest)]
    elect: Elect,
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
    Interrupted,
}

/// The exit status of who was ended by Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Time(args) => time::time(&args),
        Command::Check { files } => check(&files),
        #[cfg(target_os = "linux")]
        Command::Exec(args) => match exec::exec(&args) {
            Ok(status) => return ExitCode::from(status),
            Err(message) => Err(message),
        },
        #[cfg(not(target_os = "linux"))]
        Command::Exec(_) => Err("exec works with the loader of Linux only".to_string()),
    };
    match result {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(1),
        Ok(Verdict::Interrupted) => ExitCode::from(INTERRUPTED),
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
