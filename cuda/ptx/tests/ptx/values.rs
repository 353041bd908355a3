//! Constants, vectors, functions and special registers: what they are, lane by lane, against the values that the ISA gives them.

use crate::warps::{launch, words};

/// Runs `body` in one warp, with `outside` at module scope: what `%o0`, `%o1`, … (so many) hold in each lane.
fn lanes(outside: &str, body: &str, count: usize) -> Vec<Vec<u32>> {
    let stores: String = (0..count).map(|i| format!("st.global.u32 [%at+{}], %o{i};\n", 4 * i)).collect();
    let source = format!(
        "{outside}\n.visible .entry k(.param .u64 out) {{
         .reg .b32 %o<16>, %r<16>; .reg .f32 %f<16>; .reg .b64 %rd<16>, %at, %base; .reg .pred %p<4>;
         ld.param.u64 %base, [out]; mov.u32 %r0, %tid.x; mul.wide.u32 %at, %r0, {}; add.u64 %at, %at, %base;
         {body}\n{stores} ret; }}",
        4 * count
    );
    let (report, out) = launch(&source, 1, 1, 32, &[vec![0; 128 * count]]);
    assert!(report.fault.is_none() && report.hazards.is_empty(), "{body}: {report:?}");
    words(&out[0]).chunks(count).map(<[u32]>::to_vec).collect()
}

/// The same where all lanes hold the same.
fn values(outside: &str, body: &str, count: usize) -> Vec<u32> {
    let lanes = lanes(outside, body, count);
    assert!(lanes.iter().all(|l| *l == lanes[0]), "{body}");
    lanes[0].clone()
}

#[test]
fn constant_expressions() {
    for (expression, value) in [
        ("(3+4)*2", 14_i64),
        ("3+4*2", 11),
        ("1<<3|1", 9),
        ("-7/2", -3),
        ("-7 % 4", -3),
        ("-8>>1", -4),
        ("0x8000000000000000>>63", 1),
        ("(.s64)0x8000000000000000>>63", -1),
        ("(.u64)-1/2", i64::MAX),
        ("-1<0U", 0),
        ("-1<0", 1),
        ("0xff&~0xf", 0xf0),
        ("0xff^0xf|0x100", 0x1f0),
        ("1||0&&0", 1),
        ("!3+!0", 1),
        ("5>3?7:8", 7),
        ("0?1:0?2:3", 3),
        ("WARP_SZ*2-1", 63),
        ("7==7", 1),
        ("7!=7", 0),
        ("2<=2", 1),
        ("010+0b11+0x1f", 8 + 3 + 31),
        ("1<<70", 0),
        ("- -3", 3),
    ] {
        let got = values("", &format!("mov.b64 %rd0, {expression};\nmov.b64 {{%o0, %o1}}, %rd0;"), 2);
        assert_eq!(got, [value as u32, (value >> 32) as u32], "{expression}");
    }
    for (expression, value) in [("1.0+2.0*0.25", 1.5_f32), ("-(3.0-1.0)/4.0", -0.5), ("1e3", 1000.0), ("2.0>1.0?3.0:4.0", 3.0)] {
        assert_eq!(values("", &format!("mov.f32 %f0, {expression};\nmov.b32 %o0, %f0;"), 1), [value.to_bits()], "{expression}");
    }
    // In initial values, offsets and counts.
    let outside = ".global .u32 x[4] = {1+1, 3*3, -1, (1<<4)-1};\n.const .f32 y = 1.5+2.5;\n.global .u64 z = x+4*2;";
    let body = "ld.global.u32 %o0, [x+4*1]; ld.const.f32 %f0, [y]; mov.b32 %o1, %f0; ld.global.u64 %rd0, [z]; ld.global.u32 %o2, [%rd0+2*2];";
    assert_eq!(values(outside, body, 3), [9, 4_f32.to_bits(), 15]);
}

