//! Layouts, exhaustively: fragments against the tables of the PTX ISA, one rule a shape as it states them; descriptors against
//! the canonical layouts as layout algebra states them; swizzles against TMA's own description.

use std::collections::HashSet;

use ptx::matrix::{Descriptor, Major, Swizzle, fragment};

/// The rules that the ISA gives for each shape, element `i` of a lane.
struct Shape {
    name: &'static str,
    rows: usize,
    k: usize,
    per_register: usize,
    /// (row, k) of A's element i, by group and thread.
    a: fn(usize, usize, usize) -> (usize, usize),
    /// (k, column) of B's element i.
    b: fn(usize, usize, usize) -> (usize, usize),
}

fn pick(condition: bool, yes: usize, no: usize) -> usize {
    if condition { yes } else { no }
}

const SHAPES: [Shape; 11] = [
    Shape {
        name: "m16n8k8 f16",
        rows: 16,
        k: 8,
        per_register: 2,
        a: |g, t, i| (pick(i < 2, g, g + 8), t * 2 + (i & 1)),
        b: |g, t, i| (t * 2 + i, g),
    },
    Shape {
        name: "m16n8k16 f16",
        rows: 16,
        k: 16,
        per_register: 2,
        a: |g, t, i| (pick(i < 2 || (4..6).contains(&i), g, g + 8), t * 2 + (i & 1) + pick(i >= 4, 8, 0)),
        b: |g, t, i| (t * 2 + (i & 1) + pick(i >= 2, 8, 0), g),
    },
    Shape {
        name: "m16n8k4 tf32",
        rows: 16,
        k: 4,
        per_register: 1,
        a: |g, t, i| (pick(i == 0, g, g + 8), t),
        b: |g, t, _| (t, g),
    },
    Shape {
        name: "m16n8k8 tf32",
        rows: 16,
        k: 8,
        per_register: 1,
        a: |g, t, i| (pick(i == 0 || i == 2, g, g + 8), pick(i < 2, t, t + 4)),
        b: |g, t, i| (pick(i == 0, t, t + 4), g),
    },
    Shape { name: "m8n8k16 s8", rows: 8, k: 16, per_register: 4, a: |g, t, i| (g, t * 4 + i), b: |g, t, i| (t * 4 + i, g) },
    Shape {
        name: "m16n8k16 s8",
        rows: 16,
        k: 16,
        per_register: 4,
        a: |g, t, i| (pick(i < 4, g, g + 8), t * 4 + (i & 3)),
        b: |g, t, i| (t * 4 + i, g),
    },
    Shape {
        name: "m16n8k32 s8",
        rows: 16,
        k: 32,
        per_register: 4,
        a: |g, t, i| (pick(i < 4 || (8..12).contains(&i), g, g + 8), t * 4 + (i & 3) + pick(i >= 8, 16, 0)),
        b: |g, t, i| (t * 4 + (i & 3) + pick(i >= 4, 16, 0), g),
    },
    Shape { name: "m8n8k4 f64", rows: 8, k: 4, per_register: 1, a: |g, t, _| (g, t), b: |g, t, _| (t, g) },
    Shape { name: "m16n8k4 f64", rows: 16, k: 4, per_register: 1, a: |g, t, i| (pick(i == 0, g, g + 8), t), b: |g, t, _| (t, g) },
    Shape {
        name: "m16n8k8 f64",
        rows: 16,
        k: 8,
        per_register: 1,
        a: |g, t, i| (pick(i == 0 || i == 2, g, g + 8), pick(i < 2, t, t + 4)),
        b: |g, t, i| (t + i * 4, g),
    },
    Shape {
        name: "m16n8k16 f64",
        rows: 16,
        k: 16,
        per_register: 1,
        a: |g, t, i| (pick(i % 2 == 0, g, g + 8), i * 2 - pick(i % 2 == 0, 0, 2) + t),
        b: |g, t, i| (t + i * 4, g),
    },
];

