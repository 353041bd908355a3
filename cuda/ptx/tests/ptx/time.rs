//! Foretold time: closed forms, what may not be foretold, and what must hold of any two launches.

use proptest::prelude::*;
use ptx::driver::Driver;
use ptx::time::{Card, Device, Foretold, TimeError};
use ptx::{Launch, ModuleHandle};
use serde_json::Value;

use crate::ptxi::{Place, json_line, ptxi, tests};

fn card() -> Card {
    Card::named("h100-sxm").expect("the card is there")
}

fn kernel(params: &str, body: &str) -> String {
    format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.visible .entry k({params})\n.maxntid 1024\n{{\n\
         .reg .pred %p<8>;\n.reg .b32 %r<80>;\n.reg .f32 %f<600>;\n.reg .b64 %rd<16>;\n{body}\nret;\n}}\n"
    )
}

fn load(device: &mut Device, ptx: &str) -> ModuleHandle {
    device.load("test.ptx", ptx).unwrap_or_else(|e| panic!("{e}\n{ptx}"))
}

/// The time of a kernel without parameters.
fn alone(body: &str, grid: u32, block: u32) -> Foretold {
    let mut device = Device::new(card());
    let module = load(&mut device, &kernel("", body));
    device.time(&Launch::new(module, "k").grid(grid).block(block).registers(168.min(65_536 / block))).unwrap()
}

/// `text` so many times.
fn times(n: usize, text: &str) -> String {
    (0..n).map(|_| text).collect::<Vec<_>>().join("\n")
}

/// Clocks that an instruction more takes, from two lengths of a run of them.
fn clocks_of_one(one: &str, block: u32, grid: u32) -> f64 {
    let clocks = |n: usize| alone(&times(n, one), grid, block).clocks as f64;
    (clocks(2000) - clocks(1000)) / 1000.0
}

#[track_caller]
fn within(what: &str, found: f64, expected: f64, share: f64) {
    assert!((found / expected - 1.0).abs() <= share, "{what}: {found} instead of {expected}");
}

#[test]
fn a_dependent_chain_takes_its_latency() {
    let card = card();
    within("fma", clocks_of_one("fma.rn.f32 %f1, %f1, %f1, %f1;", 32, 1), card.alu as f64, 0.02);
    within("ex2", clocks_of_one("ex2.approx.ftz.f32 %f1, %f1;", 32, 1), card.xu as f64, 0.02);
    let shared = ".shared .align 4 .b32 s[32];\nmov.u32 %r1, s;\nst.shared.u32 [%r1], %r1;\n";
    let clocks = |n: usize| alone(&format!("{shared}{}", times(n, "ld.shared.u32 %r1, [%r1];")), 1, 32).clocks as f64;
    within("ld.shared", (clocks(2000) - clocks(1000)) / 1000.0, card.shared as f64, 0.02);
}

#[test]
fn independent_instructions_take_what_their_pipe_takes() {
    // Sixteen warps, four a scheduler, each with a chain of its own: the pipe is full.
    within("fma", clocks_of_one("fma.rn.f32 %f1, %f1, %f1, %f1;", 512, 1) / 4.0, 1.0, 0.02);
    within("logic", clocks_of_one("xor.b32 %r1, %r1, %r2;", 512, 1) / 4.0, 2.0, 0.02);
    within("ex2", clocks_of_one("ex2.approx.ftz.f32 %f1, %f1;", 512, 1) / 4.0, 8.0, 0.02);
}

/// A loop of wgmma m64n256k16 by `warpgroups` warpgroups of every multiprocessor.
fn wgmma_loop(warpgroups: u32, rounds: u32) -> Foretold {
    let d: Vec<String> = (0..128).map(|i| format!("%f{i}")).collect();
    let product =
        format!("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {{{}}}, %rd1, %rd2, 1, 1, 1, 0, 0;", d.join(", "));
    let body = format!(
        "mov.u64 %rd1, 0x4000000000010000;\nmov.u64 %rd2, 0x4000000000010100;\nmov.u32 %r1, 0;\n\
         L:\nwgmma.fence.sync.aligned;\n{}\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 1;\n\
         add.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r1, {rounds};\n@%p1 bra L;\nwgmma.wait_group.sync.aligned 0;",
        times(4, &product)
    );
    alone(&body, 132, 128 * warpgroups)
}

#[test]
fn a_pure_wgmma_loop_reaches_the_peak() {
    let card = card();
    let tensor = |f: &Foretold| f.shares.iter().find(|s| s.0 == "tensor cores").unwrap().1;
    let (short, long) = (wgmma_loop(2, 40), wgmma_loop(2, 140));
    let flops = 100.0 * 4.0 * 2.0 * 2.0 * 64.0 * 256.0 * 16.0;
    within("wgmma", flops / (long.clocks - short.clocks) as f64, card.tensor_flops, 0.02);
    assert!(tensor(&long) > 0.95, "{long}");
}

