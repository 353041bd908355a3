//! The flags that say when a launch is given up and what of it is shown: the same for every command that runs kernels.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ptx::observe::{Interrupt, Observe, Observed, Probe, Table, Trace, TraceRequest, Watch};

use crate::note;

/// What of a launch is shown, and when it is given up.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Seeing {
    /// Give a launch up after so many warp instructions.
    #[arg(long, value_name = "N")]
    pub step_limit: Option<u64>,
    /// Give a launch up after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub time_limit: Option<Duration>,
    /// Write what each warp did and waited for, the phases of barriers, and copies and wgmma from issue to landing: as text
    /// (FILE.txt), or for Chrome's tracing and Perfetto (FILE.json). Of the first seed.
    #[arg(long, value_name = "FILE", value_parser = trace_file)]
    pub trace: Option<PathBuf>,
    /// Trace this CTA only; may be given several times.
    #[arg(long, value_name = "X[,Y[,Z]]", value_parser = triple, requires = "trace")]
    pub trace_cta: Vec<[u32; 3]>,
    /// Trace from this step on.
    #[arg(long, value_name = "STEP", default_value_t = 0, requires = "trace")]
    pub trace_from: u64,
    /// The most spans of a launch in the trace; the rest is cut off.
    #[arg(long, value_name = "SPANS", default_value_t = TraceRequest::default().limit, requires = "trace")]
    pub trace_limit: usize,
    /// Show the registers that a line names, each time that a thread reaches it: a line of CUDA C++ or of PTX. Of the first seed;
    /// may be given several times.
    #[arg(long, value_name = "FILE:LINE")]
    pub at: Vec<Probe>,
    /// The thread of `--at`; the first that is there, if not given.
    #[arg(long, value_name = "X[,Y[,Z]]", value_parser = triple, requires = "at")]
    pub thread: Option<[u32; 3]>,
    /// The CTA of `--at`; any, if not given.
    #[arg(long, value_name = "X[,Y[,Z]]", value_parser = triple, requires = "at")]
    pub cta: Option<[u32; 3]>,
    /// Show shared memory too, as a table of f32, bf16, e4m3, s32 or another type; `:128B` after it where it is swizzled so.
    #[arg(long, value_name = "TYPE@OFFSET:ROWSxCOLS", requires = "at")]
    pub shared: Vec<Table>,
    /// Show every write of these bytes (4 if not given) of global memory, or of shared memory with `shared:` and an offset.
    #[arg(long, value_name = "ADDRESS[:BYTES]")]
    pub watch: Vec<Watch>,
    /// Show so much of a launch for each `--at` and `--watch`: 8 times and 64 writes, if not given.
    #[arg(long, value_name = "N")]
    pub times: Option<u64>,
}

impl Seeing {
    /// What the interpreter is asked.
    pub fn observe(&self) -> Observe {
        let trace = self.trace.as_ref().map(|_| TraceRequest {
            ctas: self.trace_cta.clone(),
            from: self.trace_from,
            limit: self.trace_limit,
        });
        let probe = |p: &Probe| Probe {
            thread: self.thread,
            cta: self.cta,
            times: self.times.unwrap_or(Probe::TIMES),
            tables: self.shared.clone(),
            ..p.clone()
        };
        let watch = |w: &Watch| Watch { times: self.times.unwrap_or(Watch::TIMES), ..*w };
        Observe { trace, probes: self.at.iter().map(probe).collect(), watches: self.watch.iter().map(watch).collect() }
    }

    /// Writes and says what was seen, launch by launch.
    pub fn show(&self, observed: Vec<Observed>) -> Result<(), String> {
        for seen in observed.iter().flat_map(|o| &o.sightings) {
            note(format_args!("{seen}\n"));
        }
        for write in observed.iter().flat_map(|o| &o.writes) {
            note(format_args!("{write}\n"));
        }
        if !self.at.is_empty() && observed.iter().all(|o| o.sightings.is_empty()) {
            note("no thread came to a line of --at\n");
        }
        if !self.watch.is_empty() && observed.iter().all(|o| o.writes.is_empty()) {
            note("nothing wrote the bytes of --watch\n");
        }
        let Some(file) = &self.trace else { return Ok(()) };
        let traces: Vec<Trace> = observed.into_iter().filter_map(|o| o.trace).collect();
        for cut in traces.iter().filter_map(|t| t.cut.as_ref()) {
            note(format_args!("{}: {cut}\n", file.display()));
        }
        Trace::write(&traces, file).map_err(|e| format!("{}: {e}", file.display()))
    }
}

fn trace_file(text: &str) -> Result<PathBuf, String> {
    match Path::new(text).extension().and_then(|e| e.to_str()) {
        Some("txt" | "json") => Ok(text.into()),
        _ => Err("a trace is a .txt or a .json file".into()),
    }
}

/// One to three numbers; those that lack are 0.
fn triple(text: &str) -> Result<[u32; 3], String> {
    let bad = || format!("{text:?} is not X, X,Y or X,Y,Z");
    let numbers: Vec<u32> = text.split(',').map(|n| n.trim().parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
    match numbers[..] {
        [x] => Ok([x, 0, 0]),
        [x, y] => Ok([x, y, 0]),
        [x, y, z] => Ok([x, y, z]),
        _ => Err(bad()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|_| format!("{text} is no number of seconds"))
}

/// Ctrl-C asks all launches where they stand, the second ends them with what they have so far, the third ends the process.
pub fn interrupt() -> Result<Interrupt, String> {
    let interrupt = Interrupt::new(|table| note(format_args!("{table}Ctrl-C again ends the launch.\n")));
    let (pressed, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let refused = |e: std::io::Error| format!("Ctrl-C cannot be listened to: {e}");
    let sigint = signal_hook::consts::SIGINT;
    signal_hook::flag::register_conditional_shutdown(sigint, crate::INTERRUPTED.into(), last.clone()).map_err(refused)?;
    signal_hook::flag::register(sigint, pressed.clone()).map_err(refused)?;
    let asked = interrupt.clone();
    // A signal handler may do next to nothing, so a thread does it.
    std::thread::spawn(move || {
        let mut before = false;
        loop {
            std::thread::sleep(Duration::from_millis(20));
            if pressed.swap(false, Ordering::Relaxed) {
                if before {
                    last.store(true, Ordering::Relaxed);
                    asked.stop();
                    return;
                }
                asked.look();
                before = true;
            }
        }
    });
    Ok(interrupt)
}
