//! A launch that may begin before the one before it has ended.

use std::sync::Arc;

use ptx::{Gpu, HazardKind, Launch, Module, Options, Report};

use crate::harness::upload;

const SECOND: &str = "
    mov.u32 %r0, %tid.x;
    mul.wide.u32 %d0, %r0, 4;
    add.s64 %d1, %p0, %d0;
    add.s64 %d2, %p1, %d0;
    add.s64 %d3, %p2, %d0;
    ld.global.u32 %r1, [%d3];
    griddepcontrol.wait;
    ld.global.u32 %r2, [%d1];
    st.global.u32 [%d2], %r2;";

/// `first` copies buffer 1 to buffer 0 in so many CTAs, the second kernel reads 0 and 2 and writes 1.
fn run(seed: u64, second: &str, ctas: u32, dependent: bool, host: bool) -> Report {
    let kernel = |name: &str, body: &str| {
        format!(
            ".visible .entry {name}(.param .u64 a, .param .u64 b, .param .u64 c) {{\n.reg .b64 %p<3>, %d<4>; .reg .b32 %r<4>; .reg .pred %q;\n\
             ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [c];\n{body}\nret; }}\n"
        )
    };
    let first = "
        mov.u32 %r0, %tid.x;
        mov.u32 %r1, %ntid.x;
        mov.u32 %r3, %ctaid.x;
        mad.lo.u32 %r0, %r1, %r3, %r0;
        mul.wide.u32 %d0, %r0, 4;
        add.s64 %d1, %p0, %d0;
        add.s64 %d2, %p1, %d0;
        griddepcontrol.launch_dependents;
        ld.global.u32 %r2, [%d2];
        st.global.u32 [%d1], %r2;";
    let text = format!(".version 8.4\n.target sm_90a\n.address_size 64\n{}{}", kernel("first", first), kernel("second", second));
    let module = Arc::new(Module::parse("k.ptx", &text).unwrap_or_else(|e| panic!("{e}\n{text}")));
    let mut gpu = Gpu::new(Options::pedantic(seed));
    let module = gpu.load(module).unwrap();
    let buffers: Vec<u64> = (0..3).map(|_| upload(&mut gpu, &[5u32; 64])).collect();
    let args = (buffers[0], buffers[1], buffers[2]);
    gpu.launch(&Launch::new(module, "first").grid(ctas).block(64 / ctas).args(args)).assert_clean();
    if host {
        gpu.write(buffers[2], &[1, 0, 0, 0]).unwrap();
    }
    gpu.launch(&Launch::new(module, "second").block(64).args(args).dependent(dependent))
}

#[track_caller]
fn named(second: &str, says: &str) {
    for (seed, ctas) in (0..8).flat_map(|seed| [(seed, 1), (seed, 2)]) {
        let report = run(seed, second, ctas, true, false);
        let found = report.hazards.iter().any(|h| h.kind == HazardKind::MissingGridWait && h.to_string().contains(says));
        assert!(found, "seed {seed}, {ctas} CTAs: {:?}", report.clean().err());
        // Launched after the first has ended, and after the host did something between, it is right.
        run(seed, second, ctas, false, false).assert_clean();
        run(seed, second, ctas, true, true).assert_clean();
    }
}

#[test]
fn what_the_launch_before_touched_is_used_behind_the_wait() {
    for seed in 0..8 {
        run(seed, SECOND, 1, true, false).assert_clean();
        run(seed, SECOND, 2, true, false).assert_clean();
    }
    named(&SECOND.replace("griddepcontrol.wait;", ""), "reads what the launch before");
    // What it read must not be overwritten either.
    let early = SECOND.replace("griddepcontrol.wait;", "st.global.u32 [%d2], %r1;\n griddepcontrol.wait;");
    named(&early, "writes what the launch before");
    // One thread may wait for those that are ordered behind it.
    let one = SECOND.replace("griddepcontrol.wait;", "setp.eq.u32 %q, %r0, 0;\n @%q griddepcontrol.wait;\n bar.sync 0;");
    for seed in 0..8 {
        run(seed, &one, 2, true, false).assert_clean();
    }
    named(&one.replace("bar.sync 0;", ""), "reads what the launch before");
}
