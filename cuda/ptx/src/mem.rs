//! The memories of a launch, and every access to them.
//!
//! [`Memory`] lives as long as a launch: it takes the device's [`Global`] and gives it back. `.const` variables and kernel
//! parameters are read-only allocations of global memory. One call accesses memory for all lanes of a warp; it checks
//! bounds and alignment, initialisation, and races ([`shadow`]), by the order that [`clock`] keeps.
//!
//! # Addresses
//! A generic address is a global one, or lies in a window: [`SHARED_BASE`] plus a 32-bit shared address, [`LOCAL_BASE`] plus
//! an offset. A 32-bit shared address has the CTA in its high byte: 0 is the own CTA, `r + 1` is rank `r` of the cluster.

mod birth;
pub mod clock;
mod contents;
#[cfg(test)]
mod footprint;
pub mod global;
mod known;
pub(crate) mod layout;
mod page;
mod parallel;
mod peers;
mod race;
pub mod shadow;
#[cfg(test)]
mod tests;

pub use birth::{Birth, Births};
pub use clock::{Clock, FencedSpace, Order, Scope, SyncPoint, Synced, WarpOrder, lanes_of};
pub(crate) use global::Frozen;
pub use global::{GLOBAL_BASE, Global, MAX_ALLOCATION, MemoryError};
pub(crate) use layout::Layout;
pub(crate) use parallel::Merged;
pub use shadow::{Segment, Tracker};

use crate::hazard::{HazardKind, Site};
use crate::observe::Watches;
use peers::Visit;
use shadow::{Pattern, Step};

/// Where the window of shared memory begins in the generic space.
pub const SHARED_BASE: u64 = 0x0100_0000_0000;
/// Where the window of local memory begins in the generic space.
pub const LOCAL_BASE: u64 = 0x0200_0000_0000;
/// Bytes of either window.
pub const WINDOW: u64 = 1 << 32;
/// A shared address of another CTA has that CTA's rank plus one above these bits.
pub const RANK_SHIFT: u32 = 24;

/// The shared address, in the cluster's window, of `offset` in the CTA with this rank (`mapa`).
pub fn mapa(offset: u32, rank: u32) -> u32 {
    (offset & ((1 << RANK_SHIFT) - 1)) | (rank + 1) << RANK_SHIFT
}

/// The state space that an instruction names. `.const` and `.param` of kernels are `Global`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// None: the address says.
    Generic,
    /// Global memory.
    Global,
    /// Shared memory, of the own CTA or of the cluster.
    Shared,
    /// Local memory.
    Local,
}

/// The order that an access asks for. `volatile` is `Relaxed(Sys)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sem {
    /// None.
    Weak,
    /// None, through the read-only path (`ld.global.nc`): what the launch itself writes is not seen there.
    ReadOnly,
    /// Strong, but orders nothing.
    Relaxed(Scope),
    /// Strong; later accesses come after what was released.
    Acquire(Scope),
    /// Strong; earlier accesses are released.
    Release(Scope),
    /// Both.
    AcqRel(Scope),
}

impl Sem {
    fn scope(self) -> Option<Scope> {
        match self {
            Sem::Weak | Sem::ReadOnly => None,
            Sem::Relaxed(s) | Sem::Acquire(s) | Sem::Release(s) | Sem::AcqRel(s) => Some(s),
        }
    }

    fn acquires(self) -> bool {
        matches!(self, Sem::Acquire(_) | Sem::AcqRel(_))
    }

    fn releases(self) -> bool {
        matches!(self, Sem::Release(_) | Sem::AcqRel(_))
    }
}

/// Where a CTA sits: the slots of shared memory of its cluster begin at `base`, it has `rank` among `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Slot of rank 0.
    pub base: u32,
    /// `%cluster_ctarank`.
    pub rank: u32,
    /// `%cluster_nctarank`.
    pub size: u32,
}

