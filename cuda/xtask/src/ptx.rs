//! `cargo xtask ptx`: every `.cu` to the `.ptx` beside it, the same bytes on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use ptx::nvrtc::Nvrtc;

use crate::ptxas;
use crate::toolchain::Toolchain;

/// Where kernels live; every `.cu` below these folders is compiled.
const FOLDERS: [&str; 3] = ["cuda/kernels", "cuda/ptx/tests/kernels", "cuda/ptx/examples"];

/// The task: see the command's help.
pub fn run(args: &[String]) -> Result<(), String> {
    let mut check = false;
    let mut names: Vec<&str> = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--check" => check = true,
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}; see `cargo xtask --help`")),
            name => names.push(name),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(|e| e.to_string())?;
    // NVRTC then sees, and writes, paths relative to the repository.
    std::env::set_current_dir(&root).map_err(|e| format!("{}: {e}", root.display()))?;

    let sources = sources(&names)?;
    let toolchain = Toolchain::find(&root)?;
    let nvrtc = Nvrtc::load(&toolchain.nvrtc).map_err(|e| e.to_string())?;
    let failures: Vec<String> = sources.iter().filter_map(|source| one(source, check, &root, &toolchain, &nvrtc).err()).collect();
    match failures.len() {
        0 => Ok(()),
        n => Err(format!("{n} of {} failed\n{}", sources.len(), failures.join("\n"))),
    }
}

/// The sources whose path contains one of `names`, or all; relative to the repository, where the process is.
pub fn sources(names: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut sources = Vec::new();
    for folder in FOLDERS {
        find_sources(Path::new(folder), &mut sources)?;
    }
    sources.sort();
    if let Some(name) = names.iter().find(|name| !sources.iter().any(|s| s.to_string_lossy().contains(**name))) {
        return Err(format!("no source below {} has {name:?} in its path", FOLDERS.join(" or ")));
    }
    sources.retain(|s| names.is_empty() || names.iter().any(|name| s.to_string_lossy().contains(name)));
    Ok(sources)
}

fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() {
            find_sources(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "cu") {
            found.push(path);
        }
    }
    Ok(())
}

