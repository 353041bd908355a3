//! `wmma`, `mma` on integers of 4 bits and 1 bit, and sparse `mma` and wgmma, against plain products of small integers.

use half::{bf16, f16};

use crate::harness::Rng;
use crate::warps::{launch, words};

/// Bits of an element.
fn bits(ty: &str) -> usize {
    match ty {
        "f64" => 64,
        "f32" | "s32" | "tf32" => 32,
        "f16" | "bf16" => 16,
        "s4" | "u4" => 4,
        "b1" => 1,
        _ => 8,
    }
}

/// A small value that the type holds.
fn draw(rng: &mut Rng, ty: &str) -> i64 {
    match ty {
        "u8" | "u4" => i64::from(rng.below(8)),
        "b1" => i64::from(rng.below(2)),
        _ => i64::from(rng.below(8)) - 4,
    }
}

fn encode(ty: &str, v: i64) -> u64 {
    match ty {
        "f64" => (v as f64).to_bits(),
        "f32" | "tf32" => u64::from((v as f32).to_bits()),
        "f16" => u64::from(f16::from_f32(v as f32).to_bits()),
        "bf16" => u64::from(bf16::from_f32(v as f32).to_bits()),
        // -4 … 3 in four bits of mantissa or less.
        "e4m3" => u64::from([0xc8_u8, 0xc4, 0xc0, 0xb8, 0x00, 0x38, 0x40, 0x44][(v + 4) as usize]),
        "e5m2" => u64::from([0xc4_u8, 0xc2, 0xc0, 0xbc, 0x00, 0x3c, 0x40, 0x42][(v + 4) as usize]),
        _ => v as u64 & (u64::MAX >> (64 - bits(ty))),
    }
}

fn decode(ty: &str, bits: u64) -> i64 {
    match ty {
        "f64" => f64::from_bits(bits) as i64,
        "f32" => f32::from_bits(bits as u32) as i64,
        "f16" => f16::from_bits(bits as u16).to_f32() as i64,
        _ => i64::from(bits as i32),
    }
}

/// Puts element `i` of an array.
fn put(bytes: &mut [u8], ty: &str, i: usize, v: i64) {
    let (n, code) = (bits(ty), encode(ty, v));
    if n >= 8 {
        bytes[i * n / 8..(i + 1) * n / 8].copy_from_slice(&code.to_le_bytes()[..n / 8]);
    } else {
        bytes[i * n / 8] |= (code as u8) << (i * n % 8);
    }
}

