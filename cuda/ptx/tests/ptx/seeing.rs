//! What of a launch is seen from the command line: limits, Ctrl-C, what is left after a fault.

use std::collections::HashMap;
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

/// Three times: a copy of 16 bytes on an mbarrier, for which both warps wait, and a barrier.
const PIPELINE: &str = ".shared .align 8 .b64 bar; .shared .align 16 .b8 tile[16]; .reg .b64 %state;
    setp.eq.u32 %p0, %r0, 0; @%p0 mbarrier.init.shared.b64 [bar], 1; @%p0 fence.mbarrier_init.release.cluster; bar.sync 0;
    mov.u32 %r1, 0;
    $loop:
    @%p0 mbarrier.arrive.expect_tx.shared.b64 %state, [bar], 16;
    mov.u32 %r2, tile; mov.u32 %r3, bar;
    @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 16, [%r3];
    and.b32 %r4, %r1, 1;
    $wait: mbarrier.try_wait.parity.shared.b64 %p1, [bar], %r4; @!%p1 bra $wait;
    bar.sync 1, 64;
    add.u32 %r1, %r1, 1; setp.lt.u32 %p2, %r1, 3; @%p2 bra $loop;";

/// A launch file of the pipeline whose buffer is defined.
fn pipeline(place: &Place, ctas: u32) -> String {
    let file = launch(place, PIPELINE, 64);
    let mut value: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    value["buffers"]["out"]["fill"] = json!(1);
    value["grid"] = json!([ctas, 1, 1]);
    place.write("k.json", &value)
}

/// The events of a trace, of which every one that begins has an end, not before it.
fn events(text: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap().clone();
    assert!(trace["otherData"]["time"].as_str().unwrap().contains("step"));
    let mut open: HashMap<String, u64> = HashMap::new();
    let mut rows: HashMap<(u64, u64), u64> = HashMap::new();
    for e in &events {
        let ts = || e["ts"].as_u64().unwrap();
        match e["ph"].as_str().unwrap() {
            "M" => {}
            "b" => assert!(open.insert(e["id"].to_string(), ts()).is_none(), "begins twice: {e}"),
            "n" => assert!(e["args"]["ptx_line"].as_u64() > Some(0), "{e}"),
            "e" => assert!(open.remove(&e["id"].to_string()).expect("ends what began") <= ts(), "{e}"),
            "i" => {}
            "X" => {
                // The spans of a row do not overlap.
                let row = (e["pid"].as_u64().unwrap(), e["tid"].as_u64().unwrap());
                let free = rows.insert(row, ts() + e["dur"].as_u64().unwrap());
                assert!(free.is_none_or(|free| free <= ts()), "{e} begins before {free:?}");
            }
            other => panic!("an event of kind {other}"),
        }
    }
    assert!(open.is_empty(), "never end: {open:?}");
    events
}