/// Who accesses memory, and from which instruction.
pub struct By<'a> {
    /// The order of the warp.
    pub warp: &'a mut WarpOrder,
    /// Its CTA's place.
    pub home: Home,
    /// Its local memory.
    pub local: &'a mut Local,
    /// Number of the instruction.
    pub pc: u32,
}

/// What the lanes of a warp load or store: up to 16 bytes each.
#[derive(Default)]
pub struct Block {
    /// The bytes of each lane.
    pub bytes: [[u8; 16]; 32],
    /// Which of them hold no defined value; meaningful for the lanes in `any_undefined`.
    pub undefined: [u16; 32],
    /// The lanes with an undefined byte.
    pub any_undefined: u32,
}

/// An access that ends the launch. The hazard is already recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// Out of bounds, misaligned, after a free, or a write to read-only memory.
    pub kind: HazardKind,
    /// The address.
    pub address: u64,
    /// The lane.
    pub lane: u32,
}

/// Local memory of a warp: each lane its own bytes, at addresses from 0. Grown on demand up to its size.
pub struct Local {
    size: usize,
    segment: Segment,
}

impl Local {
    /// `size` bytes for each lane.
    pub fn new(size: usize) -> Self {
        let size = size.next_multiple_of(16);
        Self { size, segment: Segment::new(LOCAL_BASE, size * 32, false) }
    }

    /// Copies `len` bytes of one lane's memory, and with them which are defined (a call's arguments and results).
    pub fn copy(&mut self, lane: u32, from: u32, to: u32, len: u32) {
        let base = lane as usize * self.size;
        let (from, to, len) = (base + from as usize, base + to as usize, len as usize);
        self.segment.bytes_mut(0, 32 * self.size).copy_within(from..from + len, to);
        for i in 0..len {
            let defined = self.segment.initialized(from + i, 1);
            self.segment.set_initialized(to + i, 1, defined);
        }
    }
}

/// A piece of memory by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    Global(usize),
    Shared(u32),
    Local,
}

/// The memories of a launch.
pub struct Memory {
    /// The device's allocations.
    pub global: Global,
    /// Order and hazards.
    pub tracker: Tracker,
    /// Lanes that loaded what is undefined, and where that comes from: of the instruction under way.
    pub undefined: Vec<(u32, Birth)>,
    /// Bytes whose writes are noted.
    pub watch: Option<Box<Watches>>,
    shared: Vec<Option<Segment>>,
    /// By slot: who used a CTA's shared memory from another one.
    visits: Vec<Vec<Visit>>,
    /// By slot: where the last thread of a CTA left, while others of its cluster are there.
    ended: Vec<Option<Site>>,
}

struct Plan {
    which: Which,
    offsets: [u32; 32],
    run: bool,
    one: bool,
}

impl Plan {
    fn pattern(&self, mask: u32) -> Pattern<'_> {
        let first = self.offsets[mask.trailing_zeros() as usize & 31] as usize;
        if self.run {
            Pattern::Run(first)
        } else if self.one {
            Pattern::One(first, mask)
        } else {
            Pattern::Gather(&self.offsets, mask)
        }
    }
}

