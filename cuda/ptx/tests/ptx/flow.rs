//! Divergence, barriers, schedules: what must come together does, what waits for ever is named.

use ptx::{FaultKind, HazardKind};

use crate::warps::{bytes, launch, words};

fn kernel(registers: &str, body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 out) {{ .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<8>; {registers}
         ld.param.u64 %rd0, [out]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd1, %rd0, %rd1;
         {body} ret; }}"
    )
}

/// Runs under several seeds; every one must end well, without a hazard, with these words.
fn clean(source: &str, grid: u32, block: u32, want: &[u32]) {
    for seed in 0..12 {
        let (report, out) = launch(source, seed, grid, block, &[bytes(&vec![0; want.len()])]);
        report.clean().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(words(&out[0]), want, "seed {seed}");
    }
}

#[test]
fn lanes_of_a_warp_wait_for_each_other() {
    // Each lane takes its turn: without progress of the others the first lane past the loop would wait for ever.
    let turns = kernel(
        ".shared .align 4 .b32 turn;",
        "setp.eq.u32 %p0, %r0, 0; @%p0 st.shared.u32 [turn], 0; bar.sync 0;
         $wait: ld.volatile.shared.u32 %r1, [turn]; setp.ne.u32 %p1, %r1, %r0; @%p1 bra $wait;
         ld.global.u32 %r2, [%rd0]; mad.lo.u32 %r2, %r2, 3, %r0; st.global.u32 [%rd0], %r2;
         fence.acq_rel.gpu; add.u32 %r1, %r1, 1; st.volatile.shared.u32 [turn], %r1;",
    );
    let want = (0..64_u32).fold(0, |v: u32, i| v.wrapping_mul(3).wrapping_add(i));
    for seed in 0..6 {
        let (report, out) = launch(&turns, seed, 1, 64, &[bytes(&[0])]);
        assert!(report.fault.is_none(), "seed {seed}: {report:?}");
        assert_eq!(words(&out[0])[0], want);
    }
    let lock = kernel(
        ".reg .b32 %d;",
        "$try: atom.acquire.gpu.global.cas.b32 %d, [%rd0], 0, 1; setp.ne.u32 %p0, %d, 0; @%p0 bra $try;
         ld.global.u32 %r1, [%rd0+4]; add.u32 %r1, %r1, %r0; st.global.u32 [%rd0+4], %r1;
         atom.release.gpu.global.exch.b32 %d, [%rd0], 0;",
    );
    clean(&lock, 2, 64, &[0, 2 * (63 * 64 / 2)]);
}

#[test]
fn loops_with_divergent_trip_counts_meet_again() {
    // Short loops, and such that compute for long: nobody waits for the lanes that are through.
    for factor in [1, 900] {
        let body = format!(
            "mov.u32 %r1, 0; and.b32 %r2, %r0, 7; mul.lo.u32 %r2, %r2, {factor};
            $loop: setp.ge.u32 %p0, %r1, %r2; @%p0 bra $end; add.u32 %r1, %r1, 1; bra $loop;
            $end: activemask.b32 %r3; mad.lo.u32 %r1, %r1, 100, %r0; st.global.u32 [%rd1], %r1;
            popc.b32 %r4, %r3; setp.eq.u32 %p1, %r0, 0; @%p1 st.global.u32 [%rd0+128], %r4;"
        );
        for seed in 0..8 {
            let (report, out) = launch(&kernel("", &body), seed, 1, 32, &[bytes(&[0; 33])]);
            report.assert_clean();
            let got = words(&out[0]);
            assert!((0..32).all(|i| got[i as usize] == i % 8 * factor * 100 + i));
            assert_eq!(got[32], 32, "all lanes are together behind the loop");
        }
    }
}

