//! Asynchronous copies, and the tensor cores' asynchronous products.
//!
//! A bulk copy is one request: its lines go to L2 together, and it is done when the last is there (plus what TMA itself takes). A multicast is
//! read once and passes the port of each multiprocessor that gets it. A store reads shared memory first.
//!
//! A wgmma begins when all four warps have issued it and the tensor cores are free. It takes as long as they need for its products
//! ([`Card::tensor_flops`](super::card::Card)), or as shared memory needs for its operands: B, and A unless that is in registers.

use std::rc::Rc;

use super::TimeError;
use super::engine::{Engine, Step};
use super::memory::sectors;
use super::sm::Event;
use super::traffic::Access;
use super::warp::{Timed, Why};
use crate::exec::bulk::copy::{CopyAsync, CopyBulk, Side, Signal};
use crate::exec::bulk::{self, op::Bulk};
use crate::exec::flow::At;
use crate::exec::lanes::lanes_of;
use crate::exec::warp::Wait;
use crate::exec::wgmma::WgmmaOp;
use crate::exec::wgmma::op::{M, Source, Wgmma};
use crate::hazard::HazardKind;
use crate::ir::{Addr, Class, Reg};
use crate::mem::{Space, Which};
use crate::tensor_map::{MAP_BYTES, TensorMap};

/// What a bulk copy moves.
struct Moved {
    /// Offset in shared memory, and bytes.
    shared: (u32, u32),
    /// Lines of global memory; none where both sides are shared.
    lines: Vec<(u64, u8)>,
}