impl Memory {
    /// The memories of a launch over a device's `global`.
    pub fn new(global: Global, tracker: Tracker) -> Self {
        let (shared, visits, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { global, tracker, undefined: Vec::new(), watch: None, shared, visits, ended }
    }

    /// Gives a cluster of `size` CTAs shared memory of `bytes` each: the slot of rank 0.
    pub fn start_cluster(&mut self, size: u32, bytes: usize) -> u32 {
        let size = size as usize;
        let free = (0..self.shared.len())
            .step_by(size)
            .find(|&i| i + size <= self.shared.len() && self.shared[i..i + size].iter().all(Option::is_none));
        let base = free.unwrap_or(self.shared.len());
        if free.is_none() {
            self.shared.resize_with(base + size, || None);
            self.visits.resize_with(base + size, Vec::new);
            self.ended.resize(base + size, None);
        }
        self.ended[base..base + size].fill(None);
        for slot in &mut self.shared[base..base + size] {
            *slot = Some(Segment::new(0, bytes, true));
        }
        base as u32
    }

    /// Takes the shared memory of one CTA away: it ended, its last thread at `last`, and its threads knew `known`.
    pub fn end_cta(&mut self, slot: u32, known: &Clock, last: Site) {
        self.end_visits(slot, known, last);
        self.shared[slot as usize] = None;
        self.ended[slot as usize] = Some(last);
        self.tracker.order.forget(|k| k >> 32 == key(Which::Shared(slot), 0) >> 32);
    }

    /// The shared memory of a CTA, if it has not ended.
    pub fn shared(&mut self, slot: u32) -> Option<&mut Segment> {
        self.shared.get_mut(slot as usize)?.as_mut()
    }

    /// The segment and the tracker, apart.
    #[inline]
    pub(crate) fn parts<'m>(&'m mut self, which: Which, local: &'m mut Local) -> (&'m mut Segment, &'m mut Tracker) {
        match which {
            Which::Local => (&mut local.segment, &mut self.tracker),
            _ => self.parts_of(which),
        }
    }

    /// The same of memory that is not local.
    #[inline]
    pub(crate) fn parts_of(&mut self, which: Which) -> (&mut Segment, &mut Tracker) {
        let segment = match which {
            Which::Global(i) => &mut self.global.allocation(i).segment,
            Which::Shared(slot) => self.shared[slot as usize].as_mut().expect("a located slot is in use"),
            Which::Local => unreachable!("local memory belongs to a warp"),
        };
        (segment, &mut self.tracker)
    }

    /// The piece of memory that holds an address, the address of its first byte as `space` counts, and its length.
    pub(crate) fn locate(
        &mut self,
        home: Home,
        space: Space,
        address: u64,
        write: bool,
    ) -> Result<(Which, u64, u64), HazardKind> {
        let (space, window) = match space {
            Space::Generic if address.wrapping_sub(SHARED_BASE) < WINDOW => (Space::Shared, SHARED_BASE),
            Space::Generic if address.wrapping_sub(LOCAL_BASE) < WINDOW => (Space::Local, LOCAL_BASE),
            Space::Generic => (Space::Global, 0),
            named => (named, 0),
        };
        match space {
            Space::Shared => {
                let inner = address - window;
                if inner >= WINDOW {
                    return Err(HazardKind::OutOfBounds);
                }
                let (top, rank) = (inner >> RANK_SHIFT, (inner >> RANK_SHIFT).wrapping_sub(1));
                let rank = if top == 0 { u64::from(home.rank) } else { rank };
                if rank >= u64::from(home.size) {
                    return Err(HazardKind::OutOfBounds);
                }
                let slot = home.base + rank as u32;
                match &self.shared[slot as usize] {
                    Some(segment) => Ok((Which::Shared(slot), window + (top << RANK_SHIFT), segment.len() as u64)),
                    None => Err(HazardKind::PeerGone),
                }
            }
            Space::Local => Ok((Which::Local, window, 0)),
            _ => {
                let i = self.global.locate(address).ok_or(HazardKind::OutOfBounds)?;
                let a = self.global.allocation(i);
                if a.freed {
                    return Err(HazardKind::UseAfterFree);
                }
                if write && a.read_only {
                    return Err(HazardKind::ReadOnlyWrite);
                }
                Ok((Which::Global(i), a.segment.base, a.len))
            }
        }
    }

