//! Loads, stores, atomics and fragments: what they read is computed where it is known; what they cost depends on their addresses.

use super::TimeError;
use super::engine::{Engine, Step};
use super::traffic::Access;
use super::warp::{Timed, Why};
use crate::counters::passes;
use crate::exec::atomics::{self, Atomic};
use crate::exec::flow::At;
use crate::exec::lanes::lanes_of;
use crate::exec::matrix::Eights;
use crate::exec::memory::{self, Load, MemoryOp, Store};
use crate::exec::warp::Wait;
use crate::hazard::HazardKind;
use crate::mem::{Block, SHARED_BASE, Sem, Space, WINDOW, Which};

/// The memory that a warp's access goes to, and its offset in shared memory; that of the first lane is taken for all.
fn place(space: Space, address: u64) -> Space {
    match space {
        Space::Generic if address.wrapping_sub(SHARED_BASE) < WINDOW => Space::Shared,
        Space::Generic if address.wrapping_sub(crate::mem::LOCAL_BASE) < WINDOW => Space::Local,
        Space::Generic => Space::Global,
        named => named,
    }
}

/// Shared memory takes the low half of an address: one that was made generic means the same place, as cards have it.
fn within(space: Space, a: [u64; 32]) -> [u64; 32] {
    if space == Space::Shared { a.map(|a| a % WINDOW) } else { a }
}

/// Sectors of lines that the lanes touch.
pub(super) fn sectors(lines: &mut Vec<(u64, u8)>, mask: u32, a: &[u64; 32], bytes: u64) {
    lines.clear();
    for lane in lanes_of(mask) {
        for sector in a[lane] / 32..=(a[lane] + bytes - 1) / 32 {
            let (line, bit) = (sector / 4, 1 << (sector % 4));
            match lines.iter_mut().rev().find(|l| l.0 == line) {
                Some(found) => found.1 |= bit,
                None => lines.push((line, bit)),
            }
        }
    }
}

