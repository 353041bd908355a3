//! Scopes between CTAs of a cluster, and phases that end with their CTA.

use ptx::HazardKind::*;

use super::{Program, program};

/// A hazard of this kind under every seed, strict and not an error.
#[track_caller]
fn strict(program: &Program, kind: ptx::HazardKind, says: &str) {
    for seed in 0..super::SEEDS {
        let report = program.run(seed, false);
        assert!(report.is_clean(), "seed {seed}: {:?}", report.clean().err());
        let found = report.strict.iter().any(|h| h.kind == kind && h.to_string().contains(says));
        assert!(found, "seed {seed}: no {kind:?} that says {says:?} in {:?}", report.strict);
    }
}

#[test]
fn mbarriers_between_ctas_have_the_clusters_scope() {
    let p = program(64, super::peers::RING).cluster(2);
    p.clean();
    let arrive = "mbarrier.arrive.release.cluster.shared::cluster.b64 _";
    strict(&p.with(arrive, "mbarrier.arrive.release.cta.shared::cluster.b64 _"), NarrowScope, "release");
    strict(&p.with(arrive, "mbarrier.arrive.shared::cluster.b64 _"), NarrowScope, "release");
    strict(&p.with("try_wait.parity.acquire.cluster", "try_wait.parity"), NarrowScope, "acquire");
    // In one CTA the narrow scope is right.
    let own = super::peers::RING.replace("[%r6]", "[%r5]").replace(".release.cluster.shared::cluster", ".shared::cta");
    program(64, &own.replace("try_wait.parity.acquire.cluster", "try_wait.parity")).clean();
}

#[test]
fn a_flag_between_ctas_has_a_scope_that_holds_both() {
    let body = "
        mov.u32 %r0, %ctaid.x;
        setp.ne.u32 %q0, %r0, 0;
        @%q0 bra READ;
        st.global.u32 [%p1], 7;
        st.release.gpu.global.u32 [%p0], 1;
        bra END;
    READ:
        ld.acquire.gpu.global.u32 %r1, [%p0];
        setp.eq.u32 %q1, %r1, 0;
        @%q1 bra READ;
        ld.global.u32 %r2, [%p1];
    END:";
    let p = Program { grid: 2, ..program(1, body) }.buffer(vec![0]).buffer(vec![0]);
    p.clean();
    p.named("st.release.gpu", "st.release.cta", GlobalRace, "whose scope or the other's leaves one of them out");
    p.named("ld.acquire.gpu", "ld.acquire.cta", GlobalRace, "whose scope or the other's leaves one of them out");
    // The clusters' scope holds both in a cluster, and not across two.
    let cluster = body.replace(".gpu.", ".cluster.");
    program(1, &cluster).cluster(2).buffer(vec![0]).buffer(vec![0]).clean();
    let apart = Program { grid: 2, ..program(1, body) }.buffer(vec![0]).buffer(vec![0]);
    apart.named("ld.acquire.gpu", "ld.acquire.cluster", GlobalRace, "leaves one of them out");
}

#[test]
fn phases_are_finished_when_the_cta_ends() {
    let body = "
        .shared .align 8 .b64 bar;
        mov.u32 %r0, %tid.x;
        setp.ne.u32 %q0, %r0, 0;
        @%q0 bra GO;
        mbarrier.init.shared::cta.b64 [bar], 64;
    GO:
        bar.sync 0;
        mbarrier.arrive.shared::cta.b64 %d0, [bar];
        bar.sync 0;";
    let p = program(64, body);
    p.clean();
    strict(&p.with("[bar], 64", "[bar], 65"), UnfinishedPhase, "64 of 65 arrivals, 0 bytes still expected");
    let more = "%d0, [bar];\n @!%q0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 32;";
    strict(&p.with("%d0, [bar];", more), UnfinishedPhase, "of 64 arrivals, 32 bytes still expected");
    let named = "
        mov.u32 %r0, %tid.x;
        setp.lt.u32 %q0, %r0, 32;
        @%q0 bra WAIT;
        bar.arrive 1, 64;
        bra END;
    WAIT:
        bar.sync 1, 64;
    END:";
    let p = program(64, named);
    p.clean();
    strict(&p.with("bar.sync 1, 64;", ""), UnfinishedPhase, "barrier 1 ends with its CTA: 32 of 64 threads have arrived");
}
