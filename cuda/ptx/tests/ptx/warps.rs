//! Warp instructions against a plain statement over 32 lanes; atomics against a sequential sum; loads and stores of every width.

use std::sync::Arc;

use proptest::prelude::*;
use ptx::{Gpu, HazardKind, Launch, Module, Options, Report};

use crate::harness::upload;

const HEAD: &str = ".version 8.4\n.target sm_90a\n.address_size 64\n";

/// Runs the one kernel of `source` (entry `k`, one pointer a buffer); returns the buffers.
pub fn launch(source: &str, seed: u64, grid: u32, block: u32, buffers: &[Vec<u8>]) -> (Report, Vec<Vec<u8>>) {
    let module = Module::parse("test.ptx", &format!("{HEAD}{source}")).unwrap_or_else(|e| panic!("{e}\n{source}"));
    let mut gpu = Gpu::new(Options::pedantic(seed));
    let module = gpu.load(Arc::new(module)).unwrap();
    let ptrs: Vec<u64> = buffers.iter().map(|b| upload(&mut gpu, b)).collect();
    let launch = Launch::new(module, "k").grid(grid).block(block);
    let report = gpu.launch(&ptrs.iter().fold(launch, |launch, p| launch.arg(*p)));
    let out = ptrs.iter().zip(buffers).map(|(p, b)| gpu.read(*p, b.len()).unwrap()).collect();
    (report, out)
}

pub fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
}

/// A kernel of one warp: lane l reads in[l], in[32+l], in[64+l] to %a, %b, %c; those in the mask in[96] execute `text`, which
/// writes %d and %p.
fn warp_kernel(text: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 in, .param .u64 out) {{
         .reg .b32 %t, %a, %b, %c, %d, %m, %x; .reg .b64 %in, %out, %o, %w; .reg .pred %p, %q, %z;
         ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
         mov.u32 %t, %laneid; mul.wide.u32 %o, %t, 4; ld.global.u32 %m, [%in+384];
         add.u64 %in, %in, %o; add.u64 %out, %out, %o;
         ld.global.u32 %a, [%in]; ld.global.u32 %b, [%in+128]; ld.global.u32 %c, [%in+256];
         setp.ne.u32 %q, %c, 0; mov.b64 %w, {{%a, %b}};
         shr.u32 %x, %m, %t; and.b32 %x, %x, 1; setp.eq.u32 %z, %x, 0;
         @%z bra $done;
         mov.u32 %d, 0; setp.ne.u32 %p, %d, 0;
         {text}
         st.global.u32 [%out], %d; selp.b32 %x, 1, 0, %p; st.global.u32 [%out+128], %x;
         $done: ret; }}"
    )
}

/// Runs `text` in one warp and compares `d` and `p` in the executing lanes with the reference (`None`: anything).
fn check(
    text: &str,
    data: &[u32],
    mask: u32,
    seed: u64,
    f: impl Fn(usize) -> (Option<u32>, Option<bool>),
) -> Result<(), TestCaseError> {
    let mut input = data[..96].to_vec();
    input.push(mask);
    let (report, out) = launch(&warp_kernel(text), seed, 1, 32, &[bytes(&input), vec![0; 256]]);
    prop_assert!(report.fault.is_none(), "{}: {:?}", text, report);
    // A lane that reads from one that is absent stores something undefined; nothing else may be wrong.
    let others = report.hazards.iter().filter(|h| h.kind != HazardKind::UninitializedRead).count();
    prop_assert_eq!(others, 0, "{}: {:?}", text, &report.hazards);
    let got = words(&out[1]);
    for lane in (0..32).filter(|l| mask >> l & 1 == 1) {
        let (d, p) = f(lane);
        if let Some(d) = d {
            prop_assert_eq!(got[lane], d, "{} lane {} mask {:#x}", text, lane, mask);
        }
        if let Some(p) = p {
            prop_assert_eq!(got[32 + lane] != 0, p, "{} lane {} mask {:#x}: predicate", text, lane, mask);
        }
    }
    Ok(())
}

