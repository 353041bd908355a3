//! Small kernels of one thread, right and damaged in one place: the right ones compute what they should and are clean for
//! every seed, the damaged ones are found.

use std::sync::Arc;

use crate::exec::module::Module;
use crate::gpu::Gpu;
use crate::hazard::HazardKind;
use crate::matrix::swizzle::Swizzle;
use crate::request::{Asynchrony, FaultKind, Launch, Options, Report};
use crate::tensor_map::{ElementType, OobFill, TensorMap};

const SEEDS: u64 = 24;

struct Outcome {
    kinds: Vec<HazardKind>,
    fault: Option<FaultKind>,
    text: String,
    out: Vec<u8>,
}

/// Runs `body` with the addresses of `input` and of an output of `out` bytes in `%in` and `%out`, and a tensor map of each
/// buffer in `%tin` and `%tout`.
fn run(seed: u64, body: &str, input: &[u8], out: &[u8], maps: Option<(&TensorMap, &TensorMap)>, eager: bool) -> Outcome {
    let source = format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)\n{{\n\
         .reg .b64 %in, %out, %tin, %tout, %s<8>;\n.reg .b32 %r<16>;\n.reg .pred p;\n\
         .shared .align 1024 .b8 buf[4096];\n.shared .align 8 .b64 bar;\n.shared .align 8 .b64 bar2;\n\
         ld.param.u64 %in, [a];\nld.param.u64 %out, [b];\nld.param.u64 %tin, [c];\nld.param.u64 %tout, [d];\n\
         {body}\nret;\n}}\n"
    );
    let module = Arc::new(Module::parse("k.ptx", &source).unwrap_or_else(|e| panic!("{e}\n{source}")));
    let asynchrony = if eager { Asynchrony::Eager } else { Asynchrony::Adversarial };
    let mut gpu = Gpu::new(Options { asynchrony, ..Options::pedantic(seed) });
    let (a, b) = (gpu.alloc(input.len() as u64).unwrap(), gpu.alloc(out.len() as u64).unwrap());
    gpu.write(a, input).unwrap();
    gpu.write(b, out).unwrap();
    let mut params = [a, b, 0, 0];
    if let Some((tin, tout)) = maps {
        for (i, (map, base)) in [(tin, a), (tout, b)].into_iter().enumerate() {
            params[2 + i] = gpu.alloc(128).unwrap();
            let map = TensorMap { address: base, ..map.clone() };
            gpu.write(params[2 + i], &map.encode().unwrap()).unwrap();
        }
    }
    let module = gpu.load(module).unwrap();
    let [a, b, c, d] = params;
    let Report { hazards, fault, .. } = gpu.launch(&Launch::new(module, "k").args((a, b, c, d)));
    let text = fault.as_ref().map(|fault| fault.to_string()).unwrap_or_default();
    let fault = fault.map(|fault| fault.kind);
    let text = hazards.iter().fold(text, |t, h| format!("{t}\n{h}"));
    Outcome { kinds: hazards.iter().map(|h| h.kind).collect(), fault, text, out: gpu.read(b, out.len()).unwrap() }
}

fn clean(body: &str, input: &[u8], out: &[u8], maps: Option<(&TensorMap, &TensorMap)>, want: &[u8]) {
    computes(body, input, out, maps, want, &[]);
}

/// The output is `want`, and what is found is `kinds`.
fn computes(body: &str, input: &[u8], out: &[u8], maps: Option<(&TensorMap, &TensorMap)>, want: &[u8], kinds: &[HazardKind]) {
    for seed in 0..SEEDS {
        for eager in [false, true] {
            let got = run(seed, body, input, out, maps, eager);
            assert!(got.kinds == kinds && got.fault.is_none(), "seed {seed}: {}", got.text);
            assert_eq!(got.out, want, "seed {seed}, eager {eager}");
        }
    }
}