#[test]
fn fragments_are_those_of_the_isa() {
    for shape in SHAPES {
        let (mut of_a, mut of_b) = (HashSet::new(), HashSet::new());
        for lane in 0..32 {
            let (g, t) = (lane >> 2, lane % 4);
            for i in 0..shape.rows * shape.k / 32 {
                let place = fragment::a(lane, i / shape.per_register, i % shape.per_register, shape.per_register);
                assert_eq!(place, (shape.a)(g, t, i), "{} A lane {lane} element {i}", shape.name);
                assert!(place.0 < shape.rows && place.1 < shape.k && of_a.insert(place));
            }
            for i in 0..shape.k * 8 / 32 {
                let place = fragment::b(lane, i / shape.per_register, i % shape.per_register, shape.per_register);
                assert_eq!(place, (shape.b)(g, t, i), "{} B lane {lane} element {i}", shape.name);
                assert!(place.0 < shape.k && place.1 < 8 && of_b.insert(place));
            }
        }
        assert_eq!((of_a.len(), of_b.len()), (shape.rows * shape.k, shape.k * 8), "{}", shape.name);
    }
}

#[test]
fn accumulators_are_those_of_the_isa() {
    for n in (8..=256).step_by(8) {
        let mut places = HashSet::new();
        for lane in 0..32 {
            for i in 0..n / 2 {
                let (row, column) = fragment::accumulator(lane, i);
                assert_eq!(row, lane / 4 + 8 * ((i >> 1) & 1));
                assert_eq!(column, 8 * (i >> 2) + 2 * (lane % 4) + (i & 1));
                assert!(row < 16 && column < n && places.insert((row, column)));
            }
        }
        assert_eq!(places.len(), 16 * n);
    }
}

#[test]
fn an_accumulator_of_16_bits_is_an_operand() {
    // The identity that attention kernels rest on: S = QKᵀ in D's layout is P in A's layout, 16 columns at a time.
    for lane in 0..32 {
        for i in 0..64 {
            let (row, column) = fragment::accumulator(lane, i);
            let (step, within) = (i / 8, i % 8);
            let (a_row, k) = fragment::a(lane, within / 2, within % 2, 2);
            assert_eq!((row, column), (a_row, 16 * step + k));
        }
    }
}

#[test]
fn eight_by_eight_matrices() {
    for transposed in [false, true] {
        let mut seen = HashSet::new();
        for lane in 0..32 {
            for half in 0..2 {
                let place = fragment::eight_by_eight(lane, half, transposed);
                let straight = (lane / 4, lane % 4 * 2 + half);
                assert_eq!(place, if transposed { (straight.1, straight.0) } else { straight });
                assert!(seen.insert(place));
            }
        }
        assert_eq!(seen.len(), 64);
    }
}

/// A layout's function: coordinates are digits in the shape's mixed radix, first fastest, weighed by strides.
fn layout(mut index: u32, modes: &[(u32, u32)]) -> u32 {
    let mut offset = 0;
    for &(extent, stride) in modes {
        offset += index % extent * stride;
        index /= extent;
    }
    assert_eq!(index, 0, "coordinate outside the layout");
    offset
}

/// Swizzle⟨bits, 4, 3⟩ of bytes: xor bits 7.. into bits 4..
fn swizzled(bits: u32, byte: u32) -> u32 {
    byte ^ (byte >> 3 & ((1 << bits) - 1) << 4)
}