    /// Where the lanes access, if all of them access one piece of memory and rightly.
    fn plan(&mut self, by: &By, space: Space, addresses: &[u64; 32], mask: u32, bytes: usize, write: bool) -> Option<Plan> {
        let first = addresses[mask.trailing_zeros() as usize & 31];
        let (which, base, len) = self.locate(by.home, space, first, write).ok()?;
        let size = bytes as u64;
        let mut plan = Plan { which, offsets: [0; 32], run: false, one: false };
        if which == Which::Local {
            let stride = by.local.size as u64;
            for lane in lanes_of(mask) {
                let at = addresses[lane as usize].wrapping_sub(base);
                if at > stride.wrapping_sub(size) || size > stride || !at.is_multiple_of(size) {
                    return None;
                }
                plan.offsets[lane as usize] = (u64::from(lane) * stride + at) as u32;
            }
            return Some(plan);
        }
        let limit = len.checked_sub(size)?;
        let at = first - base;
        if mask == u32::MAX && addresses[31] == first.wrapping_add(31 * size) {
            // One after the other, or not: no branch in the loop.
            let step = |(lane, address): (usize, &u64)| address ^ first.wrapping_add(lane as u64 * size);
            let differ = addresses.iter().enumerate().map(step).fold(0, |all, d| all | d);
            if differ == 0 {
                if !at.is_multiple_of(size) || at + 31 * size > limit {
                    return None;
                }
                plan.offsets = std::array::from_fn(|lane| at as u32 + lane as u32 * size as u32);
                plan.run = true;
                return Some(plan);
            }
        }
        let mut bad = 0;
        let mut differ = 0;
        for lane in lanes_of(mask) {
            let address = addresses[lane as usize];
            let at = address.wrapping_sub(base);
            bad |= u64::from(at > limit) | (at & (size - 1));
            differ |= address ^ first;
            plan.offsets[lane as usize] = at as u32;
        }
        plan.one = differ == 0;
        (bad == 0).then_some(plan)
    }

    /// The lanes one by one: they access different memories, or one is wrong. Returns the lanes whose access is dropped
    /// ([`peers`]).
    #[allow(clippy::too_many_arguments, reason = "what a warp's access is")]
    fn each_lane(
        &mut self,
        by: &mut By,
        space: Space,
        addresses: &[u64; 32],
        mask: u32,
        bytes: usize,
        write: bool,
        mut one: impl FnMut(&mut Self, &mut By, Plan, u32),
    ) -> Result<u32, MemoryFault> {
        let mut dropped = 0;
        for lane in lanes_of(mask) {
            let address = addresses[lane as usize];
            match self.plan(by, space, addresses, 1 << lane, bytes, write) {
                Some(plan) => one(self, by, plan, 1 << lane),
                None if self.is_gone(by, space, address, lane) => dropped |= 1 << lane,
                None => return Err(self.fault(by, space, address, lane, bytes as u64, write)),
            }
        }
        Ok(dropped)
    }

    /// Records why an access cannot be done.
    #[cold]
    pub(crate) fn fault(&mut self, by: &By, space: Space, address: u64, lane: u32, bytes: u64, write: bool) -> MemoryFault {
        let kind = match self.locate(by.home, space, address, write) {
            Err(kind) => kind,
            Ok(_) if !address.is_multiple_of(bytes) => HazardKind::Misaligned,
            Ok(_) => HazardKind::OutOfBounds,
        };
        let does = if write { "write" } else { "read" };
        let nearest = self.nearest(space, address);
        self.tracker.hazards.report(kind, Site::new(by.pc, by.warp.agent, lane), Some(address), || match kind {
            HazardKind::Misaligned => format!("{does} of {bytes} bytes at an address that is no multiple of {bytes}"),
            HazardKind::UseAfterFree => format!("{does} of {bytes} bytes in an allocation that was freed"),
            HazardKind::ReadOnlyWrite => format!("write of {bytes} bytes to read-only memory"),
            _ => format!(
                "{does} of {bytes} bytes outside {}{nearest}",
                match space {
                    Space::Generic => "every memory",
                    Space::Global => "every allocation",
                    Space::Shared => "shared memory",
                    Space::Local => "local memory",
                }
            ),
        });
        MemoryFault { kind, address, lane }
    }

    /// What a report adds about an address that is out of bounds: in global memory, the allocation that is nearest.
    #[cold]
    pub(crate) fn nearest(&self, space: Space, address: u64) -> String {
        let global = space == Space::Global || (space == Space::Generic && address >= GLOBAL_BASE / 2);
        let nearest = if global { self.global.nearest(address) } else { None };
        nearest.map_or(String::new(), |n| format!(", {n}"))
    }

