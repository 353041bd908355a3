//! Shared bytes that a tensor copy laid out by one swizzle and something else reads by another.

use ptx::HazardKind::*;
use ptx::matrix::swizzle::Swizzle;
use ptx::tensor_map::{ElementType, TensorMap};

use super::{Program, program};

/// A tile of 64 rows of `span` bytes comes by tensor copy, and a product reads it.
fn product(swizzle: Swizzle) -> Program {
    let span = swizzle.span();
    let body = format!(
        "
    .shared .align 1024 .b8 buf[16384];
    .shared .align 8 .b64 bar;
    mov.u32 %r0, %tid.x;
    mov.u32 %r8, 0;
    setp.ne.u32 %q0, %r0, 0;
    @%q0 bra W0;
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {};
    cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [buf], [%t0, {{%r8, %r8}}], [bar];
W0:
    bar.sync 0;
W1:
    mbarrier.try_wait.parity.shared::cta.b64 %q1, [bar], 0;
    @!%q1 bra W1;
    mov.u32 %r1, buf;
    shr.u32 %r2, %r1, 4;
    cvt.u64.u32 %d0, %r2;
    or.b64 %d0, %d0, {:#x};
    or.b64 %d0, %d0, {};
    setp.ne.u32 %q2, %r8, 0;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f0, %f1, %f2, %f3}}, %d0, %d0, %q2, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;",
        64 * span,
        u64::from(8 * span / 16) << 32 | 1 << 16,
        code(swizzle),
    );
    program(128, &body).buffer(vec![0; 64 * 32]).map(map(swizzle, span))
}

/// 64 rows of `span` bytes of bf16.
fn map(swizzle: Swizzle, span: u32) -> TensorMap {
    let map = TensorMap::dense(ElementType::Bf16, 0, &[u64::from(span) / 2, 64], &[span / 2, 64]);
    TensorMap { swizzle, ..map }
}

/// The swizzle in a matrix descriptor.
fn code(swizzle: Swizzle) -> String {
    let code: u64 = match swizzle {
        Swizzle::None => 0,
        Swizzle::B128 => 1,
        Swizzle::B64 => 2,
        Swizzle::B32 => 3,
    };
    format!("{:#018x}", code << 62)
}

const SWIZZLED: [Swizzle; 3] = [Swizzle::B32, Swizzle::B64, Swizzle::B128];

#[test]
fn a_descriptor_has_the_swizzle_of_the_copy() {
    for written in SWIZZLED {
        let p = product(written);
        p.clean();
        for read in SWIZZLED.into_iter().chain([Swizzle::None]).filter(|r| *r != written) {
            p.named(&code(written), &code(read), LayoutMismatch, &format!("swizzle is {read}, the copy of PTX line"));
        }
        // A pattern that starts at another line than the copy's is another one.
        let base = format!("{};\n or.b64 %d0, %d0, {:#x}", code(written), 1u64 << 49);
        p.named(&code(written), &base, LayoutMismatch, " from line 1, the copy");
        // What was written over is laid out as who wrote it knows.
        let over = "
            mov.u32 %r1, buf;
            shl.b32 %r3, %r0, 4;
            add.u32 %r3, %r1, %r3;
            st.shared.v4.u32 [%r3], {%r8, %r8, %r8, %r8};
            st.shared.v4.u32 [%r3+2048], {%r8, %r8, %r8, %r8};
            st.shared.v4.u32 [%r3+4096], {%r8, %r8, %r8, %r8};
            st.shared.v4.u32 [%r3+6144], {%r8, %r8, %r8, %r8};
            fence.proxy.async.shared::cta;
            bar.sync 0;";
        let rewritten = p.body.replacen("mov.u32 %r1, buf;", over, 1);
        Program { body: rewritten.replace(&code(written), &code(Swizzle::B128)), ..p.clone() }.clean();
    }
}

#[test]
fn a_tile_is_stored_by_the_swizzle_that_it_was_loaded_by() {
    for written in SWIZZLED {
        let mut p = product(written);
        let end = p.body.find("wgmma.fence").unwrap();
        p.body.truncate(end);
        p.body += "
            @%q0 bra END;
            cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%t1, {%r8, %r8}], [buf];
            cp.async.bulk.commit_group;
            cp.async.bulk.wait_group 0;
        END:";
        let p = p.map(map(written, written.span())).map(map(Swizzle::None, written.span()));
        p.clean();
        p.named("[%t1", "[%t2", LayoutMismatch, "the tensor map's swizzle is none, the copy of PTX line");
    }
}