fn inputs() -> impl Strategy<Value = (Vec<u32>, u32, u64)> {
    let word = prop_oneof![any::<u32>(), 0_u32..4];
    let mask = prop_oneof![2 => Just(u32::MAX), 3 => any::<u32>().prop_map(|m| m | 1)];
    (prop::collection::vec(word, 96), mask, any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shuffles((data, mask, seed) in inputs(), distance in 0_u32..40, log in 0_u32..6) {
        let width = 1 << log;
        for mode in ["up", "down", "bfly", "idx"] {
            // The segment mask in the high part, the clamp in the low one, as compilers build them.
            let c = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
            let text = format!("shfl.sync.{mode}.b32 %d|%p, %a, {distance}, {c}, %m;");
            check(&text, &data, mask, seed, |lane| {
                let lane = lane as i64;
                let (first, last) = (lane - lane % i64::from(width), lane - lane % i64::from(width) + i64::from(width) - 1);
                let b = i64::from(distance % 32);
                let source = match mode {
                    "up" => lane - b,
                    "down" => lane + b,
                    "bfly" => lane ^ b,
                    _ => first + b % i64::from(width),
                };
                let inside = if mode == "up" { source >= first } else { source <= last };
                let from = if inside { source } else { lane } as usize;
                ((mask >> from & 1 == 1).then(|| data[from]), Some(inside))
            })?;
        }
    }

    #[test]
    fn votes_and_reductions((data, mask, seed) in inputs()) {
        let here: Vec<usize> = (0..32).filter(|l| mask >> l & 1 == 1).collect();
        let holds = |l: &usize| data[64 + l] != 0;
        let all = here.iter().all(holds);
        let any = here.iter().any(holds);
        check("vote.sync.all.pred %p, %q, %m;", &data, mask, seed, |_| (None, Some(all)))?;
        check("vote.sync.any.pred %p, !%q, %m;", &data, mask, seed, |_| (None, Some(!all)))?;
        check("vote.sync.uni.pred %p, %q, %m;", &data, mask, seed, |_| (None, Some(all || !any)))?;
        let ballot = here.iter().filter(|l| holds(l)).map(|l| 1 << l).sum();
        check("vote.sync.ballot.b32 %d, %q, %m;", &data, mask, seed, |_| (Some(ballot), None))?;
        type Fold = fn(u32, u32) -> u32;
        let reductions: [(&str, Fold); 8] = [
            ("add.u32", |a, b| a.wrapping_add(b)), ("min.u32", u32::min), ("max.u32", u32::max),
            ("min.s32", |a, b| (a as i32).min(b as i32) as u32), ("max.s32", |a, b| (a as i32).max(b as i32) as u32),
            ("and.b32", |a, b| a & b), ("or.b32", |a, b| a | b), ("xor.b32", |a, b| a ^ b),
        ];
        for (name, f) in reductions {
            let want = here.iter().map(|l| data[*l]).reduce(f).unwrap();
            check(&format!("redux.sync.{name} %d, %a, %m;"), &data, mask, seed, |_| (Some(want), None))?;
        }
        let same = |l: usize| here.iter().filter(|o| data[**o] == data[l]).map(|o| 1 << o).sum::<u32>();
        check("match.any.sync.b32 %d, %a, %m;", &data, mask, seed, |l| (Some(same(l)), None))?;
        let one = here.iter().all(|o| data[64 + o] == data[64 + here[0]]);
        let want = if one { mask } else { 0 };
        check("match.all.sync.b32 %d|%p, %c, %m;", &data, mask, seed, |_| (Some(want), Some(one)))?;
        let pair = |l: usize| (data[l], data[32 + l]);
        let same = |l: usize| here.iter().filter(|o| pair(**o) == pair(l)).map(|o| 1 << o).sum::<u32>();
        check("match.any.sync.b64 %d, %w, %m;", &data, mask, seed, |l| (Some(same(l)), None))?;
    }

    #[test]
    fn one_lane_is_elected((data, mask, seed) in inputs()) {
        let mut leaders = Vec::new();
        for text in ["elect.sync %d|%p, %m;", "elect.sync %d|%p, %m; elect.sync %d|%p, %m;"] {
            let mut input = data[..96].to_vec();
            input.push(mask);
            let (report, out) = launch(&warp_kernel(text), seed, 1, 32, &[bytes(&input), vec![0; 256]]);
            report.assert_clean();
            let got = words(&out[1]);
            let elected: Vec<usize> = (0..32).filter(|l| got[32 + l] != 0).collect();
            prop_assert_eq!(elected.len(), 1);
            prop_assert!(mask >> elected[0] & 1 == 1);
            prop_assert!((0..32).filter(|l| mask >> l & 1 == 1).all(|l| got[l] == elected[0] as u32));
            leaders.push(elected[0]);
        }
        prop_assert_eq!(leaders[0], leaders[1], "the same mask elects the same lane");
    }

    #[test]
    fn atomics_add_up(values in prop::collection::vec(any::<u32>(), 128), seed in any::<u64>()) {
        type Fold = fn(u32, u32) -> u32;
        let folds: [(&str, u32, Fold); 8] = [
            ("add.u32", 5, |a, b| a.wrapping_add(b)), ("min.u32", u32::MAX, u32::min), ("max.s32", 0, |a, b| (a as i32).max(b as i32) as u32),
            ("and.b32", u32::MAX, |a, b| a & b), ("or.b32", 0, |a, b| a | b), ("xor.b32", 9, |a, b| a ^ b),
            ("min.s32", 7, |a, b| (a as i32).min(b as i32) as u32), ("max.u32", 0, u32::max),
        ];
        for (name, start, f) in folds {
            for (op, space) in [("atom", "global"), ("red", "global"), ("atom", "shared")] {
                let act = |at: &str| if op == "atom" { format!("atom.{space}.{name} %d, [{at}], %a;") } else { format!("red.{space}.{name} [{at}], %a;") };
                let body = if space == "global" {
                    act("%out")
                } else {
                    format!(
                        "mov.u32 %s, cell; setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [%s], {start}; bar.sync 0; {}
                         bar.sync 0; @%p ld.shared.u32 %d, [%s]; @%p st.global.u32 [%out], %d;",
                        act("%s")
                    )
                };
                let source = format!(
                    ".visible .entry k(.param .u64 in, .param .u64 out) {{
                     .shared .align 4 .b32 cell; .reg .b32 %t, %a, %d, %s; .reg .b64 %in, %out, %o; .reg .pred %p;
                     ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 4;
                     add.u64 %in, %in, %o; ld.global.u32 %a, [%in]; {body} ret; }}"
                );
                let (report, out) = launch(&source, seed, 1, 128, &[bytes(&values), bytes(&[start])]);
                prop_assert!(report.is_clean(), "{}: {:?}", name, report);
                prop_assert_eq!(words(&out[1])[0], values.iter().copied().fold(start, f), "{}.{}", op, name);
            }
        }
    }
}

