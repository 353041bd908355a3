//! Accesses beyond their allocation or their shared variable.

use ptx::HazardKind::*;

use super::program;

#[test]
fn an_index_does_not_reach_another_buffer() {
    let body = "
        mov.u32 %r0, %tid.x;
        mul.wide.s32 %d0, %r0, 4;
        add.s64 %d1, %p0, %d0;
        ld.global.u32 %r1, [%d1];
        add.s64 %d2, %p1, %d0;
        st.global.u32 [%d2], %r1;";
    // Three buffers of 64 KiB: an index that is off by what one holds, by a neighbour's distance on a card, below zero.
    let p = (0..3).fold(program(32, body), |p, _| p.buffer(vec![0; 1 << 14]));
    p.clean();
    for wrong in [1i64 << 16, (1 << 16) + 256, 1 << 17, -4, -(1 << 16), 4 * 0xFFFF_FFFF, 4 * -0x8000_0000] {
        p.named("[%d2]", &format!("[%d2+{wrong}]"), OutOfBounds, "write of 4 bytes outside every allocation, ");
        p.named("[%d1]", &format!("[%d1+{wrong}]"), OutOfBounds, " bytes at ");
    }
}

#[test]
fn an_index_does_not_reach_another_shared_variable() {
    let body = "
        .shared .align 16 .b32 first[64];
        .shared .align 16 .b32 second[64];
        .shared .align 16 .b32 third[64];
        mov.u32 %r0, %tid.x;
        mov.u32 %r1, second;
        shl.b32 %r2, %r0, 2;
        add.u32 %r3, %r1, %r2;
        mov.u32 %r4, first;
        mov.u32 %r5, third;
        mad.lo.u32 %r6, %r0, 4, %r4;
        mov.u32 %r7, 0;
    LOOP:
        st.shared.u32 [%r3], %r0;
        st.shared.u32 [%r6], %r0;
        cvt.u64.u32 %d0, %r3;
        cvta.shared.u64 %d1, %d0;
        ld.u32 %r8, [%d1];
        add.u32 %r3, %r3, 128;
        add.u32 %r7, %r7, 1;
        setp.lt.u32 %q0, %r7, 2;
        @%q0 bra LOOP;
        mad.lo.u32 %r9, %r0, 4, %r5;
        st.shared.u32 [%r9+128], %r0;
        atom.shared.add.u32 %r10, [third], 1;";
    let p = program(32, body);
    p.clean();
    p.named(
        "[%r6], %r0",
        "[%r6+256], %r0",
        SharedOverflow,
        "an address made from `first` (256 bytes at 0x0) lies in `second` at 0x100",
    );
    p.named("[%r6], %r0", "[%r6+132], %r0", SharedOverflow, "made from `first`");
    p.named("[%r3], %r0", "[%r3+-4], %r0", SharedOverflow, "made from `second` (256 bytes at 0x100) lies in `first`");
    p.named("%r7, 2;", "%r7, 3;", SharedOverflow, "lies in `third` at 0x200");
    p.named("ld.u32 %r8, [%d1];", "ld.u32 %r8, [%d1+256];", SharedOverflow, "made from `second`");
    p.named("[third], 1", "[second+256], 1", SharedOverflow, "lies in `third`");
    // An address that may be of either variable is not known to be wrong, nor is one from memory or a difference.
    let either =
        "setp.lt.u32 %q1, %r7, 1;\n selp.u32 %r11, %r4, %r1, %q1;\n mad.lo.u32 %r11, %r0, 4, %r11;\n st.shared.u32 [%r11], %r0;";
    p.with("cvt.u64.u32", &format!("{either}\n cvt.u64.u32")).clean();
    let moved = "sub.u32 %r11, %r5, %r1;\n add.u32 %r11, %r1, %r11;\n st.shared.u32 [%r11+252], 1;";
    p.with("atom.shared", &format!("bar.sync 0;\n {moved}\n atom.shared")).clean();
}

#[test]
fn a_bulk_copy_stays_in_its_shared_variable() {
    let body = "
        .shared .align 128 .b8 first[256];
        .shared .align 128 .b8 second[256];
        .shared .align 8 .b64 bar;
        mov.u32 %r0, second;
        mbarrier.init.shared::cta.b64 [bar], 1;
        fence.mbarrier_init.release.cluster;
        mbarrier.arrive.expect_tx.shared::cta.b64 %d0, [bar], 256;
        mov.u32 %r1, first;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%p0], 256, [bar];
    WAIT:
        mbarrier.try_wait.parity.shared::cta.b64 %q0, [bar], 0;
        @!%q0 bra WAIT;";
    let p = program(1, body).buffer(vec![0; 128]);
    p.clean();
    p.named("[%r1]", "[%r1+16]", SharedOverflow, "made from `first` (256 bytes at 0x0) lies in `second`");
}
