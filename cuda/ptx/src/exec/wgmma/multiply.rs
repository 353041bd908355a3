//! A wgmma's work once it may start: reading A and B, and adding their product to its chain.

use smallvec::SmallVec;

use super::group::{Pending, Warpgroup};
use super::op::{M, Source};
use crate::exec::machine::Machine;
use crate::exec::matrix::sparse;
use crate::exec::warp::Warp;
use crate::hazard::{HazardKind, Site};
use crate::matrix::fragment::{self, Accumulator};
use crate::matrix::{Descriptor, Major};
use crate::mem::shadow::{AsyncStep, Settled};
use crate::mem::{Segment, Tracker, WarpOrder, Which};
use crate::num::tensor::{self, Element, Precision};

/// Runs all below `target`, which every warp has issued.
pub(super) fn run(m: &mut Machine<'_>, warps: &[Option<Box<Warp>>], warp: &Warp, state: &mut Warpgroup, target: u64) {
    while state.executed < target {
        let number = state.executed;
        multiply_add(m, warps, warp, state, number);
        state.executed += 1;
    }
    if let Some(t) = &mut m.trace {
        t.computed(m.pace.steps, warp.id, state.executed);
    }
}

fn multiply_add(m: &mut Machine<'_>, warps: &[Option<Box<Warp>>], warp: &Warp, state: &mut Warpgroup, number: u64) {
    let pending = &state.queue[(number - state.first) as usize];
    let chain = &mut state.chains[pending.chain];
    let op = &pending.op;
    let (n, k, held) = (op.n, op.k(), op.held());
    for (w, call) in pending.calls.iter().enumerate() {
        let call = call.as_ref().expect("all warps have issued it");
        let rows = chain.rows(w);
        if !call.scale_d {
            match chain.accumulator {
                Accumulator::S32 => chain.integers[rows.clone()].fill(0),
                _ => chain.floats[rows.clone()].fill(0.0),
            }
            if !chain.undefined.is_empty() {
                chain.undefined[rows.clone()].fill(false);
            }
        }
        if call.unfenced {
            chain.spoil(rows);
        }
    }
    let mut a = vec![0.0; M * held];
    let mut b = vec![0.0; k * n];
    let mut reader = Reader::new(warp, pending, state.agent.unwrap_or(0));
    let calls = pending.calls.each_ref().map(|c| c.as_ref().expect("all warps have issued it"));
    if calls.iter().any(|c| (c.a, c.b) != (calls[0].a, calls[0].b)) {
        reader.hazard(m, HazardKind::UndefinedBehavior, "the warps of a warpgroup give wgmma different descriptors");
    }
    match &op.source {
        Source::Descriptor(_) => {
            let tile = Tile { extent: M, k: held, element: op.a, major: op.a_major, stride: held, stride_k: 1, by_warp: true };
            for row in reader.gather(m, calls[0].a, &tile, &mut a) {
                chain.spoil(row * n..(row + 1) * n);
            }
        }
        Source::Registers(registers) => {
            let first = warp.index - warp.index % 4;
            for w in 0..4 {
                let other = warps[first as usize + w].as_deref();
                // The running warp is not in its CTA's list.
                let owner = if warp.index == first + w as u32 { Some(warp) } else { other };
                let Some(owner) = owner else { continue };
                let per = op.a.per_register();
                for (r, &index) in registers.iter().enumerate() {
                    let undef = owner.regs.undef32(index);
                    for (lane, &bits) in owner.regs.r32[index as usize].iter().enumerate() {
                        for j in 0..per {
                            let (row, step) = fragment::a(lane, r, j, per);
                            a[(16 * w + row) * held + step] = op.a.value(bits >> (op.a.bits() as usize * j));
                        }
                        if undef >> lane & 1 == 1 {
                            let row = 16 * w + fragment::a(lane, r, 0, per).0;
                            chain.spoil(row * n..(row + 1) * n);
                        }
                    }
                }
            }
        }
    }
    if let Some(operands) = op.sparse {
        let mut dense = vec![0.0; M * k];
        let mut valid = true;
        let rows = a.chunks_exact(16 * held).zip(dense.chunks_exact_mut(16 * k));
        for ((packed, dense), call) in rows.zip(&calls) {
            let words = call.metadata.as_ref().expect("a sparse wgmma has metadata");
            valid &= sparse::expand(op.a, k, packed, words, operands, dense);
        }
        if !valid {
            reader.hazard(m, HazardKind::UndefinedBehavior, sparse::INVALID);
        }
        a = dense;
    }
    let tile = Tile { extent: n, k, element: op.b, major: op.b_major, stride: 1, stride_k: n, by_warp: false };
    for column in reader.gather(m, calls[0].b, &tile, &mut b) {
        chain.spoil((0..M).map(|row| row * n + column));
    }
    if op.negate_a != op.negate_b {
        a.iter_mut().for_each(|x| *x = -*x);
    }
    let short = op.a.bits() == 8;
    let precision = match (chain.accumulator, short) {
        (Accumulator::F16, true) => Precision::ShortHalf,
        (Accumulator::F16, false) => Precision::Half,
        (_, true) => Precision::Short,
        (_, false) => Precision::Single,
    };
    if chain.accumulator == Accumulator::S32 {
        let mut sums = vec![0.0; M * n];
        tensor::sum_products(&mut sums, &a, &b, n, k);
        for (c, sum) in chain.integers.iter_mut().zip(sums) {
            *c = tensor::accumulate_s32(*c, sum, op.saturate);
        }
    } else {
        tensor::multiply_add(&mut chain.floats, &tensor::Tile::new(&a, op.a), &tensor::Tile::new(&b, op.b), n, k, precision);
    }
}