#[test]
fn atomics_that_swap() {
    let kernel = |text: &str| {
        format!(
            ".visible .entry k(.param .u64 out) {{
             .reg .b16 %h; .reg .b32 %a, %b, %d; .reg .b64 %out, %x, %y, %z; .reg .b128 %q, %r, %s; .reg .f32 %f<4>; .reg .f64 %g;
             ld.param.u64 %out, [out]; {text} ret; }}"
        )
    };
    let run = |text: &str, before: &[u32]| {
        let (report, out) = launch(&kernel(text), 1, 1, 1, &[bytes(before)]);
        assert!(report.is_clean(), "{text}: {report:?}");
        words(&out[0])
    };
    let keep = "st.global.u32 [%out+16], %d;";
    assert_eq!(run(&format!("atom.global.exch.b32 %d, [%out], 7; {keep}"), &[3, 0, 0, 0, 0]), [7, 0, 0, 0, 3]);
    assert_eq!(run(&format!("atom.global.cas.b32 %d, [%out], 3, 9; {keep}"), &[3, 0, 0, 0, 0]), [9, 0, 0, 0, 3]);
    assert_eq!(run(&format!("atom.global.cas.b32 %d, [%out], 4, 9; {keep}"), &[3, 0, 0, 0, 0]), [3, 0, 0, 0, 3]);
    assert_eq!(run(&format!("atom.global.inc.u32 %d, [%out], 3; {keep}"), &[3, 0, 0, 0, 0]), [0, 0, 0, 0, 3]);
    assert_eq!(run(&format!("atom.global.inc.u32 %d, [%out], 3; {keep}"), &[2, 0, 0, 0, 0]), [3, 0, 0, 0, 2]);
    assert_eq!(run(&format!("atom.global.dec.u32 %d, [%out], 3; {keep}"), &[0, 0, 0, 0, 9]), [3, 0, 0, 0, 0]);
    assert_eq!(run(&format!("atom.acq_rel.gpu.global.dec.u32 %d, [%out], 3; {keep}"), &[5, 0, 0, 0, 9]), [3, 0, 0, 0, 5]);
    let wide = "atom.global.cas.b64 %x, [%out], 0x200000001, 0x400000003; st.global.u64 [%out+8], %x;";
    assert_eq!(run(wide, &[1, 2, 0, 0]), [3, 4, 1, 2]);
    let half = "mov.b16 %h, 5; atom.global.cas.b16 %h, [%out+2], %h, 8; cvt.u32.u16 %d, %h; st.global.u32 [%out+4], %d;";
    assert_eq!(run(half, &[0x0005_0001, 0]), [0x0008_0001, 5]);
    let quad = "mov.u64 %x, 0x200000001; mov.u64 %y, 0x400000003; mov.b128 %q, {%x, %y}; mov.b128 %r, {%y, %x};
        atom.global.cas.b128 %s, [%out], %q, %r; mov.b128 {%x, %z}, %s; st.global.u64 [%out+16], %z;";
    assert_eq!(run(quad, &[1, 2, 3, 4, 0, 0]), [3, 4, 1, 2, 3, 4]);
    let one = 1f32.to_bits();
    let add = "mov.f32 %f0, 0f3FC00000; red.global.add.f32 [%out], %f0; red.global.add.noftz.f16x2 [%out+4], 0x3C003C00;";
    assert_eq!(run(add, &[one, 0x4000_3c00]), [2.5f32.to_bits(), 0x4200_4000]);
    let vector = "mov.f32 %f0, 0f3F800000; mov.f32 %f1, 0f40000000; red.global.v2.f32.add [%out], {%f0, %f1};";
    assert_eq!(run(vector, &[one, one]), [2f32.to_bits(), 3f32.to_bits()]);
    let vector = "mov.f32 %f0, 0f3F800000; mov.f32 %f1, 0f40000000; red.relaxed.gpu.global.add.v2.f32 [%out], {%f0, %f1};";
    assert_eq!(run(vector, &[one, one]), [2f32.to_bits(), 3f32.to_bits()]);
    let double = "mov.f64 %g, 0d3FF0000000000000; atom.global.add.f64 %g, [%out], %g;";
    let d = 2.25f64.to_bits();
    assert_eq!(run(double, &[d as u32, (d >> 32) as u32]), [0, (3.25f64.to_bits() >> 32) as u32]);
}

