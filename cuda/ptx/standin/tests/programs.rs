//! Programs in CUDA C++, compiled by nvcc and run by `ptxi exec`: each checks itself and says "ok".
//!
//! They need nvcc 13, which comes from wheels (`cargo xtask nvcc`), and g++; so they run on demand:
//! `cargo test -p scratchwork-ptx-standin -- --ignored`. Where there is no nvcc they fail, and say so.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex};

/// PTX for sm_90a inside, and the runtime as a shared library.
const PTX: &[&str] = &["-gencode", "arch=compute_90a,code=compute_90a"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().expect("the repository")
}

/// Where programs and what they leave lie.
fn folder() -> PathBuf {
    let folder = root().join("target/standin");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// `ptxi`, with the library beside it, as they are now.
static PTXI: LazyLock<PathBuf> = LazyLock::new(|| {
    let args = ["build", "--quiet", "-p", "scratchwork-ptx", "-p", "scratchwork-ptx-standin"];
    let status = Command::new(env!("CARGO")).args(args).current_dir(root()).status().expect("cargo runs");
    assert!(status.success(), "ptxi or its library cannot be built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("debug/ptxi")
});

/// Compiles a program once in a process; other flags make another program.
fn compiled(name: &str, flags: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let tag: String = flags.concat().chars().filter(char::is_ascii_alphanumeric).collect();
    let out = folder().join(format!("{name}-{tag}"));
    let source = root().join(format!("cuda/ptx/standin/tests/programs/{name}.cu"));
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let mut nvcc = Command::new(env!("CARGO"));
    nvcc.args(["xtask", "nvcc", "--", "-std=c++17", "-lineinfo", "-cudart", "shared", "-ldl"]).args(flags).arg(&source);
    let done = nvcc.arg("-o").arg(&out).current_dir(root()).output().expect("cargo runs");
    assert!(done.status.success(), "nvcc 13 is not to be had, or refuses {name}.cu:\n{}", text(&done.stderr));
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program under `ptxi exec` with flags of both.
fn exec(flags: &[&str], program: &Path, args: &[&str]) -> Output {
    Command::new(&*PTXI).arg("exec").args(flags).arg(program).args(args).output().expect("ptxi runs")
}

/// The program ends with `status`, says what it should and nothing else that matters.
#[track_caller]
fn expect(done: &Output, status: i32, out: &str, err: &[&str]) {
    let (stdout, stderr) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(status), "{stdout}{stderr}");
    assert!(stdout.ends_with(out), "{stdout}{stderr}");
    for part in err {
        assert!(stderr.contains(part), "{part:?} is not in:\n{stdout}{stderr}");
    }
    // A library without versions would make the loader warn.
    assert!(!stderr.contains("no version information"), "{stderr}");
}

/// A program that is right from its start to its end.
#[track_caller]
fn clean(name: &str) {
    expect(&exec(&[], &compiled(name, PTX), &[]), 0, "ok\n", &[": clean;"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn memory_kernels_and_printf_in_order() {
    let program = compiled("add", PTX);
    let done = exec(&["--seed", "3"], &program, &[]);
    expect(&done, 0, "before\nthread 0 of 1000\nafter\nok\n", &["launches", "block [2048, 1, 1]"]);
    // The program's own status, and its arguments.
    expect(&exec(&[], &program, &["40", "7"]), 7, "ok\n", &["exit status: 7"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn every_compression_of_fat_binaries() {
    for mode in ["none", "speed", "size", "default"] {
        let flag = format!("--compress-mode={mode}");
        // Machine code and older PTX beside: the PTX for sm_90a is taken.
        let flags =
            ["-gencode", "arch=compute_80,code=[sm_80,compute_80]", "-gencode", "arch=compute_90a,code=[sm_90a,compute_90a]"];
        let program = compiled("add", &[&flags[..], &[&flag]].concat());
        expect(&exec(&[], &program, &[]), 0, "ok\n", &[]);
    }
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn machine_code_alone_is_named() {
    let program = compiled("race", &["-gencode", "arch=compute_90a,code=sm_90a"]);
    let done = exec(&[], &program, &[]);
    expect(
        &done,
        3,
        "no kernel image is available for execution on the device\n",
        &["holds machine code alone", "code=compute_90a"],
    );
    let program = compiled("race", &["-gencode", "arch=compute_100,code=compute_100"]);
    expect(&exec(&[], &program, &[]), 3, "for execution on the device\n", &["the PTX is for sm_100"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn symbols() {
    clean("symbols");
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn grid_sync() {
    expect(&exec(&[], &compiled("grid_sync", PTX), &[]), 0, "ok\n", &[": clean;", "need cudaFuncSetAttribute"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn clusters_and_tensor_maps() {
    expect(&exec(&[], &compiled("tma", PTX), &[]), 0, "ok\n", &[": clean;", "more than the 64 of the swizzle"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn the_driver_alone() {
    expect(&exec(&[], &compiled("driver", PTX), &[]), 0, "ok\n", &[": clean;", "no kernel `thrice`; it has twice"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn streams_events_and_boxes() {
    clean("streams");
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn graphs() {
    clean("graphs");
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn the_device_and_occupancy() {
    clean("device");
    // The program asks for 132; a smaller device says so.
    expect(&exec(&["--multiprocessors", "8"], &compiled("device", PTX), &[]), 3, "does not hold\n", &[]);
    let flags = ["--multiprocessors", "2"];
    expect(&exec(&flags, &compiled("grid_sync", PTX), &[]), 3, "too many blocks in cooperative launch\n", &["holds 6 of them"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn a_race_is_named_where_the_program_sees_nothing() {
    let program = compiled("race", PTX);
    let json = folder().join("race.json");
    let done = exec(&["--json", json.to_str().expect("a path")], &program, &[]);
    expect(&done, 1, "ok\n", &["data race in shared memory", "race.cu:", "exit status: 0"]);
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).expect("a summary")).expect("JSON");
    assert_eq!((&summary["launches"], &summary["hazards"][0]["kind"]), (&1.into(), &"shared_race".into()), "{summary}");
    // Not looked for, not found.
    expect(&exec(&["--no-hazards"], &program, &[]), 0, "ok\n", &[": clean;"]);
    expect(&exec(&["--only", "forward"], &program, &[]), 0, "ok\n", &[": clean;"]);
    expect(&exec(&["--only", "reverse", "--launch", "1"], &program, &[]), 1, "ok\n", &["data race"]);
}

/// What `ptxi run` says of a captured launch.
fn repeated(folder: &Path, launch: u32) -> serde_json::Value {
    let done = Command::new(&*PTXI).arg("run").arg(folder.join(format!("launch_{launch}.json"))).output().expect("ptxi runs");
    serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", text(&done.stdout), text(&done.stderr)))
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn captured_launches_are_repeated() {
    let folder = folder().join("captured");
    let _ = std::fs::remove_dir_all(&folder);
    let capture = |name: &str, flags: &[&str]| {
        let flags = [&["--capture", folder.to_str().expect("a path")], flags].concat();
        exec(&flags, &compiled(name, PTX), &[])
    };
    // A struct with a tensor map and a pointer inside.
    expect(&capture("tma", &[]), 0, "ok\n", &[]);
    let again = repeated(&folder, 1);
    assert_eq!((&again["launches"], again["hazards"].as_array().map(Vec::len)), (&1.into(), Some(0)), "{again}");
    // Constants, variables, and a cooperative launch.
    expect(&capture("symbols", &[]), 0, "ok\n", &[]);
    assert_eq!(repeated(&folder, 1)["hazards"].as_array().map(Vec::len), Some(0));
    expect(&capture("grid_sync", &[]), 0, "ok\n", &[]);
    assert_eq!(repeated(&folder, 1)["hazards"].as_array().map(Vec::len), Some(0));
    // The race is met again; only the chosen launch is written.
    std::fs::remove_dir_all(&folder).expect("it is there");
    expect(&capture("race", &["--only", "reverse"]), 1, "ok\n", &[]);
    let again = repeated(&folder, 1);
    assert_eq!(again["hazards"][0]["kind"], "shared_race", "{again}");
    std::fs::remove_dir_all(&folder).expect("it is there");
    expect(&capture("graphs", &["--launch", "2"]), 0, "ok\n", &[]);
    assert!(folder.join("launch_2.json").exists() && !folder.join("launch_1.json").exists());
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn a_launch_that_is_only_captured_does_not_run() {
    let folder = folder().join("captured_only");
    let _ = std::fs::remove_dir_all(&folder);
    let flags = ["--capture", folder.to_str().expect("a path"), "--capture-only", "--only", "reverse"];
    let done = exec(&flags, &compiled("race", PTX), &[]);
    // The race is in the kernel that did not run, and the launch file has it.
    assert!(!text(&done.stderr).contains("data race"), "{}", text(&done.stderr));
    assert_eq!(repeated(&folder, 1)["hazards"][0]["kind"], "shared_race");
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn a_fault_is_the_kernels_and_stays() {
    let program = compiled("fault", PTX);
    expect(&exec(&[], &program, &[]), 1, "ok\n", &["out of bounds", "fault.cu:"]);
    expect(&exec(&[], &program, &["assert"]), 1, "ok\n", &["assertion `data == nullptr` failed"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn what_is_not_offered_fails_by_its_name() {
    // The program is content; that something was missing is seen all the same.
    expect(&exec(&[], &compiled("refused", PTX), &[]), 1, "ok\n", &["cudaMallocArray is not offered", "1 refused"]);
}

#[test]
#[ignore = "needs nvcc from wheels"]
fn a_static_runtime_is_told_from_a_shared_one() {
    let program = compiled("race", &["-gencode", "arch=compute_90a,code=compute_90a", "-cudart", "static"]);
    let done = exec(&[], &program, &[]);
    assert_eq!(done.status.code(), Some(3), "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&done.stderr).contains("link with `-cudart shared`"), "{}", text(&done.stderr));
}

/// Every function that NVIDIA's runtime exports is there by name: a program that needs one that is not would not start.
#[test]
#[ignore = "needs nvcc from wheels"]
fn every_name_of_the_runtime_is_there() {
    compiled("race", PTX);
    let exports = |library: &Path| {
        let done = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().expect("nm runs");
        let name = |line: &str| line.split_whitespace().last().map(|n| n.split('@').next().unwrap_or(n).to_string());
        text(&done.stdout).lines().filter(|l| l.contains(" T ")).filter_map(name).collect::<std::collections::BTreeSet<_>>()
    };
    let theirs = exports(&root().join("target/toolchain13/nvidia/cu13/lib/libcudart.so.13"));
    let ours = exports(&PTXI.with_file_name("libptx_standin.so"));
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(theirs.len() > 400 && missing.is_empty(), "{missing:?}");
}