/// An operand in shared memory on its way to a dense array.
struct Tile {
    /// Rows of A, columns of B.
    extent: usize,
    k: usize,
    element: Element,
    major: Major,
    /// Distance in the array of neighbours along m or n, and along k.
    stride: usize,
    stride_k: usize,
    /// Each warp reads the 16 rows that it multiplies, not all of them.
    by_warp: bool,
}

/// Reads shared memory for one wgmma.
struct Reader {
    pc: u32,
    slot: u32,
    /// Number of the warpgroup's first warp in the launch.
    first: u32,
    agent: u32,
    stamp: u32,
    orders: SmallVec<[WarpOrder; 4]>,
}

impl Reader {
    fn new(warp: &Warp, pending: &Pending, agent: u32) -> Reader {
        let orders = pending.calls.iter().flatten().filter_map(|c| c.order.clone()).collect();
        Reader { pc: pending.pc, slot: warp.slot, first: warp.id - warp.index % 4, agent, stamp: pending.stamp, orders }
    }

    fn hazard(&self, m: &mut Machine<'_>, kind: HazardKind, message: &str) {
        let site = Site::new(self.pc, self.first, 0);
        m.report(kind, site, None, || message.into());
    }

    /// Fills `out`; returns the rows or columns in which something is undefined.
    fn gather(&mut self, m: &mut Machine<'_>, descriptor: u64, tile: &Tile, out: &mut [f32]) -> SmallVec<[usize; 4]> {
        let mut undefined = SmallVec::new();
        let descriptor = match Descriptor::decode(descriptor) {
            Ok(descriptor) => descriptor,
            Err(message) => {
                self.hazard(m, HazardKind::UndefinedBehavior, message);
                undefined.extend(0..tile.extent);
                return undefined;
            }
        };
        let issuers: SmallVec<[(&WarpOrder, u32); 4]> = self.orders.iter().map(|o| (o, 0)).collect();
        let step =
            AsyncStep { who: self.agent * 32, stamp: self.stamp, issuers: &issuers, pc: self.pc, proxy: true, strength: None };
        let (segment, tracker): (&mut Segment, &mut Tracker) = m.mem.parts_of(Which::Shared(self.slot));
        let per = 128 / tile.element.bits() as usize;
        let (lines, chunks) = match tile.major {
            Major::K => (tile.extent, tile.k / per),
            Major::Mn => (tile.k, tile.extent / per),
        };
        let (along_line, across) = match tile.major {
            Major::K => (tile.stride_k, tile.stride),
            Major::Mn => (tile.stride, tile.stride_k),
        };
        let (mut outside, mut misread) = (None, None);
        let (mut settled, mut of) = (Settled::default(), 0);
        for line in 0..lines {
            for chunk in 0..chunks {
                let address = descriptor.chunk(tile.major, line as u32, chunk as u32) as usize;
                // Row or column of byte `i` of the chunk.
                let index = |i: usize| match tile.major {
                    Major::K => line,
                    Major::Mn => chunk * per + i * 8 / tile.element.bits() as usize,
                };
                if address + 16 > segment.len() {
                    outside.get_or_insert(address);
                    undefined.extend((0..16).map(index));
                    continue;
                }
                if let Some(layout) = segment.layouts.of(address)
                    && layout.is_misread(address as u32, descriptor.swizzle, descriptor.base)
                {
                    misread.get_or_insert((address, layout));
                }
                let bytes: &[u8; 16] = segment.bytes(address, 16).try_into().expect("16 bytes");
                spread(tile.element, bytes, &mut out[line * across + chunk * per * along_line..], along_line);
                let bad = segment.undefined(address, 16);
                if bad != 0 {
                    undefined.extend((0..16).filter(|i| bad >> i & 1 == 1).map(index));
                }
                if !issuers.is_empty() {
                    let issuers = if tile.by_warp { &issuers[index(0) / 16..][..1] } else { &issuers[..] };
                    if tile.by_warp && std::mem::replace(&mut of, index(0) / 16) != index(0) / 16 {
                        settled = Settled::default();
                    }
                    segment.touch_settled(address, 16, false, &AsyncStep { issuers, ..step }, &mut settled, tracker);
                }
            }
        }
        undefined.dedup();
        if let Some((address, was)) = misread {
            let line = m.kernel.program.line(was.pc).1;
            m.report(HazardKind::LayoutMismatch, Site::new(self.pc, self.first, 0), Some(address as u64), || {
                let base = if descriptor.base == 0 { String::new() } else { format!(" from line {}", descriptor.base) };
                format!(
                    "the descriptor's swizzle is {}{base}, the copy of PTX line {line} wrote by {}",
                    descriptor.swizzle, was.swizzle
                )
            });
        }
        if let Some(address) = outside {
            let site = Site::new(self.pc, self.first, 0);
            m.report(HazardKind::OutOfBounds, site, Some(address as u64), || "wgmma reads beyond shared memory".into());
        }
        undefined
    }
}

