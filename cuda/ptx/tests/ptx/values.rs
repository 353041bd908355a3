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
    // Directives and types need no space between them.
    let body = "
        .global .u32 mine = 5;
        .reg.b16 %h; { .reg.v2.f32 %in; .local.align 8 .b8 unused[8]; } mov.u64 %rd0, 40;
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

#[test]
fn halves_out_of_bounds_make_zero() {
    // 1 · 2 + 3, and with the NaN of a copy's fill as a factor; a summand that is this NaN is one.
    for (text, a, b, c, want) in [
        ("fma.rn.oob.f16", 0x3c00, 0x4000, 0x4200, 0x4500),
        ("fma.rn.oob.f16", 0x7fff, 0x4000, 0x4200, 0),
        ("fma.rn.oob.f16", 0x3c00, 0x7fff, 0x4200, 0),
        ("fma.rn.oob.f16", 0x3c00, 0x4000, 0x7fff, 0x7fff),
        ("fma.rn.oob.f16", 0x7e00, 0x4000, 0x4200, 0x7fff),
        ("fma.rn.oob.relu.f16", 0xbc00, 0x4000, 0x0000, 0),
        ("fma.rn.oob.bf16", 0x3f80, 0x4000, 0x4040, 0x40a0),
        ("fma.rn.oob.bf16", 0x3f80, 0x7fff, 0x4040, 0),
        ("fma.rn.oob.relu.bf16", 0xbf80, 0x4000, 0x0000, 0),
    ] {
        let body = format!(
            ".reg .b16 %h<4>; mov.b16 %h1, {a}; mov.b16 %h2, {b}; mov.b16 %h3, {c};
             {text} %h0, %h1, %h2, %h3; cvt.u32.u16 %o0, %h0;
             mov.b32 %r1, {{%h1, 0}}; mov.b32 %r2, {{%h2, 0}}; mov.b32 %r3, {{%h3, %h3}}; {text}x2 %o1, %r1, %r2, %r3;"
        );
        let got =
            values("", &body.replace(", 0}", ", %z}").replace(".reg .b16 %h<4>;", ".reg .b16 %h<4>, %z; mov.b16 %z, 0;"), 2);
        assert_eq!(got[0], want, "{text} {a:#x} {b:#x} {c:#x}");
        // The upper half is 0 · 0 + c.
        assert_eq!(got[1] & 0xffff, want, "{text}x2");
        assert_eq!(got[1] >> 16, if c == 0x7fff { 0x7fff } else { c }, "{text}x2: the upper half");
    }
}

#[test]
fn comparisons_in_halves_and_predicates_negated() {
    let body = "
        .reg .b16 %h<4>; .reg .b128 %q;
        cvt.rn.f32.u32 %f0, %r0; mov.f32 %f1, 0f40A00000; set.lt.f16.f32 %h0, %f0, %f1; cvt.u32.u16 %o0, %h0;
        set.lt.bf16.f32 %h1, %f0, %f1; cvt.u32.u16 %o1, %h1; set.ge.f16.s32 %h2, %r0, 5; cvt.u32.u16 %o2, %h2;
        setp.lt.u32 %p0, %r0, 5; setp.lt.u32 %p1, %r0, 3; and.pred %p2, %p0, !%p1; selp.b32 %o3, 1, 0, %p2;
        or.pred %p2, !%p0, %p1; selp.b32 %o4, 1, 0, %p2; xor.pred %p2, !%p0, !%p1; selp.b32 %o5, 1, 0, %p2;
        mov.b32 %r1, {%h0, %h0}; mov.b32 %r2, 0x3c003c00; setp.eq.f16x2 %p3, %r1, %r2; selp.b32 %o6, 1, 0, %p3;
        mov.b128 %q, {%r0, 1, 2, %r2}; mov.b128 {%r3, %r4, %r5, %r6}, %q; add.u32 %o7, %r3, %r4; xor.b32 %o8, %r5, %r6;
        mov.u16 %h3, %tid.x; cvt.u32.u16 %o9, %h3; mov.u64 %rd0, %gridid; mov.u32 %r7, %gridid; cvt.u32.u64 %r8, %rd0;
        sub.u32 %o10, %r7, %r8; mov.u32 %o11, %pm3;";
    for (lane, got) in lanes("", body, 11).into_iter().enumerate() {
        let l = lane as u32;
        let (below5, below3) = (l < 5, l < 3);
        let when = |c: bool, v: u32| if c { v } else { 0 };
        let want = [
            when(below5, 0x3c00),
            when(below5, 0x3f80),
            when(!below5, 0x3c00),
            u32::from(below5 && !below3),
            u32::from(!below5 || below3),
            u32::from(below5 != below3),
            u32::from(below5),
            l + 1,
            2 ^ 0x3c00_3c00,
            l,
            0,
        ];
        assert_eq!(got, want, "lane {lane}");
    }
}

