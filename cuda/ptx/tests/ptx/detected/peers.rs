//! Shared memory of another CTA of the cluster, before it has started and after it has ended.

use ptx::HazardKind::*;

use super::{Program, SEEDS, program};

const EXCHANGE: &str = "
    .shared .align 4 .b32 s[64];
    mov.u32 %r0, %tid.x;
    shl.b32 %r1, %r0, 2;
    mov.u32 %r2, s;
    add.u32 %r2, %r2, %r1;
    mov.u32 %r3, %cluster_ctarank;
    xor.b32 %r4, %r3, 1;
    st.shared.u32 [%r2], %r0;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    mapa.shared::cluster.u32 %r5, %r2, %r4;
    ld.shared::cluster.u32 %r6, [%r5];
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;";

#[test]
fn an_exchange_between_two_cluster_barriers() {
    let p = program(64, EXCHANGE).cluster(2);
    p.clean();
    p.named("barrier.cluster.arrive.release.aligned;\n    barrier.cluster.wait.acquire.aligned;", "", PeerNotStarted, "rank");
    p.named("barrier.cluster.arrive.aligned;\n    barrier.cluster.wait.aligned;", "", PeerGone, "");
    // At the end nothing need be ordered; but who does not wait does not know that the others are done.
    program(64, &EXCHANGE.replace("arrive.aligned", "arrive.relaxed.aligned")).cluster(2).clean();
    p.named("barrier.cluster.wait.aligned;", "", PeerGone, "");
    // The generic address is the same memory, and an atomic operation is an access.
    let generic = EXCHANGE.replace(
        "mapa.shared::cluster.u32 %r5, %r2, %r4;\n    ld.shared::cluster.u32 %r6, [%r5];",
        "cvt.u64.u32 %d0, %r2;\n cvta.shared.u64 %d0, %d0;\n mapa.u64 %d1, %d0, %r4;\n atom.relaxed.cluster.add.u32 %r6, [%d1], 1;",
    );
    let p = program(64, &generic).cluster(2);
    p.clean();
    p.named("barrier.cluster.arrive.aligned;\n    barrier.cluster.wait.aligned;", "", PeerGone, "");
}

pub const RING: &str = "
    .shared .align 8 .b64 bar;
    .shared .align 8 .b64 cell;
    mov.u32 %r0, %tid.x;
    mov.u32 %r3, %cluster_ctarank;
    xor.b32 %r4, %r3, 1;
    mov.u32 %r5, bar;
    mapa.shared::cluster.u32 %r6, %r5, %r4;
    mov.u32 %r7, cell;
    mapa.shared::cluster.u32 %r8, %r7, %r4;
    setp.ne.u32 %q0, %r0, 0;
    @%q0 bra INIT;
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
INIT:
    barrier.cluster.arrive.relaxed.aligned;
    barrier.cluster.wait.acquire.aligned;
    @%q0 bra WAIT;
    mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];
WAIT:
    mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q1, [bar], 0;
    @!%q1 bra WAIT;";

#[test]
fn an_arrival_that_the_other_waits_for_needs_no_barrier_at_the_end() {
    let p = program(64, RING).cluster(2);
    p.clean();
    let opening = "barrier.cluster.arrive.relaxed.aligned;\n    barrier.cluster.wait.acquire.aligned;";
    p.named(opening, "bar.sync 0;", PeerNotStarted, "rank");
    let wait = "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q1, [bar], 0;\n    @!%q1 bra WAIT;";
    p.named(wait, "", PeerGone, "");
    // Bytes that are sent instead of an arrival: what is waited for is over.
    let sent = RING.replace(
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];",
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 4;\n\
         st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r8], %r0, [%r6];",
    );
    let p = program(64, &sent).cluster(2);
    p.clean();
    p.named(opening, "bar.sync 0;", PeerNotStarted, "rank");
}

#[test]
fn a_flag_in_global_memory_shows_that_the_other_has_started() {
    let body = "
        .shared .align 4 .b32 s[64];
        mov.u32 %r0, %tid.x;
        shl.b32 %r1, %r0, 2;
        mov.u32 %r2, s;
        add.u32 %r2, %r2, %r1;
        mov.u32 %r3, %cluster_ctarank;
        setp.eq.u32 %q0, %r3, 0;
        @%q0 bra READ;
        st.shared.u32 [%r2], %r0;
        bar.sync 0;
        st.release.gpu.global.u32 [%p0], 1;
        bra END;
    READ:
        ld.acquire.gpu.global.u32 %r4, [%p0];
        setp.eq.u32 %q1, %r4, 0;
        @%q1 bra READ;
        mov.u32 %r5, 1;
        mapa.shared::cluster.u32 %r6, %r2, %r5;
        ld.shared::cluster.u32 %r7, [%r6];
    END:
        barrier.cluster.arrive.release;
        barrier.cluster.wait.acquire;";
    let p = program(32, body).cluster(2).buffer(vec![0]);
    p.clean();
    p.named("ld.acquire.gpu", "ld.relaxed.gpu", PeerNotStarted, "");
}