fn get(bytes: &[u8], ty: &str, i: usize) -> i64 {
    let n = bits(ty) / 8;
    decode(ty, bytes[i * n..(i + 1) * n].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
}

fn matrix(rng: &mut Rng, ty: &str, rows: usize, columns: usize) -> Vec<Vec<i64>> {
    (0..rows).map(|_| (0..columns).map(|_| draw(rng, ty)).collect()).collect()
}

fn product(a: &[Vec<i64>], b: &[Vec<i64>], combine: impl Fn(i64, i64) -> i64) -> Vec<Vec<i64>> {
    let column = |j: usize| b.iter().map(move |row| row[j]);
    a.iter().map(|row| (0..b[0].len()).map(|j| row.iter().zip(column(j)).map(|(x, y)| combine(*x, y)).sum()).collect()).collect()
}

fn list(prefix: &str, n: usize) -> String {
    format!("{{{}}}", (0..n).map(|i| format!("%{prefix}{i}")).collect::<Vec<_>>().join(", "))
}

/// The registers of fragments A, B and C of a shape, as the ISA counts them.
fn registers(shape: (usize, usize, usize), a: &str) -> (usize, usize) {
    let (m, n, k) = shape;
    let words = |rows: usize| (rows * k * bits(a) / 32 / 32).max(1);
    match a {
        "f16" => (8, 8),
        // One of 64 bits.
        "f64" => (1, 1),
        _ => (words(m), words(n)),
    }
}

#[test]
fn wmma_multiplies_what_it_loads() {
    let mut rng = Rng::new(7);
    let sixteen = [(16, 16, 16), (32, 8, 16), (8, 32, 16)];
    let mut cases: Vec<((usize, usize, usize), &str, &str, &str, &str)> = Vec::new();
    for shape in sixteen {
        for (d, c) in [("f32", "f32"), ("f16", "f16"), ("f16", "f32"), ("f32", "f16")] {
            cases.push((shape, "f16", d, c, ""));
        }
        cases.extend([(shape, "bf16", "f32", "f32", ""), (shape, "s8", "s32", "s32", ""), (shape, "u8", "s32", "s32", "")]);
    }
    cases.push(((16, 16, 8), "tf32", "f32", "f32", ""));
    cases.extend(["", ".rz", ".rm"].map(|r| ((8, 8, 4), "f64", "f64", "f64", r)));
    cases.extend([((8, 8, 32), "s4", "s32", "s32", ""), ((8, 8, 32), "u4", "s32", "s32", "")]);
    cases.extend([((8, 8, 128), "b1", "s32", "s32", ".xor.popc"), ((8, 8, 128), "b1", "s32", "s32", ".and.popc")]);
    for (shape @ (m, n, k), ty, d, c, modifier) in cases {
        let layouts: &[(&str, &str)] =
            if bits(ty) < 8 { &[("row", "col")] } else { &[("row", "col"), ("row", "row"), ("col", "col"), ("col", "row")] };
        for (round, &(la, lb)) in layouts.iter().enumerate() {
            let (a, b, before) = (matrix(&mut rng, ty, m, k), matrix(&mut rng, ty, k, n), matrix(&mut rng, c, m, n));
            // A line is longer than it must be, but where it is left out, every other time.
            let stated = bits(ty) >= 8 && round % 2 == 0;
            let pad = if stated { 16 } else { 0 };
            let store = |x: &[Vec<i64>], layout: &str, ty: &str, pad: usize| {
                let (rows, columns) = (x.len(), x[0].len());
                let line = if layout == "row" { columns } else { rows } + pad;
                let mut bytes = vec![0; line * rows.max(columns) * bits(ty) / 8 + 64];
                for (i, row) in x.iter().enumerate() {
                    for (j, v) in row.iter().enumerate() {
                        put(&mut bytes, ty, if layout == "row" { i * line + j } else { j * line + i }, *v);
                    }
                }
                (bytes, line)
            };
            let ((in_a, line_a), (in_b, line_b), (in_c, _)) =
                (store(&a, la, ty, pad), store(&b, lb, ty, pad), store(&before, "row", c, 0));
            let name = format!("m{m}n{n}k{k}");
            let (na, nb) = registers(shape, ty);
            let nc = |t: &str| m * n * bits(t) / 32 / if t == "f64" { 64 } else { 32 };
            let file = |t: &str, s: &str| match t {
                "f64" => format!("fd{s}"),
                "f32" => format!("f{s}"),
                _ => format!("r{s}"),
            };
            let (ra, rb) = if ty == "f64" { ("fda", "fdb") } else { ("ra", "rb") };
            let strides = if stated { [format!(", {line_a}"), format!(", {line_b}")] } else { [String::new(), String::new()] };
            let (operation, rounding) = if modifier.contains("popc") { (modifier, "") } else { ("", modifier) };
            let types = if ty == "f16" { format!("{d}.{c}") } else { format!("{d}.{ty}.{ty}.{c}") };
            let (rc, rd) = (file(c, "c"), file(d, "d"));
            let source = format!(
                ".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {{
                 .reg .b32 %ra<8>, %rb<8>, %rc<8>, %rd<8>; .reg .f32 %fc<8>, %fd<8>; .reg .f64 %fda<2>, %fdb<2>, %fdc<2>, %fdd<2>;
                 .reg .b64 %pa, %pb, %pc, %pd;
                 ld.param.u64 %pa, [a]; ld.param.u64 %pb, [b]; ld.param.u64 %pc, [c]; ld.param.u64 %pd, [d];
                 wmma.load.a.sync.aligned.{la}.{name}.global.{ty} {}, [%pa]{};
                 wmma.load.b.sync.aligned.{lb}.{name}.{ty} {}, [%pb]{};
                 wmma.load.c.sync.aligned.row.{name}.global.{c} {}, [%pc];
                 wmma.mma{operation}.sync.aligned.{la}.{lb}.{name}{rounding}.{types} {}, {}, {}, {};
                 wmma.store.d.sync.aligned.col.{name}.global.{d} [%pd], {}, {m};
                 ret; }}",
                list(ra, na),
                strides[0],
                list(rb, nb),
                strides[1],
                list(&rc, nc(c)),
                list(&rd, nc(d)),
                list(ra, na),
                list(rb, nb),
                list(&rc, nc(c)),
                list(&rd, nc(d)),
            );
            let (report, out) = launch(&source, 3, 1, 32, &[in_a, in_b, in_c, vec![0; m * n * bits(d) / 8]]);
            assert!(report.fault.is_none() && report.hazards.is_empty(), "{source}\n{report:?}");
            let want = product(&a, &b, |x, y| if modifier == ".xor.popc" { x ^ y } else { x * y });
            for i in 0..m {
                for j in 0..n {
                    let got = get(&out[3], d, j * m + i);
                    assert_eq!(got, want[i][j] + before[i][j], "{name} {types} {la} {lb} row {i} column {j}");
                }
            }
        }
    }
}