/// Compiles one source, assembles the outcome, and writes or compares it.
fn one(source: &Path, check: bool, root: &Path, toolchain: &Toolchain, nvrtc: &Nvrtc) -> Result<(), String> {
    let name = source.to_string_lossy();
    let text = fs::read_to_string(source).map_err(|e| format!("{name}: {e}"))?;
    let comments = Comments::of(&text, &name)?;
    let include = |folder: &Path| format!("--include-path={}", folder.display());
    let options = [
        format!("--gpu-architecture={}", comments.arch.replace("sm_", "compute_")),
        "--std=c++17".to_string(),
        "--generate-line-info".to_string(),
        include(source.parent().unwrap_or(Path::new("."))),
        include(Path::new(FOLDERS[0])),
        include(&toolchain.include),
    ];
    let raw = nvrtc.compile(&name, &text, &options).map_err(|log| format!("{name}: NVRTC refuses it\n{log}"))?;
    let ptx = tidy(&raw, &name, root);

    let committed = source.with_extension("ptx");
    let before = fs::read_to_string(&committed).ok();
    let assembled = if check { root.join("target/toolchain/check.ptx") } else { committed.clone() };
    fs::write(&assembled, &ptx).map_err(|e| format!("{}: {e}", assembled.display()))?;

    println!("{name} ({})", comments.arch);
    let report = ptxas::assemble(&toolchain.ptxas, &assembled, Path::new("/dev/null"));
    let report = report.map_err(|log| format!("{name}: ptxas refuses it\n{log}"))?;
    let mut problems = Vec::new();
    for usage in &report.usages {
        println!(
            "    {}: {} registers, {} B shared, {} B stack, {} B spilled",
            usage.name, usage.registers, usage.shared, usage.stack, usage.spills
        );
        if usage.spills > 0 && !comments.may_spill.contains(&usage.name) {
            problems.push(format!("{name}: {} spills {} B and no comment allows it", usage.name, usage.spills));
        }
    }
    if check && before.as_deref() != Some(ptx.as_str()) {
        problems.push(match &before {
            None => format!("{}: not there; run `cargo xtask ptx`", committed.display()),
            Some(old) => {
                let line = old.lines().zip(ptx.lines()).position(|(a, b)| a != b).unwrap_or(old.lines().count()) + 1;
                format!("{}:{line}: not what the source gives; run `cargo xtask ptx`", committed.display())
            }
        });
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// The lines of a source that steer its compilation, or excuse what came of it.
pub struct Comments {
    pub arch: String,
    /// Kernels.
    pub may_spill: Vec<String>,
    /// What ptxas may complain of.
    pub may_complain: Vec<String>,
}

impl Comments {
    pub fn of(source: &str, name: &str) -> Result<Comments, String> {
        let mut comments = Comments { arch: "sm_80".to_string(), may_spill: Vec::new(), may_complain: Vec::new() };
        let excused = |line: &str, what: &str| match line.split_once(':') {
            Some((excused, reason)) if !reason.trim().is_empty() => Ok(excused.trim().to_string()),
            _ => Err(format!("{name}: `// {what}:` is followed by what it excuses, a colon and a reason")),
        };
        for line in source.lines() {
            if let Some(arch) = line.strip_prefix("// arch:") {
                comments.arch = arch.trim().to_string();
            } else if let Some(rest) = line.strip_prefix("// spills:") {
                comments.may_spill.push(excused(rest, "spills")?);
            } else if let Some(rest) = line.strip_prefix("// ptxas:") {
                comments.may_complain.push(excused(rest, "ptxas")?);
            }
        }
        Ok(comments)
    }
}

/// Takes out what differs between machines and runs: the compiler's build identifier, absolute paths, times and sizes of files, and
/// the numbers of calls, which go on counting from one source to the next.
fn tidy(raw: &str, source: &str, root: &Path) -> String {
    let mut ptx = format!("// From {source} by `cargo xtask ptx`; edit that.\n");
    let body = raw.lines().skip_while(|line| line.trim().is_empty() || line.trim_start().starts_with("//"));
    let root = format!("{}/", root.display());
    for line in body {
        let line = line.split_once("// callseq").map_or(line, |(code, _)| code).trim_end();
        match line.trim_start().strip_prefix(".file") {
            Some(rest) => {
                let mut quoted = rest.split('"');
                let (index, path) = (quoted.next().unwrap_or("").trim(), quoted.next().unwrap_or(""));
                // Headers of the toolchain are called as a source includes them.
                let path = path.strip_prefix(&root).unwrap_or(path).trim_start_matches("./");
                let path = path.rsplit_once("cuda_runtime/include/").map_or(path, |(_, header)| header);
                ptx.push_str(&format!("\t.file\t{index} \"{path}\""));
            }
            None => ptx.push_str(line),
        }
        ptx.push('\n');
    }
    ptx.truncate(ptx.trim_end().len());
    ptx.push('\n');
    ptx
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_machines_goes() {
        let raw = "//\n// Compiler Build ID: CL-1\n//\n\n.version 8.4\n\t.file\t1 \"/r/cuda/kernels/a.cu\", 17000, 12\n\
                   \t.file\t2 \"/r/target/toolchain/nvidia/cuda_runtime/include/cuda_fp16.hpp\"\nret; // kept\n\t{ // callseq 3, 0\n\n";
        let want = "// From cuda/kernels/a.cu by `cargo xtask ptx`; edit that.\n.version 8.4\n\
                    \t.file\t1 \"cuda/kernels/a.cu\"\n\t.file\t2 \"cuda_fp16.hpp\"\nret; // kept\n\t{\n";
        assert_eq!(tidy(raw, "cuda/kernels/a.cu", Path::new("/r")), want);
    }

    #[test]
    fn a_spill_needs_a_reason() {
        let comments = Comments::of("// arch: sm_90a\n// spills: k: cold path\n", "a.cu").unwrap();
        assert_eq!((comments.arch.as_str(), comments.may_spill), ("sm_90a", vec!["k".to_string()]));
        assert!(Comments::of("// spills: k:\n", "a.cu").is_err());
        assert_eq!(Comments::of("// ptxas: C7515: slow on purpose\n", "a.cu").unwrap().may_complain, ["C7515"]);
        assert!(Comments::of("// ptxas: C7515\n", "a.cu").is_err());
    }
}
