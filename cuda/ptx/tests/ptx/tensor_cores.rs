//! `ldmatrix`, `stmatrix`, `movmatrix`, `mma.sync` and wgmma as instructions: PTX written for each form, run, and compared
//! with plain matrix products of small integers, which every format and every order of summation represents exactly.

use std::fmt::Write as _;
use std::sync::Arc;

use ptx::matrix::fragment;
use ptx::num::convert::{How, Type, convert};
use ptx::{Gpu, HazardKind, Launch, Module, Options};

/// Runs `kernel(in, out)` and returns what it wrote and the hazards it met.
fn run(ptx: &str, threads: u32, input: &[u8], output: usize, seed: u64) -> (Vec<u8>, Vec<HazardKind>) {
    let module = Module::parse("test.ptx", ptx).unwrap_or_else(|e| panic!("{e}"));
    let mut gpu = Gpu::new(Options::pedantic(seed));
    let module = gpu.load(Arc::new(module)).unwrap();
    let (from, to) = (gpu.alloc(input.len() as u64).unwrap(), gpu.alloc(output as u64).unwrap());
    gpu.write(from, input).unwrap();
    let report = gpu.launch(&Launch::new(module, "kernel").block(threads).args((from, to)));
    assert!(report.fault.is_none(), "{report:?}");
    let hazards = report.hazards.iter().map(|h| h.kind).collect();
    (gpu.read(to, output).unwrap(), hazards)
}

fn clean(ptx: &str, threads: u32, input: &[u8], output: usize) -> Vec<u8> {
    let (bytes, hazards) = run(ptx, threads, input, output, 1);
    assert!(hazards.is_empty(), "{hazards:?}");
    bytes
}

/// A kernel with `shared` bytes of shared memory, whose body finds `%in`, `%out` and `%t` (thread) ready.
fn kernel(shared: usize, body: &str) -> String {
    format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n\
         .visible .entry kernel(.param .u64 a, .param .u64 b)\n{{\n\
         .reg .b64 %in, %out, %l<9>;\n.reg .b32 %t, %s, %x<200>;\n.reg .f32 %f<200>;\n.reg .f64 %d<20>;\n.reg .pred %p, %q;\n\
         .shared .align 1024 .b8 smem[{}];\n\
         ld.param.u64 %in, [a];\nld.param.u64 %out, [b];\nmov.u32 %t, %tid.x;\nmov.u32 %s, smem;\n{body}\nret;\n}}\n",
        shared.max(16)
    )
}

/// `count` elements of `size` bytes a thread, at thread · count · size: loads or stores of registers named `prefix`0….
fn each(load: bool, base: &str, offset: usize, prefix: &str, ty: &str, size: usize, count: usize) -> String {
    let mut text = format!("mul.wide.u32 %l0, %t, {};\nadd.s64 %l0, %l0, {base};\n", size * count);
    for i in 0..count {
        let at = offset + i * size;
        let _ = if load {
            writeln!(text, "ld.global.{ty} {prefix}{i}, [%l0+{at}];")
        } else {
            writeln!(text, "st.global.{ty} [%l0+{at}], {prefix}{i};")
        };
    }
    text
}

fn list(prefix: &str, count: usize) -> String {
    format!("{{{}}}", (0..count).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>().join(","))
}

/// A small integer that differs from place to place.
fn small(seed: usize, i: usize, j: usize) -> i32 {
    ((seed * 7 + i * 13 + j * 29 + i * j * 3) % 7) as i32 - 3
}