#[test]
fn vector_registers() {
    let body = "
        .reg .v2 .f32 %v, %u; .reg .v4 .b32 %w<2>; .reg .v2 .b64 %l;
        cvt.rn.f32.u32 %f0, %r0; mov.f32 %v.x, %f0; mov.f32 %v.y, 0f3f800000; add.f32 %f1, %v.x, %v.y; cvt.rzi.u32.f32 %o0, %f1;
        mov.b64 %rd0, %v; mov.b64 %u, %rd0; mov.b32 %o1, %u.g;
        mov.v4.b32 %w0, {%r0, 7, %o1, 9}; mov.v4.b32 %w1, %w0; add.u32 %o2, %w1.a, %w1.g;
        mov.v2.f32 %u, {%v.y, %v.x}; mov.v2.f32 %v, {%v.y, %v.x}; mov.b32 %o3, %v.r; sub.f32 %f2, %u.y, %v.y; mov.b32 %o4, %f2;
        st.global.v4.b32 [mem], %w1; ld.global.v4.b32 %w0, [mem]; mov.b32 %o5, %w0.y;
        mov.v2.b64 %l, {1, 2}; add.u64 %rd1, %l.x, %l.y; cvt.u32.u64 %o6, %rd1;
        mov.v4.u32 %w0, %ntid; mov.b32 %o7, %w0.x; mov.v4.u32 {%o8, %o9, _, _}, %tid;";
    // Each lane stores to the same 16 bytes, so one warp alone would race: a word for each.
    let body = body.replace("[mem]", "[%rd9]").replacen(
        ".reg .v2 .f32",
        "mul.wide.u32 %rd9, %r0, 16; mov.u64 %rd8, mem; add.u64 %rd9, %rd9, %rd8; .reg .v2 .f32",
        1,
    );
    for (lane, got) in lanes(".global .align 16 .b8 mem[512];", &body, 10).into_iter().enumerate() {
        let one = 1_f32.to_bits();
        assert_eq!(got, [lane as u32 + 1, one, 16, one, 0, 7, 3, 32, lane as u32, 0], "lane {lane}");
    }
}

#[test]
fn functions_with_registers_and_constants_as_arguments() {
    let outside = "
        .func (.reg .b32 r, .reg .b64 s) both(.reg .b32 a, .reg .b64 b) {
            .reg .pred %q; add.u32 r, a, 1; add.u64 s, b, 2;
            setp.gt.u32 %q, a, 20; @%q mov.b32 r, 99; @%q ret; add.u64 s, s, 1; }
        .func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %t; ld.param.b32 %t, [a]; add.u32 %t, %t, %t; st.param.b32 [r], %t; ret; }
        .func (.param .b16 r) narrow(.reg .b16 a) { add.u16 a, a, 1; st.param.b16 [r], a; ret; }";
    let body = "
        .global .u32 mine = 5;
        .reg .b16 %h; mov.u64 %rd0, 40;
        call (%o0, %rd1), both, (%r0, %rd0); cvt.u32.u64 %o1, %rd1;
        call.uni (%o2), twice, (21); setp.lt.u32 %p0, %r0, 4; mov.u32 %o3, 0; @%p0 call (%o3), twice, (%r0);
        cvt.u16.u32 %h, %r0; call (%h), narrow, (%h); cvt.u32.u16 %o4, %h; ld.global.u32 %o5, [mine];
        P: .callprototype (.param .b32 _) _ (.param .b32 _) .abi_preserve 4; mov.u64 %rd2, twice; call (%o6), %rd2, (%r0), P;";
    for (lane, got) in lanes(outside, body, 7).into_iter().enumerate() {
        let l = lane as u32;
        let (r, s) = if l > 20 { (99, 42) } else { (l + 1, 43) };
        assert_eq!(got, [r, s, 42, if l < 4 { 2 * l } else { 0 }, l + 1, 5, 2 * l], "lane {lane}");
    }
}