/// The first thread of rank 0 waits for longer than rank 1 needs to leave, does something to rank 1's shared memory, and says so. `more`
/// is what rank 1 waits for before it leaves.
fn late(operation: &str, more: &str) -> Program {
    let body = format!(
        "
    .shared .align 128 .b8 cell[128];
    .shared .align 8 .b64 bar;
    mov.u32 %r0, %tid.x;
    mov.u32 %r3, %cluster_ctarank;
    mov.u32 %r4, 1;
    mov.u32 %r5, bar;
    mapa.shared::cluster.u32 %r6, %r5, %r4;
    mov.u32 %r7, cell;
    mapa.shared::cluster.u32 %r8, %r7, %r4;
    cvt.u64.u32 %d0, %r7;
    cvta.shared.u64 %d0, %d0;
    mapa.u64 %d1, %d0, %r4;
    shl.b32 %r9, %r0, 2;
    add.u32 %r9, %r9, %r7;
    st.shared.u32 [%r9], %r0;
    fence.proxy.async;
    setp.ne.u32 %q0, %r0, 0;
    setp.eq.u32 %q3, %r3, 1;
    @%q0 bra READY;
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
READY:
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    @%q3 bra PEER;
    @%q0 bra OUT;
    mov.u32 %r9, 0;
DELAY:
    add.u32 %r9, %r9, 1;
    setp.lt.u32 %q2, %r9, 3000;
    @%q2 bra DELAY;
    {operation}
    st.global.u32 [%p0], 7;
    bra OUT;
PEER:
    @%q0 bra OUT;
    {more}
OUT:
    barrier.cluster.arrive;
    barrier.cluster.wait;"
    );
    let source = vec![1, 2, 3, 4];
    program(32, &body).cluster(2).buffer(vec![0]).buffer(source)
}

const WAIT: &str = "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q1, [bar], 0; @!%q1 bra";

#[test]
fn an_operation_on_a_cta_that_has_ended_is_named_and_the_run_goes_on() {
    let arrives = format!("W: {WAIT} W;");
    let bytes = |n| format!("mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {n}; W: {WAIT} W;");
    let told = "mbarrier::complete_tx::bytes";
    let multicast = format!(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;
         cp.async.bulk.shared::cluster.global.{told}.multicast::cluster [%r7], [%p1], 16, [%r5], 3; OWN: {WAIT} OWN;"
    );
    let operations = [
        ("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];", arrives),
        ("mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%r6], 0;", String::new()),
        (&format!("st.async.shared::cluster.{told}.u32 [%r8], %r0, [%r6];"), bytes(4)),
        (&format!("red.async.relaxed.cluster.shared::cluster.{told}.add.u32 [%r8], %r0, [%r6];"), bytes(4)),
        (&format!("cp.async.bulk.shared::cluster.shared::cta.{told} [%r8], [%r7], 16, [%r6];"), bytes(16)),
        (&multicast, bytes(16)),
        ("ld.shared::cluster.u32 %r10, [%r8];", String::new()),
        ("ld.u32 %r10, [%d1];", String::new()),
        ("st.shared::cluster.v2.u32 [%r8], {%r0, %r0};", String::new()),
        ("atom.relaxed.cluster.shared::cluster.add.u32 %r10, [%r8], 1;", String::new()),
        ("red.relaxed.cluster.shared::cluster.add.u32 [%r8], 1;", String::new()),
    ];
    for (operation, more) in operations {
        let right = late(operation, &more);
        right.clean();
        let wrong = right.with("PEER:", "PEER: ret;");
        for seed in 0..SEEDS {
            let (report, words) = wrong.run_and_read(seed, false);
            let context = || format!("{operation}, seed {seed}: {report:?}");
            assert!(report.fault.is_none() && words == [7], "the run goes on: {}", context());
            let [gone] = &report.hazards[..] else { panic!("one hazard: {}", context()) };
            assert!(gone.kind == PeerGone && gone.message.contains("rank 1 of the cluster has ended"), "{}", context());
            let other = gone.other.as_ref().unwrap_or_else(|| panic!("the other side is named: {}", context()));
            assert_eq!((gone.at.cta, other.cta), ([0, 0, 0], [1, 0, 0]), "{}", context());
            assert!(wrong.line(other.ptx_line).contains("PEER: ret;"), "{}", context());
        }
    }
    // What a lane would have read is undefined.
    let p = late("ld.shared::cluster.u32 %r10, [%r8]; st.global.u32 [%p0], %r10;", "");
    p.clean();
    p.named("PEER:", "PEER: ret;", UninitializedRead, "whose CTA had ended");
    // An arrival that copies bring, when both are gone: the CTA that they were for, and the one that the arrival is for.
    late("cp.async.ca.shared.global [%r7], [%p1], 16; cp.async.mbarrier.arrive.noinc.shared.b64 [%r6];", "").named(
        "PEER:",
        "PEER: ret;",
        PeerGone,
        "has ended",
    );
}