    /// Loads `bytes` (1, 2, 4, 8 or 16) for each lane of `mask`.
    #[allow(clippy::too_many_arguments, reason = "what a warp's access is")]
    pub fn load(
        &mut self,
        by: &mut By,
        space: Space,
        addresses: &[u64; 32],
        mask: u32,
        bytes: usize,
        sem: Sem,
        out: &mut Block,
    ) -> Result<(), MemoryFault> {
        out.any_undefined = 0;
        self.undefined.clear();
        if mask == 0 {
            return Ok(());
        }
        if let Some(plan) = self.plan(by, space, addresses, mask, bytes, false) {
            self.load_planned(by, &plan, mask, bytes, sem, out);
            return Ok(());
        }
        let dropped = self.each_lane(by, space, addresses, mask, bytes, false, |memory, by, plan, mask| {
            memory.load_planned(by, &plan, mask, bytes, sem, out);
        })?;
        out.any_undefined |= dropped;
        for lane in lanes_of(dropped) {
            let l = lane as usize;
            (out.bytes[l], out.undefined[l]) = ([0xFF; 16], u16::MAX);
            self.undefined.push((lane, Birth::Gone { address: addresses[l], pc: by.pc }));
        }
        Ok(())
    }

    /// Accesses to another CTA's shared memory are noted.
    #[inline(always)]
    fn note(&mut self, by: &By, plan: &Plan, mask: u32) {
        if let Which::Shared(slot) = plan.which
            && slot != by.home.slot()
        {
            let address = plan.offsets[mask.trailing_zeros() as usize & 31];
            self.visit(by.warp, by.home, by.pc, mask, slot, address.into());
        }
    }

    fn load_planned(&mut self, by: &mut By, plan: &Plan, mask: u32, bytes: usize, sem: Sem, out: &mut Block) {
        self.note(by, plan, mask);
        if let Some(scope) = sem.scope() {
            for lane in lanes_of(mask) {
                let key = key(plan.which, plan.offsets[lane as usize]);
                self.tracker.order.strong_read(by.warp, lane, key, sem.acquires(), scope);
            }
        }
        let (segment, tracker) = self.parts(plan.which, by.local);
        let pattern = plan.pattern(mask);
        if tracker.enabled && sem == Sem::ReadOnly {
            segment.read_only(&pattern, bytes, by.warp, by.pc, tracker);
        }
        if tracker.enabled && plan.which != Which::Local {
            segment.read(&pattern, bytes, &Step { warp: by.warp, pc: by.pc, strength: sem.scope() }, tracker);
        }
        fn copy<const N: usize>(segment: &mut Segment, plan: &Plan, mask: u32, out: &mut [[u8; 16]; 32]) {
            let offsets = &plan.offsets;
            if plan.run {
                let (chunks, _) = segment.bytes(offsets[0] as usize, 32 * N).as_chunks::<N>();
                out.iter_mut().zip(chunks).for_each(|(o, c)| o[..N].copy_from_slice(c));
                return;
            }
            for lane in lanes_of(mask).map(|lane| lane as usize) {
                let at = offsets[lane] as usize;
                out[lane][..N].copy_from_slice(segment.bytes(at, N));
            }
        }
        match bytes {
            1 => copy::<1>(segment, plan, mask, &mut out.bytes),
            2 => copy::<2>(segment, plan, mask, &mut out.bytes),
            4 => copy::<4>(segment, plan, mask, &mut out.bytes),
            8 => copy::<8>(segment, plan, mask, &mut out.bytes),
            _ => copy::<16>(segment, plan, mask, &mut out.bytes),
        }
        let settled = match pattern {
            Pattern::Run(at) => segment.initialized(at, 32 * bytes),
            Pattern::One(at, _) => segment.undefined(at, bytes) == 0,
            Pattern::Gather(..) => false,
        };
        if !settled {
            let mut births = Vec::new();
            for lane in lanes_of(mask) {
                let at = plan.offsets[lane as usize] as usize;
                let undefined = segment.undefined(at, bytes);
                if undefined != 0 {
                    out.undefined[lane as usize] = undefined;
                    out.any_undefined |= 1 << lane;
                    births.push((lane, segment.birth(at + undefined.trailing_zeros() as usize, by.pc, tracker)));
                }
            }
            self.undefined.extend(births);
        }
    }