#[test]
fn eight_by_eight_matrices_move_as_documented() {
    for count in [1, 2, 4] {
        for trans in [false, true] {
            let suffix = format!("sync.aligned.m8n8.x{count}{}.shared.b16", if trans { ".trans" } else { "" });
            let registers = list("%x", count);
            // Lane l of `count`·8 lanes writes row l as 16 bytes that number the elements.
            let fill = "shl.b32 %x9, %t, 4;\nadd.u32 %x9, %s, %x9;\nshl.b32 %x10, %t, 3;\n\
                        mad.lo.u32 %x11, %x10, 65537, 65536;\nadd.u32 %x12, %x11, 131074;\nadd.u32 %x13, %x12, 131074;\nadd.u32 %x14, %x13, 131074;\n\
                        st.shared.v4.b32 [%x9], {%x11, %x12, %x13, %x14};\nbar.warp.sync -1;\n";
            let body = format!("{fill}ldmatrix.{suffix} {registers}, [%x9];\n{}", each(false, "%out", 0, "%x", "b32", 4, count));
            let out = clean(&kernel(512, &body), 32, &[0; 4], 128 * count);
            for lane in 0..32 {
                for i in 0..count {
                    for half in 0..2 {
                        let at = 4 * (lane * count + i) + 2 * half;
                        let got = usize::from(u16::from_le_bytes([out[at], out[at + 1]]));
                        let (r, c) = (lane / 4, lane % 4 * 2 + half);
                        let (row, column) = if trans { (c, r) } else { (r, c) };
                        assert_eq!(got, 64 * i + 8 * row + column, "ldmatrix.{suffix} lane {lane} register {i} half {half}");
                    }
                }
            }
            // stmatrix of what ldmatrix loaded, elsewhere, is a copy.
            let back = format!(
                "{fill}ldmatrix.{suffix} {registers}, [%x9];\nstmatrix.{suffix} [%x9+512], {registers};\nbar.warp.sync -1;\n\
                 ld.shared.v4.b32 {{%x0, %x1, %x2, %x3}}, [%x9+512];\n{}",
                each(false, "%out", 0, "%x", "b32", 4, 4)
            );
            // Lanes beyond the last row read what they wrote themselves.
            let back = back.replace("bar.warp.sync -1;\nld.shared", &format!(
                "bar.warp.sync -1;\nsetp.ge.u32 %p, %t, {};\n@%p st.shared.v4.b32 [%x9+512], {{%x11, %x12, %x13, %x14}};\nld.shared", 8 * count
            ));
            let out = clean(&kernel(1024, &back), 32, &[0; 4], 512);
            for (i, element) in out.chunks_exact(2).enumerate() {
                assert_eq!(usize::from(u16::from_le_bytes([element[0], element[1]])), i, "stmatrix.{suffix}");
            }
        }
    }
    let body = format!(
        "shl.b32 %x1, %t, 1;\nmad.lo.u32 %x1, %x1, 65537, 65536;\nmovmatrix.sync.aligned.m8n8.trans.b16 %x0, %x1;\n{}",
        each(false, "%out", 0, "%x", "b32", 4, 1)
    );
    let out = clean(&kernel(0, &body), 32, &[0; 4], 128);
    for (i, element) in out.chunks_exact(2).enumerate() {
        assert_eq!(usize::from(u16::from_le_bytes([element[0], element[1]])), i % 8 * 8 + i / 8);
    }
}

/// The bits of an integer in a format.
fn encoded(value: i32, ty: Type) -> u64 {
    let from = Type::Int { bits: 32, signed: true };
    convert(value as u32 as u64, from, ty, How::default())
}

fn type_of(name: &str) -> Type {
    match name {
        "f16" => Type::F16,
        "bf16" => Type::Bf16,
        "tf32" | "f32" => Type::F32,
        "e4m3" => Type::E4m3,
        "e5m2" => Type::E5m2,
        "f64" => Type::F64,
        "s8" => Type::Int { bits: 8, signed: true },
        "u8" => Type::Int { bits: 8, signed: false },
        _ => Type::Int { bits: 32, signed: true },
    }
}

fn width(name: &str) -> usize {
    match name {
        "f64" => 64,
        "f32" | "tf32" | "s32" => 32,
        "f16" | "bf16" => 16,
        _ => 8,
    }
}

/// A value that the type holds: unsigned ones are not negative.
fn element(name: &str, seed: usize, i: usize, j: usize) -> i32 {
    let value = small(seed, i, j);
    if name == "u8" { value + 3 } else { value }
}

/// Packs a lane's elements into bytes, in order.
fn pack(name: &str, values: impl Iterator<Item = i32>) -> Vec<u8> {
    values.flat_map(|v| encoded(v, type_of(name)).to_le_bytes()[..width(name) / 8].to_vec()).collect()
}

