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
        assert_eq!(line, json!({ "cases": 580, "passed": 580, "failed": [], "unsupported": [] }), "{device}");
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

#[test]
fn a_folder_without_vectors_is_refused() {
    for name in ["op_conformance", "hf_parity"] {
        let output = super::example(name).arg("tests/fixtures").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}: {error}");
        assert!(error.contains("tests/fixtures"), "{name}: {error}");
    }
}
