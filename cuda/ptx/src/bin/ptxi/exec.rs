//! `ptxi exec`: a program with the stand-in for CUDA's libraries in front of the loader's path.

mod label;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Instant;

use ptx::Options;
use ptx::standin::{Line, Order, VARIABLE};
use ptx::suppress::Suppressions;
use serde_json::json;

use crate::{Exec, note};

/// The library, as cargo calls it.
const STANDIN: &str = "libptx_standin.so";

/// Runs the program: the exit status of `ptxi`.
pub fn exec(args: &Exec) -> Result<u8, String> {
    let standin = standin(args)?;
    let folder = Folder::new()?;
    let report = folder.0.join("records.jsonl");
    prepare(&folder.0, &standin).map_err(|e| format!("{}: {e}", folder.0.display()))?;
    let capture = match &args.capture {
        Some(folder) => {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            Some(fs::canonicalize(folder).map_err(|e| format!("{}: {e}", folder.display()))?)
        }
        None => None,
    };
    // The program may work in another folder.
    let absolute = |file: &PathBuf| std::path::absolute(file).map_err(|e| format!("{}: {e}", file.display()));
    let trace = args.seeing.trace.as_ref().map(absolute).transpose()?;
    let suppress = match &args.rules.suppress {
        Some(file) => {
            Suppressions::read(file).map_err(|e| e.to_string())?;
            Some(fs::canonicalize(file).map_err(|e| format!("{}: {e}", file.display()))?)
        }
        None => None,
    };
    let order = Order {
        options: Options {
            seed: args.rules.seed,
            hazards: !args.no_hazards,
            strict: args.rules.strict,
            counters: args.counters,
            election: args.rules.elect.into(),
            multiprocessors: args.multiprocessors,
            step_limit: args.seeing.step_limit.unwrap_or(u64::MAX),
            time_limit: args.seeing.time_limit,
            observe: args.seeing.observe(),
            ..Options::default()
        },
        suppress,
        capture,
        capture_only: args.capture_only,
        only: args.only.clone(),
        launch: args.launch,
        trace,
        report: Some(report.clone()),
    };
    let mut path = folder.0.clone().into_os_string();
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH").filter(|p| !p.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    // Ctrl-C is the program's to answer; what came of it is told afterwards.
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default()).map_err(|e| format!("Ctrl-C: {e}"))?;
    let start = Instant::now();
    let status = Command::new(&args.program)
        .args(&args.arguments)
        .env("LD_LIBRARY_PATH", path)
        .env(VARIABLE, json!(order).to_string())
        .status()
        .map_err(|e| format!("{}: {e}", args.program.display()))?;
    let lines = read(&report)?;
    let wrong = summary(args, lines, start.elapsed().as_secs_f64(), status)?;
    let own = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) as u8;
    Ok(if own == 0 && wrong { 1 } else { own })
}

/// Where the library is: as given, or beside `ptxi`.
fn standin(args: &Exec) -> Result<PathBuf, String> {
    let path = match &args.standin {
        Some(path) => path.clone(),
        None => {
            let own = std::env::current_exe().map_err(|e| format!("where ptxi lies is not known: {e}"))?;
            own.with_file_name(STANDIN)
        }
    };
    fs::canonicalize(&path).map_err(|e| {
        let how = "build it with `cargo build -p scratchwork-ptx-standin`, or say where it is with --standin";
        format!("{}, which stands in for CUDA's libraries: {e}; {how}", path.display())
    })
}

/// A folder of our own that goes when we do.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, String> {
        let base = std::env::temp_dir();
        for n in 0..1000 {
            let path = base.join(format!("ptxi-exec-{}-{n}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(format!("{}: {e}", path.display())),
            }
        }
        Err(format!("{}: no name for a folder is free", base.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The library under the driver's name, and a label for each runtime.
fn prepare(folder: &Path, standin: &Path) -> io::Result<()> {
    for name in ["libcuda.so.1", "libcuda.so"] {
        symlink(standin, folder.join(name))?;
    }
    let needed = standin.as_os_str().as_encoded_bytes();
    for name in ["libcudart.so.12", "libcudart.so.13"] {
        fs::write(folder.join(name), label::shared_object(name, needed))?;
    }
    Ok(())
}

fn read(report: &Path) -> Result<Vec<Line>, String> {
    let text = match fs::read_to_string(report) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|e| format!("{}: {e}", report.display()))?,
    };
    let line = |line: &str| serde_json::from_str(line).map_err(|e| format!("a line of the stand-in's report: {e}"));
    text.lines().map(line).collect()
}

/// Says what came of it, in words and as JSON: whether a kernel was wrong, or something could not be done.
fn summary(args: &Exec, lines: Vec<Line>, seconds: f64, status: ExitStatus) -> Result<bool, String> {
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Launch(record) => records.push(record),
            Line::Refused(what) => refused.push(what),
        }
    }
    let instructions: u64 = records.iter().map(|r| r.instructions).sum();
    let mut seen = BTreeSet::new();
    let (mut hazards, mut strict, mut faults, mut counters) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for record in &records {
        for (found, list) in [(&record.hazards, &mut hazards), (&record.strict, &mut strict)] {
            for hazard in found {
                if seen.insert((&hazard.kernel, hazard.kind, hazard.level, hazard.at.ptx_line)) {
                    let mut value = json!(hazard);
                    value["launch"] = json!(record.launch);
                    list.push(value);
                }
            }
        }
        faults.extend(record.fault.as_ref().map(|f| format!("launch {} of {}: {f}", record.launch, record.kernel)));
        counters.extend(record.counters.clone());
    }
    let suppressed: u64 = records.iter().map(|r| r.suppressed).sum();
    let wrong = !hazards.is_empty() || !faults.is_empty() || !refused.is_empty();
    let mut found = if wrong { format!("{} hazards, {} faults", hazards.len(), faults.len()) } else { "clean".to_string() };
    for (count, what) in [(refused.len() as u64, "refused"), (strict.len() as u64, "strict"), (suppressed, "suppressed")] {
        if count > 0 {
            found.push_str(&format!(", {count} {what}"));
        }
    }
    let kernels = records.iter().fold(0.0, |sum, r| sum + r.seconds);
    note(format_args!(
        "ptxi exec: {} launches, {instructions} thread instructions in {kernels:.2} of {seconds:.2} s: {found}; the program: {status}\n",
        records.len()
    ));
    if let Some(path) = &args.json {
        let mut line = json!({
            "launches": records.len(),
            "instructions": instructions,
            "seconds": seconds,
            "status": status.code(),
            "hazards": hazards,
            "strict": strict,
            "suppressed": suppressed,
            "faults": faults,
            "refused": refused,
        });
        if args.counters {
            line["counters"] = json!(counters);
        }
        fs::write(path, format!("{line}\n")).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(wrong)
}
