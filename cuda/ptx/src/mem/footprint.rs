//! What memory costs with its shadow, counted: bytes held for each byte that a kernel wrote.

use super::clock::{ASYNC, Order};
use super::page::{Line, Page, Readers, Writer};
use super::shadow::{AsyncStep, Segment, Step};
use super::*;

const BYTES: usize = 1 << 20;

/// The bytes that a segment holds: its own, its initialisation, and its records.
fn held(segment: &Segment, tracker: &Tracker) -> usize {
    let page = |page: &Page| {
        size_of::<Page>()
            + page.lines.len() * size_of::<Line>()
            + page.writers.len() * size_of::<Writer>()
            + page.readers.len() * size_of::<Readers>()
    };
    let pages: usize = segment.pages.list.iter().flatten().map(|p| page(p)).sum();
    let lists = segment.pages.list.len() * size_of::<usize>() + tracker.extra.len() * size_of::<Readers>();
    segment.len() + segment.len() / 8 + pages + lists
}

/// Bytes held per byte written, after `write` wrote all of a megabyte.
fn cost(write: impl Fn(&mut Segment, &mut Tracker, &WarpOrder)) -> f64 {
    let mut tracker = Tracker::new(Order::new(1024, 1), 1, true, 0);
    let mut segment = Segment::new(0, BYTES, false);
    let warp = tracker.order.warp(0);
    write(&mut segment, &mut tracker, &warp);
    held(&segment, &tracker) as f64 / BYTES as f64
}

fn step(warp: &WarpOrder) -> Step<'_> {
    Step { warp, pc: 0, strength: None }
}

#[test]
fn a_written_byte_costs_six_at_most() {
    let new = [[1; 16]; 32];
    // A warp writes whole lines, of any width.
    for bytes in [1, 2, 4, 8, 16] {
        let lines = cost(|segment, tracker, warp| {
            for at in (0..BYTES).step_by(32 * bytes) {
                segment.write(&Pattern::Run(at), bytes, &new, &step(warp), tracker);
            }
        });
        assert!(lines < if bytes == 1 { 3.0 } else { 2.2 }, "{bytes} bytes a lane: {lines}");
    }
    // Each lane has a row of its own.
    let rows = cost(|segment, tracker, warp| {
        for word in 0..BYTES / 32 / 4 {
            let offsets = std::array::from_fn(|lane| (lane * BYTES / 32 + 4 * word) as u32);
            segment.write(&Pattern::Gather(&offsets, u32::MAX), 4, &new, &step(warp), tracker);
        }
    });
    assert!(rows < 6.0, "{rows}");
    // Bulk copies.
    let copies = cost(|segment, tracker, warp| {
        let issuers = [(warp, 0)];
        let op = AsyncStep { who: ASYNC * 32, stamp: 2, issuers: &issuers, pc: 0, proxy: true, strength: None };
        for at in (0..BYTES).step_by(128) {
            segment.touch_async(at, 128, true, &op, tracker);
        }
    });
    assert!(copies < 6.0, "{copies}");
}