#[test]
fn every_mma_shape_multiplies() {
    let shapes = [
        ("m16n8k8", 16, 8, "f32", "f16", "f16"),
        ("m16n8k8", 16, 8, "f16", "f16", "f16"),
        ("m16n8k16", 16, 16, "f32", "f16", "f16"),
        ("m16n8k16", 16, 16, "f16", "f16", "f16"),
        ("m16n8k8", 16, 8, "f32", "bf16", "bf16"),
        ("m16n8k16", 16, 16, "f32", "bf16", "bf16"),
        ("m16n8k4", 16, 4, "f32", "tf32", "tf32"),
        ("m16n8k8", 16, 8, "f32", "tf32", "tf32"),
        ("m16n8k32", 16, 32, "f32", "e4m3", "e4m3"),
        ("m16n8k32", 16, 32, "f32", "e5m2", "e4m3"),
        ("m16n8k32", 16, 32, "f16", "e4m3", "e5m2"),
        ("m16n8k16", 16, 16, "f32", "e5m2", "e5m2"),
        ("m8n8k16", 8, 16, "s32", "s8", "u8"),
        ("m16n8k16", 16, 16, "s32", "u8", "s8"),
        ("m16n8k32", 16, 32, "s32", "s8", "s8"),
        ("m16n8k32", 16, 32, "s32", "u8", "u8"),
        ("m8n8k4", 8, 4, "f64", "f64", "f64"),
        ("m16n8k4", 16, 4, "f64", "f64", "f64"),
        ("m16n8k8", 16, 8, "f64", "f64", "f64"),
        ("m16n8k16", 16, 16, "f64", "f64", "f64"),
    ];
    for (shape, m, k, dt, at, bt) in shapes {
        let double = dt == "f64";
        let per = |name: &str| if double { 1 } else { 32 / width(name) };
        let (na, nb, nd) = (m * k / 32 / per(at), k * 8 / 32 / per(bt), m * 8 / 32 / per(dt));
        let mut input = Vec::new();
        for lane in 0..32 {
            input.extend(pack(
                at,
                (0..na * per(at)).map(|e| {
                    let (i, j) = fragment::a(lane, e / per(at), e % per(at), per(at));
                    element(at, 1, i, j)
                }),
            ));
        }
        let b_at = input.len();
        for lane in 0..32 {
            input.extend(pack(
                bt,
                (0..nb * per(bt)).map(|e| {
                    let (i, j) = fragment::b(lane, e / per(bt), e % per(bt), per(bt));
                    element(bt, 2, i, j)
                }),
            ));
        }
        let c_at = input.len();
        for lane in 0..32 {
            input.extend(pack(
                dt,
                (0..nd * per(dt)).map(|e| {
                    let (i, j) = fragment::accumulator(lane, e);
                    small(3, i, j)
                }),
            ));
        }
        let (ty, size, word) = if double { ("f64", 8, "%d") } else { ("b32", 4, "%x") };
        let (dc, d_ty) = match dt {
            "f32" => ("%f", "f32"),
            _ => (word, ty),
        };
        // A at 0…, B at 8…, C and D from 14 on of their file.
        let regs = |prefix: &str, from: usize, n: usize| {
            format!("{{{}}}", (from..from + n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>().join(","))
        };
        let load = |prefix: &str, from: usize, ty: &str, offset: usize, n: usize| {
            let mut text = format!("mul.wide.u32 %l0, %t, {};\nadd.s64 %l0, %l0, %in;\n", size * n);
            for i in 0..n {
                let _ = writeln!(text, "ld.global.{ty} {prefix}{}, [%l0+{}];", from + i, offset + i * size);
            }
            text
        };
        let mut body = load(word, 0, ty, 0, na) + &load(word, 8, ty, b_at, nb) + &load(dc, 14, d_ty, c_at, nd);
        let d = regs(dc, 14, nd);
        let _ = writeln!(
            body,
            "mma.sync.aligned.{shape}.row.col.{dt}.{at}.{bt}.{dt} {d}, {}, {}, {d};",
            regs(word, 0, na),
            regs(word, 8, nb)
        );
        let _ = write!(body, "mul.wide.u32 %l0, %t, {};\nadd.s64 %l0, %l0, %out;\n", size * nd);
        for i in 0..nd {
            let _ = writeln!(body, "st.global.{d_ty} [%l0+{}], {dc}{};", i * size, 14 + i);
        }
        let out = clean(&kernel(0, &body), 32, &input, 32 * nd * size);
        for lane in 0..32 {
            let expected = pack(
                dt,
                (0..nd * per(dt)).map(|e| {
                    let (i, j) = fragment::accumulator(lane, e);
                    small(3, i, j) + (0..k).map(|s| element(at, 1, i, s) * element(bt, 2, s, j)).sum::<i32>()
                }),
            );
            assert_eq!(&out[lane * nd * size..(lane + 1) * nd * size], expected, "{shape} {dt} {at} {bt} lane {lane}");
        }
    }
}

#[test]
fn what_the_tensor_cores_lack_is_refused_by_name() {
    let d = "{%f0,%f1,%f2,%f3}";
    for (text, why) in [
        (format!("mma.sync.aligned.m16n8k128.row.col.s32.s4.s4.s32 {d}, {{%x0,%x1,%x2,%x3}}, {{%x4,%x5}}, {d};"), "combination"),
        (format!("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {d}, {{%x0,%x1}}, {{%x4,%x5}}, {d};"), "combination"),
        (format!("mma.sync.aligned.m16n8k16.col.col.f32.f16.f16.f32 {d}, {{%x0,%x1,%x2,%x3}}, {{%x4,%x5}}, {d};"), ".row.col"),
        (format!("mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {d}, {{%x0,%x1}}, {{%x4,%x5}}, {d}, %x9, 4;"), "selector"),
        (
            format!("mma.sync.aligned.m16n8k16.row.col.f32.bf16.f16.f32 {d}, {{%x0,%x1,%x2,%x3}}, {{%x4,%x5}}, {d};"),
            "combination",
        ),
        (format!("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {d}, {{%x0,%x1}}, {{%x4,%x5}}, {d};"), "4 registers"),
        ("ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%x0,%x1}, [%s];".into(), ".m8n8"),
        ("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%x0}, [%s];".into(), "2 registers"),
        ("wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%f0}, %l0, %l1, %p, 1, 1, 0, 0;".into(), "combination"),
        ("wgmma.mma_async.sync.aligned.m64n40k32.s32.s8.s8 {%x0}, %l0, %l1, %p;".into(), "combination"),
        ("wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%f0,%f1,%f2,%f3}, %l0, %l1, %p, 1, 1, 0, 1;".into(), "6 operands"),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0,%f1,%f2,%f3}, %l0, %l1, %p, 2, 1, 0, 1;".into(), "scale"),
        (
            "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f0,%f1,%f2,%f3}, %l0, %l1, %x0, 2, %p, 1, 1, 0, 1;".into(),
            "selector",
        ),
    ] {
        let error = match Module::parse("test.ptx", &kernel(16, &text)) {
            Ok(_) => panic!("accepted: {text}"),
            Err(errors) => errors.to_string(),
        };
        assert!(error.contains(why) && error.contains("test.ptx:"), "{text}: {error}");
    }
}

