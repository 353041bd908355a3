//! How instructions of several families reach memory: their modifiers, their addresses, what memory refuses, what is counted.

use super::flow::{At, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::warp::Warp;
use crate::hazard::HazardKind;
use crate::ir::program::{Extent, SharedVariable};
use crate::ir::{Addr, Class, Cx};
use crate::mem::{GLOBAL_BASE, MemoryFault, RANK_SHIFT, SHARED_BASE, Scope, Sem, Space as Where, WINDOW, Which};
use crate::request::FaultKind;
use crate::text::ast::Space;

/// The order that an instruction names; the scope makes it a [`Sem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    Weak,
    Volatile,
    Relaxed,
    Acquire,
    Release,
    AcquireRelease,
}

impl Strength {
    /// The order with a scope; that of atomics is the GPU unless stated.
    pub(super) fn with(self, scope: Option<Scope>) -> Sem {
        let s = scope.unwrap_or(Scope::Gpu);
        match self {
            Strength::Weak => Sem::Weak,
            Strength::Volatile => Sem::Relaxed(Scope::Sys),
            Strength::Relaxed => Sem::Relaxed(s),
            Strength::Acquire => Sem::Acquire(s),
            Strength::Release => Sem::Release(s),
            Strength::AcquireRelease => Sem::AcqRel(s),
        }
    }
}

/// The modifiers of memory instructions.
pub(super) struct Modifiers {
    pub space: Option<Space>,
    pub strength: Option<Strength>,
    pub scope: Option<Scope>,
    pub vector: usize,
    pub cache_hint: bool,
    /// Through the read-only path.
    pub read_only: bool,
}

pub(super) const SCOPES: [(&str, Scope); 4] =
    [("cta", Scope::Cta), ("cluster", Scope::Cluster), ("gpu", Scope::Gpu), ("sys", Scope::Sys)];
const STRENGTHS: [(&str, Strength); 6] = [
    ("weak", Strength::Weak),
    ("volatile", Strength::Volatile),
    ("relaxed", Strength::Relaxed),
    ("acquire", Strength::Acquire),
    ("release", Strength::Release),
    ("acq_rel", Strength::AcquireRelease),
];
pub(super) const SPACES: [(&str, Space); 9] = [
    ("global", Space::Global),
    ("const", Space::Const),
    ("shared", Space::Shared),
    ("shared::cta", Space::Shared),
    ("shared::cluster", Space::Shared),
    ("local", Space::Local),
    ("param", Space::Param),
    ("param::entry", Space::Param),
    ("param::func", Space::Param),
];
/// Advice for caches, one of each list: nothing here depends on it.
const ADVICE: [&[&str]; 4] = [
    &["ca", "cg", "cs", "lu", "cv", "wb", "wt"],
    &["L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"],
    &["L2::evict_first", "L2::evict_last", "L2::evict_normal"],
    &["L2::64B", "L2::128B", "L2::256B"],
];

/// Takes the modifiers that say where an access goes and how it is ordered, each at most once.
pub(super) fn modifiers(cx: &mut Cx<'_>) -> Result<Modifiers, String> {
    let strength = cx.pick(&STRENGTHS);
    // `.mmio` is relaxed, said or not; that each access reaches its device once is so here in any case.
    let mmio = cx.eat("mmio");
    let m = Modifiers {
        space: cx.pick(&SPACES),
        strength: if mmio { strength.or(Some(Strength::Relaxed)) } else { strength },
        scope: cx.pick(&SCOPES),
        vector: cx.pick(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1),
        cache_hint: cx.eat("L2::cache_hint"),
        read_only: cx.eat("nc"),
    };
    for list in ADVICE {
        cx.find(|p| list.contains(&p).then_some(()));
    }
    let strong = matches!(m.strength, Some(Strength::Relaxed | Strength::Acquire | Strength::Release | Strength::AcquireRelease));
    if strong != m.scope.is_some() && !matches!(cx.head(), "atom" | "red") {
        return Err(format!("`{}`: a scope belongs to relaxed, acquire and release, and they need one", cx.inst.opcode));
    }
    Ok(m)
}

/// The memory that a named space lies in. A function's parameters lie in its frame.
pub(super) fn place(space: Option<Space>) -> Where {
    match space {
        None => Where::Generic,
        Some(Space::Global | Space::Const) => Where::Global,
        Some(Space::Shared) => Where::Shared,
        Some(Space::Local | Space::Param) => Where::Local,
    }
}

/// The address of each lane as the named space counts; one that is undefined is a hazard.
pub(super) fn addresses(m: &mut Machine<'_>, warp: &Warp, addr: &Addr, at: At<'_>) -> [u64; 32] {
    if !addr.constant {
        m.demand(warp, at, warp.regs.undef(addr.base), "the address");
    }
    let a = match addr.base.class {
        Class::B64 => {
            let offset = addr.offset as u64;
            warp.regs.r64[addr.base.index as usize].map(|b| b.wrapping_add(offset))
        }
        _ => {
            let offset = addr.offset as u32;
            warp.regs.r32[addr.base.index as usize].map(|b| u64::from(b.wrapping_add(offset)))
        }
    };
    within(m, warp, addr, at, &a, 1);
    a
}

