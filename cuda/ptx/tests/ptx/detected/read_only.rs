//! The read-only path over what the launch writes.

use ptx::HazardKind::*;

use super::program;

#[test]
fn what_the_launch_wrote_is_not_read_through_the_read_only_path() {
    let body = "
        mov.u32 %r0, %tid.x;
        mul.wide.u32 %d0, %r0, 4;
        add.s64 %d1, %p0, %d0;
        sub.s64 %d2, %p0, %d0;
        ld.global.nc.u32 %r1, [%d1];
        add.u32 %r1, %r1, 1;
        st.global.u32 [%d1], %r1;
        bar.sync 0;
        ld.global.u32 %r2, [%d2+252];
        add.s64 %d3, %p1, %d0;
        ld.global.nc.u32 %r3, [%d3];";
    // An element that is read so and then overwritten in place is right: nothing reads it so afterwards.
    let p = program(64, body).buffer(vec![0; 64]).buffer(vec![0; 64]);
    p.clean();
    for other in ["ld.global.nc.u32", "ld.global.nc.L1::no_allocate.u32", "ldu.global.u32"] {
        p.named("ld.global.u32", other, ReadOnlyPath, "4 bytes that this launch wrote");
    }
    p.named("add.s64 %d3, %p1, %d0;", "add.s64 %d3, %p0, %d0;", ReadOnlyPath, "against PTX line");
    // So does what a copy engine or an atomic operation wrote.
    p.named(
        "st.global.u32 [%d1], %r1;\n        bar.sync 0;\n        ld.global.u32",
        "red.global.add.u32 [%d1], 1;\n bar.sync 0;\n ld.global.nc.u32",
        ReadOnlyPath,
        "",
    );
}