/// Replaces `from` by `to` in the body; `kind` must be found for every seed.
fn caught(body: &str, from: &str, to: &str, kind: HazardKind, input: &[u8], out: &[u8], maps: Option<(&TensorMap, &TensorMap)>) {
    assert!(body.contains(from), "`{from}` is not in the kernel");
    for seed in 0..SEEDS {
        let got = run(seed, &body.replacen(from, to, 1), input, out, maps, false);
        assert!(got.kinds.contains(&kind), "`{from}` -> `{to}`, seed {seed}: {:?} {}", got.kinds, got.text);
    }
}

/// The same, for some seed: what `try_wait` answers before the time is its choice.
fn caught_by_some(body: &str, from: &str, kind: HazardKind, input: &[u8], out: &[u8], maps: Option<(&TensorMap, &TensorMap)>) {
    assert!(body.contains(from), "`{from}` is not in the kernel");
    let body = body.replacen(from, "", 1);
    let seeds = (0..SEEDS).filter(|&seed| run(seed, &body, input, out, maps, false).kinds.contains(&kind)).count();
    assert!(seeds >= 4, "without `{from}`: {seeds} of {SEEDS} seeds");
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + 3) as u8).collect()
}

const LOAD: &str = "
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 64;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buf], [%in], 64, [bar];
wait:
    mbarrier.try_wait.parity.shared::cta.b64 p, [bar], 0;
    @!p bra wait;
    ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [buf+32];
    st.global.v4.u32 [%out], {%r0, %r1, %r2, %r3};";

#[test]
fn a_bulk_load_and_its_mutants() {
    let (input, out) = (bytes(64), [0; 16]);
    clean(LOAD, &input, &out, None, &input[32..48]);
    let mutant = |from: &str, to: &str, kind| caught(LOAD, from, to, kind, &input, &out, None);
    caught_by_some(LOAD, "@!p bra wait;", HazardKind::InFlight, &input, &out, None);
    mutant("[bar], 0;", "[bar], 1;", HazardKind::InFlight);
    mutant(".expect_tx.shared::cta.b64 _, [bar], 64", ".shared::cta.b64 _, [bar]", HazardKind::InFlight);
    mutant("_, [bar], 64", "_, [bar], 48", HazardKind::Deadlock);
    mutant("_, [bar], 64", "_, [bar], 80", HazardKind::Deadlock);
    mutant("fence.mbarrier_init.release.cluster;", "", HazardKind::MbarrierUnpublished);
    mutant("mbarrier.init.shared::cta.b64 [bar], 1;", "", HazardKind::MbarrierNotInitialized);
    mutant("[bar], 1;", "[bar], 2;", HazardKind::Deadlock);
    mutant("[buf], [%in], 64", "[buf+8], [%in], 64", HazardKind::Misaligned);
    mutant("[buf], [%in], 64", "[buf], [%in+16], 64", HazardKind::OutOfBounds);
    mutant("[buf], [%in], 64", "[buf], [%in], 56", HazardKind::Misaligned);
    // A fence.proxy.async shows the initialisation to the async proxy as well.
    let other = LOAD.replace("fence.mbarrier_init.release.cluster", "fence.proxy.async.shared::cta");
    clean(&other, &input, &out, None, &input[32..48]);
}

const STORE: &str = "
    ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%in];
    st.shared.v4.u32 [buf], {%r0, %r1, %r2, %r3};
    fence.proxy.async.shared::cta;
    cp.async.bulk.global.shared::cta.bulk_group [%out], [buf], 16;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 0;
    st.shared.v4.u32 [buf], {%r3, %r2, %r1, %r0};
    cp.async.bulk.wait_group 0;
    ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%out];
    st.global.v4.u32 [%out+16], {%r3, %r2, %r1, %r0};";