/// A copy of `n` × 16 bytes a thread, with a stride of the whole grid.
fn copy(grid: u32, n: u32) -> Foretold {
    let body = format!(
        "ld.param.u64 %rd1, [a];\nld.param.u64 %rd2, [b];\nmov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r3, %tid.x;\n\
         mad.lo.u32 %r4, %r1, %r2, %r3;\nmul.wide.u32 %rd3, %r4, 16;\nadd.u64 %rd1, %rd1, %rd3;\nadd.u64 %rd2, %rd2, %rd3;\n\
         mov.u32 %r5, %nctaid.x;\nmul.lo.u32 %r6, %r5, %r2;\nmul.wide.u32 %rd4, %r6, 16;\nmov.u32 %r7, 0;\n\
         L:\nld.global.v4.u32 {{%r10, %r11, %r12, %r13}}, [%rd1];\nst.global.v4.u32 [%rd2], {{%r10, %r11, %r12, %r13}};\n\
         add.u64 %rd1, %rd1, %rd4;\nadd.u64 %rd2, %rd2, %rd4;\nadd.u32 %r7, %r7, 1;\nsetp.lt.u32 %p1, %r7, {n};\n@%p1 bra L;"
    );
    let mut device = Device::new(card());
    let module = load(&mut device, &kernel(".param .u64 a, .param .u64 b", &body));
    let bytes = u64::from(grid) * 1024 * 16 * u64::from(n);
    let (a, b) = (device.alloc(bytes).unwrap(), device.alloc(bytes).unwrap());
    device.time(&Launch::new(module, "k").grid(grid).block(1024).registers(32).args((a, b))).unwrap()
}

#[test]
fn a_copy_reaches_the_bandwidth_of_dram() {
    let card = card();
    let (short, long) = (copy(264, 24), copy(264, 48));
    let bytes = 2.0 * 264.0 * 1024.0 * 16.0 * 24.0;
    let rate = bytes / ((long.clocks - short.clocks) as f64 / card.clock);
    // Half of it is written, which costs DRAM its turns.
    within("copy", rate, card.dram_peak * (card.dram_share - card.turn / 4.0), 0.02);
}

#[test]
fn what_is_not_known_decides_nothing() {
    let body =
        "ld.param.u64 %rd1, [a];\nld.global.u32 %r1, [%rd1];\nadd.u32 %r2, %r1, 1;\nsetp.gt.u32 %p1, %r2, 7;\n@%p1 bra L;\nL:";
    let mut device = Device::new(card());
    let module = load(&mut device, &kernel(".param .u64 a", body));
    let a = device.alloc(64).unwrap();
    let launch = Launch::new(module, "k").args((a,));
    match device.time(&launch) {
        Err(TimeError::Unknown { opcode, line, from, .. }) => assert_eq!((opcode.as_str(), line, from), ("bra", 15, Some(12))),
        other => panic!("{other:?}"),
    }
    device.upload(a, &[9; 64]).unwrap();
    device.time(&launch).unwrap();
}

#[test]
fn a_launch_is_foretold_alike_each_time() {
    assert_eq!(copy(100, 3), copy(100, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn more_bytes_are_never_faster(grid in 1u32..300, n in 1u32..4, more in 1u32..4) {
        prop_assert!(copy(grid, n + more).us >= copy(grid, n).us);
    }

    #[test]
    fn a_chain_is_as_long_as_its_links(n in 100usize..800) {
        let one = alone(&times(n, "fma.rn.f32 %f1, %f1, %f1, %f1;"), 1, 32).clocks;
        let two = alone(&times(2 * n, "fma.rn.f32 %f1, %f1, %f1, %f1;"), 1, 32).clocks;
        prop_assert_eq!(two - one, 4 * n as u64);
    }
}

#[test]
fn the_command_prints_draws_and_refuses() {
    let place = Place::new("time");
    let file = |name: &str| place.0.join(name).display().to_string();
    let (launch, picture, trace) =
        (tests().join("launches/speed_gemm.json").display().to_string(), file("sm.svg"), file("sm.json"));
    let done = ptxi(&["time", &launch, "--json", "--clocks", "0..3000", "--picture", &picture, "--trace", &trace]);
    let foretold = json_line(&done);
    assert_eq!((foretold["card"].as_str(), foretold["kernel"].as_str()), (Some("h100-sxm"), Some("gemm_n128")));
    assert!(foretold["us"].as_f64() > Some(1.0), "{foretold}");
    let svg = std::fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("tensor cores") && svg.contains("CTA 0, warp 4"), "{svg:.300}");
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    // Every thread that has events is a number with a name.
    let of = |ph: &str, name: Option<&str>| -> std::collections::BTreeSet<u64> {
        let wanted = |e: &&Value| e["ph"] == ph && name.is_none_or(|n| e["name"] == n);
        events.iter().filter(wanted).map(|e| e["tid"].as_u64().expect("a number")).collect()
    };
    assert!(of("X", None).len() > 12 && of("X", None) == of("M", Some("thread_name")));
    for (flag, value, says) in [("--card", "b200", "the cards are h100-sxm"), ("--clocks", "9..3", "FROM..TO")] {
        let refused = ptxi(&["time", &launch, flag, value]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(says), "{said}");
    }
}