#[test]
fn jump_tables_and_calls() {
    let table = kernel(
        "",
        "and.b32 %r1, %r0, 3; mov.u32 %r2, 0;
         ts: .branchtargets $a, $b, $c, $a;
         brx.idx %r1, ts;
         $a: add.u32 %r2, %r2, 1; $b: add.u32 %r2, %r2, 10; $c: add.u32 %r2, %r2, 100;
         st.global.u32 [%rd1], %r2;",
    );
    clean(&table, 1, 64, &(0..64).map(|i| [111, 110, 100, 111][i % 4]).collect::<Vec<_>>());

    let calls = ".func (.param .b32 r) half(.param .b32 x) { .reg .b32 %a; .reg .pred %q; ld.param.b32 %a, [x];
            setp.lt.u32 %q, %a, 2; @%q bra $small; shr.u32 %a, %a, 1; st.param.b32 [r], %a; ret;
            $small: st.param.b32 [r], 77; ret; }
        .func (.param .b32 r) both(.param .b32 x) { .reg .b32 %a, %b; ld.param.b32 %a, [x];
            { .param .b32 p; .param .b32 q; st.param.b32 [p], %a; call.uni (q), half, (p); ld.param.b32 %b, [q]; }
            add.u32 %b, %b, %a; st.param.b32 [r], %b; ret; }
        .global .align 8 .u64 table[2] = {half, both};
        .visible .entry k(.param .u64 out) { .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p;
            ld.param.u64 %rd0, [out]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd1, %rd0, %rd1;
            and.b32 %r1, %r0, 1; mul.wide.u32 %rd2, %r1, 8; mov.u64 %rd3, table; add.u64 %rd3, %rd3, %rd2;
            ld.global.u64 %rd4, [%rd3]; setp.ne.u32 %p, %r0, 5; mov.u32 %r2, 5;
            { .param .b32 p; .param .b32 q; st.param.b32 [p], %r0;
              proto: .callprototype (.param .b32 _) _ (.param .b32 _);
              @%p call (q), %rd4, (p), proto; @%p ld.param.b32 %r2, [q]; }
            st.global.u32 [%rd1], %r2; ret; }";
    let half = |x: u32| if x < 2 { 77 } else { x / 2 };
    let want: Vec<u32> = (0..64)
        .map(|i| {
            if i == 5 {
                5
            } else if i % 2 == 0 {
                half(i)
            } else {
                half(i) + i
            }
        })
        .collect();
    clean(calls, 1, 64, &want);
}

#[test]
fn barriers_with_names_counts_and_reductions() {
    // Warp 0 produces, warps 1 and 2 consume; warp 3 only votes.
    let body = "shr.u32 %r1, %r0, 5; setp.eq.u32 %p0, %r1, 0; setp.eq.u32 %p1, %r1, 3; and.b32 %r5, %r0, 31;
        mul.lo.u32 %r6, %r5, 4; mov.u32 %r7, tile; add.u32 %r7, %r7, %r6;
        @%p1 bra $vote; @!%p0 bra $consume;
        st.shared.u32 [%r7], %r0; bar.arrive 1, 96; bra $vote;
        $consume: bar.sync 1, 96; ld.shared.u32 %r3, [%r7]; add.u32 %r3, %r3, 1; st.global.u32 [%rd1], %r3;
        $vote: setp.lt.u32 %p2, %r0, 40; barrier.cta.red.popc.aligned.u32 %r4, 2, %p2;
        bar.red.and.pred %p3, 3, %p2; bar.red.or.pred %p4, 3, 128, %p2;
        selp.b32 %r8, 1, 0, %p3; @%p4 add.u32 %r8, %r8, 2; mad.lo.u32 %r4, %r4, 10, %r8; @%p1 st.global.u32 [%rd1], %r4;";
    let want: Vec<u32> = (0..128)
        .map(|i| {
            if i < 32 {
                0
            } else if i < 96 {
                i % 32 + 1
            } else {
                402
            }
        })
        .collect();
    clean(&kernel(".shared .align 4 .b8 tile[128];", body), 1, 128, &want);
}

#[test]
fn warps_that_ended_are_not_waited_for() {
    let body = "setp.ge.u32 %p0, %r0, 64; @%p0 exit; bar.sync 0; setp.eq.u32 %p1, %r0, 3; @%p1 ret; bar.sync 0;
        st.global.u32 [%rd1], 9;";
    let want: Vec<u32> = (0..64).map(|i| if i == 3 { 0 } else { 9 }).collect();
    clean(&kernel("", body), 1, 128, &want);
}