/// Writes the values of a chunk's elements to `out`, `stride` apart.
fn spread(element: Element, bytes: &[u8; 16], out: &mut [f32], stride: usize) {
    fn each<const N: usize>(bytes: &[u8; 16], out: &mut [f32], stride: usize, value: impl Fn(u32) -> f32) {
        let (elements, _) = bytes.as_chunks::<N>();
        for (i, element) in elements.iter().enumerate() {
            let mut word = [0; 4];
            word[..N].copy_from_slice(element);
            out[i * stride] = value(u32::from_le_bytes(word));
        }
    }
    match element {
        Element::F16 => each::<2>(bytes, out, stride, |x| Element::F16.value(x)),
        Element::Bf16 => each::<2>(bytes, out, stride, |x| Element::Bf16.value(x)),
        Element::Tf32 => each::<4>(bytes, out, stride, |x| Element::Tf32.value(x)),
        Element::E4m3 => each::<1>(bytes, out, stride, |x| Element::E4m3.value(x)),
        Element::E5m2 => each::<1>(bytes, out, stride, |x| Element::E5m2.value(x)),
        Element::S8 => each::<1>(bytes, out, stride, |x| Element::S8.value(x)),
        Element::U8 => each::<1>(bytes, out, stride, |x| Element::U8.value(x)),
        Element::B1 => {
            for (i, byte) in bytes.iter().enumerate() {
                (0..8).for_each(|j| out[(8 * i + j) * stride] = f32::from(byte >> j & 1));
            }
        }
        Element::S4 | Element::U4 => unreachable!("wgmma has no integers of 4 bits"),
    }
}