#[test]
fn descriptors_are_the_canonical_layouts() {
    let swizzles = [(Swizzle::None, 0), (Swizzle::B32, 1), (Swizzle::B64, 2), (Swizzle::B128, 3)];
    for (swizzle, bits) in swizzles {
        let chunks_of_span = 1 << bits;
        for (leading, stride) in [(128, 256), (1024, 2048), (4096, 1024), (2048, 512), (16, 1024), (3072, 8192)] {
            for start in [0u32, 1024, 32 * 1024, 200 * 1024] {
                let descriptor = Descriptor { start, leading, stride, base: 0, swizzle };
                assert_eq!(Descriptor::decode(descriptor.encode()), Ok(descriptor));
                let address = |linear: u32| swizzled(bits, (start + 16 * linear) & 0x3ffff);
                let (lbo, sbo) = (leading / 16, stride / 16);
                // In chunks of 16 bytes. K-major: up to 256 rows, a span's worth of k.
                let k_chunks = if bits == 0 { 2 } else { chunks_of_span };
                for row in 0..256 {
                    for chunk in 0..k_chunks {
                        let linear = if bits == 0 {
                            layout(row, &[(8, 1), (32, sbo)]) + layout(chunk, &[(2, lbo)])
                        } else {
                            layout(row, &[(8, chunks_of_span), (32, sbo)]) + layout(chunk, &[(chunks_of_span, 1)])
                        };
                        assert_eq!(
                            descriptor.chunk(Major::K, row, chunk),
                            address(linear),
                            "{descriptor:?} row {row} chunk {chunk}"
                        );
                    }
                }
                // MN-major: 256 elements of 16 bits are 32 chunks; k up to 16.
                for k in 0..16 {
                    for chunk in 0..32 {
                        let linear = if bits == 0 {
                            layout(chunk, &[(1, 0), (32, sbo)]) + layout(k, &[(8, 1), (2, lbo)])
                        } else {
                            layout(chunk, &[(chunks_of_span, 1), (32, lbo)]) + layout(k, &[(8, chunks_of_span), (2, sbo)])
                        };
                        assert_eq!(descriptor.chunk(Major::Mn, k, chunk), address(linear), "{descriptor:?} k {k} chunk {chunk}");
                    }
                }
            }
        }
    }
}

#[test]
fn stepping_along_k_inside_a_span_is_adding_to_the_start() {
    for (swizzle, span) in [(Swizzle::B128, 128), (Swizzle::B64, 64)] {
        let tile = Descriptor { start: 4096, leading: 16, stride: 8 * span, base: 0, swizzle };
        for step in 0..span / 32 {
            let stepped = Descriptor { start: tile.start + 32 * step, ..tile };
            for row in 0..64 {
                for chunk in 0..2 {
                    assert_eq!(stepped.chunk(Major::K, row, chunk), tile.chunk(Major::K, row, 2 * step + chunk));
                }
            }
        }
    }
}

#[test]
fn a_base_offset_moves_the_pattern_with_the_tile() {
    // The same tile, copied as it lies to an address that is not a multiple of 1024, is read back by giving the line it starts at.
    let aligned = Descriptor { start: 8192, leading: 16, stride: 1024, base: 0, swizzle: Swizzle::B128 };
    for line in 1..8 {
        let moved = Descriptor { start: 8192 + 128 * line, base: line, ..aligned };
        assert_eq!(Descriptor::decode(moved.encode()), Ok(moved));
        for row in 0..64 {
            for chunk in 0..8 {
                assert_eq!(moved.chunk(Major::K, row, chunk), aligned.chunk(Major::K, row, chunk) + 128 * line);
            }
        }
    }
}

#[test]
fn swizzles_permute_the_chunks_of_a_line() {
    for (swizzle, repeat, span) in
        [(Swizzle::None, 128, 16), (Swizzle::B32, 256, 32), (Swizzle::B64, 512, 64), (Swizzle::B128, 1024, 128)]
    {
        assert_eq!(swizzle.span(), span);
        let mut seen = HashSet::new();
        for byte in 0..4096 {
            let to = swizzle.apply(byte, 0);
            assert!(seen.insert(to));
            assert_eq!(to / span, byte / span, "a byte stays in its span");
            assert_eq!(to % 16, byte % 16, "a chunk stays whole");
            assert_eq!(swizzle.apply(byte + repeat, 0), to + repeat, "the pattern repeats");
        }
        if span > 16 {
            assert_ne!(swizzle.apply(repeat / 2, 0), repeat / 2, "and not sooner");
        }
    }
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [14, 15, 30, 31, 46, 47, 48, 52, 57, 61, 49] {
        assert!(Descriptor::decode(1 << bit).is_err(), "bit {bit}");
    }
    assert!(Descriptor::decode(1 << 49 | 1 << 62).is_ok());
}