/// Reports the first lane whose `bytes` leave the shared variable that the address was made from.
#[inline]
pub(super) fn within(m: &mut Machine<'_>, warp: &Warp, addr: &Addr, at: At<'_>, a: &[u64; 32], bytes: u64) {
    let entry = m.kernel.entry;
    let Some(extent) = entry.origins.of(addr.base) else { return };
    // Offsets in the CTA's own shared memory are what nearly all addresses are: beyond `start + room` or before `start`, one of the
    // differences has its highest bit set. Lanes that take no part may bring the exact test about, and no report.
    let start = u64::from(extent.start);
    if let Some(room) = u64::from(extent.end - extent.start).checked_sub(bytes) {
        let differences = a.iter().map(|a| a.wrapping_sub(start)).fold(0, |all, x| all | x | room.wrapping_sub(x));
        if differences >> 63 == 0 {
            return;
        }
    }
    stays(m, warp, extent, at, a, bytes);
}

#[cold]
fn stays(m: &mut Machine<'_>, warp: &Warp, extent: &Extent, at: At<'_>, a: &[u64; 32], bytes: u64) {
    // Offset in a CTA's shared memory; none in other memory.
    let place = |l: usize| {
        let generic = a[l].wrapping_sub(SHARED_BASE);
        let inner = if generic < WINDOW { generic } else { a[l] };
        (inner < WINDOW).then_some(inner & ((1 << RANK_SHIFT) - 1))
    };
    let outside = |l: &usize| place(*l).is_some_and(|p| p < extent.start.into() || p + bytes > extent.end.into());
    let Some(lane) = lanes_of(at.mask).find(outside).filter(|_| m.mem.tracker.enabled) else { return };
    let entry = m.kernel.entry;
    let first = place(lane).unwrap_or(0);
    let last = first + bytes - 1;
    let mut others: Vec<_> = entry.shared.iter().map(|(v, start)| (*start, &m.kernel.program.shared[*v as usize])).collect();
    others.sort_by_key(|(start, v)| (*start, v.dynamic));
    let holds = |p: u64, (start, v): &(u32, &SharedVariable)| {
        p >= u64::from(*start) && (v.dynamic || p < u64::from(*start) + v.bytes) && v.name != extent.name
    };
    let other = others.iter().find(|v| holds(last, v)).or_else(|| others.iter().find(|v| holds(first, v)));
    let found = other.map_or("in no variable".into(), |(start, v)| format!("in `{}` at {start:#x}", v.name));
    m.report(HazardKind::SharedOverflow, warp.site(at.pc, lane as u32), Some(first), || {
        let Extent { name, start, end } = extent;
        let size = if *end == u32::MAX { String::new() } else { format!("{} bytes ", end - start) };
        format!("an address made from `{name}` ({size}at {start:#x}) lies {found}")
    });
}

/// Ends the launch after an access that memory refused and reported.
pub(super) fn refused<T>(m: &mut Machine<'_>, warp: &Warp, at: At<'_>, fault: MemoryFault) -> Result<T, Stop> {
    let message = format!("{} (address {:#x})", fault.kind.what(), fault.address);
    m.fault(warp, at.only(fault.lane), FaultKind::IllegalAddress, message)
}

/// The piece of memory that holds `len` bytes for a lane's asynchronous work, or a fault; `None` where the CTA whose shared memory it is
/// has ended: that is reported, and the operation is dropped.
#[allow(clippy::too_many_arguments, reason = "a memory's place and the one who touches it")]
pub(super) fn range(
    m: &mut Machine<'_>,
    warp: &Warp,
    at: At<'_>,
    space: Where,
    address: u64,
    len: u64,
    align: u64,
    write: bool,
) -> Result<Option<(Which, usize)>, Stop> {
    let kind = match m.mem.locate(warp.home, space, address, write) {
        Ok((Which::Local, ..)) => HazardKind::UndefinedBehavior,
        Ok(_) if !address.is_multiple_of(align) => HazardKind::Misaligned,
        Ok((which, base, size)) if address - base + len <= size => {
            if let Which::Shared(slot) = which
                && slot != warp.home.slot()
            {
                m.mem.meet(&warp.order, warp.home, at.pc, at.mask, slot, address);
            }
            return Ok(Some((which, (address - base) as usize)));
        }
        Ok(_) => HazardKind::OutOfBounds,
        Err(HazardKind::PeerGone) => {
            m.mem.miss(&warp.order, warp.home, at.pc, at.lane(), address);
            return Ok(None);
        }
        Err(kind) => kind,
    };
    let does = if write { "write" } else { "read" };
    let message = match kind {
        HazardKind::Misaligned => format!("{does} of {len} bytes at {address:#x}, which is no multiple of {align}"),
        HazardKind::UndefinedBehavior => format!("{does} of {len} bytes in local memory ({address:#x}) by asynchronous work"),
        HazardKind::OutOfBounds => format!("{does} of {len} bytes at {address:#x}{}", m.mem.nearest(space, address)),
        _ => format!("{does} of {len} bytes at {address:#x}"),
    };
    m.report(kind, warp.site(at.pc, at.lane()), Some(address), || message.clone());
    m.fault(warp, at, FaultKind::IllegalAddress, format!("{}: {message}", kind.what()))
}

/// Counts sectors and bank conflicts. A warp's access is to one space but in contrived code: the first lane's is taken for all.
pub(super) fn count(m: &mut Machine<'_>, pc: u32, space: Where, mask: u32, a: &[u64; 32], bytes: u32) {
    let Some(c) = &mut m.counters else { return };
    let first = a[mask.trailing_zeros() as usize & 31];
    match space {
        Where::Local => {}
        Where::Shared => c.shared(pc, mask, &a.map(|a| a as u32 & 0xff_ffff), bytes),
        _ if first >= GLOBAL_BASE => c.global(pc, mask, a, bytes),
        _ if first.wrapping_sub(SHARED_BASE) < WINDOW => c.shared(pc, mask, &a.map(|a| a as u32 & 0xff_ffff), bytes),
        _ => {}
    }
}
