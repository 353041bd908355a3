//! What the parser and decoder take, and what they refuse, by line, before anything runs.

use ptx::Module;

fn parse(text: &str) -> Result<Module, ptx::Errors> {
    Module::parse("k.ptx", &format!(".version 8.4\n.target sm_90a\n.address_size 64\n{text}"))
}

/// The one error of a kernel whose body (from line 5) has this text.
fn error(body: &str) -> String {
    let text = format!(".visible .entry k(.param .u64 p) {{\n{body}\n.reg .b32 %unused; ret; }}");
    match parse(&text) {
        Ok(_) => panic!("accepted: {body}"),
        Err(e) => e.to_string(),
    }
}

const REGS: &str = ".reg .b16 %h<4>; .reg .b32 %r<4>; .reg .f32 %f<4>; .reg .b64 %rd<4>; .reg .f64 %fd<4>; .reg .pred %p<4>;\n";

#[test]
fn what_is_unknown_is_an_error_with_its_line() {
    let cases = [
        ("frobnicate.u32 %r1, %r2;", "unknown instruction `frobnicate.u32`"),
        ("add.u32.wrap %r1, %r2, %r3;", "`.wrap` is unknown or does not belong here"),
        ("add.sat.u32 %r1, %r2, %r3;", "unknown form of instruction `add.sat.u32`"),
        ("add.u32 %r1, %r2;", "takes 3 operands, not 2"),
        ("add.u32 %r1, %r2, %rx;", "`%rx` is not declared"),
        ("add.u32 %r1, %rd2, %r3;", "register `%rd2` is .b64, which does not fit .u32"),
        ("add.f32 %f1, %f2, 1;", "integer literal"),
        ("add.u32 %f1, %r2, %r3;", "register `%f1` is .f32"),
        ("ld.global.u32 %r1, [%r2+%r3];", "expected"),
        ("ld.global.v4.u32 {%r1, %r2}, [%rd1];", "needs 4 registers, not 2"),
        ("ld.global.v4.f64 {%fd1, %fd2, %fd3, %fd0}, [%rd1];", "16 at most"),
        ("ld.acquire.global.u32 %r1, [%rd1];", "scope"),
        ("st.acquire.gpu.global.u32 [%rd1], %r1;", "unknown form"),
        ("ld.param.u64 %rd1, [p+4];", "reads 8 bytes at offset 4 of a parameter of 8"),
        ("st.const.u32 [%rd1], %r1;", "constant memory"),
        ("bra $nowhere;", "there is no label `$nowhere`"),
        ("call missing, (%r1);", "which nothing defines"),
        ("call missing;", "which nothing defines"),
        ("cvt.f16.f32 %h1, %f1;", "needs .rn"),
        ("cvt.u32.f32 %r1, %f1;", ".rni"),
        ("setp.lt.b32 %p1, %r1, %r2;", "does not go with .b32"),
        ("setp.ltu.s32 %p1, %r1, %r2;", "does not go with .s32"),
        ("fma.f32 %f1, %f1, %f2, %f3;", "needs a rounding mode"),
        ("div.f32 %f1, %f2, %f3;", "needs approx, full or a rounding mode"),
        ("shfl.up.b32 %r1, %r2, 1, 0;", "without .sync"),
        ("lop3.b32 %r1, %r2, %r3, %r0, 0x100;", "truth table"),
        ("red.global.exch.b32 [%rd1], %r1;", "unknown form"),
        ("atom.global.add.f16 %h1, [%rd1], %h2;", "unknown form"),
        ("setmaxnreg.inc.sync.aligned.u32 100;", "multiple of 8"),
        ("tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%rd1, {%f0, %f1}];", "textures and surfaces are not supported"),
        (".reg .v8 .b32 %v;", "a vector register has 2 or 4 elements"),
        (".reg .b32 %r1;", "declared twice"),
    ];
    for (body, message) in cases {
        let text = error(&format!("{REGS}{body}"));
        assert!(text.contains(message), "{body}: {text}");
        assert!(text.starts_with("k.ptx:6: "), "{body}: {text}");
    }
    // All errors are reported, not the first only.
    assert_eq!(error(&format!("{REGS}bad.u32 %r1;\nadd.u32 %r1, %r2;")).lines().count(), 2);
}

