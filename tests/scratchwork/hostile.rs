//! Every flag of every program with values that nobody should give.

use std::fs;
use std::process::Command;

use crate::example;
use crate::flagship::{MICRO, Place};

/// Flags of a program that take a value, as its help lists them.
fn flags(name: &str) -> Vec<String> {
    let help = String::from_utf8(example(name).arg("--help").output().unwrap().stdout).unwrap();
    let flag = |line: &str| {
        let mut words = line.split_whitespace().filter(|word| word.starts_with("--") || word.starts_with('<'));
        let flag = words.find(|word| word.starts_with("--"))?;
        words.next().filter(|word| word.starts_with('<')).map(|_| flag.to_owned())
    };
    help.lines().filter(|line| line.trim_start().starts_with('-')).filter_map(flag).collect()
}

/// Runs a program, which ends by itself with a result or with one error.
fn ends_in_words(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0..=2)), "{command:?}: {} {said}", output.status);
    assert!(!said.contains("panicked") && !said.contains("Os {"), "{command:?}: {said}");
    assert!(
        output.status.success() || said.lines().filter(|line| line.starts_with("error: ")).count() == 1,
        "{command:?}: {said}"
    );
}

#[test]
fn every_flag_is_checked_before_it_is_used() {
    let place = Place::new();
    let nano = MICRO.replace("\nsteps = 60", "\nsteps = 1").replace("\nsteps = 4", "\nsteps = 1");
    place.write("nano.toml", nano.replace("batch_size = 16", "batch_size = 2"));
    place.succeed("--config nano.toml --out run");
    let fixtures = std::env::current_dir().unwrap().join("tests/fixtures");
    let [tiny, vectors] = ["deepseek_v3_tiny", "opinfo_f32"].map(|name| fixtures.join(name).display().to_string());
    let mut walked = 0;
    for (name, usual) in [
        ("grpo_r1", vec!["--config", "nano.toml", "--out", "again"]),
        ("generate", vec!["run", "1,2:3"]),
        ("compare_runs", vec!["curves.svg", "run"]),
        ("hf_parity", vec![&tiny]),
        ("op_conformance", vec![&vectors, "--only=clamp"]),
    ] {
        for flag in flags(name) {
            for value in [
                "",
                "0",
                "-1",
                "1e12",
                "1000000000000",
                "18446744073709551615",
                "18446744073709551616",
                "1e-41",
                "nan",
                "inf",
                "\u{fffd}",
            ] {
                // Any name will do for a folder, and for cases that there are not.
                if flag == "--out" && !value.is_empty() || flag == "--only" {
                    continue;
                }
                let mut command = example(name);
                command.current_dir(place.join(""));
                let usual: Vec<&&str> = usual.iter().collect();
                let at = usual.iter().position(|word| ***word == *flag);
                let kept =
                    usual.iter().enumerate().filter(|&(i, _)| at.is_none_or(|at| i != at && i != at + 1)).map(|(_, word)| word);
                command.args(kept).arg(format!("{flag}={value}"));
                ends_in_words(command);
                let _ = fs::remove_dir_all(place.join("again"));
                walked += 1;
            }
        }
    }
    assert!(walked > 120, "{walked}");
}

#[test]
fn problems_of_any_size_are_answered_or_refused() {
    let place = Place::new();
    let nano = MICRO.replace("\nsteps = 60", "\nsteps = 1").replace("\nsteps = 4", "\nsteps = 1");
    place.write("nano.toml", nano);
    place.succeed("--config nano.toml --out run");
    let long = format!("{}:7", vec!["1"; 5000].join(","));
    for problem in [
        "",
        ":",
        "1,2:",
        ",:3",
        "1,2:99999999999999999999",
        "9223372036854775807,9223372036854775807:1",
        "0,0:0",
        "-1,2:3",
        "1+=",
        "9223372036854775807+1=",
        &long,
    ] {
        let mut command = example("generate");
        command.args(["run", "--samples", "2", "--", problem]).current_dir(place.join(""));
        ends_in_words(command);
    }
}