/// How an operand lies in shared memory.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lay {
    /// Bytes of the swizzle; 0 for none.
    swizzle: usize,
    /// k runs along memory.
    k_major: bool,
}

/// Element (mn, k) of a tile in a layout that a TMA copy could have made, and the descriptor's offsets. `extent` is m or n.
fn position(lay: Lay, extent: usize, k_elements: usize, bytes: usize, mn: usize, k: usize) -> usize {
    let (inner, outer, outers) = if lay.k_major { (k, mn, extent) } else { (mn, k, k_elements) };
    let byte = inner * bytes;
    if lay.swizzle == 0 {
        // Core matrices of 8 lines by 16 bytes, first along the lines, then along the chunks.
        return byte / 16 * (outers / 8 * 128) + outer / 8 * 128 + outer % 8 * 16 + byte % 16;
    }
    // Boxes as wide as the swizzle, one after the other.
    let (boxes, within) = (byte / lay.swizzle, byte % lay.swizzle);
    let linear = boxes * outers * lay.swizzle + outer * lay.swizzle + within;
    let line = linear / 128;
    linear ^ (line % (lay.swizzle / 16) * 16)
}

/// (LBO, SBO) of that layout.
fn offsets(lay: Lay, extent: usize, k_elements: usize) -> (usize, usize) {
    let outers = if lay.k_major { extent } else { k_elements };
    match (lay.swizzle, lay.k_major) {
        (0, true) => (outers * 16, 128),
        (0, false) => (128, outers * 16),
        (s, true) => (16, 8 * s),
        (s, false) => (outers * s, 8 * s),
    }
}