#[test]
fn a_bulk_store_and_its_mutants() {
    let (input, out) = (bytes(16), [0; 32]);
    let mut want = input.clone();
    want.extend(input.chunks(4).rev().flatten());
    clean(STORE, &input, &out, None, &want);
    let mutant = |from: &str, to: &str, kind| caught(STORE, from, to, kind, &input, &out, None);
    mutant("fence.proxy.async.shared::cta;", "", HazardKind::MissingProxyFence);
    mutant("fence.proxy.async.shared::cta;", "fence.proxy.async.global;", HazardKind::MissingProxyFence);
    mutant("cp.async.bulk.wait_group.read 0;", "", HazardKind::InFlight);
    mutant("cp.async.bulk.wait_group.read 0;", "cp.async.bulk.wait_group.read 1;", HazardKind::InFlight);
    mutant("cp.async.bulk.wait_group 0;", "", HazardKind::InFlight);
    mutant("cp.async.bulk.wait_group 0;", "cp.async.bulk.wait_group.read 0;", HazardKind::InFlight);
    mutant("cp.async.bulk.commit_group;", "", HazardKind::MissingCommit);
    mutant("st.shared.v4.u32 [buf], {%r0, %r1, %r2, %r3};", "", HazardKind::UninitializedRead);
    let end =
        "cp.async.bulk.wait_group.read 0;\n    st.shared.v4.u32 [buf], {%r3, %r2, %r1, %r0};\n    cp.async.bulk.wait_group 0;
    ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%out];\n    st.global.v4.u32 [%out+16], {%r3, %r2, %r1, %r0};";
    mutant(end, "", HazardKind::MissingWait);
}

#[test]
fn reductions_add_to_what_is_there() {
    let body = "
    ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%in];
    st.shared.v4.u32 [buf], {%r0, %r1, %r2, %r3};
    fence.proxy.async.shared::cta;
    cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%out], [buf], 16;
    cp.reduce.async.bulk.global.shared::cta.bulk_group.max.s32 [%out+16], [buf], 16;
    cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.bf16 [%out+32], [buf], 16;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;";
    let halves: Vec<u8> =
        [1.0f32, 2.0, -3.5, 0.25, 100.0, -1.0, 8.0, 0.0].iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    let out: Vec<u8> = [0xFFFF_FFFFu32, 1, 2, 3, 0, 0x7FFF_FFFF, 5, 6]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .chain(halves.iter().copied())
        .collect();
    let word = |b: &[u8], i: usize| u32::from_le_bytes(b[4 * i..4 * i + 4].try_into().unwrap());
    let mut want = Vec::new();
    for i in 0..4 {
        want.extend(word(&halves, i).wrapping_add(word(&out, i)).to_le_bytes());
    }
    for i in 0..4 {
        want.extend((word(&halves, i) as i32).max(word(&out, 4 + i) as i32).to_le_bytes());
    }
    for h in halves.chunks(2) {
        let x = half::bf16::from_le_bytes(h.try_into().unwrap()).to_f32();
        want.extend(half::bf16::from_f32(x + x).to_le_bytes());
    }
    clean(body, &halves, &out, None, &want);
}

const COPY: &str = "
    cp.async.ca.shared.global [buf], [%in], 4;
    cp.async.commit_group;
    cp.async.cg.shared.global [buf+16], [%in+16], 16, 4;
    cp.async.commit_group;
    cp.async.wait_group 1;
    ld.shared.u32 %r0, [buf];
    cp.async.wait_all;
    ld.shared.v2.u32 {%r1, %r2}, [buf+16];
    st.global.u32 [%out], %r0;
    st.global.v2.u32 [%out+8], {%r1, %r2};";

#[test]
fn cp_async_and_its_mutants() {
    let (input, out) = (bytes(32), [0; 16]);
    let mut want = vec![0; 16];
    want[..4].copy_from_slice(&input[..4]);
    want[8..12].copy_from_slice(&input[16..20]);
    clean(COPY, &input, &out, None, &want);
    let mutant = |from: &str, to: &str, kind| caught(COPY, from, to, kind, &input, &out, None);
    mutant("cp.async.wait_group 1;", "", HazardKind::InFlight);
    mutant("cp.async.wait_group 1;", "cp.async.wait_group 2;", HazardKind::InFlight);
    mutant("cp.async.commit_group;", "", HazardKind::InFlight);
    mutant("cp.async.wait_all;", "", HazardKind::InFlight);
    mutant("[buf+16], [%in+16], 16, 4", "[buf+16], [%in+8], 16, 4", HazardKind::Misaligned);
    mutant("[%in+16], 16, 4", "[%in+32], 16, 4", HazardKind::OutOfBounds);
}

