//! `cargo xtask pack`: everything that a machine with only a driver needs to test and time the kernels, in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What goes into the folder: how `cargo` builds it, and where it comes to lie.
const BUILDS: [(&[&str], &str); 3] = [
    (&["test", "--no-run", "--package", "scratchwork-cuda"], "tests"),
    (&["bench", "--no-run", "--package", "scratchwork", "--bench", "*"], "benches"),
    (
        &[
            "build",
            "--package",
            "scratchwork",
            "--example",
            "op_conformance",
            "--example",
            "hf_parity",
            "--example",
            "grpo_r1",
            "--example",
            "hopper_bench",
        ],
        "examples",
    ),
];

/// Folders of data that the programs read, copied under their own paths.
const FIXTURES: [&str; 1] = ["tests/fixtures"];

/// The task: see the command's help.
pub fn run(args: &[String]) -> Result<(), String> {
    let folder = match args {
        [] => "pack",
        [folder] if !folder.starts_with('-') => folder,
        _ => return Err("pack takes a folder and nothing else; see `cargo xtask --help`".into()),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(|e| e.to_string())?;
    std::env::set_current_dir(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let pack = PathBuf::from(folder);
    if pack.exists() && !pack.join(SCRIPT).exists() {
        return Err(format!("{folder} is there and is no pack"));
    }
    let _ = fs::remove_dir_all(&pack);
    for (command, place) in BUILDS {
        for (name, executable) in build(command)? {
            copy(&executable, &pack.join(place).join(name))?;
        }
    }
    for fixture in FIXTURES {
        copy_folder(Path::new(fixture), &pack.join(fixture))?;
    }
    let script = pack.join(SCRIPT);
    fs::write(&script, RUN).map_err(|e| format!("{}: {e}", script.display()))?;
    println!("{folder} holds {:.0} MB; on the machine with the card: sh {folder}/{SCRIPT}", size(&pack) as f64 / 1e6);
    Ok(())
}

const SCRIPT: &str = "run.sh";

/// Runs everything from the folder that it lies in.
const RUN: &str = r#"#!/bin/sh
# Runs the tests on the card, each in its own process, and keeps what they say in results/.
# With arguments, only what is named so: sh run.sh tests hf_parity
cd "$(dirname "$0")" || exit 1
export SCRATCHWORK_DEVICE=cuda
mkdir -p results
# Comparisons with cuBLAS use whichever is on this machine.
for cublas in $(ls -d /usr/local/cuda*/lib64/libcublas.so* /usr/local/lib/python3*/*-packages/nvidia/cublas/lib/libcublas.so* \
    /usr/lib/python3*/*-packages/nvidia/cublas/lib/libcublas.so* /opt/conda/lib/libcublas.so* 2>/dev/null); do
    export SCRATCHWORK_CUBLAS="$cublas" LD_LIBRARY_PATH="$(dirname "$cublas"):$LD_LIBRARY_PATH"
    break
done
nvidia-smi >results/card.txt 2>&1
failed=0
filters="$*"
# run NAME PROGRAM ARGUMENTS...
run() {
    name="$1"
    shift
    wanted=1
    for filter in $filters; do wanted=0; case "$name" in *"$filter"*) wanted=1; break ;; esac; done
    [ "$wanted" = 1 ] || return
    out="results/$(echo "$name" | tr / _).txt"
    if "$@" >"$out" 2>&1; then echo "ok      $name"; else echo "FAILED  $name, see $out"; failed=1; fi
}
for program in tests/*; do
    [ -f "$program" ] && run "$program" "./$program" --test-threads=1
done
run examples/op_conformance ./examples/op_conformance tests/fixtures/opinfo_f32 --device cuda
for model in tests/fixtures/deepseek*; do
    run "examples/hf_parity_$(basename "$model")" ./examples/hf_parity "$model" --device cuda
done
run examples/hopper_bench ./examples/hopper_bench --device cuda --json results/hopper_bench.json
run examples/grpo_r1 ./examples/grpo_r1 --quick --device cuda --out results/grpo_r1
for program in benches/*; do
    run "$program" "./$program" --bench
done
exit $failed
"#;

/// Builds without symbols; the names and paths of what came of it.
fn build(command: &[&str]) -> Result<Vec<(String, PathBuf)>, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(command).arg("--message-format=json-render-diagnostics");
    // `bench` has the profile by itself.
    if command[0] != "bench" {
        cargo.arg("--release");
    }
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols").env("CARGO_PROFILE_BENCH_STRIP", "symbols").stderr(Stdio::inherit());
    let output = cargo.output().map_err(|e| format!("cargo cannot be run: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo {} failed", command.join(" ")));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let all: Vec<(String, PathBuf)> = messages.lines().filter_map(executable).collect();
    if all.is_empty() { Err(format!("cargo {} made no program", command.join(" "))) } else { Ok(all) }
}

/// The target's name and the program in one of cargo's messages, if it tells of one.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let target = message.get("target")?;
    let (name, kind) = (target.get("name")?.as_str()?, target.get("kind")?.get(0)?.as_str()?);
    // The unit tests of a library have its name.
    Some((if kind == "lib" { format!("{name}_unit") } else { name.to_string() }, path))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let parent = to.parent().expect("a file in a folder");
    fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    fs::copy(from, to).map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    for entry in fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))? {
        let path = entry.map_err(|e| format!("{}: {e}", from.display()))?.path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() { copy_folder(&path, &target)? } else { copy(&path, &target)? }
    }
    Ok(())
}

/// Bytes of all files below.
fn size(path: &Path) -> u64 {
    let below = |folder: fs::ReadDir| folder.flatten().map(|e| size(&e.path())).sum();
    if path.is_dir() { fs::read_dir(path).map_or(0, below) } else { fs::metadata(path).map_or(0, |m| m.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let message = |kind: &str, executable: &str| {
            format!(r#"{{"reason":"compiler-artifact","target":{{"name":"cuda","kind":["{kind}"]}},"executable":{executable}}}"#)
        };
        assert_eq!(executable(&message("test", "\"/t/cuda-1\"")), Some(("cuda".into(), "/t/cuda-1".into())));
        assert_eq!(executable(&message("lib", "\"/t/cuda-2\"")), Some(("cuda_unit".into(), "/t/cuda-2".into())));
        assert_eq!(executable(&message("lib", "null")), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
