//! The command as its user meets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

pub fn ptxi(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ptxi")).args(args).output().unwrap()
}

pub fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A folder of one test, gone with the guard.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("ptxi-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub fn write(&self, name: &str, value: &Value) -> String {
        let path = self.0.join(name);
        fs::write(&path, value.to_string()).unwrap();
        path.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn json_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "one line expected: {text}{errors}");
    serde_json::from_str(&text).unwrap()
}

/// A launch of `no_barrier`, `bulk_copy` or another kernel of `bugs.ptx` that takes an input, perhaps, and an output.
fn launch(entry: &str, input: bool) -> Value {
    let mut args = vec![json!({"buffer": "out"})];
    if input {
        args.insert(0, json!({"buffer": "in"}));
    }
    json!({
        "ptx": tests().join("kernels/bugs.ptx"), "entry": entry, "grid": [1, 1, 1], "block": [128, 1, 1],
        "buffers": {"in": {"bytes": 512, "random": {"dtype": "u32", "low": 0, "high": 100}}, "out": {"bytes": 512}},
        "args": args, "dump": {"out": "out.bin"},
    })
}

#[test]
fn every_launch_file_is_clean() {
    let all = tests().join("launches/all.json").display().to_string();
    let output = ptxi(&["run", &all, "--schedules", "2", "--threads", "2", "--strict", "--elect", "seeded"]);
    let line = json_line(&output);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}\n{errors}");
    assert_eq!(line["hazards"], json!([]));
    assert!(line["launches"].as_u64() > Some(100) && line["instructions"].as_u64() > Some(1_000_000), "{line}");
}

#[test]
fn a_clean_run_dumps_and_a_hazard_has_a_name_and_a_line() {
    let place = Place::new("run");
    let clean = place.write("clean.json", &launch("bulk_copy", true));
    let output = ptxi(&["run", &clean, "--schedules", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json_line(&output)["launches"], json!(3));
    assert_eq!(fs::read(place.0.join("out.bin")).unwrap().len(), 512);
    let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "a temporary file is left: {left:?}");

    let racy = place.write("racy.json", &launch("no_barrier", false));
    let output = ptxi(&["run", &racy]);
    assert_eq!(output.status.code(), Some(1));
    let hazard = &json_line(&output)["hazards"][0];
    assert_eq!(hazard["kind"], json!("shared_race"), "{hazard}");
    assert!(
        hazard["ptx_line"].as_u64() > Some(0) && hazard["source"]["file"] == json!("cuda/ptx/tests/kernels/bugs.cu"),
        "{hazard}"
    );
}

/// A store whose source may still be read when its CTA ends.
const LEAVES_EARLY: &str = "
    .version 8.4\n.target sm_90a\n.address_size 64
    .shared .align 16 .b8 buf[16];
    .visible .entry leaves_early(.param .u64 out) {
        .reg .b64 %out;
        ld.param.u64 %out, [out];
        st.shared.v4.u32 [buf], {1, 2, 3, 4};
        fence.proxy.async.shared::cta;
        cp.async.bulk.global.shared::cta.bulk_group [%out], [buf], 16;
        cp.async.bulk.commit_group;
        ret;
    }";