#[test]
fn modifiers_come_in_any_order_but_among_their_like() {
    // What assemblers take, as ptxas 12.4 was asked.
    for taken in [
        "vote.ballot.sync.b32 %r1, %p1, -1;",
        "vote.b32.ballot.sync %r1, %p1, -1;",
        "shfl.up.b32.sync %r1, %r2, 1, 0, -1;",
        "match.sync.any.b32 %r1, %r2, -1;",
        "redux.s32.add.sync %r1, %r2, -1;",
        "ldmatrix.x4.m8n8.b16.shared.sync.aligned {%r0, %r1, %r2, %r3}, [%r0];",
        "stmatrix.sync.aligned.trans.x2.m8n8.shared.b16 [%r0], {%r1, %r2};",
        "mma.m16n8k16.row.sync.aligned.f32.col.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%f0, %f1, %f2, %f3};",
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32.satfinite {%r0, %r1, %r2, %r3}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%r0, %r1, %r2, %r3};",
        "wgmma.mma_async.f32.aligned.m64n8k16.f16.sync.f16 {%f0, %f1, %f2, %f3}, %rd1, %rd2, 1, 1, 1, 0, 0;",
        "ld.u32.v4.gpu.acquire.global {%r0, %r1, %r2, %r3}, [%rd1];",
        "atom.global.v2.f32.add {%f0, %f1}, [%rd1], {%f2, %f3};",
        "red.f32.add.global.relaxed.gpu [%rd1], %f0;",
        "fence.gpu.acq_rel;",
        "fence.release.cluster.mbarrier_init;",
        "fence.proxy.shared::cta.async;",
        "mbarrier.arrive.expect_tx.b64.release.shared::cta.cta %rd1, [%r1], %r2;",
        "cp.async.shared.global.ca [%r1], [%rd1], 16;",
        "cp.async.bulk.mbarrier::complete_tx::bytes.shared::cluster.global [%r1], [%rd1], %r2, [%r3];",
        "tensormap.replace.box_dim.b1024.b32.global.tile [%rd1], 1, %r1;",
        "add.f32.ftz.rn %f0, %f1, %f2;",
        "cvt.f32.sat.ftz.f64.rn %f0, %fd1;",
        "set.u32.lt.f32 %r0, %f1, %f2;",
        "setmaxnreg.inc.u32.aligned.sync 104;",
    ] {
        let text = format!(".visible .entry k(.param .u64 p) {{\n{REGS}{taken}\nret; }}");
        assert!(parse(&text).is_ok(), "{taken}: {}", parse(&text).err().unwrap());
    }
    // Words of the name have their places, and so have types, layouts and spaces among their like; nothing comes twice.
    for refused in [
        "mma.sync.aligned.m16n8k16.col.row.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%f0, %f1, %f2, %f3};",
        "mma.sync.aligned.m16n8k32.row.col.s8.s32.u8.s32 {%r0, %r1, %r2, %r3}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%r0, %r1, %r2, %r3};",
        "cp.async.ca.global.shared [%r1], [%rd1], 16;",
        "mul.u16.wide %r1, %h1, %h2;",
        "cvta.shared.to.u64 %rd1, %rd2;",
        "mbarrier.b64.init.shared::cta [%r1], %r2;",
        "cp.async.bulk.read.wait_group 0;",
        "barrier.cluster.aligned.arrive;",
        "ld.global.global.u32 %r1, [%rd1];",
        "add.rn.rz.f32 %f0, %f1, %f2;",
        "fence.sc.sc.gpu;",
    ] {
        error(&format!("{REGS}{refused}"));
    }
}

#[test]
fn targets_that_do_not_run_here_are_refused() {
    for (target, runs) in [
        ("sm_52", true),
        ("sm_80", true),
        ("sm_90", true),
        ("sm_90a", true),
        ("sm_90a, texmode_independent", true),
        ("sm_100", false),
        ("sm_100a", false),
        ("sm_120f", false),
        ("sm_89a", false),
    ] {
        let text = format!(".version 9.3\n.target {target}\n.address_size 64\n.visible .entry k() {{ ret; }}");
        let message = Module::parse("k.ptx", &text).err().map(|e| e.to_string());
        assert_eq!(message.is_none(), runs, "{target}: {message:?}");
        assert!(
            message.is_none_or(|m| m.lines().count() == 1 && m.contains(&format!("`.target {target}` does not run on sm_90a")))
        );
    }
}