#[test]
fn a_tensor_map_made_on_the_device_from_zeros() {
    let source = |element: u32| {
        format!(
            ".visible .entry k(.param .u64 map, .param .u64 from, .param .u64 out) {{
             .shared .align 128 .b8 made[128]; .shared .align 128 .b8 tile[128]; .shared .align 8 .b64 bar;
             .reg .b64 %map, %from, %out, %o; .reg .b32 %t, %x, %m; .reg .b16 %h; .reg .pred %p, %first;
             ld.param.u64 %map, [map]; ld.param.u64 %from, [from]; ld.param.u64 %out, [out];
             mov.u32 %t, %tid.x; setp.eq.u32 %first, %t, 0; mov.u32 %m, made; shl.b32 %x, %t, 2; add.u32 %x, %x, %m;
             st.shared.u32 [%x], 0; bar.warp.sync -1; @!%first bra MADE;
             tensormap.replace.tile.rank.shared::cta.b1024.b32 [made], 1;
             tensormap.replace.tile.global_address.shared::cta.b1024.b64 [made], %from;
             tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [made], {element};
             tensormap.replace.tile.interleave_layout.shared::cta.b1024.b32 [made], 0;
             tensormap.replace.tile.swizzle_mode.shared::cta.b1024.b32 [made], 0;
             tensormap.replace.tile.fill_mode.shared::cta.b1024.b32 [made], 0;
             tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [made], 0, 8;
             tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [made], 1, 4;
             tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [made], 0, 16;
             tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [made], 1, 6;
             tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [made], 0, 32;
             tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [made], 0, 1;
             tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [made], 1, 1;
             mbarrier.init.shared.b64 [bar], 1; fence.mbarrier_init.release.cluster; fence.proxy.async;
             MADE: bar.warp.sync -1;
             tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%map], [made], 128;
             fence.proxy.tensormap::generic.acquire.gpu [%map], 128;
             @!%first bra WAIT;
             mbarrier.arrive.expect_tx.shared.b64 _, [bar], 64;
             cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%map, {{2, 1}}], [bar];
             WAIT: mbarrier.try_wait.parity.shared.b64 %p, [bar], 0; @!%p bra WAIT;
             mov.u32 %m, tile; shl.b32 %x, %t, 1; add.u32 %x, %x, %m; ld.shared.u16 %h, [%x]; cvt.u32.u16 %x, %h;
             mul.wide.u32 %o, %t, 4; add.u64 %out, %out, %o; st.global.u32 [%out], %x; ret; }}"
        )
    };
    let from: Vec<u8> = (0..96_u16).flat_map(u16::to_le_bytes).collect();
    // In the ISA's numbering 10 is .bf16, as 1 is .u16 and 6 .f16; the driver's 9 would be .f64 here.
    for element in [1, 6, 10] {
        let (report, out) = launch(&source(element), 1, 1, 32, &[vec![0; 128], from.clone(), vec![0; 128]]);
        assert!(report.fault.is_none() && report.hazards.is_empty(), "{report:?}");
        for (lane, got) in words(&out[2]).into_iter().enumerate() {
            assert_eq!(got as usize, (1 + lane / 8) * 16 + 2 + lane % 8, "type {element} lane {lane}");
        }
    }
    let (report, _) = launch(&source(9), 1, 1, 32, &[vec![0; 128], from, vec![0; 128]]);
    assert!(report.fault.is_some() || !report.hazards.is_empty(), "a box of .f64 has four times the bytes");
}

#[test]
fn video_instructions_on_halves_and_bytes() {
    let (a, b) = (0x80ff_017f_u32, 0x7f01_ff80_u32);
    // Parts by signedness, in an arithmetic that has room for all.
    let parts = |v: u32, n: u32, signed: bool| -> Vec<i64> {
        let bits = 32 / n;
        (0..n)
            .map(|i| i64::from(v >> (bits * i)) & ((1 << bits) - 1))
            .map(|p| if signed && p >> (bits - 1) == 1 { p - (1 << bits) } else { p })
            .collect()
    };
    let operations: [(&str, fn(i64, i64) -> i64); 6] = [
        ("vadd", |x, y| x + y),
        ("vsub", |x, y| x - y),
        ("vavrg", |x, y| (if x + y >= 0 { x + y + 1 } else { x + y }).div_euclid(2)),
        ("vabsdiff", |x, y| (x - y).abs()),
        ("vmin", i64::min),
        ("vmax", i64::max),
    ];
    for (name, f) in operations {
        for (n, bits) in [(2, 16), (4, 8)] {
            for (ty, signed) in [("u32", false), ("s32", true)] {
                for (modifier, low, high) in [
                    ("", i64::MIN, i64::MAX),
                    (".sat", if signed { -(1 << (bits - 1)) } else { 0 }, (1 << (bits - i64::from(signed))) - 1),
                    (".add", i64::MIN, i64::MAX),
                ] {
                    let each = parts(a, n, signed).into_iter().zip(parts(b, n, signed)).map(|(x, y)| f(x, y).clamp(low, high));
                    let each: Vec<i64> = each.collect();
                    let packed = each.iter().rev().fold(0, |w, v| w << bits | (v & ((1 << bits) - 1)) as u64) as u32;
                    let want = if modifier == ".add" { (1000 + each.iter().sum::<i64>()) as u32 } else { packed };
                    let text = format!("{name}{n}.{ty}.{ty}.{ty}{modifier}");
                    let body = format!("mov.b32 %r1, {a}; mov.b32 %r2, {b}; mov.b32 %r3, 1000; {text} %o0, %r1, %r2, %r3;");
                    assert_eq!(values("", &body, 1), [want], "{text}");
                }
            }
        }
    }
    for compare in ["lt", "ge", "ne"] {
        let body = format!("mov.b32 %r1, {a}; mov.b32 %r2, {b}; mov.b32 %r3, 0; vset4.s32.s32.{compare} %o0, %r1, %r2, %r3;");
        // By byte: -128 < 127, -1 < 1, 1 > -1, 127 > -128.
        let bytes = [(127_i8, -128_i8), (1, -1), (-1, 1), (-128, 127)];
        let holds = |(x, y): (i8, i8)| match compare {
            "lt" => x < y,
            "ge" => x >= y,
            _ => x != y,
        };
        let counted = bytes.iter().rev().fold(0, |w, p| w << 8 | u32::from(holds(*p)));
        assert_eq!(values("", &body, 1), [counted], "vset4.{compare}");
    }
}