/// The words that hold a matrix in the registers of A (or, transposed, of B), as the ISA states it for each shape: word `w` of a
/// lane.
fn fragment(ty: &str, x: &[Vec<i64>], lane: usize, w: usize, of_a: bool) -> u32 {
    let per = 32 / bits(ty);
    let (group, thread) = (lane >> 2, lane % 4);
    (0..per).fold(0, |word, j| {
        let i = w * per + j;
        let v = if of_a {
            x[group + if i / per % 2 == 0 { 0 } else { 8 }][thread * per + i % per + i / (2 * per) * 4 * per]
        } else {
            x[thread * per + i % per + i / per * 4 * per][group]
        };
        word | (encode(ty, v) as u32) << (bits(ty) * j)
    })
}

/// Runs `text` in one warp of words A, B, C and metadata in registers `%a`, `%b`, `%c`, `%m`: what `%d` holds.
fn multiply(text: &str, lanes: &[Vec<u32>], counts: [usize; 4]) -> Vec<u32> {
    let [na, nb, nc, nm] = counts;
    let width = na + nb + nc + nm;
    let names = [("a", na), ("b", nb), ("c", nc), ("m", nm)];
    let registers = names.iter().flat_map(|(p, n)| (0..*n).map(move |i| format!("%{p}{i}")));
    let loads: String = registers.enumerate().map(|(i, r)| format!("ld.global.b32 {r}, [%from+{}];\n", 4 * i)).collect();
    let stores: String = (0..nc).map(|i| format!("st.global.b32 [%to+{}], %d{i};\n", 4 * i)).collect();
    let source = format!(
        ".visible .entry k(.param .u64 from, .param .u64 to) {{
         .reg .b32 %a<8>, %b<8>, %c<8>, %d<8>, %m<2>, %t; .reg .b64 %from, %to, %o;
         ld.param.u64 %from, [from]; ld.param.u64 %to, [to]; mov.u32 %t, %laneid;
         mul.wide.u32 %o, %t, {}; add.u64 %from, %from, %o; mul.wide.u32 %o, %t, {}; add.u64 %to, %to, %o;
         {loads}{text}\n{stores}ret; }}",
        4 * width,
        4 * nc
    );
    let input: Vec<u8> = lanes.iter().flatten().flat_map(|w| w.to_le_bytes()).collect();
    let (report, out) = launch(&source, 1, 1, 32, &[input, vec![0; 128 * nc]]);
    assert!(report.fault.is_none() && report.hazards.is_empty(), "{text}: {report:?}");
    words(&out[1])
}

/// C or D as registers: element (row, column) of lane and word.
fn accumulator(lane: usize, i: usize) -> (usize, usize) {
    ((lane >> 2) + if i < 2 { 0 } else { 8 }, lane % 4 * 2 + (i & 1))
}