impl Engine<'_> {
    /// `ld`, `st` and their like.
    pub(super) fn memory(&mut self, timed: &mut Timed, op: &MemoryOp, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let next = Step::Next(time, Why::Issue);
        match op {
            MemoryOp::Param { .. } | MemoryOp::Hint | MemoryOp::Discard(..) => {
                memory::execute(&mut self.machine, &mut timed.warp, op, at).map_err(TimeError::from)?;
            }
            MemoryOp::Load(x) => {
                let a = within(x.space, self.addresses(timed, &x.addr, at)?);
                let bytes = x.ty.bytes() as usize * x.d.len();
                let space = place(x.space, a[at.lane() as usize]);
                let done = self.cost(timed, space, at, &a, bytes, (Access::Read, x.sem), time);
                timed.set_ready(at.defs, done);
                match space {
                    Space::Local => _ = memory::execute(&mut self.machine, &mut timed.warp, op, at).map_err(TimeError::from)?,
                    _ => self.load(timed, x, at, &a)?,
                }
            }
            MemoryOp::Store(x) => {
                let a = within(x.space, self.addresses(timed, &x.addr, at)?);
                let bytes = x.ty.bytes() as usize * x.sources.len();
                let space = place(x.space, a[at.lane() as usize]);
                self.cost(timed, space, at, &a, bytes, (Access::Write, Sem::Weak), time);
                match space {
                    Space::Local => _ = memory::execute(&mut self.machine, &mut timed.warp, op, at).map_err(TimeError::from)?,
                    _ => self.store(timed, x, at, &a)?,
                }
            }
        }
        Ok(next)
    }

    /// When an access of the lanes is done.
    #[allow(clippy::too_many_arguments, reason = "what a warp's access is")]
    fn cost(
        &mut self,
        timed: &Timed,
        space: Space,
        at: At<'_>,
        a: &[u64; 32],
        bytes: usize,
        (access, sem): (Access, Sem),
        time: u64,
    ) -> u64 {
        let sm = self.sm_of(timed.warp.slot);
        let unit = &mut self.sms[sm as usize];
        match space {
            Space::Shared => {
                let n = passes(at.mask, &a.map(|a| a as u32 & 0xff_ffff), bytes as u32).0;
                let start = unit.pass(time, n.into());
                unit.work.shared += f64::from(n);
                let own = a[at.lane() as usize] as u32 >> crate::mem::RANK_SHIFT;
                let far = own != 0 && own != timed.warp.home.rank + 1;
                start + u64::from(n) - 1 + if far { self.card.remote } else { self.card.shared }
            }
            Space::Local => unit.pass(time, (bytes as u64 / 4).max(1)) + self.card.l1,
            Space::Generic | Space::Global => {
                let mut lines = std::mem::take(&mut self.lines);
                sectors(&mut lines, at.mask, a, bytes as u64);
                // Each line is a pass of the tags, 128 bytes one of the data.
                let n = lines.len().max(bytes * at.mask.count_ones() as usize / 128).max(1);
                let start = unit.pass(time, n as u64);
                let cached = access == Access::Read && matches!(sem, Sem::Weak | Sem::ReadOnly);
                let done = unit.request(sm, self.card, &mut self.traffic, start, &lines, access, cached);
                self.lines = lines;
                done
            }
        }
    }

    /// What is known of what is read goes to the registers.
    fn load(&mut self, timed: &mut Timed, x: &Load, at: At<'_>, a: &[u64; 32]) -> Result<(), TimeError> {
        let n = x.ty.bytes() as usize * x.d.len();
        let mut block = Block::default();
        let mut unknown = 0;
        self.each(timed, x.space, at, a, n, false, |segment, lane, offset| {
            if segment.undefined(offset, n) == 0 {
                block.bytes[lane][..n].copy_from_slice(segment.bytes(offset, n));
            } else {
                unknown |= 1 << lane;
            }
        })?;
        if unknown != at.mask {
            for (i, reg) in x.d.iter().enumerate() {
                memory::put(&mut timed.warp, *reg, x.ty, &block, i, at.mask & !unknown);
            }
        }
        at.mark(&mut timed.warp, unknown);
        if unknown != 0 {
            timed.note_birth(&[], at.defs, at.pc);
        }
        Ok(())
    }

    /// What is known of what is written goes to memory; what is not makes memory unknown.
    fn store(&mut self, timed: &mut Timed, x: &Store, at: At<'_>, a: &[u64; 32]) -> Result<(), TimeError> {
        let n = x.ty.bytes() as usize * x.sources.len();
        let unknown = x.sources.iter().fold(0, |u, r| u | timed.warp.regs.undef(*r));
        let mut block = Block::default();
        if at.mask & !unknown != 0 {
            for (i, reg) in x.sources.iter().enumerate() {
                memory::gather(&timed.warp, *reg, x.ty, &mut block, i, at.mask & !unknown);
            }
        }
        self.each(timed, x.space, at, a, n, true, |segment, lane, offset| {
            if unknown >> lane & 1 == 0 {
                segment.bytes_mut(offset, n).copy_from_slice(&block.bytes[lane][..n]);
                segment.set_initialized(offset, n, true);
            } else if segment.undefined(offset, n) != u16::MAX >> (16 - n) {
                segment.set_initialized(offset, n, false);
            }
        })
    }

    /// Calls `f` for each lane with the piece of memory that it accesses.
    #[allow(clippy::too_many_arguments, reason = "what a warp's access is")]
    fn each(
        &mut self,
        timed: &Timed,
        space: Space,
        at: At<'_>,
        a: &[u64; 32],
        bytes: usize,
        write: bool,
        mut f: impl FnMut(&mut crate::mem::shadow::Segment, usize, usize),
    ) -> Result<(), TimeError> {
        let mem = &mut self.machine.mem;
        let mut found: Option<(Which, u64, u64)> = None;
        for lane in lanes_of(at.mask) {
            let inside = |p: &(Which, u64, u64)| a[lane].wrapping_sub(p.1) <= p.2.wrapping_sub(bytes as u64);
            if !found.as_ref().is_some_and(inside) {
                let new = mem.locate(timed.warp.home, space, a[lane], write);
                found = new.ok().filter(|p| p.0 != Which::Local && p.2 >= bytes as u64 && inside(p));
                if found.is_none() {
                    let kind = new.err().unwrap_or(HazardKind::OutOfBounds);
                    return Err(self.misplaced(at, a[lane], kind));
                }
            }
            let (which, base, _) = found.expect("it was found");
            f(mem.parts_of(which).0, lane, (a[lane] - base) as usize);
        }
        Ok(())
    }

    pub(super) fn misplaced(&self, at: At<'_>, address: u64, kind: HazardKind) -> TimeError {
        let (opcode, line, _) = self.module.program.line(at.pc);
        TimeError::Kernel { message: format!("{} at {address:#x} (`{opcode}`, PTX line {line})", kind.what()) }
    }

    /// `atom` and `red`: computed where all is known.
    pub(super) fn atomic(&mut self, timed: &mut Timed, x: &Atomic, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let a = within(x.space, self.addresses(timed, &x.addr, at)?);
        let n = x.ty.bytes() as usize;
        let space = place(x.space, a[at.lane() as usize]);
        let mut unknown = x.b.iter().chain(&x.c).fold(0, |u, r| u | timed.warp.regs.undef(*r)) & at.mask;
        self.each(timed, x.space, at, &a, n, true, |segment, lane, offset| {
            unknown |= u32::from(segment.undefined(offset, n) != 0) << lane;
        })?;
        let known = at.mask & !unknown;
        if known != 0 {
            atomics::execute(&mut self.machine, &mut timed.warp, x, at.of(known)).map_err(TimeError::from)?;
        }
        if unknown != 0 {
            at.of(unknown).mark(&mut timed.warp, unknown);
            timed.note_birth(&[], at.defs, at.pc);
        }
        let bytes = n * x.b.len();
        // Lanes that change one word take their turns.
        let done = self.cost(timed, space, at, &a, bytes, (Access::Write, Sem::Relaxed(crate::mem::Scope::Gpu)), time);
        timed.set_ready(at.defs, done);
        Ok(Step::Next(time, Why::Issue))
    }

    /// `ldmatrix` and `stmatrix`: eight rows of 16 bytes a matrix.
    pub(super) fn eights(&mut self, timed: &mut Timed, x: &Eights, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        if !at.is_converged(&timed.warp) {
            return Ok(Step::Retry(Wait::Converge));
        }
        let matrices = x.registers.len();
        let a = self.addresses(timed, &x.address, at.of(u32::MAX >> (32 - 8 * matrices)))?;
        let offsets = a.map(|a| a as u32 & 0xff_ffff);
        let n: u32 = (0..matrices).map(|i| passes(0xff << (8 * i), &offsets, 16).0).sum();
        let start = self.pass(timed, time, n.into());
        let sm = self.sm_of(timed.warp.slot) as usize;
        self.sms[sm].work.shared += f64::from(n);
        at.mark(&mut timed.warp, u32::MAX);
        timed.note_birth(&[], at.defs, at.pc);
        timed.set_ready(at.defs, start + u64::from(n) - 1 + self.card.shared);
        Ok(Step::Next(time, Why::Issue))
    }
}