struct Case<'a> {
    n: usize,
    types: (&'a str, &'a str, &'a str),
    a: Option<Lay>,
    b: Lay,
    /// wgmma accumulated one after the other, over consecutive k.
    steps: usize,
    scales: (i32, i32),
}

/// Runs a case and returns D as integers, and the hazards.
fn product(case: &Case, seed: u64, damage: impl Fn(String) -> String) -> (Vec<i32>, Vec<HazardKind>) {
    let Case { n, types: (dt, at, bt), a, b, steps, scales } = *case;
    let bytes = width(at) / 8;
    let k = 32 / bytes;
    // All of k lies in one tile, so that stepping is adding to the start address.
    let depth = k * steps;
    let size = |lay: Lay, extent: usize| {
        let (inner, outer) = if lay.k_major { (depth, extent) } else { (extent, depth) };
        (outer * (inner * bytes).next_multiple_of(lay.swizzle.max(16))).next_multiple_of(1024)
    };
    let b_at = a.map_or(0, |lay| size(lay, 64));
    let total = b_at + size(b, n);
    let mut image = vec![0u8; total];
    let mut store = |at: usize, name: &str, value: i32| {
        image[at..at + bytes].copy_from_slice(&encoded(value, type_of(name)).to_le_bytes()[..bytes]);
    };
    for kk in 0..depth {
        for i in 0..64 {
            if let Some(lay) = a {
                store(position(lay, 64, depth, bytes, i, kk), at, element(at, 1, i, kk));
            }
        }
        for j in 0..n {
            store(b_at + position(b, n, depth, bytes, j, kk), bt, element(bt, 2, kk, j));
        }
    }
    let mut input = image.clone();
    for thread in 0..128 {
        for e in 0..steps * 16 / bytes {
            let per = 4 / bytes;
            let (step, e) = (e / (16 / bytes), e % (16 / bytes));
            let (i, j) = fragment::a(thread % 32, e / per, e % per, per);
            let value = element(at, 1, 16 * (thread / 32) + i, step * k + j);
            input.extend(&encoded(value, type_of(at)).to_le_bytes()[..bytes]);
        }
    }
    let per_d = if dt == "f16" { 2 } else { 1 };
    let registers = n / 2 / per_d;
    let (prefix, d_ty) = if dt == "f32" { ("%f", "f32") } else { ("%x", "b32") };
    let first_a = 150;
    let mut body = String::new();
    // Copy the image to shared memory, 16 bytes a thread at a time.
    let _ = write!(body, "shl.b32 %x190, %t, 4;\nadd.u32 %x191, %s, %x190;\ncvt.u64.u32 %l1, %x190;\nadd.s64 %l1, %in, %l1;\n");
    for part in (0..total).step_by(2048) {
        let _ = writeln!(body, "setp.lt.u32 %p, %x190, {};", total - part);
        let _ = writeln!(body, "@%p ld.global.v4.b32 {{%x192,%x193,%x194,%x195}}, [%l1+{part}];");
        let _ = writeln!(body, "@%p st.shared.v4.b32 [%x191+{part}], {{%x192,%x193,%x194,%x195}};");
    }
    let _ = writeln!(body, "fence.proxy.async.shared::cta;\nbar.sync 0;");
    let _ = write!(body, "mul.wide.u32 %l0, %t, {};\nadd.s64 %l0, %l0, %in;\n", 16 * steps);
    for i in 0..4 * steps {
        let _ = writeln!(body, "ld.global.b32 %x{}, [%l0+{}];", first_a + i, total + 4 * i);
    }
    for i in 0..registers {
        let _ = writeln!(body, "mov.{d_ty} {prefix}{i}, {};", if dt == "f32" { "0f7FC00000" } else { "-1" });
    }
    let descriptor = |lay: Lay, extent: usize, at: usize, step: usize| {
        let (lbo, sbo) = offsets(lay, extent, depth);
        let advance = if lay.k_major {
            position(Lay { swizzle: lay.swizzle, k_major: true }, extent, depth, bytes, 0, step * k)
        } else {
            // 16 lines of k further on.
            step * k / 8 * if lay.swizzle == 0 { 128 } else { 8 * lay.swizzle }
        };
        let code: u64 = match lay.swizzle {
            0 => 0,
            128 => 1,
            64 => 2,
            _ => 3,
        };
        ((at + advance) as u64 >> 4) + ((lbo as u64 >> 4) << 16) + ((sbo as u64 >> 4) << 32) + (code << 62)
    };
    let _ = writeln!(body, "setp.eq.u32 %p, %t, 100000;\nsetp.ne.u32 %q, %t, 100000;");
    // smem lies at its own address: added to the descriptors.
    let _ = writeln!(body, "cvt.u64.u32 %l2, %s;\nand.b64 %l2, %l2, 262143;\nshr.u64 %l2, %l2, 4;");
    let _ = writeln!(body, "wgmma.fence.sync.aligned;");
    for step in 0..steps {
        let a_operand = match a {
            Some(lay) => {
                let _ = writeln!(body, "add.s64 %l3, %l2, {};", descriptor(lay, 64, 0, step) as i64);
                "%l3".to_string()
            }
            None => format!("{{{}}}", (0..4).map(|i| format!("%x{}", first_a + 4 * step + i)).collect::<Vec<_>>().join(",")),
        };
        let _ = writeln!(body, "add.s64 %l4, %l2, {};", descriptor(b, n, b_at, step) as i64);
        let scale_d = if step == 0 { "%p" } else { "%q" };
        let mut rest = String::new();
        if dt != "s32" {
            let _ = write!(rest, ", {}, {}", scales.0, scales.1);
        }
        if bytes == 2 {
            if let Some(lay) = a {
                let _ = write!(rest, ", {}", i32::from(!lay.k_major));
            }
            let _ = write!(rest, ", {}", i32::from(!b.k_major));
        }
        let d = list(prefix, registers);
        let _ = writeln!(body, "wgmma.mma_async.sync.aligned.m64n{n}k{k}.{dt}.{at}.{bt} {d}, {a_operand}, %l4, {scale_d}{rest};");
    }
    let _ = writeln!(body, "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;");
    body += &each(false, "%out", 0, prefix, d_ty, 4, registers);
    let text = damage(kernel(total, &body));
    let (out, hazards) = run(&text, 128, &input, 128 * registers * 4, seed);
    let mut d = vec![0; 64 * n];
    for thread in 0..128 {
        for e in 0..n / 2 {
            let (i, j) = fragment::accumulator(thread % 32, e);
            let at = (thread * registers + e / per_d) * 4 + e % per_d * 2;
            let value = match dt {
                "f16" => integer_of(convert(
                    u64::from(u16::from_le_bytes([out[at], out[at + 1]])),
                    Type::F16,
                    Type::F32,
                    How::default(),
                )),
                "f32" => integer_of(u64::from(u32::from_le_bytes(out[at..at + 4].try_into().unwrap()))),
                _ => i32::from_le_bytes(out[at..at + 4].try_into().unwrap()),
            };
            d[(16 * (thread / 32) + i) * n + j] = value;
        }
    }
    (d, hazards)
}