#[test]
fn strict_hazards_stand_apart_and_count_on_demand() {
    let place = Place::new("strict");
    fs::write(place.0.join("k.ptx"), LEAVES_EARLY).unwrap();
    let launch = json!({
        "ptx": "k.ptx", "entry": "leaves_early", "grid": [1, 1, 1], "block": [1, 1, 1],
        "buffers": {"out": {"bytes": 16}}, "args": [{"buffer": "out"}],
    });
    let file = place.write("k.json", &launch);
    let output = ptxi(&["run", &file]);
    let (line, words) = (json_line(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!((output.status.code(), &line["hazards"]), (Some(0), &json!([])), "{line}");
    assert_eq!((&line["strict"][0]["kind"], &line["strict"][0]["level"]), (&json!("missing_wait"), &json!("strict")), "{line}");
    assert_eq!(line["strict"][0]["kernel"], json!("leaves_early"));
    assert!(words.contains("strict: missing wait: the thread ended without waiting"), "{words}");

    let output = ptxi(&["run", &file, "--strict"]);
    let line = json_line(&output);
    assert_eq!((output.status.code(), &line["hazards"][0]["kind"], line.get("strict")), (Some(1), &json!("missing_wait"), None));
}

#[test]
fn suppressed_hazards_are_counted_and_useless_rules_named() {
    let place = Place::new("suppress");
    let racy = place.write("racy.json", &launch("no_barrier", false));
    let rules = json!([
        {"kernel": "no_*", "kind": "shared_race", "why": "a test"}, {"kind": "uninitialized_read"}, {"kernel": "other", "line": 7},
    ]);
    let output = ptxi(&["run", &racy, "--suppress", &place.write("rules.json", &rules)]);
    let (line, words) = (json_line(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!((output.status.code(), &line["hazards"]), (Some(0), &json!([])), "{line}{words}");
    assert!(line["suppressed"].as_u64() > Some(0), "{line}");
    assert!(
        words.contains("hazards suppressed") && words.contains("a suppression matched nothing: other, PTX line 7"),
        "{words}"
    );

    let output = ptxi(&["run", &racy, "--suppress", &place.write("rules.json", &json!([{"kind": "racy"}]))]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && words.contains("rules.json: unknown variant `racy`"), "{words}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let place = Place::new("seed");
    let file = tests().join("launches/gemm_n64.json").display().to_string();
    let run = |seed: &str| {
        let mut line = json_line(&ptxi(&["run", &file, "--seed", seed, "--counters"]));
        line["seconds"] = json!(0);
        line
    };
    assert_eq!(run("5"), run("5"));
    drop(place);
}

#[test]
fn counters_by_line_and_the_roofline() {
    let output = ptxi(&["run", &tests().join("launches/gemm_n64.json").display().to_string(), "--counters"]);
    let line = json_line(&output);
    let counters = &line["counters"][0];
    // Three tiles of 256 x 64 over 4 blocks of K.
    assert_eq!(counters["total"]["tensor_flops_16"], json!(3 * 2 * 256 * 64 * 256), "{}", counters["total"]);
    // A for each of three tiles, B once, which is multicast, C once; nothing out of bounds.
    assert_eq!(counters["total"]["tma_bytes"], json!(2 * (3 * 200 * 200 + 136 * 200 + 200 * 136)));
    let touched = 2 * (200 * 200 + 136 * 200 + 200 * 136);
    let footprint = counters["footprint_bytes"].as_u64().unwrap();
    assert!((touched..touched + 4 * 128).contains(&footprint), "{footprint} bytes touched, not about {touched}");
    assert!(!counters["roofline"].as_array().unwrap().is_empty());
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(table.contains("gemm_wgmma.cu:") || table.contains("hopper.cuh:"), "{table}");
}

#[test]
fn faults_exit_with_1() {
    let place = Place::new("faults");
    let mut trap = launch("stop", true);
    trap["ptx"] = json!(tests().join("kernels/messages.ptx"));
    trap["args"] = json!([{"buffer": "in"}]);
    trap["buffers"]["in"] = json!({"bytes": 512, "fill": 255});
    let output = ptxi(&["run", &place.write("trap.json", &trap)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(json_line(&output)["faults"][0].as_str().unwrap().contains("trap"));

    let mut print = launch("print", false);
    print["ptx"] = json!(tests().join("kernels/messages.ptx"));
    print["args"] = json!([{"i32": 2}]);
    let output = ptxi(&["run", &place.write("print.json", &print)]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut printed: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(String::from).collect();
    printed.sort();
    let want = |i: u32, x: &str| format!("thread {i} of 128: {x} text c 10000000000%");
    assert_eq!(printed, [want(0, " 0.00"), want(1, " 0.50")]);
}

#[test]
fn bad_files_name_the_key() {
    let place = Place::new("bad");
    let bad = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut value = launch("bulk_copy", true);
        change(&mut value);
        let file = place.write("bad.json", &value);
        let output = ptxi(&["run", &file]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(output.stdout.is_empty());
        for word in words.iter().chain(&["bad.json"]) {
            assert!(errors.contains(word), "{word:?} is not in: {errors}");
        }
    };
    bad(&|v| v["grid"] = json!([1, 0, 1]), &["grid", "three positive integers"]);
    bad(&|v| v["gird"] = json!([1, 1, 1]), &["gird", "unknown key"]);
    bad(&|v| v["entry"] = json!("nothing"), &["entry", "no kernel", "nothing", "bulk_copy"]);
    bad(&|v| v["args"] = json!([{"buffer": "out"}]), &["args", "2 parameters", "found 1"]);
    bad(&|v| v["args"][0] = json!({"u32": 1}), &["args[0]", "8 bytes", "found 4"]);
    bad(&|v| v["args"][1] = json!({"buffer": "no"}), &["args[1]", "\"no\""]);
    bad(&|v| v["args"][1] = json!({"u64": -1}), &["args[1].u64", "non-negative", "-1"]);
    bad(&|v| v["buffers"]["in"] = json!({"bytes": 4, "fill": 300}), &["buffers.in.fill", "0 to 255", "300"]);
    bad(&|v| v["dump"] = json!({"nowhere": "x"}), &["dump.nowhere", "no buffer"]);
    bad(
        &|v| {
            v["tensor_maps"] =
                json!({"t": {"buffer": "in", "dtype": "bf16", "dims": [64, 8], "strides_bytes": [100], "box": [64, 8]}})
        },
        &["tensor_maps.t", "100", "16"],
    );
    bad(
        &|v| v["tensor_maps"] = json!({"t": {"buffer": "in", "dtype": "bf17", "dims": [64], "box": [64]}}),
        &["tensor_maps.t.dtype", "bf17", "bf16"],
    );
    let missing = |v: &mut Value| v["ptx"] = json!("missing.ptx");
    let file = place.write("missing.json", &{
        let mut value = launch("bulk_copy", true);
        missing(&mut value);
        value
    });
    let output = ptxi(&["run", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.ptx"));
    assert_eq!(ptxi(&["run", "/nowhere/at/all.json"]).status.code(), Some(2));
}

/// Runs a launch file that must be refused: one sentence, exit code 2, and at once.
fn refused(place: &Place, value: &Value, words: &[&str]) {
    let file = place.write("refused.json", value);
    let start = std::time::Instant::now();
    let output = ptxi(&["run", &file]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.lines().count() == 1 && output.stdout.is_empty(), "{errors}");
    assert!(start.elapsed().as_secs() < 20, "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
}

#[test]
fn numbers_of_a_launch_are_checked_before_they_are_used() {
    let place = Place::new("numbers");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = launch("no_barrier", false);
        change(&mut value);
        value
    };
    let buffer = |bytes: u64| json!({"bytes": bytes, "fill": 0});
    for bytes in [1 << 32, 1 << 40, u64::MAX] {
        refused(&place, &with(&|v| v["buffers"]["out"] = buffer(bytes)), &["buffers.out.bytes", "4294967295 at most"]);
        let random = json!({"bytes": bytes, "random": {"dtype": "f64"}});
        refused(&place, &with(&|v| v["buffers"]["out"] = random.clone()), &["buffers.out.bytes", "4294967295 at most"]);
    }
    refused(&place, &with(&|v| v["buffers"]["out"] = json!({"file": "/dev/zero"})), &["/dev/zero", "more than 268435456 bytes"]);
    let most = 4294967295u32;
    for block in [json!([2147483648u32, 2147483648u32, 4]), json!([65536, 65536, 65536]), json!([most, most, most])] {
        refused(&place, &with(&|v| v["block"] = block.clone()), &["block", "1024 at most"]);
    }
    for grid in [json!([65536, 65536, 65536]), json!([most, most, most]), json!([2147483648u32, 2147483648u32, 4])] {
        refused(&place, &with(&|v| v["grid"] = grid.clone()), &["grid", "2^26"]);
    }
    for cluster in [json!([65536, 65536, 1]), json!([65536, 65536, 65536]), json!([most, most, most])] {
        let grid = |v: &mut Value| (v["cluster"], v["grid"]) = (cluster.clone(), cluster.clone());
        refused(&place, &with(&grid), &["cluster", "16 CTAs"]);
    }
    refused(&place, &with(&|v| v["shared_bytes"] = json!(most)), &["bytes of shared memory"]);
    let map = |dims: Value, strides: Value, side: Value| json!({"t": {"buffer": "out", "dtype": "f32", "dims": dims, "strides_bytes": strides, "box": side}});
    let five = |n: u64| json!([n, n, n, n, n]);
    let maps = map(five(256), json!([1024, 16, 16, 16]), five(256));
    refused(&place, &with(&|v| v["tensor_maps"] = maps.clone()), &["tensor_maps.t", "box", "shared memory"]);
}

#[test]
fn launch_files_that_include_each_other_are_refused() {
    let place = Place::new("cycle");
    place.write("b.json", &json!({"include": ["refused.json"]}));
    refused(&place, &json!({"include": ["b.json"]}), &["b.json", "includes itself"]);
    refused(&place, &json!({"include": ["refused.json"]}), &["refused.json", "includes itself"]);
    // Without a cycle, but without an end either: each file includes the next ones twice.
    for i in 0..40 {
        let next = format!("{}.json", i + 1);
        place.write(&format!("{i}.json"), &json!({"include": [next, next]}));
    }
    refused(&place, &json!({"include": ["0.json"]}), &["16 files deep"]);
    place.write("leaf.json", &json!({"include": []}));
    let wide = vec!["leaf.json"; 20_000];
    refused(&place, &json!({"include": wide}), &["10000 files in all"]);
    fs::write(place.0.join("deep.json"), "[".repeat(100_000)).unwrap();
    refused(&place, &json!({"include": ["deep.json"]}), &["deep.json", "recursion limit"]);
}

#[test]
fn an_address_at_the_end_of_memory_is_a_fault() {
    let place = Place::new("end");
    let text = |instruction: &str| {
        format!(
            ".version 8.4\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p) {{\n.reg .b64 %p, %q; .reg .b32 %r;\n\
             .reg .pred %z; ld.param.u64 %p, [p]; mov.u64 %q, 0; mov.u32 %r, 0;\n{instruction}\nret; }}"
        )
    };
    for instruction in [
        "ld.global.u64 %q, [%p];",
        "ld.u64 %q, [%p];",
        "st.global.v2.u64 [%p], {%q, %q};",
        "atom.global.add.u64 %q, [%p], %q;",
        "atom.add.u64 %q, [%p], %q;",
        "red.global.add.u64 [%p], %q;",
        "ld.global.u64 %q, [%p+9223372036854775807];",
        "ld.global.u64 %q, [-8];",
        "discard.global.L2 [%p], 128;",
    ] {
        fs::write(place.0.join("k.ptx"), text(instruction)).unwrap();
        for address in [u64::MAX - 7, u64::MAX - 15, u64::MAX, 1 << 63] {
            let value = json!({"ptx": "k.ptx", "entry": "k", "grid": [1, 1, 1], "block": [32, 1, 1], "args": [{"u64": address}], "buffers": {}});
            let output = ptxi(&["run", &place.write("k.json", &value), "--counters"]);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{instruction} at {address:#x}: {errors}");
            assert!(json_line(&output)["faults"][0].is_string(), "{errors}");
        }
    }
}

/// A full disk is one error; a reader who left is none.
#[cfg(target_os = "linux")]
#[test]
fn output_that_nobody_takes() {
    let place = Place::new("output");
    let file = place.write("racy.json", &launch("no_barrier", false));
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let good = tests().join("kernels/gemm_wgmma.ptx").display().to_string();
    let closed = || std::io::pipe().unwrap().1;
    for args in [&["run", file.as_str()][..], &["check", good.as_str()], &["check", good.as_str(), good.as_str()]] {
        let code = i32::from(args[0] == "run");
        let command = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ptxi"));
            command.args(args);
            command
        };
        let output = command().stdout(full()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("error: standard output: ") && !errors.contains("panicked"), "{errors}");
        assert_eq!(command().stderr(full()).output().unwrap().status.code(), Some(code));
        assert_eq!(command().stdout(full()).stderr(full()).output().unwrap().status.code(), Some(2));
        let output = command().stdout(closed()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && !errors.contains("error"), "{errors}");
        assert_eq!(command().stderr(closed()).output().unwrap().status.code(), Some(code));
    }
}

#[test]
fn check_reports_what_it_does_not_know() {
    let good = tests().join("kernels/gemm_wgmma.ptx").display().to_string();
    let output = ptxi(&["check", &good]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("gemm_n64"));
    let place = Place::new("check");
    let text = fs::read_to_string(Path::new(&good)).unwrap().replace("wgmma.fence.sync.aligned", "wgmma.fence.sync.unheard");
    let bad = place.0.join("bad.ptx");
    fs::write(&bad, text).unwrap();
    let output = ptxi(&["check", &bad.display().to_string()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("bad.ptx") && errors.contains("unheard"), "{errors}");
}

/// Where there is a card, and the feature, it gives what the interpreter gives.
#[test]
fn without_a_card_or_the_feature_a_card_is_refused() {
    let output = ptxi(&["run", &tests().join("launches/control.json").display().to_string(), "--on", "both"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    let refused = if cfg!(feature = "card") { "no NVIDIA driver was found" } else { "feature `card`" };
    match output.status.code() {
        Some(2) => assert!(errors.contains(refused), "{errors}"),
        code => assert!(code == Some(0) && errors.contains("on NVIDIA"), "{errors}"),
    }
}
