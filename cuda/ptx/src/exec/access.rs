//! How instructions of several families reach memory: their modifiers, their addresses, what memory refuses, what is counted.

use super::flow::{At, Stop};
use super::machine::Machine;
use super::warp::Warp;
use crate::hazard::HazardKind;
use crate::ir::{Addr, Class, Cx};
use crate::mem::{GLOBAL_BASE, MemoryFault, SHARED_BASE, Scope, Sem, Space as Where, WINDOW, Which};
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
}

pub(super) const SCOPES: [(&str, Scope); 4] =
    [("cta", Scope::Cta), ("cluster", Scope::Cluster), ("gpu", Scope::Gpu), ("sys", Scope::Sys)];
const STRENGTHS: [(&str, Strength); 7] = [
    ("weak", Strength::Weak),
    ("volatile", Strength::Volatile),
    ("relaxed", Strength::Relaxed),
    ("acquire", Strength::Acquire),
    ("release", Strength::Release),
    ("acq_rel", Strength::AcquireRelease),
    ("mmio", Strength::Relaxed),
];
pub(super) const SPACES: [(&str, Space); 10] = [
    ("global", Space::Global),
    ("const", Space::Const),
    ("shared", Space::Shared),
    ("shared::cta", Space::Shared),
    ("shared::cluster", Space::Shared),
    ("local", Space::Local),
    ("param", Space::Param),
    ("param::entry", Space::Param),
    ("param::func", Space::Param),
    ("generic", Space::Global),
];
const CACHE: [&str; 7] = ["ca", "cg", "cs", "lu", "cv", "wb", "wt"];
const L1: [&str; 5] = ["L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"];
const L2: [&str; 6] = ["L2::64B", "L2::128B", "L2::256B", "L2::evict_first", "L2::evict_last", "L2::evict_normal"];

/// Eats the modifiers before the type. Each kind may come once.
pub(super) fn modifiers(cx: &mut Cx<'_>) -> Result<Modifiers, String> {
    let mut m = Modifiers { space: None, strength: None, scope: None, vector: 1, cache_hint: false };
    let (mut cache, mut l1, mut l2, mut nc, mut mmio) = (false, false, false, false, false);
    let twice =
        |part: &str, already: bool| if already { Err(format!("modifier `.{part}` comes twice or clashes")) } else { Ok(true) };
    while let Some(part) = cx.peek() {
        if let Some((_, s)) = STRENGTHS.iter().find(|(n, _)| *n == part) {
            // `.mmio` follows or stands for `.relaxed`.
            if part == "mmio" {
                mmio = twice(part, mmio)?;
            } else {
                twice(part, m.strength.is_some())?;
            }
            m.strength = Some(*s);
        } else if let Some((_, s)) = SCOPES.iter().find(|(n, _)| *n == part) {
            twice(part, m.scope.is_some())?;
            m.scope = Some(*s);
        } else if let Some((_, s)) = SPACES.iter().find(|(n, _)| *n == part && *n != "generic") {
            twice(part, m.space.is_some())?;
            m.space = Some(*s);
        } else if CACHE.contains(&part) {
            cache = twice(part, cache)?;
        } else if L1.contains(&part) {
            l1 = twice(part, l1)?;
        } else if L2.contains(&part) {
            l2 = twice(part, l2 && !part.ends_with('B'))?;
        } else if part == "L2::cache_hint" {
            m.cache_hint = twice(part, m.cache_hint)?;
        } else if part == "nc" {
            nc = twice(part, nc)?;
        } else if let Some(n) = [("v2", 2), ("v4", 4)].iter().find(|(n, _)| *n == part).map(|(_, v)| *v) {
            twice(part, m.vector > 1)?;
            m.vector = n;
        } else {
            break;
        }
        cx.part("a modifier")?;
    }
    let strong = matches!(m.strength, Some(Strength::Relaxed | Strength::Acquire | Strength::Release | Strength::AcquireRelease));
    if strong != m.scope.is_some() && !(strong && matches!(cx.head(), "atom" | "red")) && !(matches!(cx.head(), "atom" | "red")) {
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
    match addr.base.class {
        Class::B64 => {
            let offset = addr.offset as u64;
            warp.regs.r64[addr.base.index as usize].map(|b| b.wrapping_add(offset))
        }
        _ => {
            let offset = addr.offset as u32;
            warp.regs.r32[addr.base.index as usize].map(|b| u64::from(b.wrapping_add(offset)))
        }
    }
}

/// Ends the launch after an access that memory refused and reported.
pub(super) fn refused<T>(m: &mut Machine<'_>, warp: &Warp, at: At<'_>, fault: MemoryFault) -> Result<T, Stop> {
    let message = format!("{} (address {:#x})", fault.kind.what(), fault.address);
    m.fault(warp, at.only(fault.lane), FaultKind::IllegalAddress, message)
}

/// The piece of memory that holds `len` bytes for a lane's asynchronous work, or a fault.
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
) -> Result<(Which, usize), Stop> {
    let kind = match m.mem.locate(warp.home, space, address, write) {
        Ok((Which::Local, ..)) => HazardKind::UndefinedBehavior,
        Ok(_) if !address.is_multiple_of(align) => HazardKind::Misaligned,
        Ok((which, base, size)) if address - base + len <= size => return Ok((which, (address - base) as usize)),
        Ok(_) => HazardKind::OutOfBounds,
        Err(kind) => kind,
    };
    let does = if write { "write" } else { "read" };
    let message = match kind {
        HazardKind::Misaligned => format!("{does} of {len} bytes at {address:#x}, which is no multiple of {align}"),
        HazardKind::UndefinedBehavior => format!("{does} of {len} bytes in local memory ({address:#x}) by asynchronous work"),
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