#[test]
fn mma_of_few_bits() {
    let mut rng = Rng::new(11);
    for (m, k, ta, tb, operation) in [
        (8, 32, "s4", "s4", ""),
        (8, 32, "u4", "s4", ""),
        (16, 32, "s4", "u4", ""),
        (16, 64, "u4", "u4", ""),
        (16, 64, "s4", "s4", ""),
        (8, 128, "b1", "b1", ".xor.popc"),
        (16, 128, "b1", "b1", ".and.popc"),
        (16, 256, "b1", "b1", ".xor.popc"),
        (16, 256, "b1", "b1", ".and.popc"),
    ] {
        let (a, b, c) = (matrix(&mut rng, ta, m, k), matrix(&mut rng, tb, k, 8), matrix(&mut rng, "s32", m, 8));
        let (na, nb, nc) = (m * k * bits(ta) / 1024, k * bits(ta) * 8 / 1024, m / 4);
        let lanes: Vec<Vec<u32>> = (0..32)
            .map(|lane| {
                let of_c = (0..nc).map(|i| accumulator(lane, i)).map(|(r, s)| c[r][s] as u32);
                let of_a = (0..na).map(|w| fragment(ta, &a, lane, w, true));
                of_a.chain((0..nb).map(|w| fragment(tb, &b, lane, w, false))).chain(of_c).collect()
            })
            .collect();
        let text = format!(
            "mma.sync.aligned.m{m}n8k{k}.row.col.s32.{ta}.{tb}.s32{operation} {}, {}, {}, {};",
            list("d", nc),
            list("a", na),
            list("b", nb),
            list("c", nc)
        );
        let got = multiply(&text, &lanes, [na, nb, nc, 0]);
        let want = product(&a, &b, |x, y| if operation == ".xor.popc" { x ^ y } else { x * y });
        for lane in 0..32 {
            for i in 0..nc {
                let (r, s) = accumulator(lane, i);
                assert_eq!(i64::from(got[lane * nc + i] as i32), want[r][s] + c[r][s], "{text} row {r} column {s}");
            }
        }
    }
}

/// A row of which half is there: the dense row, the packed one, and four bits a chunk.
fn sparse_row(rng: &mut Rng, ty: &str, k: usize) -> (Vec<i64>, Vec<i64>, Vec<u32>) {
    let (mut dense, mut packed, mut nibbles) = (vec![0; k], Vec::new(), Vec::new());
    let size = if ty == "tf32" {
        2
    } else if bits(ty) == 4 {
        8
    } else {
        4
    };
    let piece = size / 4;
    for chunk in 0..k / size {
        if ty == "tf32" {
            let which = rng.below(2) as usize;
            let v = draw(rng, ty);
            dense[chunk * 2 + which] = v;
            packed.push(v);
            nibbles.push([0b0100, 0b1110][which]);
            continue;
        }
        let [first, second] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]][rng.below(6) as usize];
        for index in [first, second] {
            for p in 0..piece {
                let v = draw(rng, ty);
                dense[chunk * size + index * piece + p] = v;
                packed.push(v);
            }
        }
        nibbles.push((first | second << 2) as u32);
    }
    (dense, packed, nibbles)
}

/// The metadata of 16 rows as lanes hold them for selector `s`: the order in which libraries store them, a table of 16-bit words for
/// wide types, of 32-bit words for bytes and less, whose rows g and g + 8 are neighbours.
fn metadata(ty: &str, rows: &[Vec<u32>], s: usize) -> Vec<u32> {
    let mut words = vec![0; 32];
    for (row, nibbles) in rows.iter().enumerate() {
        let (g, below) = (row % 8, row / 8);
        if bits(ty) >= 16 {
            let lanes = nibbles.len() / 4;
            for (i, four) in nibbles.chunks(4).enumerate() {
                let half = four.iter().rev().fold(0, |v, n| v << 4 | n);
                words[4 * g + s * lanes + i] |= half << (16 * below);
            }
        } else {
            let lanes = nibbles.len() / 8 * 2;
            for (i, eight) in nibbles.chunks(8).enumerate() {
                words[4 * g + s * lanes + 2 * i + below] = eight.iter().rev().fold(0, |v, n| v << 4 | n);
            }
        }
    }
    words
}