#[test]
fn recursion_is_refused_by_name() {
    let text = ".func f(.param .b32 x);\n.func g(.param .b32 x) { .param .b32 y; call f, (y); ret; }\n\
        .func f(.param .b32 x) { .param .b32 y; call g, (y); ret; }\n.visible .entry k() { ret; }";
    let message = parse(text).err().unwrap().to_string();
    assert!(message.contains("recursion: `f`") && message.contains("recursion: `g`"), "{message}");
}

#[test]
fn syntax_errors_have_lines() {
    for (text, message) in [
        (".visible .entry k() {\n mov.u32 %r1, ;\n}", "k.ptx:5: expected an operand, found `;`"),
        (".visible .entry k() {\n", "found the end of the file"),
        (".bogus x;", "k.ptx:4: unknown directive `.bogus`"),
        (".global .u32 x = \"abc", "string without an end"),
        (".global .u33 x;", "unknown type or attribute `.u33`"),
        (".global .align 3 .u32 x;", "alignment 3"),
        ("/* never closed", "comment without an end"),
        (".global .u32 x = 0fZZ;", "is not a number"),
    ] {
        let e = parse(text).err().unwrap_or_else(|| panic!("accepted {text}")).to_string();
        assert!(e.contains(message), "{text}: {e}");
    }
}

/// Everything that can hold its like, opened and closed `depth` times.
fn nested(depth: usize) -> Vec<(&'static str, String)> {
    let wrap = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
    let kernel = |body: String| format!(".visible .entry k() {{\n.reg .b64 %r1; {body} ret; }}");
    vec![
        ("braces", kernel(wrap("{", "", "}"))),
        ("vectors", kernel(format!("mov.b64 {}, 1;", wrap("{", "%r1", "}")))),
        ("brackets", kernel(format!("ld.global.u64 %r1, {};", wrap("[", "%r1", "]")))),
        ("coordinates", kernel(format!("ld.global.u64 %r1, {};", wrap("[%r1, ", "%r1", "]")))),
        ("parentheses", kernel(format!("call f, {};", wrap("(", "%r1", ")")))),
        ("mixed", kernel(format!("call f, ({});", wrap("{[%r1, ", "%r1", "]}")))),
        ("constants", kernel(format!("mov.b64 %r1, {};", wrap("(", "1", ")")))),
        ("signs", kernel(format!("mov.b64 %r1, {};", wrap("-~", "1", "")))),
        ("initialisers", format!(".visible .entry k() {{ ret; }}\n.global .b32 x[2] = {};", wrap("{", "1", "}"))),
    ]
}

#[test]
fn nesting_has_a_bound() {
    for (what, text) in nested(100_000) {
        let message = parse(&text).err().unwrap_or_else(|| panic!("{what} were taken")).to_string();
        assert_eq!(message, "k.ptx:5: nested more than 64 deep", "{what}");
    }
    // What compilers write is far from it.
    assert!(parse(&nested(50)[0].1).is_ok());
}