    /// What a lane has stored is undefined for this reason.
    #[cold]
    pub fn spoiled(&mut self, by: &mut By, space: Space, address: u64, bytes: usize, birth: Birth) {
        let mut addresses = [0; 32];
        addresses[0] = address;
        if let Some(plan) = self.plan(by, space, &addresses, 1, bytes, true)
            && plan.which != Which::Local
        {
            self.parts(plan.which, by.local).0.contents.note(plan.offsets[0] as usize, bytes, birth);
        }
    }

    /// Tells the watch, before it happens, that `new` will be written.
    #[cold]
    pub(crate) fn watched(&mut self, site: Site, which: Which, at: usize, new: &[u8]) {
        let Some(mut watch) = self.watch.take() else { return };
        if which != Which::Local {
            let segment = self.parts_of(which).0;
            let slot = if let Which::Shared(slot) = which { Some(slot) } else { None };
            watch.write(site, slot, segment.base + at as u64, segment.bytes(at, new.len()), new);
        }
        self.watch = Some(watch);
    }

    /// Stores `bytes` (1, 2, 4, 8 or 16) for each lane of `mask`. Of lanes that store to one place the last wins.
    #[allow(clippy::too_many_arguments, reason = "what a warp's access is")]
    pub fn store(
        &mut self,
        by: &mut By,
        space: Space,
        addresses: &[u64; 32],
        mask: u32,
        bytes: usize,
        sem: Sem,
        value: &Block,
    ) -> Result<(), MemoryFault> {
        if mask == 0 {
            return Ok(());
        }
        if let Some(plan) = self.plan(by, space, addresses, mask, bytes, true) {
            self.store_planned(by, &plan, mask, bytes, sem, value);
            return Ok(());
        }
        self.each_lane(by, space, addresses, mask, bytes, true, |memory, by, plan, mask| {
            memory.store_planned(by, &plan, mask, bytes, sem, value);
        })?;
        Ok(())
    }

    fn store_planned(&mut self, by: &mut By, plan: &Plan, mask: u32, bytes: usize, sem: Sem, value: &Block) {
        self.note(by, plan, mask);
        if self.watch.is_some() {
            for lane in lanes_of(mask) {
                let site = Site::new(by.pc, by.warp.agent, lane);
                self.watched(site, plan.which, plan.offsets[lane as usize] as usize, &value.bytes[lane as usize][..bytes]);
            }
        }
        let (segment, tracker) = self.parts(plan.which, by.local);
        let pattern = plan.pattern(mask);
        if tracker.enabled && plan.which != Which::Local {
            let step = Step { warp: by.warp, pc: by.pc, strength: sem.scope() };
            segment.write(&pattern, bytes, &value.bytes, &step, tracker);
        }
        fn copy<const N: usize>(segment: &mut Segment, plan: &Plan, mask: u32, from: &[[u8; 16]; 32]) {
            let offsets = &plan.offsets;
            if plan.run {
                let (chunks, _) = segment.bytes_mut(offsets[0] as usize, 32 * N).as_chunks_mut::<N>();
                chunks.iter_mut().zip(from).for_each(|(c, f)| c.copy_from_slice(&f[..N]));
                return;
            }
            for lane in lanes_of(mask).map(|lane| lane as usize) {
                let at = offsets[lane] as usize;
                segment.bytes_mut(at, N).copy_from_slice(&from[lane][..N]);
            }
        }
        match bytes {
            1 => copy::<1>(segment, plan, mask, &value.bytes),
            2 => copy::<2>(segment, plan, mask, &value.bytes),
            4 => copy::<4>(segment, plan, mask, &value.bytes),
            8 => copy::<8>(segment, plan, mask, &value.bytes),
            _ => copy::<16>(segment, plan, mask, &value.bytes),
        }
        match pattern {
            Pattern::Run(at) if value.any_undefined == 0 => segment.set_initialized(at, 32 * bytes, true),
            _ => {
                for lane in lanes_of(mask) {
                    let undefined = if value.any_undefined >> lane & 1 == 1 { value.undefined[lane as usize] } else { 0 };
                    segment.define(plan.offsets[lane as usize] as usize, bytes, undefined);
                }
            }
        }
        match sem.scope() {
            Some(scope) => {
                for lane in lanes_of(mask) {
                    let key = key(plan.which, plan.offsets[lane as usize]);
                    self.tracker.order.strong_write(by.warp, lane, key, sem.releases(), scope, false);
                }
            }
            None if self.tracker.order.no_releases() => {}
            None => {
                for lane in lanes_of(mask) {
                    self.tracker.order.weak_write(key(plan.which, plan.offsets[lane as usize]));
                }
            }
        }
    }