#[test]
fn sparse_mma() {
    let mut rng = Rng::new(13);
    for (k, ta, tb, d, selectors) in [
        (16, "f16", "f16", "f32", 4),
        (32, "f16", "f16", "f32", 2),
        (32, "bf16", "bf16", "f32", 2),
        (8, "tf32", "tf32", "f32", 4),
        (16, "tf32", "tf32", "f32", 2),
        (32, "s8", "u8", "s32", 2),
        (64, "u8", "s8", "s32", 1),
        (64, "s4", "u4", "s32", 2),
        (128, "u4", "s4", "s32", 1),
        (64, "e4m3", "e5m2", "f32", 1),
    ] {
        for selector in 0..selectors {
            let rows: Vec<_> = (0..16).map(|_| sparse_row(&mut rng, ta, k)).collect();
            let a: Vec<Vec<i64>> = rows.iter().map(|r| r.0.clone()).collect();
            let packed: Vec<Vec<i64>> = rows.iter().map(|r| r.1.clone()).collect();
            let nibbles: Vec<Vec<u32>> = rows.iter().map(|r| r.2.clone()).collect();
            let (b, c) = (matrix(&mut rng, tb, k, 8), matrix(&mut rng, "s32", 16, 8));
            let meta = metadata(ta, &nibbles, selector);
            let (na, nb) = (16 * k * bits(ta) / 2048, k * bits(ta) * 8 / 1024);
            let lanes: Vec<Vec<u32>> = (0..32)
                .map(|lane| {
                    let of_a = (0..na).map(|w| fragment(ta, &packed, lane, w, true));
                    let of_b = (0..nb).map(|w| fragment(tb, &b, lane, w, false));
                    let of_c = (0..4).map(|i| accumulator(lane, i)).map(|(r, s)| encode(d, c[r][s]) as u32);
                    of_a.chain(of_b).chain(of_c).chain([meta[lane]]).collect()
                })
                .collect();
            let kind = if selector % 2 == 0 { "sp" } else { "sp::ordered_metadata" };
            let text = format!(
                "mma.{kind}.sync.aligned.m16n8k{k}.row.col.{d}.{ta}.{tb}.{d} {}, {}, {}, {}, %m0, {selector};",
                list("d", 4),
                list("a", na),
                list("b", nb),
                list("c", 4)
            );
            let text = if d == "f32" { text_in_floats(&text) } else { text };
            let got = multiply(&text, &lanes, [na, nb, 4, 1]);
            let want = product(&a, &b, |x, y| x * y);
            for lane in 0..32 {
                for i in 0..4 {
                    let (r, s) = accumulator(lane, i);
                    let got = decode(d, u64::from(got[lane * 4 + i]));
                    assert_eq!(got, want[r][s] + c[r][s], "{text} row {r} column {s}");
                }
            }
        }
    }
}

/// `mma` takes sums of f32 in registers of f32.
fn text_in_floats(text: &str) -> String {
    let moved = text.replace("%d", "%fd").replace("%c", "%fc");
    let copy = |to: &str, from: &str| (0..4).map(|i| format!("mov.b32 %{to}{i}, %{from}{i};\n")).collect::<String>();
    format!(".reg .f32 %fd<4>, %fc<4>;\n{}{moved}\n{}", copy("fc", "c"), copy("d", "fd"))
}

#[test]
fn metadata_that_name_an_element_twice_are_named() {
    let lanes = vec![vec![0; 2 + 2 + 4 + 1]; 32];
    let text = "mma.sp.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%d0, %d1, %d2, %d3}, {%a0, %a1}, {%b0, %b1}, {%c0, %c1, %c2, %c3}, %m0, 0;";
    let caught = std::panic::catch_unwind(|| multiply(text, &lanes, [2, 2, 4, 1]));
    let message = *caught.expect_err("zeros are no metadata").downcast::<String>().unwrap();
    assert!(message.contains("name an element twice"), "{message}");
}

