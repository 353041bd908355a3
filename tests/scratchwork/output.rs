//! Output that nobody takes, and programs that are told to stop.

use std::fs::{self, File};
use std::io;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::example;
use crate::flagship::{MICRO, Place};

/// A run of a moment.
fn short(place: &Place) {
    place.write("short.toml", MICRO.replace("\nsteps = 60", "\nsteps = 2").replace("\nsteps = 4", "\nsteps = 2"));
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    io::pipe().unwrap().1.into()
}

/// A disk without room.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a program whose result nobody takes, or whose explanations nobody takes.
fn with_nobody_there(program: &mut dyn FnMut() -> Command) {
    for lost in [closed, full] {
        let output = program().stderr(lost()).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{:?}: {}", program(), output.status);
    }
    let output = program().stdout(closed()).output().unwrap();
    let words = said(&output);
    assert!(output.status.success() && !words.contains("error") && !words.contains("panicked"), "{:?}: {words}", program());
    let output = program().stdout(full()).output().unwrap();
    let words = said(&output);
    assert_eq!(output.status.code(), Some(1), "{:?}: {words}", program());
    let expected = "error: cannot write to standard output: No space left on device (os error 28)";
    assert_eq!(words.lines().last(), Some(expected), "{:?}", program());
    assert!(!words.contains("panicked"), "{words}");
    let output = program().stdout(full()).stderr(closed()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{:?}", program());
}

#[test]
fn output_that_nobody_takes_ends_no_run() {
    let place = Place::new();
    short(&place);
    with_nobody_there(&mut || place.command("--config short.toml --out run".split(' ')));
    let model = fs::read(place.join("run/model/model.safetensors")).unwrap();
    // The five runs before it were moved aside, and all came to the same end.
    for earlier in 1..5 {
        assert!(fs::read(place.join(&format!("run.{earlier}/model/model.safetensors"))).unwrap() == model, "run.{earlier}");
    }
    with_nobody_there(&mut || {
        let mut command = example("generate");
        command.args(["run", "1,2:3", "--samples", "2"]).current_dir(place.join(""));
        command
    });
    with_nobody_there(&mut || {
        let mut command = example("compare_runs");
        command.args(["curves.svg", "run", "run.1"]).current_dir(place.join(""));
        command
    });
}

#[test]
fn output_that_nobody_takes_ends_no_example() {
    for name in ["01_tensor", "02_autograd", "03_module", "04_attention", "05_custom_op", "06_custom_reward"] {
        with_nobody_there(&mut || example(name));
    }
    for (name, folder) in [("hf_parity", "deepseek_v3_tiny"), ("op_conformance", "opinfo_f32")] {
        with_nobody_there(&mut || {
            let mut command = example(name);
            command.arg(format!("tests/fixtures/{folder}"));
            if name == "op_conformance" {
                command.args(["--only", "add"]);
            }
            command
        });
    }
}

#[test]
fn evaluations_show_how_far_they_are() {
    let place = Place::new();
    short(&place);
    let words = said(&place.succeed("--config short.toml --out run"));
    // Lines are rare, but the first is always due.
    assert!(words.lines().any(|line| line.starts_with("base 2/2  measuring: ") && line.ends_with(" of 16 answers")), "{words}");
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn an_interrupted_run_says_how_it_goes_on() {
    let place = Place::new();
    place.write("long.toml", MICRO.replace("\nsteps = 60", "\nsteps = 100000"));
    let run = || {
        let mut command = place.command("--config long.toml --out run".split(' '));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = || fs::read(place.join("run/metrics.jsonl")).map_or(0, |b| b.iter().filter(|&&b| b == b'\n').count());
        while lines() < 30 {
            std::thread::sleep(Duration::from_millis(1));
        }
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        said(&output)
    };
    let words = run();
    assert_eq!(words.lines().last(), Some("interrupted: the run goes on with --resume run"), "{words}");
    // It does, from its last state.
    let resumed = place.command("--resume run".split(' ')).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&resumed);
    let words = said(&resumed.wait_with_output().unwrap());
    assert!(words.contains("base ") && !words.contains("error"), "{words}");
    // The second one ends it even where nobody reads: the pipe is full, and what is said waits for ever.
    let (_reader, writer) = io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    std::thread::spawn(move || io::copy(&mut io::repeat(b' '), &mut filler));
    std::thread::sleep(Duration::from_millis(200));
    let mut child = {
        let mut command = place.command("--resume run".split(' '));
        command.stdout(Stdio::null()).stderr(writer).spawn().unwrap()
    };
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..2 {
        interrupt(&child);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