#[test]
fn widths_and_spaces() {
    // Each width through each space; narrow loads extend; vectors with a sink; generic addresses of every window.
    let source = ".const .align 4 .b32 table[4] = {10, 20, 30, 40};
        .global .align 8 .u64 pointer[2] = {generic(table), table+8};
        .visible .entry k(.param .u64 out, .param .align 4 .b8 s[8]) {
        .local .align 16 .b8 depot[32]; .shared .align 16 .b8 tile[64];
        .reg .b16 %h<4>; .reg .b32 %r<12>; .reg .b64 %rd<12>; .reg .pred %p<6>;
        ld.param.u64 %rd0, [out];
        mov.u64 %rd1, depot; cvta.local.u64 %rd2, %rd1; mov.u32 %r0, tile; cvt.u64.u32 %rd3, %r0; cvta.shared.u64 %rd3, %rd3;
        st.local.v4.b32 [%rd1], {1, 2, 0xfffffff0, 4}; ld.v4.u32 {%r1, _, %r2, _}, [%rd2]; st.global.v2.u32 [%rd0], {%r1, %r2};
        ld.s8 %r3, [%rd2+8]; st.global.u32 [%rd0+8], %r3;
        ld.local.u8 %r3, [depot+8]; st.global.u32 [%rd0+12], %r3;
        ld.s16 %rd4, [%rd2+8]; st.global.u64 [%rd0+16], %rd4;
        st.shared.b64 [tile+8], %rd4; ld.shared.s8 %h1, [%r0+9]; cvt.s32.s16 %r4, %h1; st.global.u32 [%rd0+24], %r4;
        ld.u32 %r5, [%rd3+8]; st.global.u32 [%rd0+28], %r5;
        ld.const.u32 %r6, [table+4]; st.global.u32 [%rd0+32], %r6;
        ld.global.u64 %rd5, [pointer+8]; ld.u32 %r7, [%rd5]; st.global.u32 [%rd0+36], %r7;
        isspacep.local %p0, %rd2; isspacep.shared %p1, %rd2; isspacep.shared %p2, %rd3; isspacep.global %p3, %rd0;
        selp.b32 %r8, 1, 0, %p0; @%p1 or.b32 %r8, %r8, 2; @%p2 or.b32 %r8, %r8, 4; @%p3 or.b32 %r8, %r8, 8;
        st.global.u32 [%rd0+40], %r8;
        ld.param.u32 %r9, [s+4]; st.global.u32 [%rd0+44], %r9;
        mov.b64 %rd6, s; cvta.param.u64 %rd6, %rd6; ld.u32 %r10, [%rd6]; st.global.u32 [%rd0+48], %r10;
        st.global.v2.b16 [%rd0+52], {%h1, 7};
        ret; }";
    let module = Module::parse("test.ptx", &format!("{HEAD}{source}")).unwrap();
    let mut gpu = Gpu::new(Options::default());
    let module = gpu.load(Arc::new(module)).unwrap();
    let out = gpu.alloc(64).unwrap();
    let params = [&out.to_le_bytes()[..], &[1, 0, 0, 0, 2, 0, 0, 0]].concat();
    gpu.launch(&Launch::new(module, "k").params(params)).assert_clean();
    let got = words(&gpu.read(out, 56).unwrap());
    let low = 0xffff_fff0;
    assert_eq!(got, [1, low, low, 0xf0, low, u32::MAX, u32::MAX, low, 20, 30, 1 + 4 + 8, 2, 1, 0x0007_ffff]);
}