#[test]
fn a_trace_has_the_phases_waits_and_copies_of_a_pipeline() {
    let place = Place::new("trace");
    let file = pipeline(&place, 1);
    for seed in ["0", "1", "2", "3"] {
        let json_file = place.0.join("t.json");
        let output = ptxi(&["run", &file, "--seed", seed, "--trace", json_file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let events = events(&fs::read_to_string(&json_file).unwrap());
        let number = |e: &Value, key: &str| e["args"][key].as_u64().unwrap_or_else(|| panic!("{key}: {e}"));
        let of = |cat: &str, ph: &str| events.iter().filter(|e| e["cat"] == cat && e["ph"] == ph).cloned().collect::<Vec<_>>();
        let (begins, ends) = (of("mbarrier", "b"), of("mbarrier", "e"));
        assert_eq!(begins.iter().map(|e| number(e, "phase")).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(begins.iter().map(|e| number(e, "arrivals")).collect::<Vec<_>>(), [1, 1, 1, 0]);
        assert_eq!(begins.iter().map(|e| number(e, "bytes_landed")).collect::<Vec<_>>(), [16, 16, 16, 0]);
        let copies = of("copy", "b");
        assert_eq!(copies.iter().map(|e| number(e, "bytes")).collect::<Vec<_>>(), [16, 16, 16]);
        assert!(copies[0]["name"].as_str().unwrap().starts_with("cp.async.bulk"), "{}", copies[0]);
        let landed: Vec<_> = of("copy", "e").iter().map(|e| e["ts"].clone()).collect();
        let completed: Vec<_> = ends.iter().take(3).map(|e| e["ts"].clone()).collect();
        let announced = of("mbarrier", "n").iter().map(|e| number(e, "bytes_announced")).sum::<u64>();
        assert_eq!((landed, announced), (completed, 48), "the landing completes the phase");
        assert_eq!(of("barrier", "b").iter().map(|e| number(e, "threads")).collect::<Vec<_>>(), [64; 4]);
        // Each wait lies behind the begin of its phase and goes on behind the end, unless it gave up.
        let waits = of("wait", "X");
        let mut waited = 0;
        for wait in waits.iter().filter(|w| w["name"].as_str().unwrap().starts_with("waits for phase")) {
            let phase = number(wait, "phase") as usize;
            assert_eq!(wait["name"], format!("waits for phase {phase} of mbarrier 0x0"));
            assert!(wait["ts"].as_u64() >= begins[phase]["ts"].as_u64() && number(wait, "ptx_line") > 0, "{wait}");
            let end = wait["ts"].as_u64().unwrap() + wait["dur"].as_u64().unwrap();
            waited += usize::from(Some(end) >= ends[phase]["ts"].as_u64());
        }
        assert!(waited > 0, "{waits:?}");
        let runs: u64 = of("run", "X").iter().map(|e| number(e, "instructions")).sum();
        let steps = json_line(&output)["instructions"].as_u64().unwrap();
        assert!(runs > 40 && runs < steps, "{runs} warp instructions of {steps} thread instructions");
    }
    let text_file = place.0.join("t.txt");
    ptxi(&["run", &file, "--trace", text_file.to_str().unwrap()]);
    let text = fs::read_to_string(&text_file).unwrap();
    for says in ["waits for phase 2 of mbarrier 0x0, PTX line", "copy 1 ", "phase 1, parity 1", "1 arrive, 16 bytes announced"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert_eq!(ptxi(&["run", &file, "--trace", "t.xml"]).status.code(), Some(2));
    assert_eq!(ptxi(&["run", &file, "--trace-cta", "1,x", "--trace", "t.txt"]).status.code(), Some(2));
}

#[test]
fn a_trace_is_of_one_cta_and_no_longer_than_allowed() {
    let place = Place::new("trace_filter");
    let file = pipeline(&place, 3);
    let json_file = place.0.join("t.json");
    let json_file = json_file.to_str().unwrap();
    ptxi(&["run", &file, "--trace", json_file, "--trace-cta", "1"]);
    let names: Vec<_> = (events(&fs::read_to_string(json_file).unwrap()).iter())
        .filter(|e| e["name"] == "process_name")
        .map(|e| e["args"]["name"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(names, ["launch 0 k: CTA (1,0,0)"]);
    let output = ptxi(&["run", &file, "--trace", json_file, "--trace-limit", "20"]);
    let text = fs::read_to_string(json_file).unwrap();
    let spans = events(&text).iter().filter(|e| matches!(e["ph"].as_str().unwrap(), "X" | "i" | "b" | "n")).count();
    assert_eq!(spans, 20);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the trace was cut at step") && text.contains("the trace was cut at step"), "{said}");
    assert!(!ptxi(&["run", &file, "--trace", json_file]).stderr.windows(3).any(|w| w == b"cut"));
    let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

/// wgmma and tensor copies, of a kernel that compilers made; and the same trace each time.
#[test]
fn a_trace_has_the_groups_of_a_matmul() {
    let place = Place::new("trace_gemm");
    let file = format!("{}/tests/launches/gemm_n64.json", env!("CARGO_MANIFEST_DIR"));
    let traced = |name: &str| {
        let json_file = place.0.join(name);
        let output = ptxi(&["run", &file, "--trace", json_file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(json_file).unwrap()
    };
    let text = traced("a.json");
    assert!(text == traced("b.json"), "two runs of a seed differ");
    let events = events(&text);
    let groups: Vec<_> = events.iter().filter(|e| e["cat"] == "wgmma" && e["ph"] == "b").collect();
    assert!(groups.len() >= 12 && groups.iter().all(|g| g["args"]["unfinished"].is_null()), "{groups:?}");
    let products: u64 = groups.iter().map(|g| g["args"]["products"].as_u64().unwrap()).sum();
    // Three tiles of 256 rows and a K of 256: each warpgroup multiplies 64 rows and 16 of K at a time.
    assert_eq!(products, 3 * (256 / 64) * (256 / 16));
}

#[test]
fn registers_and_shared_memory_are_shown_at_a_line() {
    let place = Place::new("at");
    // The body begins in line 7 of the PTX.
    let file = launch(
        &place,
        ".shared .align 16 .b8 tile[1024]; .reg .b32 %hidden; mov.u32 %r2, tile; shl.b32 %r3, %r0, 2; add.u32 %r2, %r2, %r3;
        mov.u32 %r1, 0x3fc00000;
        setp.lt.u32 %p0, %r0, 6; @%p0 st.shared.u32 [%r2], %r0;
        bar.sync 0;
        selp.b32 %r4, %r1, %r5, %p0; // %r0
        st.global.u32 [%rd0], %r1;",
        64,
    );
    let shown = |more: &[&str]| {
        let output = ptxi(&[&["run", file.as_str()], more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = shown(&["--at", "k.ptx:11", "--thread", "5", "--shared", "s32@0:2x4"]);
    assert_eq!(status, Some(0), "{said}");
    for says in [
        "PTX line 11, thread (5,0,0) of CTA (0,0,0)",
        "selp.b32 %r4, %r1, %r5, %p0;",
        "%r4      undefined",
        "%r1      0x3fc00000  1069547520  f32 1.5",
        "%r5      undefined",
        "%p0      true",
        "shared memory at 0x0, 2 x 4 s32",
        "0:         0         1         2         3",
        "1:         4         5         ?         ?",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(!said.contains("%r0 ") && said.matches("step ").count() == 1, "{said}");
    let (_, both) = shown(&["--at", "k.ptx:11"]);
    assert_eq!(both.matches("PTX line 11").count(), 2, "each warp comes once: {both}");
    assert!(both.contains("thread (32,0,0)") && both.contains("%p0      false"), "{both}");
    assert_eq!(shown(&["--at", "k.ptx:11", "--times", "1"]).1.matches("PTX line 11").count(), 1);
    assert!(shown(&["--at", "k.ptx:11", "--cta", "1"]).1.contains("no thread came to a line of --at"));
    assert!(shown(&["--at", "other.cu:11"]).1.contains("no thread came to a line of --at"));
    let (status, said) = shown(&["--at", "k.ptx:99"]);
    assert!(status == Some(2) && said.contains("no instruction comes from k.ptx:99; the nearest lines are"), "{said}");
    assert_eq!(shown(&["--shared", "s32@0:2x4"]).0, Some(2), "a table belongs to a line");
}

#[test]
fn lines_of_cuda_are_watched_for_too() {
    let file = format!("{}/tests/launches/gemm_n64.json", env!("CARGO_MANIFEST_DIR"));
    let ptx = fs::read_to_string(format!("{}/tests/kernels/gemm_wgmma.ptx", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let loc = ptx.lines().filter_map(|l| l.trim().strip_prefix(".loc")).map(|l| l.split_whitespace().collect::<Vec<_>>());
    let line = loc.map(|l| (l[0].to_string(), l[1].to_string())).next().unwrap();
    let number = format!(".file\t{} ", line.0);
    let path = ptx.lines().find(|l| l.trim().starts_with(&number)).unwrap().split('"').nth(1).unwrap().to_string();
    let output = ptxi(&["run", &file, "--at", &format!("{path}:{}", line.1), "--times", "2"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.matches(&format!("({path}:{})", line.1)).count() >= 2, "{said}");
}

#[test]
fn every_write_of_watched_bytes_is_shown() {
    let place = Place::new("watch");
    let file = launch(
        &place,
        ".shared .align 16 .b8 tile[16]; .shared .align 8 .b64 bar; .reg .b64 %state;
        setp.eq.u32 %p0, %r0, 0; @%p0 mbarrier.init.shared.b64 [bar], 1; @%p0 fence.mbarrier_init.release.cluster; bar.sync 0;
        @%p0 st.shared.u32 [tile+4], 5; @%p0 fence.proxy.async; bar.sync 0;
        @%p0 st.global.v4.u32 [%rd0], {1, 2, 3, 4}; @%p0 fence.proxy.async;
        @%p0 atom.global.add.u32 %r5, [%rd0+8], 10;
        mov.u32 %r2, tile; mov.u32 %r3, bar; @%p0 fence.proxy.async;
        @%p0 mbarrier.arrive.expect_tx.shared.b64 %state, [bar], 16;
        @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 16, [%r3];
        $wait: mbarrier.try_wait.parity.shared.b64 %p1, [bar], 0; @!%p1 bra $wait;",
        64,
    );
    let out = ptx::Gpu::new(ptx::Options::default()).alloc(128).unwrap();
    let shown = |watch: &str| String::from_utf8_lossy(&ptxi(&["run", &file, "--watch", watch]).stderr).into_owned();
    let global = shown(&format!("{:#x}", out + 8));
    let writes: Vec<&str> = global.lines().filter(|l| l.contains("becomes")).collect();
    assert_eq!(writes.len(), 2, "{global}");
    assert!(writes[0].contains("global memory at 0x") && writes[0].contains("becomes 0x00000003  3  f32"), "{}", writes[0]);
    assert!(writes[1].contains(": 0x00000003  3") && writes[1].contains("becomes 0x0000000d  13"), "{}", writes[1]);
    assert!(writes[1].contains("PTX line 11, thread (0,0,0) of CTA (0,0,0)"), "{}", writes[1]);
    let shared = shown("shared:4:4");
    let writes: Vec<&str> = shared.lines().filter(|l| l.contains("becomes")).collect();
    assert_eq!(writes.len(), 2, "{shared}");
    assert!(
        writes[0].contains("shared memory of CTA (0,0,0) at 0x4") && writes[0].contains("becomes 0x00000005"),
        "{}",
        writes[0]
    );
    assert!(writes[1].contains("becomes 0x00000002  2") && writes[1].contains("PTX line 14"), "{}", writes[1]);
    assert!(shown("shared:4000").contains("nothing wrote the bytes of --watch"));
    for bad in ["x", "shared:", "0x1:0", "1:2:3"] {
        assert_eq!(ptxi(&["run", &file, "--watch", bad]).status.code(), Some(2), "{bad}");
    }
}
