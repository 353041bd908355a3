//! What breaks the letter of the ISA alone: strict as shipped code has it, clean by the book, an error with one piece less.

use ptx::{HazardKind, Options};

use crate::patterns::{ONE_WARP, Pattern};

#[test]
fn the_last_block_reads_what_the_others_wrote() {
    let pattern = Pattern {
        grid: 4,
        body: ".reg .b32 %old; mul.wide.u32 %rd1, %cta, 4; add.u64 %rd2, %out, %rd1; @!%first bra END;
            st.global.u32 [%rd2+4], 5;
            membar.gl;
            atom.global.add.u32 %old, [%out], 1; setp.ne.u32 %p1, %old, 3; @%p1 bra END;
            membar.gl ;
            ld.global.u32 %r1, [%out+4]; ld.global.u32 %r2, [%out+8]; ld.global.u32 %r3, [%out+12]; ld.global.u32 %r4, [%out+16];
            add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4; st.global.u32 [%out+128], %r1; END:",
        ..ONE_WARP
    };
    pattern.clean(|w| w[32] == 20);
    pattern.strict("membar.gl ;", "", HazardKind::GlobalRace);
    pattern.named("membar.gl;", "", HazardKind::GlobalRace);
}

#[test]
fn the_last_block_learns_behind_a_barrier() {
    let pattern = Pattern {
        grid: 3,
        block: 64,
        shared: ".shared .align 4 .b32 last;",
        body: ".reg .b32 %old; mad.lo.u32 %r1, %cta, 64, %t; and.b32 %r1, %r1, 15; mul.wide.u32 %rd1, %cta, 4;
            add.u64 %rd2, %out, %rd1; @!%first bra A; st.global.u32 [%rd2+4], 5;
            membar.gl;
            atom.global.inc.u32 %old, [%out], 2; setp.eq.u32 %p1, %old, 2; selp.b32 %r2, 1, 0, %p1; st.shared.u32 [last], %r2;
            A: bar.sync 0; ld.shared.u32 %r3, [last]; setp.eq.u32 %p2, %r3, 0; @%p2 bra END;
            membar.gl ;
            setp.ge.u32 %p3, %t, 3; @%p3 bra END; ld.global.u32 %r4, [%mine+4]; st.global.u32 [%mine+128], %r4; END:",
        ..ONE_WARP
    };
    pattern.strict("membar.gl ;", "", HazardKind::GlobalRace);
    pattern.named("membar.gl;", "", HazardKind::GlobalRace);
    // The fence belongs to the thread that read the count.
    let fenced = "setp.eq.u32 %p1, %old, 2; membar.gl;";
    let body = pattern.body.replacen("setp.eq.u32 %p1, %old, 2;", fenced, 1).replacen("membar.gl ;", "", 1);
    Pattern { body: body.leak(), ..pattern }.clean(|w| w[32..35] == [5, 5, 5]);
}

#[test]
fn the_same_value_by_all() {
    let pattern = Pattern {
        block: 64,
        shared: ".shared .align 4 .b32 cell;",
        body: "mov.u32 %r1, 7; st.shared.u32 [cell], %r1; bar.sync 0; ld.shared.u32 %r2, [cell]; st.global.u32 [%mine], %r2;",
        ..ONE_WARP
    };
    pattern.strict("", "", HazardKind::SharedRace);
    pattern.named("mov.u32 %r1, 7;", "mov.u32 %r1, %warp;", HazardKind::SharedRace);
    // One warp's lanes, at once.
    Pattern { block: 32, ..pattern }.clean(|w| w[31] == 7);
}

#[test]
fn an_mbarrier_without_its_fence() {
    let pattern = Pattern {
        shared: ".shared .align 8 .b64 full; .shared .align 128 .b8 tile[128];",
        block: 64,
        body: "mov.u32 %r1, full; mov.u32 %r2, tile; @%first st.global.u32 [%out], 4; fence.proxy.async.global;
            @%first mbarrier.init.shared::cta.b64 [full], 1;
            @%first fence.mbarrier_init.release.cluster;
            bar.sync 0;
            setp.ne.u32 %p1, %t, 32; @%p1 bra W;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [full], 64;
            cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%out], 64, [%r1];
            W: mbarrier.try_wait.parity.shared::cta.b64 %p2, [full], 0; @!%p2 bra W;
            ld.shared.u32 %r3, [tile]; @%first st.global.u32 [%out+128], %r3;",
        ..ONE_WARP
    };
    pattern.clean(|w| w[32] == 4);
    pattern.strict("@%first fence.mbarrier_init.release.cluster;", "", HazardKind::MbarrierUnpublished);
    let seen = |seed| {
        let (report, _) = pattern.run(Options { seed, ..Options::default() }, "bar.sync 0;", "");
        !report.is_clean()
    };
    assert!((0..16).all(seen));
}