#[test]
fn sparse_and_one_bit_wgmma() {
    let mut rng = Rng::new(17);
    for (k, ta, tb, d, sparse, selectors) in [
        (32, "f16", "f16", "f32", true, 2),
        (16, "tf32", "tf32", "f32", true, 2),
        (64, "s8", "u8", "s32", true, 1),
        (64, "e5m2", "e4m3", "f32", true, 1),
        (256, "b1", "b1", "s32", false, 1),
    ] {
        for selector in 0..selectors {
            let rows: Vec<_> = (0..64)
                .map(|_| match sparse {
                    true => sparse_row(&mut rng, ta, k),
                    false => {
                        let row: Vec<i64> = (0..k).map(|_| draw(&mut rng, ta)).collect();
                        (row.clone(), row, Vec::new())
                    }
                })
                .collect();
            let a: Vec<Vec<i64>> = rows.iter().map(|r| r.0.clone()).collect();
            let b = matrix(&mut rng, tb, k, 8);
            let mut input = Vec::new();
            for warp in 0..4 {
                let part = &rows[16 * warp..16 * warp + 16];
                let packed: Vec<Vec<i64>> = part.iter().map(|r| r.1.clone()).collect();
                let nibbles: Vec<Vec<u32>> = part.iter().map(|r| r.2.clone()).collect();
                let meta = if sparse { metadata(ta, &nibbles, selector) } else { vec![0; 32] };
                for (lane, meta) in meta.into_iter().enumerate() {
                    let of_a = (0..4).map(|w| fragment(ta, &packed, lane, w, true));
                    input.extend(of_a.chain([meta]).flat_map(u32::to_le_bytes));
                }
            }
            // B: columns of 16 bytes side by side, eight to a core matrix, core matrices along k.
            let per = 128 / bits(tb);
            let mut tile = vec![0; k * bits(tb)];
            for (i, row) in b.iter().enumerate() {
                for (column, v) in row.iter().enumerate() {
                    put(&mut tile, tb, (i / per * 8 + column) * per + i % per, *v);
                }
            }
            let words_of_b = tile.len() / 4;
            let descriptor =
                ptx::matrix::Descriptor { start: 0, leading: 128, stride: 4096, base: 0, swizzle: ptx::matrix::Swizzle::None };
            let scales = if d == "f32" { ", 1, 1" } else { "" };
            let transpose = if ta == "f16" { ", 0" } else { "" };
            let (name, extra) = if sparse { (".sp", format!(", %m, {selector}")) } else { ("", String::new()) };
            let operation = if ta == "b1" { ".and.popc" } else { "" };
            let source = format!(
                ".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 d) {{
                 .shared .align 1024 .b8 smem[2048];
                 .reg .b32 %a<4>, %m, %t, %x, %s; .reg .{} %d<4>; .reg .b64 %pa, %pb, %pd, %o, %desc; .reg .pred %p, %q;
                 ld.param.u64 %pa, [a]; ld.param.u64 %pb, [b]; ld.param.u64 %pd, [d]; mov.u32 %t, %tid.x; mov.u32 %s, smem;
                 mov.u32 %x, %t;
                 LOOP: setp.lt.u32 %q, %x, {words_of_b}; @!%q bra DONE;
                 mul.wide.u32 %o, %x, 4; add.u64 %o, %o, %pb; ld.global.b32 %a0, [%o]; shl.b32 %a1, %x, 2; add.u32 %a1, %a1, %s;
                 st.shared.b32 [%a1], %a0; add.u32 %x, %x, 128; bra LOOP;
                 DONE: fence.proxy.async; bar.sync 0;
                 mul.wide.u32 %o, %t, 20; add.u64 %pa, %pa, %o;
                 ld.global.b32 %a0, [%pa]; ld.global.b32 %a1, [%pa+4]; ld.global.b32 %a2, [%pa+8]; ld.global.b32 %a3, [%pa+12];
                 ld.global.b32 %m, [%pa+16]; mov.b64 %desc, {}; setp.ne.u32 %p, %t, %t;
                 wgmma.fence.sync.aligned;
                 wgmma.mma_async{name}.sync.aligned.m64n8k{k}.{d}.{ta}.{tb}{operation} {}, {}, %desc{extra}, %p{scales}{transpose};
                 wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
                 mul.wide.u32 %o, %t, 16; add.u64 %pd, %pd, %o;
                 st.global.b32 [%pd], %d0; st.global.b32 [%pd+4], %d1; st.global.b32 [%pd+8], %d2; st.global.b32 [%pd+12], %d3;
                 ret; }}",
                if d == "f32" { "f32" } else { "b32" },
                descriptor.encode(),
                list("d", 4),
                list("a", 4),
            );
            let (report, out) = launch(&source, 5, 1, 128, &[input, tile, vec![0; 2048]]);
            assert!(report.fault.is_none() && report.hazards.is_empty(), "{source}\n{report:?}");
            let (got, want) = (words(&out[2]), product(&a, &b, |x, y| x * y));
            for thread in 0..128 {
                for i in 0..4 {
                    let (r, s) = accumulator(thread % 32, i);
                    let r = 16 * (thread / 32) + r;
                    assert_eq!(
                        decode(d, u64::from(got[4 * thread + i])),
                        want[r][s],
                        "{ta} selector {selector} row {r} column {s}"
                    );
                }
            }
        }
    }
}
