//! Shared memory of another CTA of the cluster, before it has started and after it has ended.

use ptx::HazardKind::*;

use super::program;

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