/// An f32's integer value; a NaN is none.
fn integer_of(bits: u64) -> i32 {
    let x = f32::from_bits(bits as u32);
    if x.is_nan() { i32::MIN } else { x as i32 }
}

fn expected(case: &Case) -> Vec<i32> {
    let (_, at, bt) = case.types;
    let depth = 256 / width(at) * case.steps;
    let sign = case.scales.0 * case.scales.1;
    let at_place = |i: usize, j: usize| (0..depth).map(|k| element(at, 1, i, k) * element(bt, 2, k, j)).sum::<i32>() * sign;
    (0..64 * case.n).map(|e| at_place(e / case.n, e % case.n)).collect()
}

fn check(case: &Case) {
    let (d, hazards) = product(case, 3, |text| text);
    let name = format!("n {} {:?} a {:?} b {:?} steps {}", case.n, case.types, case.a, case.b, case.steps);
    assert!(hazards.is_empty(), "{name}: {hazards:?}");
    assert!(d == expected(case), "{name}: wrong product");
}

const K128: Lay = Lay { swizzle: 128, k_major: true };

#[test]
fn every_n_of_every_type() {
    let types = [
        ("f32", "f16", "f16"),
        ("f16", "f16", "f16"),
        ("f32", "bf16", "bf16"),
        ("f32", "tf32", "tf32"),
        ("f32", "e4m3", "e4m3"),
        ("f32", "e4m3", "e5m2"),
        ("f16", "e5m2", "e4m3"),
        ("f32", "e5m2", "e5m2"),
        ("s32", "s8", "s8"),
        ("s32", "u8", "s8"),
        ("s32", "s8", "u8"),
        ("s32", "u8", "u8"),
    ];
    for types in types {
        let integer = types.0 == "s32";
        for n in (8..=256).step_by(8).filter(|n| !integer || n % 16 == 0 || *n == 8 || *n == 24) {
            let from_registers = n % 16 == 8;
            check(&Case { n, types, a: (!from_registers).then_some(K128), b: K128, steps: 4, scales: (1, 1) });
        }
    }
}

