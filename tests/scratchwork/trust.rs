//! The bars against PyTorch and transformers, through the programs that a user runs.

use serde_json::{Value, json};

/// Where the bars are held: a Hopper GPU played by an interpreter meets the CPU's.
const DEVICES: [&str; 2] = ["cpu", "interpreted:3"];

/// Runs an example on a folder of `tests/fixtures`; what it prints on stdout, and whether it succeeded.
fn run(name: &str, folder: &str, device: &str) -> (Value, bool) {
    let output = super::example(name).arg(format!("tests/fixtures/{folder}")).args(["--device", device]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let line = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}{}", String::from_utf8_lossy(&output.stderr)));
    (line, output.status.success())
}

#[test]
fn every_case_of_pytorch_passes() {
    for device in DEVICES {
        let (line, success) = run("op_conformance", "opinfo_f32", device);
        let in_f64 = line["passed_in_f64"].as_array().unwrap().len();
        assert!(in_f64 <= 12, "{device}: rounding decides in more and more cases: {line}");
        let expected =
            json!({ "cases": 580, "passed": 580, "failed": [], "unsupported": [], "passed_in_f64": line["passed_in_f64"] });
        assert_eq!(line, expected, "{device}");
        assert!(success, "{device}");
    }
}

#[test]
fn models_agree_with_transformers() {
    let folders = ["deepseek_v3_tiny", "deepseek_v3_tiny_yarn"];
    for (folder, device) in folders.iter().flat_map(|f| DEVICES.map(|d| (f, d))) {
        let (line, success) = run("hf_parity", folder, device);
        for (key, bar) in [("logits_max_abs", 1e-4), ("loss_abs", 1e-5), ("grad_max_rel", 1e-3)] {
            assert!(line[key].as_f64().unwrap() <= bar, "{folder} on {device}: {line}");
        }
        assert!(line["greedy_equal"] == true && line["saved_equal"] == true && success, "{folder} on {device}: {line}");
    }
}

/// Each of the numbered examples asserts what it shows and ends with one line of JSON.
#[test]
fn what_a_reader_opens_first_runs() {
    for name in ["01_tensor", "02_autograd", "03_module", "04_attention", "05_custom_op", "06_custom_reward"] {
        let output = super::example(name).output().unwrap();
        let (said, line) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{name}: {said}");
        assert!(serde_json::from_str::<Value>(&line).is_ok_and(|v| v.is_object()), "{name}: {line}");
    }
}

#[test]
fn nothing_run_is_nothing_passed() {
    let output = super::example("op_conformance").args(["tests/fixtures/opinfo_f32", "--only", "no_such_op"]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_folder_without_vectors_is_refused() {
    for name in ["op_conformance", "hf_parity"] {
        let output = super::example(name).arg("tests/fixtures").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}: {error}");
        assert!(error.contains("tests/fixtures"), "{name}: {error}");
    }
}