#[test]
fn cp_async_can_arrive_on_an_mbarrier() {
    let body = "
    mbarrier.init.shared::cta.b64 [bar], 1;
    cp.async.ca.shared.global [buf], [%in], 16;
    cp.async.mbarrier.arrive.noinc.shared::cta.b64 [bar];
wait:
    mbarrier.try_wait.parity.shared::cta.b64 p, [bar], 0;
    @!p bra wait;
    ld.shared.v2.u64 {%s0, %s1}, [buf];
    st.global.v2.u64 [%out], {%s0, %s1};";
    let (input, out) = (bytes(16), [0; 16]);
    clean(body, &input, &out, None, &input);
    caught_by_some(body, "@!p bra wait;", HazardKind::InFlight, &input, &out, None);
    // Without .noinc the arrival is one more, and the phase waits for the thread's own as well.
    let inc = body.replace("noinc.", "").replace("wait:", "mbarrier.arrive.shared::cta.b64 _, [bar];\nwait:");
    clean(&inc, &input, &out, None, &input);
    caught(&inc, "mbarrier.arrive.shared::cta.b64 _, [bar];", "", HazardKind::Deadlock, &input, &out, None);
}

#[test]
fn mbarriers_count_and_refuse() {
    let body = "
    mbarrier.init.shared::cta.b64 [bar], 3;
    mbarrier.arrive.shared::cta.b64 %s0, [bar];
    mbarrier.arrive.noComplete.release.cta.shared::cta.b64 %s1, [bar], 1;
    mbarrier.pending_count.b64 %r0, %s0;
    mbarrier.pending_count.b64 %r1, %s1;
    mbarrier.test_wait.shared::cta.b64 p, [bar], %s0;
    @p trap;
    mbarrier.arrive_drop.shared::cta.b64 %s2, [bar];
    mbarrier.test_wait.shared::cta.b64 p, [bar], %s0;
    @!p trap;
    mbarrier.test_wait.parity.shared::cta.b64 p, [bar], 0;
    @!p trap;
    mbarrier.arrive.shared::cta.b64 %s3, [bar], 2;
    mbarrier.pending_count.b64 %r2, %s3;
    mbarrier.test_wait.parity.shared::cta.b64 p, [bar], 1;
    @!p trap;
    mbarrier.inval.shared::cta.b64 [bar];
    mbarrier.init.shared::cta.b64 [bar], 1;
    st.global.v4.u32 [%out], {%r0, %r1, %r2, %r2};";
    let want: Vec<u8> = [3u32, 2, 2, 2].iter().flat_map(|x| x.to_le_bytes()).collect();
    clean(body, &[0], &[0; 16], None, &want);
    let mutant = |from: &str, to: &str, kind| caught(body, from, to, kind, &[0], &[0; 16], None);
    mutant("mbarrier.inval.shared::cta.b64 [bar];", "", HazardKind::MbarrierReinit);
    mutant("%s3, [bar], 2;", "%s3, [bar], 3;", HazardKind::MbarrierOverflow);
    mutant("[bar], 3;", "[bar], 0;", HazardKind::MbarrierOverflow);
    mutant("mbarrier.inval.shared::cta.b64 [bar];", "ld.shared.u32 %r5, [bar];", HazardKind::MbarrierNotInitialized);
    mutant(
        "mbarrier.inval.shared::cta.b64 [bar];",
        "mbarrier.test_wait.shared::cta.b64 p, [bar], %s0;",
        HazardKind::MbarrierWrongPhase,
    );
    mutant("[bar], 1;\n    st", "[bar+4], 1;\n    st", HazardKind::Misaligned);
}

const TENSOR: &str = "
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 2048;
    cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [buf], [%tin, {X, Y}], [bar];
wait:
    mbarrier.try_wait.parity.shared::cta.b64 p, [bar], 0;
    @!p bra wait;
    cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%tout, {0, 0}], [buf];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;";