#[test]
fn a_barrier_of_the_whole_grid_gets_its_grid() {
    let body = "mov.u32 %r1, %nctaid.x; bar.sync 0; setp.ne.u32 %p0, %r0, 0; @%p0 bra $in;
        red.release.gpu.global.add.u32 [%rd0], 1;
        $wait: ld.acquire.gpu.global.u32 %r2, [%rd0]; setp.lt.u32 %p1, %r2, %r1; @%p1 bra $wait;
        $in: bar.sync 0;";
    clean(&kernel("", body), 60, 64, &[60]);
}

#[test]
fn what_waits_for_ever_is_named() {
    let fails = |body: &str, block: u32, kinds: &[HazardKind], words: &[&str]| {
        for seed in 0..4 {
            let (report, _) = launch(&kernel("", body), seed, 1, block, &[bytes(&[0; 64])]);
            let fault = report.fault.expect(body);
            assert_eq!(fault.kind, FaultKind::Deadlock, "{fault}");
            for kind in kinds {
                assert!(report.hazards.iter().any(|h| h.kind == *kind), "{kind:?}: {:?}", report.hazards);
            }
            for word in words {
                assert!(fault.message.contains(word), "`{word}`: {fault}");
            }
        }
    };
    let one_warp = "setp.ge.u32 %p0, %r0, 32; @%p0 bra $skip; bar.sync 1, 64; bra $end; $skip: bar.sync 2, 64; $end:";
    fails(
        one_warp,
        64,
        &[HazardKind::Deadlock],
        &["waits at barrier 1 (32 of 64", "waits at barrier 2", "CTA [0, 0, 0]", "PTX line"],
    );
    let halves = "and.b32 %r1, %r0, 1; setp.eq.u32 %p0, %r1, 0; @%p0 bra $even; bar.sync 0; bra $end; $even: bar.sync 0; $end:";
    fails(halves, 32, &[HazardKind::BarrierDivergence], &["waits for the rest of its warp"]);
    let missing = "setp.ge.u32 %p0, %r0, 16; @%p0 bra $other; bar.warp.sync 0xffffffff; bra $end; $other: bar.sync 0; $end:";
    fails(missing, 32, &[HazardKind::BarrierDivergence, HazardKind::Deadlock], &["lanes 0xffffffff"]);
    let spin = "$wait: ld.volatile.global.u32 %r1, [%rd0]; setp.eq.u32 %p0, %r1, 0; @%p0 bra $wait;";
    fails(spin, 32, &[HazardKind::Deadlock], &["livelock", "runs without effect"]);
}