#[test]
fn scopes_narrower_than_a_cluster() {
    let pattern = Pattern {
        shared: ".shared .align 4 .b32 flag; .shared .align 4 .b32 cell;",
        grid: 2,
        cluster: 2,
        body: "mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, flag; mov.u32 %r3, cell; mov.u32 %r4, 0;
            mapa.shared::cluster.u32 %r5, %r2, 1; mapa.shared::cluster.u32 %r6, %r3, 1;
            @%first st.shared.u32 [flag], 0; barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
            @!%first bra END; setp.ne.u32 %p1, %r1, 0; @%p1 bra POLL;
            st.shared::cluster.u32 [%r6], 7;
            st.release.cluster.shared::cluster.u32 [%r5], 1; bra END;
            POLL: ld.acquire.cluster.shared.u32 %r7, [flag]; setp.eq.u32 %p2, %r7, 0; @%p2 bra POLL;
            ld.shared.u32 %r8, [cell]; st.global.u32 [%out], %r8;
            END: bar.warp.sync 0xffffffff; barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;",
        ..ONE_WARP
    };
    pattern.clean(|w| w[0] == 7);
    pattern.strict("st.release.cluster", "st.release.cta", HazardKind::SharedRace);
    pattern.strict("ld.acquire.cluster", "ld.acquire.cta", HazardKind::SharedRace);
    pattern.named("st.release.cluster", "st.relaxed.cluster", HazardKind::SharedRace);
}

#[test]
fn flags_that_carry_their_value_and_flags_behind_fences() {
    // Decoupled look-back: a word holds status and value.
    let look_back = Pattern {
        grid: 4,
        body: "@!%first bra END; mul.wide.u32 %rd1, %cta, 4; add.u64 %rd2, %out, %rd1; mov.u32 %r1, 1; setp.eq.u32 %p1, %cta, 0;
            @%p1 bra POST;
            POLL: ld.relaxed.gpu.global.u32 %r2, [%rd2+-4]; setp.eq.u32 %p2, %r2, 0; @%p2 bra POLL;
            add.u32 %r1, %r2, 1;
            POST: st.relaxed.gpu.global.u32 [%rd2], %r1; END:",
        ..ONE_WARP
    };
    look_back.clean(|w| w[..4] == [1, 2, 3, 4]);
    look_back.named("st.relaxed.gpu.global", "st.global", HazardKind::GlobalRace);
    look_back.named("ld.relaxed.gpu.global", "ld.global", HazardKind::GlobalRace);
    // A barrier of the grid by volatile words, as cooperative groups have it.
    let grid = Pattern {
        grid: 3,
        block: 64,
        body: ".reg .b32 %old; mul.wide.u32 %rd1, %cta, 4; add.u64 %rd2, %out, %rd1; add.u32 %r1, %cta, 1;
            @%first st.global.u32 [%rd2+16], %r1; bar.sync 0; @!%first bra B;
            membar.gl;
            atom.global.add.u32 %old, [%out], 1;
            POLL: ld.volatile.global.u32 %r2, [%out]; setp.lt.u32 %p1, %r2, 3; @%p1 bra POLL;
            membar.gl ;
            B: bar.sync 0;
            ld.global.u32 %r3, [%out+16]; ld.global.u32 %r4, [%out+24]; add.u32 %r3, %r3, %r4; add.u32 %r3, %r3, %cta;
            setp.eq.u32 %p2, %t, 63; @%p2 st.global.u32 [%rd2+128], %r3;",
        ..ONE_WARP
    };
    grid.clean(|w| w[32..35] == [4, 5, 6]);
    grid.named("membar.gl;", "", HazardKind::GlobalRace);
    grid.strict("membar.gl ;", "", HazardKind::GlobalRace);
    grid.named("B: bar.sync 0;", "B:", HazardKind::GlobalRace);
}