/// Loads the box at (`x`, `y`) of a 72 x 20 tensor of bf16 and stores it as a whole; the element `i` of the image comes out.
fn tensor_case(swizzle_in: Swizzle, swizzle_out: Swizzle, fill: OobFill, x: i32, y: i32) {
    let (w, h) = (72usize, 20usize);
    let (bw, bh) = (64usize, 16usize);
    let element = |i: usize, j: usize| half::bf16::from_f32((j * w + i) as f32 / 8.0).to_le_bytes();
    let input: Vec<u8> = (0..h).flat_map(|j| (0..w).flat_map(move |i| element(i, j))).collect();
    let mut tin = TensorMap::dense(ElementType::Bf16, 0, &[w as u64, h as u64], &[bw as u32, bh as u32]);
    let mut tout = TensorMap::dense(ElementType::Bf16, 0, &[bw as u64, bh as u64], &[bw as u32, bh as u32]);
    (tin.swizzle, tin.oob_fill, tout.swizzle) = (swizzle_in, fill, swizzle_out);
    // The image in shared memory, by the swizzle in words: 16-byte chunk c of line r lies where c xor (r mod 8) says.
    let place = |swizzle: Swizzle, at: usize| match swizzle {
        Swizzle::None => at,
        _ => at / 128 * 128 + ((at % 128 / 16) ^ (at / 128 % 8)) * 16 + at % 16,
    };
    let mut image = vec![0u8; bw * bh * 2];
    for j in 0..bh {
        for i in 0..bw {
            let (gx, gy) = (x + i as i32, y + j as i32);
            let inside = (0..w as i32).contains(&gx) && (0..h as i32).contains(&gy);
            let value = match (inside, fill) {
                (true, _) => element(gx as usize, gy as usize),
                (false, OobFill::Zero) => [0; 2],
                (false, OobFill::Nan) => [0xFF, 0x7F],
            };
            let at = place(swizzle_in, (j * bw + i) * 2);
            image[at..at + 2].copy_from_slice(&value);
        }
    }
    let want: Vec<u8> = (0..bw * bh * 2).map(|at| image[place(swizzle_out, at)]).collect();
    let body = TENSOR.replace('X', &x.to_string()).replace('Y', &y.to_string());
    // A store by another swizzle shows where the bytes lie, and is named.
    let kinds: &[HazardKind] = if swizzle_in == swizzle_out { &[] } else { &[HazardKind::LayoutMismatch] };
    computes(&body, &input, &vec![0; bw * bh * 2], Some((&tin, &tout)), &want, kinds);
}

#[test]
fn tensor_copies_swizzle_fill_and_clip() {
    for fill in [OobFill::Zero, OobFill::Nan] {
        for (x, y) in [(0, 0), (8, 4), (-3, -2), (20, 10), (72, 0), (0, -16), (1000, 1000)] {
            tensor_case(Swizzle::None, Swizzle::None, fill, x, y);
        }
    }
    for (x, y) in [(0, 0), (-3, 7), (30, 10)] {
        tensor_case(Swizzle::B128, Swizzle::None, OobFill::Zero, x, y);
        tensor_case(Swizzle::None, Swizzle::B128, OobFill::Zero, x, y);
        tensor_case(Swizzle::B128, Swizzle::B128, OobFill::Zero, x, y);
    }
}