/// Each waiting side names what it lacks and who brought it the last time, or what in the program could.
#[test]
fn what_is_missing_is_named() {
    let stuck = |body: &str, block: u32, words: &[&str]| {
        for seed in 0..4 {
            let source = kernel(".shared .align 8 .b64 bar; .reg .b64 %state;", body);
            let (report, _) = launch(&source, seed, 1, block, &[bytes(&[0; 64])]);
            let fault = report.fault.expect(body);
            assert_eq!(fault.kind, FaultKind::Deadlock, "{fault}");
            for word in words {
                assert!(fault.message.contains(word), "`{word}`: {fault}");
            }
        }
    };
    let init = "setp.eq.u32 %p0, %r0, 0; @%p0 mbarrier.init.shared.b64 [bar], 2; bar.sync 0; setp.lt.u32 %p1, %r0, 32;
        and.b32 %r1, %r0, 31; setp.eq.u32 %p2, %r1, 0;";
    let wait = |label: &str, parity: u32| {
        format!(
            "{label}: mbarrier.try_wait.parity.shared.b64 %p4, [bar], {parity}; @!%p4 bra {label};
            "
        )
    };
    let first = format!("{init} @%p2 mbarrier.arrive.shared.b64 %state, [bar];\n{}", wait("$a", 0));
    // Warp 1 does not come to the second phase.
    let late = format!("{first} and.pred %p3, %p1, %p2; @%p3 mbarrier.arrive.shared.b64 %state, [bar];\n{}", wait("$b", 1));
    stuck(
        &late,
        64,
        &[
            "warps 0, 1 of CTA [0, 0, 0] (lanes 0xffffffff) waits for phase 1 of the mbarrier at 0x0 of CTA [0, 0, 0]",
            "mbarrier at 0x0 of CTA [0, 0, 0], phase 1: missing: 1 of 2 arrivals; there came 1 arrival from warp 0",
            "the last time there came also 1 arrival from warp 1 of CTA [0, 0, 0] (PTX line 7)",
        ],
    );
    // Nobody has ever brought the bytes: the lines that could are named.
    let bytes_missing = format!(
        "{init} @%p2 mbarrier.arrive.expect_tx.shared.b64 %state, [bar], 64;
        setp.eq.u32 %p5, %r0, 9999; @%p5 st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1], %r1, [%r1];\n{}",
        wait("$a", 0)
    );
    stuck(&bytes_missing, 64, &["phase 0: missing: 128 bytes;", "64 bytes to expect from warp 1", "stands in PTX lines 8"]);
    let nothing = format!("{init} @%p0 mbarrier.arrive.expect_tx.shared.b64 %state, [bar], 64; {}", wait("$a", 0));
    stuck(&nothing, 64, &["missing: 1 of 2 arrivals and 64 bytes"]);
    // test_wait never blocks: the warp that asks in vain is seen all the same.
    let asks = format!("{init} $a: mbarrier.test_wait.parity.shared.b64 %p4, [bar], 0; @!%p4 bra $a;");
    stuck(&asks, 32, &["asks in vain for phase 0", "missing: 2 of 2 arrivals; there came nothing"]);
    let named = "bar.sync 3, 96; setp.lt.u32 %p0, %r0, 64; @%p0 bar.sync 3, 96;";
    let all = ["there are warps", "of those that came the last time, there are missing warps 2 (has ended)"];
    stuck(named, 96, &all);
    let never = "setp.lt.u32 %p0, %r0, 32; @%p0 bar.sync 3, 96; bar.sync 5, 96;";
    stuck(never, 96, &["barrier 3 of CTA [0, 0, 0]: there are warps 0; not there are warps 1, 2"]);
}

#[test]
fn undefined_registers_are_reported_where_they_decide() {
    let reports = |body: &str, message: &str| {
        let (report, _) = launch(&kernel("", body), 0, 1, 32, &[bytes(&[0; 64])]);
        let hazards = report.hazards;
        let found = hazards.iter().find(|h| h.kind == HazardKind::UninitializedRead).unwrap_or_else(|| panic!("{hazards:?}"));
        assert!(found.message.contains(message), "{found}");
    };
    reports("st.global.u32 [%rd1], %r9;", "a value stored to global memory");
    reports("add.u32 %r9, %r9, 1; xor.b32 %r8, %r9, %r0; st.global.u32 [%rd1], %r8;", "a value stored");
    reports("setp.eq.u32 %p0, %r9, 0; @%p0 bra $x; $x:", "the guard");
    reports("@%p5 mov.u32 %r1, 1;", "the guard");
    reports("and.b64 %rd2, %rd5, 255; add.u64 %rd2, %rd2, %rd1; ld.global.u32 %r1, [%rd2];", "the address");
    let fine = "setp.lt.u32 %p0, %r0, 40; selp.b32 %r1, 7, %r9, %p0; st.global.u32 [%rd1], %r1;";
    let (report, _) = launch(&kernel("", fine), 0, 1, 32, &[bytes(&[0; 64])]);
    assert!(report.is_clean(), "selp reads only what it selects: {report:?}");
}