impl Engine<'_> {
    /// `cp.async…`, `mbarrier…` and what belongs to them.
    pub(super) fn bulk(&mut self, timed: &mut Timed, op: &Bulk, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let next = Step::Next(time, Why::Issue);
        Ok(match op {
            Bulk::Mbarrier(op) => self.mbarrier(timed, op, at, time)?,
            Bulk::Fence(_) | Bulk::FenceMap(..) => Step::Next(time + self.card.alu, Why::Issue),
            Bulk::CopyAsync(op) => self.copy_async(timed, op, at, time)?,
            Bulk::CommitCopies => {
                timed.copies.commit();
                next
            }
            Bulk::WaitCopies(pending) => {
                let done = match pending {
                    Some(n) => timed.copies.wait(*n as usize, false),
                    None => timed.copies.all(),
                };
                Step::Next(done.max(time), Why::Copies)
            }
            Bulk::ArriveCopies(addr, space, noinc) => {
                let a = self.addresses(timed, addr, at)?;
                let done = timed.copies.all().max(time + 1);
                for lane in lanes_of(at.mask) {
                    let (slot, offset) = self.mbarrier_at(timed, *space, a[lane], at)?;
                    if !noinc {
                        self.change(slot, offset, time, |b| b.increase_pending().is_err());
                    }
                    self.expect(slot, done, |cta| Event::Arrived { slot, cta, offset, count: 1 });
                }
                next
            }
            Bulk::CopyBulk(op) => self.copy_bulk(timed, op, at, time)?,
            Bulk::Prefetch => next,
            Bulk::CommitGroup => {
                timed.stores.commit();
                next
            }
            Bulk::WaitGroup(pending, read) => Step::Next(timed.stores.wait(*pending as usize, *read).max(time), Why::Stores),
            Bulk::StoreAsync(op) => {
                let a = self.addresses(timed, &op.barrier, at)?;
                let bytes: u32 = op.values.iter().map(|(_, wide)| if *wide { 8 } else { 4 }).sum();
                for lane in lanes_of(at.mask) {
                    let (slot, offset) = self.mbarrier_at(timed, Space::Shared, a[lane], at)?;
                    self.expect(slot, time + self.card.remote, |cta| Event::Landed { slot, cta, offset, bytes });
                }
                next
            }
            Bulk::CopyMap(..) | Bulk::Replace(..) => {
                let mut asyncs = bulk::Asyncs::default();
                let flow = bulk::execute(&mut self.machine, &mut asyncs, &mut timed.warp, op, at).map_err(TimeError::from)?;
                self.maps.clear();
                super::execute::gathering(flow).map_or(Step::Next(time + self.card.l2, Why::Issue), Step::Retry)
            }
        })
    }

    /// Something will happen on the multiprocessor of a CTA.
    fn expect(&mut self, slot: u32, time: u64, event: impl FnOnce(u32) -> Event) {
        if let Some(cta) = self.ctas.get(slot as usize).and_then(|c| c.as_ref()) {
            self.sms[cta.sm as usize].expect(time, event(cta.linear));
        }
    }

    fn copy_async(&mut self, timed: &mut Timed, op: &CopyAsync, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let from = self.addresses(timed, &op.from, at)?;
        let to = self.addresses(timed, &op.to, at)?;
        let mut read = at.mask;
        if let Some((p, negated)) = op.ignore {
            let p = timed.warp.regs.pred[p as usize];
            read &= if negated { p } else { !p };
        }
        if let Some(r) = op.size {
            read &= lanes_of(at.mask).filter(|l| timed.warp.regs.r32[r as usize][*l] > 0).fold(0, |m, l| m | 1 << l);
        }
        let sm = self.sm_of(timed.warp.slot);
        let mut lines = std::mem::take(&mut self.lines);
        sectors(&mut lines, read, &from, op.bytes.into());
        let n = crate::counters::passes(at.mask, &to.map(|a| a as u32 & 0xff_ffff), op.bytes).0;
        let unit = &mut self.sms[sm as usize];
        let start = unit.pass(time, u64::from(n).max(lines.len() as u64));
        unit.work.shared += f64::from(n);
        let cached = op.bytes < 16;
        let done = unit.request(sm, self.card, &mut self.traffic, start, &lines, Access::Read, cached);
        self.lines = lines;
        timed.copies.add(done, done);
        Ok(Step::Next(time, Why::Issue))
    }

    /// `cp.async.bulk…`
    fn copy_bulk(&mut self, timed: &mut Timed, op: &CopyBulk, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let mut left = at.mask;
        while left != 0 {
            let lane = left.trailing_zeros();
            let alike = lanes_of(left).filter(|&l| op.is_same(&timed.warp, lane, l as u32)).fold(0, |m, l| m | 1 << l);
            left &= !alike;
            self.one_bulk(timed, op, at.only(lane), time)?;
        }
        Ok(Step::Next(time, Why::Issue))
    }

    fn one_bulk(&mut self, timed: &mut Timed, op: &CopyBulk, at: At<'_>, time: u64) -> Result<(), TimeError> {
        let sm = self.sm_of(timed.warp.slot);
        let start = self.sms[sm as usize].copies.max(time);
        self.sms[sm as usize].copies = start + self.card.tma_issue;
        let (moved, new_map) = self.moved(timed, op, at, sm)?;
        let start = start + self.card.tma + if new_map { self.card.tma_map } else { 0 };
        let bytes = u64::from(moved.shared.1);
        let read = match op.signal {
            Signal::Group => true,
            Signal::Barrier(_) => moved.lines.is_empty(),
        };
        // Shared memory gives what is stored.
        let given = if read {
            let unit = &mut self.sms[sm as usize];
            unit.work.shared += bytes as f64 / self.card.shared_bytes;
            unit.shared = unit.shared.max(start as f64) + bytes as f64 / self.card.shared_bytes;
            unit.shared.ceil() as u64
        } else {
            start
        };
        let Signal::Barrier(addr) = &op.signal else {
            let passed = self.sms[sm as usize].port(start, bytes, Access::Write);
            let done = self.traffic.request(sm, start, &moved.lines, Access::Write).max(passed);
            let unit = &mut self.sms[sm as usize];
            unit.written = unit.written.max(done);
            timed.stores.add(given, done);
            return Ok(());
        };
        let address = self.addresses(timed, addr, at)?[at.lane() as usize];
        let (slot, offset) = self.mbarrier_at(timed, Space::Shared, address, at)?;
        let mask = match op.multicast {
            Some(r) => Some(self.word(timed, r, at, "the multicast mask")?),
            None => None,
        };
        let there = match moved.lines.is_empty() {
            true => given + self.card.remote,
            false => self.traffic.request(sm, start, &moved.lines, Access::Read),
        };
        let home = timed.warp.home;
        let targets: Vec<(u32, u32)> = match mask {
            Some(mask) => (0..home.size).filter(|r| mask >> r & 1 == 1).map(|r| (home.base + r, offset)).collect(),
            None => vec![(slot, offset)],
        };
        for (slot, offset) in targets {
            let Some(target) = self.ctas.get(slot as usize).and_then(|c| c.as_ref()).map(|c| c.sm) else { continue };
            let unit = &mut self.sms[target as usize];
            unit.work.shared += bytes as f64 / self.card.shared_bytes;
            let landed = unit.port(start, bytes, Access::Read).max(there);
            let bytes = moved.shared.1;
            self.expect(slot, landed, |cta| Event::Landed { slot, cta, offset, bytes });
            if let Some(view) = &mut self.view {
                view.copy(target, start, landed, bytes);
            }
            // What lands is not known.
            if let Some(segment) = self.machine.mem.shared(slot) {
                let (at, end) = (moved.shared.0 as usize, (moved.shared.0 + bytes) as usize);
                if end <= segment.len() {
                    segment.set_initialized(at, end - at, false);
                }
            }
        }
        Ok(())
    }

    /// What a copy moves, and whether its map is read for the first time here.
    fn moved(&mut self, timed: &Timed, op: &CopyBulk, at: At<'_>, sm: u32) -> Result<(Moved, bool), TimeError> {
        let lane = at.lane() as usize;
        let located = |engine: &mut Self, addr: &Addr| -> Result<u32, TimeError> {
            let address = engine.addresses(timed, addr, at)?[lane];
            match engine.machine.mem.locate(timed.warp.home, Space::Shared, address, false) {
                Ok((Which::Shared(_), base, _)) => Ok((address - base) as u32),
                other => Err(engine.misplaced(at, address, other.err().unwrap_or(HazardKind::OutOfBounds))),
            }
        };
        let (shared, other) = match (&op.to, &op.from) {
            (Side::Shared(to), from) => (to, from),
            (to, Side::Shared(from)) => (from, to),
            _ => unreachable!("one side of a bulk copy is shared memory"),
        };
        let offset = located(self, shared)?;
        let mut lines = Vec::new();
        let mut add = |address: u64, bytes: u64| {
            for sector in address / 32..(address + bytes).div_ceil(32) {
                let (line, bit) = (sector / 4, 1u8 << (sector % 4));
                match lines.last_mut() {
                    Some((last, sectors)) if *last == line => *sectors |= bit,
                    _ => lines.push((line, bit)),
                }
            }
        };
        let Side::Tensor { map, coordinates } = other else {
            let bytes = self.word(timed, op.size.expect("a plain copy has a size"), at, "the size of a bulk copy")?;
            if let Side::Global(addr) = other {
                add(self.addresses(timed, addr, at)?[lane], bytes.into());
            }
            return Ok((Moved { shared: (offset, bytes), lines }, false));
        };
        let address = self.addresses(timed, map, at)?[lane];
        let new = !self.sms[sm as usize].maps.contains(&address);
        if new {
            self.sms[sm as usize].maps.push(address);
        }
        let map = self.map(address, timed, at)?;
        let mut place = Vec::with_capacity(coordinates.len());
        for c in coordinates {
            place.push(self.word(timed, *c, at, "a coordinate of a tensor copy")? as i32);
        }
        if place.len() != map.dims.len() {
            let message = format!("{} coordinates for a tensor map of rank {}", place.len(), map.dims.len());
            return Err(TimeError::Kernel { message });
        }
        map.rows(&place, |row| {
            if row.bytes > 0 {
                add(row.address, row.bytes.into());
            }
        });
        if lines.is_empty() {
            // All of the box lies outside: zeros, which still go through L2's port.
            lines.push((map.address / 128, 1));
        }
        Ok((Moved { shared: (offset, map.box_bytes()), lines }, new))
    }

    fn map(&mut self, address: u64, timed: &Timed, at: At<'_>) -> Result<Rc<TensorMap>, TimeError> {
        if let Some(map) = self.maps.get(&address) {
            return Ok(map.clone());
        }
        let mem = &mut self.machine.mem;
        let found = mem.locate(timed.warp.home, Space::Generic, address, false);
        let map = match found {
            Ok((which, base, len)) if address - base + MAP_BYTES as u64 <= len => {
                let offset = (address - base) as usize;
                let bytes: &[u8; MAP_BYTES] =
                    mem.parts_of(which).0.bytes(offset, MAP_BYTES).try_into().expect("the range was checked");
                TensorMap::decode(bytes)
            }
            _ => None,
        };
        let map = Rc::new(map.ok_or_else(|| TimeError::Kernel {
            message: format!("no tensor map at {address:#x} (PTX line {})", self.module.program.line(at.pc).1),
        })?);
        self.maps.insert(address, map.clone());
        Ok(map)
    }

    /// `wgmma…`
    pub(super) fn wgmma(&mut self, timed: &mut Timed, op: &WgmmaOp, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        if !at.is_converged(&timed.warp) {
            return Ok(Step::Retry(Wait::Converge));
        }
        let (slot, w) = (timed.warp.slot, timed.warp.index as usize % 4);
        let group = timed.warp.index as usize / 4;
        let cta = self.ctas[slot as usize].as_mut().expect("its CTA is there");
        let Some(state) = cta.warpgroups.get_mut(group) else {
            return Ok(Step::Next(time, Why::Issue));
        };
        match op {
            WgmmaOp::Fence => Ok(Step::Next(time, Why::Issue)),
            WgmmaOp::Commit => {
                let issued = state.issued[w].0;
                state.committed[w].push_back(issued);
                Ok(Step::Next(time, Why::Issue))
            }
            WgmmaOp::Wait(pending) => {
                let over = state.committed[w].len().saturating_sub(*pending as usize);
                let Some(target) = over.checked_sub(1).map(|i| state.committed[w][i]) else {
                    return Ok(Step::Next(time, Why::Issue));
                };
                match state.done(target) {
                    Some(done) => {
                        state.committed[w].drain(..over);
                        state.trim();
                        Ok(Step::Next((done + self.card.wgmma_end).max(time), Why::Wgmma))
                    }
                    None => {
                        state.waiting.push((timed.warp.index, target));
                        Ok(Step::Retry(Wait::Warpgroup { target }))
                    }
                }
            }
            WgmmaOp::Multiply(x) => {
                // Most often they are sums of an earlier one, and not known already.
                if x.d.iter().any(|d| timed.warp.regs.undef32(*d) != u32::MAX) {
                    for index in x.d.iter() {
                        timed.warp.regs.set_undef(Reg { class: Class::B32, index: *index }, u32::MAX, u32::MAX);
                    }
                    timed.note_birth(&[], at.defs, at.pc);
                }
                state.issued[w] = (state.issued[w].0 + 1, time);
                let number = state.issued[w].0;
                if state.issued_by_all() < number || state.first + state.done.len() as u64 >= number {
                    return Ok(Step::Next(time, Why::Issue));
                }
                let sm = cta.sm;
                let (products, operands) = clocks(x, self.card);
                let unit = &mut self.sms[sm as usize];
                let start = unit.tensor.max((time + self.card.wgmma_start) as f64);
                unit.tensor = start + products.max(operands);
                unit.work.tensor += products;
                unit.work.shared += operands;
                state.done.push_back(unit.tensor.ceil() as u64);
                self.profile.tensor_flops += (2 * M * x.n * x.k()) as f64;
                if let Some(view) = &mut self.view {
                    view.product(sm, slot, group as u32, start as u64, unit.tensor as u64);
                }
                let over: Vec<u32> = state.waiting.iter().filter(|w| w.1 <= number).map(|w| w.0).collect();
                state.waiting.retain(|w| w.1 > number);
                for w in over {
                    self.wake(slot, w, time);
                }
                Ok(Step::Next(time, Why::Issue))
            }
        }
    }
}

/// Clocks that the tensor cores need for a wgmma's products, and shared memory for its operands.
fn clocks(x: &Wgmma, card: &super::card::Card) -> (f64, f64) {
    let flops = (2 * M * x.n * x.k()) as f64;
    // A sparse A is multiplied twice as fast.
    let rate = card.tensor_flops * 16.0 / f64::from(x.a.bits()) * if x.sparse.is_some() { 2.0 } else { 1.0 };
    let row = |bits: u32, k: usize| (k as u32 * bits / 8) as usize;
    let a = if matches!(x.source, Source::Registers(_)) { 0 } else { M * row(x.a.bits(), x.held()) };
    let b = x.n * row(x.a.bits(), x.k());
    (flops / rate, (a + b) as f64 / card.shared_bytes)
}