#[test]
fn every_layout() {
    let of = |k_major: bool| [0, 32, 64, 128].map(|swizzle| Lay { swizzle, k_major });
    for b in of(true).into_iter().chain(of(false)) {
        for a in of(true).into_iter().chain(of(false)).map(Some).chain([None]) {
            // A tile in k is as deep as its swizzle where k runs along memory.
            let fits = |lay: Lay, steps: usize| !lay.k_major || lay.swizzle == 0 || 32 * steps <= lay.swizzle;
            for steps in [1, 2, 4] {
                if fits(b, steps) && a.is_none_or(|a| fits(a, steps)) {
                    check(&Case { n: 64, types: ("f32", "bf16", "bf16"), a, b, steps, scales: (1, 1) });
                }
            }
        }
    }
    for swizzle in [0, 32, 64, 128] {
        let b = Lay { swizzle, k_major: true };
        for types in [("f32", "tf32", "tf32"), ("f32", "e4m3", "e4m3"), ("s32", "s8", "s8")] {
            check(&Case { n: 96, types, a: Some(b), b, steps: 1, scales: (1, 1) });
        }
    }
}

#[test]
fn scales_negate() {
    for scales in [(1, -1), (-1, 1), (-1, -1)] {
        check(&Case { n: 32, types: ("f32", "f16", "f16"), a: Some(K128), b: K128, steps: 2, scales });
    }
}

