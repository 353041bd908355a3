//! One launch on several threads: the same bits, hazards and counters, however many there are.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use ptx::driver::interpreted::{self, Interpreted};
use ptx::launch::LaunchFile;
use ptx::{Gpu, HazardKind, Launch, Module, Options};

use crate::harness::{download, upload};

/// All that a launch file gives: buffers, hazards, counters, text.
fn all_of(path: &Path, seed: u64, threads: usize) -> Vec<String> {
    let options = interpreted::Options { seed, threads, counters: true, unwritten: true, ..Default::default() };
    let run = |file: LaunchFile| {
        let outcome = file.prepare().unwrap().run(&mut Interpreted::new(options.clone())).unwrap();
        let counters: Vec<_> = outcome.counters.iter().map(|c| c.to_json()).collect();
        let fault = outcome.fault.map(|fault| fault.to_string());
        let found = (outcome.hazards, outcome.strict, fault);
        format!("{:?} {found:?} {counters:?} {} {}", outcome.dumps, outcome.printed, outcome.instructions)
    };
    LaunchFile::read(path).unwrap().into_iter().map(run).collect()
}

#[test]
fn launch_files_give_the_same_on_any_number_of_threads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launches");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // `all` is made of others; the product is large, and as those of `hopper`.
    let many = ["all.json", "speed_gemm.json"].map(OsStr::new);
    for path in files.filter(|path| path.file_name().is_some_and(|name| !many.contains(&name))) {
        for seed in 0..2 {
            let one = all_of(&path, seed, 1);
            for threads in [2, 5] {
                assert_eq!(one, all_of(&path, seed, threads), "{}, seed {seed}, {threads} threads", path.display());
            }
        }
    }
}

/// CTA i adds i + 1 to the words i·stride … i·stride + 63; then it reads word `peek`.
const WINDOWS: &str = r#"
.version 8.4
.target sm_90a
.address_size 64
.visible .entry windows(.param .u64 out, .param .u32 stride, .param .u32 peek) {
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    .reg .pred %p;
    ld.param.u64 %rd0, [out];
    ld.param.u32 %r0, [stride];
    ld.param.u32 %r1, [peek];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r2, %r0, %r3;
    mul.wide.u32 %rd1, %r4, 4;
    add.s64 %rd2, %rd0, %rd1;
    ld.global.u32 %r5, [%rd2];
    add.u32 %r5, %r5, %r2;
    add.u32 %r5, %r5, 1;
    st.global.u32 [%rd2], %r5;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd0, %rd3;
    ld.global.u32 %r6, [%rd4];
    setp.eq.u32 %p, %r6, 12345;
    @%p trap;
    ret;
}
"#;

/// Words and hazards after `ctas` windows of 64 words, `stride` apart, that all read word `peek`.
fn windows(ctas: u32, stride: usize, peek: usize, seed: u64, threads: usize) -> (Vec<u32>, Vec<HazardKind>, String) {
    let module = Arc::new(Module::parse("windows.ptx", WINDOWS).unwrap_or_else(|e| panic!("{e}")));
    let mut gpu = Gpu::new(Options { seed, threads, ..Options::default() });
    let out = upload(&mut gpu, &[7u32; 4096]);
    let handle = gpu.load(module).unwrap();
    let launch = Launch::new(handle, "windows").grid(ctas).block(64);
    let report = gpu.launch(&launch.args((out, stride as u32, peek as u32)));
    assert!(report.fault.is_none(), "{report:?}");
    let kinds = report.hazards.iter().map(|h| h.kind).collect();
    (download(&gpu, out, 4096), kinds, format!("{:?} {:?} {}", report.hazards, report.counters, report.instructions))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Windows that overlap, touch or lie apart, and a word that lies in one of them, or in none.
    #[test]
    fn ctas_that_meet_race_and_others_do_not(
        ctas in 2u32..9, stride in 56usize..72, peek in prop_oneof![Just(4000usize), 0usize..600], seed in any::<u64>()
    ) {
        let one = windows(ctas, stride, peek, seed, 1);
        for threads in [2, 5] {
            prop_assert_eq!(&one, &windows(ctas, stride, peek, seed, threads));
        }
        let written = (0..ctas as usize).any(|i| (i * stride..i * stride + 64).contains(&peek));
        prop_assert_eq!(one.1.contains(&HazardKind::GlobalRace), stride < 64 || written, "{}", one.2);
        if stride >= 64 {
            for (i, &word) in one.0.iter().enumerate() {
                let (cta, at) = (i / stride, i % stride);
                let added = if at < 64 && cta < ctas as usize { 1 + cta as u32 } else { 0 };
                prop_assert_eq!(word, 7 + added, "word {}", i);
            }
        }
    }
}

/// CTA 0 waits with weak loads, counting, for what CTA 1 stores: alone it would count for ever.
const WAITS: &str = r#"
.version 8.4
.target sm_90a
.address_size 64
.visible .entry waits(.param .u64 out) {
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    .reg .pred %p;
    ld.param.u64 %rd0, [out];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, 0;
    setp.ne.u32 %p, %r2, 0;
    @%p bra TELL;
WAIT:
    add.u32 %r3, %r3, 1;
    ld.global.u32 %r4, [%rd0];
    setp.eq.u32 %p, %r4, 0;
    @%p bra WAIT;
    ret;
TELL:
    st.global.u32 [%rd0], 1;
    ret;
}
"#;

#[test]
fn a_cta_that_waits_for_another_without_saying_so_runs_beside_it() {
    let module = Arc::new(Module::parse("waits.ptx", WAITS).unwrap_or_else(|e| panic!("{e}")));
    let mut gpu = Gpu::new(Options { step_limit: 1 << 26, ..Options::default() });
    let out = upload(&mut gpu, &[0u32]);
    let handle = gpu.load(module).unwrap();
    let report = gpu.launch(&Launch::new(handle, "waits").grid(2).block(1).args((out,)));
    assert!(report.fault.is_none(), "{report:?}");
    assert!(report.hazards.iter().any(|h| h.kind == HazardKind::GlobalRace), "{report:?}");
}
