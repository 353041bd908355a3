//! What of a launch is seen from the command line: limits, Ctrl-C, what is left after a fault.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::ptxi::{Place, json_line, ptxi};

/// A launch file of one kernel with a buffer `out` of 32 words.
fn launch(place: &Place, body: &str, block: u32) -> String {
    let ptx = format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out) {{\n\
         .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<8>;\nld.param.u64 %rd0, [out]; mov.u32 %r0, %tid.x;\n{body}\nret; }}\n"
    );
    fs::write(place.0.join("k.ptx"), ptx).unwrap();
    place.write(
        "k.json",
        &json!({
            "ptx": "k.ptx", "entry": "k", "grid": [1, 1, 1], "block": [block, 1, 1],
            "buffers": {"out": {"bytes": 128}}, "args": [{"buffer": "out"}], "dump": {"out": "out.bin"},
        }),
    )
}

/// Writes memory for ever, so that it is no livelock.
const FOREVER: &str = "mov.u32 %r1, 0;\n$loop: st.global.u32 [%rd0], %r1;\nadd.u32 %r1, %r1, 1;\nbra $loop;";

#[test]
fn after_a_fault_there_are_counters_and_dumps() {
    let place = Place::new("fault");
    let file = launch(&place, "st.global.u32 [%rd0], 7;\nld.global.u32 %r1, [%rd0];\nsetp.eq.u32 %p0, %r1, 7; @%p0 trap;", 1);
    let output = ptxi(&["run", &file, "--counters"]);
    assert_eq!(output.status.code(), Some(1));
    let line = json_line(&output);
    assert_eq!(line["counters"][0]["total"]["thread_instructions"], json!(6), "{line}");
    assert_eq!(line["instructions"], json!(6));
    assert_eq!(fs::read(place.0.join("out.bin")).unwrap()[..8], [7, 0, 0, 0, 255, 255, 255, 255]);
}

#[test]
fn a_launch_is_given_up_at_a_limit() {
    let place = Place::new("limits");
    let file = launch(&place, FOREVER, 64);
    for (flag, value, says) in [
        ("--step-limit", "5000", "the launch executed more than 5000 warp instructions"),
        ("--time-limit", "0.2", "the launch took longer than 0.2 s"),
    ] {
        let output = ptxi(&["run", &file, flag, value]);
        assert_eq!(output.status.code(), Some(1));
        let line = json_line(&output);
        assert!(line["faults"][0].as_str().unwrap().contains(says), "{line}");
        assert!(line["instructions"].as_u64() > Some(5000), "{line}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("1 of 1 CTAs are resident") && errors.contains("  runs"), "{errors}");
        assert!(fs::metadata(place.0.join("out.bin")).is_ok());
        fs::remove_file(place.0.join("out.bin")).unwrap();
    }
    for bad in ["-1", "x", "nan"] {
        assert_eq!(ptxi(&["run", &file, &format!("--time-limit={bad}")]).status.code(), Some(2), "{bad}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_shows_where_all_stand_and_the_second_ends() {
    let place = Place::new("interrupt");
    let file = launch(&place, FOREVER, 64);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ptxi"))
        .args(["run", &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let press = |id: u32| assert!(Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap().success());
    // It does not listen before it runs.
    std::thread::sleep(std::time::Duration::from_millis(500));
    press(child.id());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("Ctrl-C again") {
        assert!(errors.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    assert!(seen.contains("warps  PTX line") && seen.contains("  runs"), "{seen}");
    press(child.id());
    let mut line = String::new();
    child.stdout.take().unwrap().read_to_string(&mut line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["faults"][0].as_str().unwrap().contains("interrupted"), "{line}");
    assert!(fs::metadata(place.0.join("out.bin")).is_ok());
}