#[test]
fn an_undefined_value_says_where_it_comes_from() {
    let explains = |body: &str, message: &str| {
        let (report, _) = launch(&kernel(".shared .align 16 .b8 tile[256];", body), 0, 1, 32, &[bytes(&[0; 64])]);
        let found = report.hazards.iter().find(|h| h.kind == HazardKind::UninitializedRead);
        let found = found.unwrap_or_else(|| panic!("{:?}", report.hazards));
        assert!(found.message.contains(message), "`{message}`: {found}");
    };
    explains("st.global.u32 [%rd1], %r9;", "a value stored to global memory is undefined: nothing wrote `%r9`");
    explains("mov.u32 %r1, 0; @%p5 mov.u32 %r1, 1;", "the guard is undefined: nothing wrote `%p5`");
    let sum = "add.u32 %r9, %r9, 1;\nxor.b32 %r8, %r9, %r0; st.global.u32 [%rd1], %r8;";
    explains(sum, "`%r8` comes from `%r9`, which nothing had written when PTX line 6 read it");
    // The value that is undefined, not one that was overwritten, nor one that was undefined once.
    let other = "add.u32 %r9, %r9, 1; mov.u32 %r9, 4; mov.u32 %r7, 5; add.u32 %r7, %r7, %r6; st.global.u32 [%rd1], %r7;";
    explains(other, "`%r7` comes from `%r6`");
    let again = "add.u32 %r9, %r9, %r8; mov.u32 %r9, 4; add.u32 %r9, %r9, %r7; st.global.u32 [%rd1], %r9;";
    explains(again, "`%r9` comes from `%r7`");
    // Through another lane, and through shared memory.
    explains("shfl.sync.idx.b32 %r4, %r9, 3, 31, 0xffffffff; st.global.u32 [%rd1], %r4;", "`%r4` comes from `%r9`");
    let tile = "shl.b32 %r2, %r0, 2; mov.u32 %r3, tile; add.u32 %r3, %r3, %r2;";
    let loads = format!("{tile}\nld.shared.u32 %r4, [%r3+128];\nst.global.u32 [%rd1], %r4;");
    explains(&loads, "`%r4` comes from shared memory at 0x80, which nothing had written when PTX line 7 read it");
    let through =
        format!("{tile} add.u32 %r9, %r9, 1; st.shared.u32 [%r3], %r9; ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd1], %r4;");
    explains(&through, "`%r4` comes from `%r9`, which nothing had written");
    let decides = "ld.shared.u64 %rd3, [tile+64]; and.b64 %rd3, %rd3, 252; add.u64 %rd1, %rd1, %rd3; st.global.u32 [%rd1], 1;";
    explains(decides, "the address is undefined: `%rd1` comes from shared memory at 0x40, which nothing had written");
    let matrix = "mov.u32 %r3, tile; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r3]; st.global.u32 [%rd1], %r4;";
    explains(matrix, "`%r4` comes from shared memory at 0x0, which nothing had written");
}

#[test]
fn a_seed_decides_everything_and_seeds_differ() {
    // The order in which 8 warps and 4 CTAs take tickets is the schedule.
    let body = "mov.u32 %r5, %ctaid.x; mad.lo.u32 %r5, %r5, 8, 0; shr.u32 %r6, %r0, 5; add.u32 %r5, %r5, %r6; and.b32 %r7, %r0, 31;
        setp.ne.u32 %p0, %r7, 0; @%p0 bra $end; atom.global.add.u32 %r2, [%rd0], 1; mul.wide.u32 %rd2, %r5, 4; add.u64 %rd2, %rd2, %rd0;
        st.global.u32 [%rd2+4], %r2; $end:";
    let order = |seed| {
        let (report, out) = launch(&kernel("", body), seed, 4, 256, &[bytes(&[0; 33])]);
        report.assert_clean();
        words(&out[0])
    };
    assert_eq!(order(7), order(7));
    let different: std::collections::HashSet<Vec<u32>> = (0..10).map(order).collect();
    assert!(different.len() >= 8, "{} orders in 10 seeds", different.len());
}

#[test]
fn faults_say_where() {
    let (report, _) = launch(&kernel("", "setp.eq.u32 %p0, %r0, 5; @%p0 trap;"), 0, 1, 32, &[bytes(&[0; 32])]);
    let fault = report.fault.unwrap();
    assert_eq!((fault.kind, fault.at.unwrap().thread), (FaultKind::Trap, [5, 0, 0]));
    let (report, _) = launch(&kernel("", "ld.global.u32 %r1, [%rd1+4096];"), 0, 1, 32, &[bytes(&[0; 32])]);
    let fault = report.fault.unwrap();
    assert_eq!(fault.kind, FaultKind::IllegalAddress);
    assert!(report.hazards.iter().any(|h| h.kind == HazardKind::OutOfBounds), "{:?}", report.hazards);
}