    /// An atomic read-modify-write of `bytes` by one lane: `update` gives the new value of the old, or `None` to leave it.
    /// Returns the old value, and whether any of it was undefined.
    #[allow(clippy::too_many_arguments, reason = "what a warp's access is")]
    pub fn atomic(
        &mut self,
        by: &mut By,
        space: Space,
        address: u64,
        lane: u32,
        bytes: usize,
        sem: Sem,
        update: impl FnOnce([u8; 16]) -> Option<[u8; 16]>,
    ) -> Result<([u8; 16], bool), MemoryFault> {
        let mut addresses = [0; 32];
        addresses[lane as usize] = address;
        let Some(plan) = self.plan(by, space, &addresses, 1 << lane, bytes, true) else {
            if self.is_gone(by, space, address, lane) {
                self.undefined.push((lane, Birth::Gone { address, pc: by.pc }));
                return Ok(([0xFF; 16], true));
            }
            return Err(self.fault(by, space, address, lane, bytes as u64, true));
        };
        self.note(by, &plan, 1 << lane);
        let at = plan.offsets[lane as usize];
        let key = key(plan.which, at);
        let at = at as usize;
        let scope = sem.scope();
        if let Some(scope) = scope {
            self.tracker.order.strong_read(by.warp, lane, key, sem.acquires(), scope);
        }
        let (segment, tracker) = self.parts(plan.which, by.local);
        if tracker.enabled && plan.which != Which::Local {
            segment.update(at, bytes, lane, &Step { warp: by.warp, pc: by.pc, strength: scope }, tracker);
        }
        let mut old = [0; 16];
        old[..bytes].copy_from_slice(segment.bytes(at, bytes));
        let undefined = segment.undefined(at, bytes) != 0;
        if undefined {
            let birth = segment.birth(at, by.pc, tracker);
            self.undefined.push((lane, birth));
        }
        if let Some(new) = update(old) {
            if self.watch.is_some() {
                self.watched(Site::new(by.pc, by.warp.agent, lane), plan.which, at, &new[..bytes]);
            }
            let segment = self.parts(plan.which, by.local).0;
            segment.bytes_mut(at, bytes).copy_from_slice(&new[..bytes]);
            segment.define(at, bytes, if undefined { u16::MAX >> (16 - bytes) } else { 0 });
        }
        if let Some(scope) = scope {
            self.tracker.order.strong_write(by.warp, lane, key, sem.releases(), scope, true);
        }
        Ok((old, undefined))
    }
}

/// An address that is unique over the memories of a launch.
fn key(which: Which, offset: u32) -> u64 {
    let high = match which {
        Which::Global(i) => i as u64,
        Which::Shared(slot) => 1 << 31 | u64::from(slot),
        Which::Local => 1 << 30,
    };
    high << 32 | u64::from(offset)
}