#[test]
fn declared_sizes_have_bounds() {
    let kernel = |body: &str| format!(".visible .entry k() {{\n{body} ret; }}");
    for (text, message) in [
        (kernel(".reg .b32 %r<4294967295>;"), "k.ptx:4: `k` needs more than 65535 registers"),
        (kernel(".reg .b64 %a<60000>; .reg .b64 %b<60000>;"), "k.ptx:4: `k` needs more than 65535 registers"),
        (kernel(".reg .b32 %r<9>; .reg .b32 %r<60000>;"), "k.ptx:5: `%r0` is declared twice"),
        (kernel(".reg .b32 %r<4294967296>;"), "4294967296 is out of range"),
        (kernel(".param .b32 x<4294967295>;"), "`x<4294967295>`: more than 1048576 numbered variables"),
        (kernel(".local .b8 x[4294967295];"), "`x`: more than 16777216 bytes of local memory"),
        (kernel(".local .b8 x[16777216]; .local .b8 y[1];"), "`y`: more than 16777216 bytes of local memory"),
        (kernel(".local .align 2147483648 .b8 x[1];"), "alignment 2147483648"),
        (".visible .entry k(.param .b8 x[4294967295]) { ret; }".into(), "`x`: more than 32764 bytes of parameters"),
        (".visible .entry k(.param .b8 x[4294967295][4294967295]) { ret; }".into(), "`x` has more than 4294967295 bytes"),
        (".global .b64 x[536870912];".into(), "`x` has more than 4294967295 bytes"),
        (".global .b8 x[4294967295][4294967295][4294967295];".into(), "`x` has more than"),
        (".global .b8 x[0][4294967295][4294967295] = {{1}};".into(), "`x` has more than"),
        (".shared .b64 x[4294967295];".into(), "`x` has more than"),
        (".global .b8 y[1]; .global .b128 x = y;".into(), "an address has 64 bits at most"),
    ] {
        let e = parse(&text).err().unwrap_or_else(|| panic!("accepted {text}")).to_string();
        assert!(e.contains(message) && e.lines().count() == 1, "{text}: {e}");
    }
}

/// Every number of the kernels here, replaced by one at the edge of a type: the answer may be an error, not a panic.
#[test]
fn no_number_in_a_file_is_trusted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    let edges =
        ["0", "-1", "65536", "2147483648", "4294967295", "9223372036854775807", "9223372036854775808", "18446744073709551615"];
    let sample = ".version 8.4\n.target sm_90a\n.address_size 64\n.global .align 4 .b8 t[2][3] = {{1, 2}, {3}};\n\
        .global .u64 q[2] = {t+4, 0xFF00(t)};\n.extern .shared .align 16 .b8 d[];\n\
        .func (.param .b32 r) f(.param .align 8 .b8 x[16]) { .local .align 8 .b8 l[24]; .param .b32 z<3>; st.local.u32 [l+4], 1; ret; }\n\
        .visible .entry k(.param .u64 p, .param .align 64 .b8 m[128]) .maxntid 128, 1, 1 .reqnctapercluster 2, 1, 1 {\n\
        .reg .b64 %rd<3>; .reg .b32 %r<3>; .shared .align 4 .b8 s[512]; ld.param.u64 %rd1, [p+0]; ld.param.u32 %r1, [m+12];\n\
        mov.u32 %r2, s+8; mov.u64 %rd2, t+2; st.shared.u32 [d+4], %r1; bar.sync 1, 64; setmaxnreg.dec.sync.aligned.u32 40;\n\
        cp.async.wait_group 1; shfl.sync.down.b32 %r1, %r2, 4, 31, -1; ret; }";
    let mut texts = vec![sample.to_string()];
    for name in ["bugs.ptx", "messages.ptx"] {
        texts.push(std::fs::read_to_string(folder.join(name)).unwrap());
    }
    for text in &texts {
        let digits = |c: &char| c.is_ascii_digit();
        let mut at = 0;
        while let Some(start) = text[at..].find(|c: char| digits(&c)).map(|i| at + i) {
            let end = text[start..].find(|c: char| !digits(&c)).map_or(text.len(), |i| start + i);
            // All edges in the sample, one of them, in turn, in a long file.
            let chosen = if text.len() < 2000 { &edges[..] } else { std::slice::from_ref(&edges[start % edges.len()]) };
            if text.len() < 2000 || start % 29 == 0 {
                for edge in chosen {
                    let changed = format!("{}{edge}{}", &text[..start], &text[end..]);
                    let _ = Module::parse("k.ptx", &changed).map(|module| {
                        let mut gpu = ptx::Gpu::new(ptx::Options::default());
                        // What is a few GiB long is legal, but no memory for a test.
                        if module.variables().all(|(_, bytes)| bytes < 1 << 20) {
                            let _ = gpu.load(std::sync::Arc::new(module));
                        }
                    });
                }
            }
            at = end;
        }
    }
}