#[test]
fn tensor_copies_and_their_mutants() {
    let input = bytes(72 * 20 * 2);
    let tin = TensorMap::dense(ElementType::Bf16, 0, &[72, 20], &[64, 16]);
    let tout = TensorMap::dense(ElementType::Bf16, 0, &[64, 16], &[64, 16]);
    let out = vec![0; 2048];
    let maps = Some((&tin, &tout));
    let body = TENSOR.replace("X, Y", "0, 0");
    let mutant = |from: &str, to: &str, kind| caught(&body, from, to, kind, &input, &out, maps);
    caught_by_some(&body, "@!p bra wait;", HazardKind::InFlight, &input, &out, maps);
    mutant("_, [bar], 2048", "_, [bar], 2046", HazardKind::Deadlock);
    mutant("[buf], [%tin", "[buf+64], [%tin", HazardKind::Misaligned);
    mutant("cp.async.bulk.wait_group 0;", "", HazardKind::MissingWait);
    mutant("cp.async.bulk.commit_group;", "", HazardKind::MissingCommit);
    mutant(
        "cp.async.bulk.tensor.2d.global",
        "st.shared.u32 [buf], 0;\ncp.async.bulk.tensor.2d.global",
        HazardKind::MissingProxyFence,
    );
    // Other refusals end the launch.
    for (from, to, message) in [
        ("[%tin,", "[%in,", "no tensor map"),
        (
            "2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [buf], [%tin, {0, 0}]",
            "3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [buf], [%tin, {0, 0, 0}]",
            "3 coordinates for a tensor map of rank 2",
        ),
        ("[%tin, {0, 0}]", "[%tin+16, {0, 0}]", "no multiple of 64"),
    ] {
        let got = run(0, &body.replacen(from, to, 1), &input, &out, maps, false);
        assert!(got.fault.is_some() && got.text.contains(message), "{}", got.text);
    }
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    for (line, why) in [
        ("cp.async.cg.shared.global [buf], [%in], 8;", "cannot copy 8 bytes"),
        ("cp.async.ca.shared.global [buf], [%in], 12;", "cannot copy 12 bytes"),
        (
            "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [buf], [%tin, {0, 0, 0}], [bar], {0};",
            "im2col",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [buf], [%tin, {0}], [bar];",
            "2 coordinates",
        ),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.bf16 [%out], [buf], 16;", "no reduction"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.and.u32 [%out], [buf], 16;", "no reduction"),
        ("cp.async.bulk.global.shared::cluster.bulk_group [%out], [buf], 16;", "unknown form"),
        ("mbarrier.arrive.shared::cluster.b64 %s0, [bar];", "returns no state"),
        ("mbarrier.arrive.gpu.shared::cta.b64 %s0, [bar];", "b64"),
        ("mbarrier.test_wait.shared::cta.b64 p, [bar], %s0, %r0;", "3 operands"),
        ("fence.acq_rel.warp;", "unknown form"),
        ("fence.proxy.texture;", "unknown form"),
        ("cp.async.wait_group -1;", "-1 groups"),
    ] {
        let source = format!(
            ".version 8.4\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{{\n.reg .b64 %in, %out, %tin, %s<2>;\n\
             .reg .b32 %r<2>;\n.reg .pred p;\n.shared .align 128 .b8 buf[64];\n.shared .align 8 .b64 bar;\n{line}\nret;\n}}\n"
        );
        let error = Module::parse("k.ptx", &source).err().unwrap_or_else(|| panic!("`{line}` was taken")).to_string();
        assert!(error.contains(why) || error.contains("type"), "`{line}`: {error}");
        assert!(error.contains(":11:"), "the line is named: {error}");
    }
}

#[test]
fn tensor_maps_can_be_changed_by_the_kernel() {
    let body = "
    tensormap.replace.tile.global_address.global.b1024.b64 [%tin], %out;
    tensormap.replace.tile.global_dim.global.b1024.b32 [%tin], 0, 64;
    fence.proxy.tensormap::generic.release.gpu;
    fence.proxy.tensormap::generic.acquire.gpu [%tin], 128;
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;
    cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [buf], [%tin, {8}], [bar];
wait:
    mbarrier.try_wait.parity.shared::cta.b64 p, [bar], 0;
    @!p bra wait;
    ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [buf];
    st.global.v4.u32 [%out], {%r0, %r1, %r2, %r3};";
    let map = TensorMap::dense(ElementType::U8, 0, &[16], &[16]);
    let out = bytes(64);
    let mut want = out.clone();
    want.copy_within(8..24, 0);
    clean(body, &[0; 64], &out, Some((&map, &map)), &want);
    for fence in ["fence.proxy.tensormap::generic.release.gpu;", "fence.proxy.tensormap::generic.acquire.gpu [%tin], 128;"] {
        caught(body, fence, "", HazardKind::MissingProxyFence, &[0; 64], &out, Some((&map, &map)));
    }
}