/// Damage to a correct kernel, the hazard it must raise, and whether the product must be wrong.
#[test]
fn what_is_missing_is_named_and_poisons() {
    let case = Case { n: 32, types: ("f32", "bf16", "bf16"), a: Some(K128), b: K128, steps: 2, scales: (1, 1) };
    let in_registers = Case { a: None, ..case };
    let fence = "wgmma.fence.sync.aligned;";
    let commit = "wgmma.commit_group.sync.aligned;";
    let wait = "wgmma.wait_group.sync.aligned 0;";
    let remove = |what: &'static str| move |text: String| text.replace(what, "");
    let change = |what: &'static str, to: &'static str| move |text: String| text.replace(what, to);
    type Damage<'a> = Box<dyn Fn(String) -> String + 'a>;
    let touched = "mov.f32 %f3, 0f3F800000;";
    let last = format!("{commit}\n{wait}");
    let overwritten = format!("st.shared.b32 [%s], 0;\n{last}");
    let cases: Vec<(&Case, &str, Damage, HazardKind, bool)> = vec![
        (&case, "no fence", Box::new(remove(fence)), HazardKind::MissingWgmmaFence, true),
        (&in_registers, "no fence, A in registers", Box::new(remove(fence)), HazardKind::MissingWgmmaFence, true),
        (&case, "no commit", Box::new(remove(commit)), HazardKind::MissingCommit, true),
        (&case, "no wait", Box::new(remove(wait)), HazardKind::RegisterInFlight, true),
        (
            &case,
            "a wait for too little",
            Box::new(change(wait, "wgmma.wait_group.sync.aligned 1;")),
            HazardKind::RegisterInFlight,
            true,
        ),
        (&case, "no proxy fence", Box::new(remove("fence.proxy.async.shared::cta;")), HazardKind::MissingProxyFence, false),
        (&case, "no barrier", Box::new(remove("bar.sync 0;")), HazardKind::SharedRace, false),
        (
            &case,
            "D touched after the fence",
            Box::new(|t: String| t.replace(fence, &format!("{fence}\n{touched}"))),
            HazardKind::MissingWgmmaFence,
            true,
        ),
        (
            &case,
            "D written in flight",
            Box::new(|t: String| t.replace(wait, &format!("{touched}\n{wait}"))),
            HazardKind::RegisterInFlight,
            false,
        ),
        (
            &in_registers,
            "A written in flight",
            Box::new(|t: String| t.replace(wait, &format!("mov.b32 %x151, 0;\n{wait}"))),
            HazardKind::RegisterInFlight,
            false,
        ),
        (
            &case,
            "shared memory overwritten in flight",
            Box::new(|t: String| t.replace(&last, &overwritten)),
            HazardKind::SharedRace,
            false,
        ),
    ];
    for (case, name, damage, kind, always_wrong) in cases {
        let mut wrong = 0;
        for seed in 0..8 {
            let (d, hazards) = product(case, seed, &damage);
            // A write that meets a read that is over already is one in flight, else a race.
            let met = |h: &HazardKind| *h == kind || (kind == HazardKind::SharedRace && *h == HazardKind::InFlight);
            assert!(hazards.iter().any(met), "{name}, seed {seed}: {hazards:?}");
            wrong += usize::from(d != expected(case));
        }
        assert!(!always_wrong || wrong == 8, "{name}: right for {} seeds", 8 - wrong);
        assert!(wrong > 0 || !name.contains("flight"), "{name}: harmless for every seed");
    }
}

#[test]
fn no_seed_finds_fault_with_what_is_right() {
    for (a, n) in [(Some(K128), 64), (None, 128)] {
        let case = Case { n, types: ("f32", "bf16", "bf16"), a, b: K128, steps: 4, scales: (1, 1) };
        for seed in 0..40 {
            let (d, hazards) = product(&case, seed, |text| {
                // Two groups, waited for one after the other; accumulation without a fence between; a second fence is no harm.
                text.replace(
                    "wgmma.commit_group.sync.aligned;\n",
                    "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 1;\nwgmma.fence.sync.aligned;\n",
                )
            });
            assert!(hazards.is_empty(), "seed {seed}: {hazards:?}");
            assert!(d == expected(&case), "seed {seed}");
        }
    }
}

#[test]
fn a_warpgroup_is_four_whole_warps() {
    let body = "wgmma.fence.sync.aligned;\nmov.b64 %l0, 0;\nsetp.eq.u32 %p, %t, %t;\n\
                wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0,%f1,%f2,%f3}, %l0, %l0, %p, 1, 1, 0, 0;";
    let module = Arc::new(Module::parse("test.ptx", &kernel(1024, body)).unwrap());
    let mut gpu = Gpu::new(Options::default());
    let module = gpu.load(module).unwrap();
    let fault = gpu.launch(&Launch::new(module, "kernel").block(96).args((0u64, 0u64))).fault.unwrap();
    assert!(fault.to_string().contains("warpgroup"), "{fault}");
}
