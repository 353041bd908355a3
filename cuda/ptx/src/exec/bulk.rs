//! `cp.async…`, `mbarrier…`, fences, `st.async`, `red.async`, `tensormap.replace`: the asynchronous world.
//!
//! An asynchronous operation is issued by a lane, and lands later (`queue.rs`): by default only when a wait needs it or nothing
//! else can run, now and then earlier, by the seed. Until it lands its destination is undefined and marked as in flight;
//! its source is read when it lands or, by the seed, when it is issued. So a missing wait reads garbage, and a source that is
//! overwritten too early is copied wrongly, beside the hazard that says so.
//!
//! Where the model has a choice:
//! - Scopes of mbarrier operations do not limit what they order (`.cta` arrivals on another CTA's barrier are common).
//! - `try_wait` gives up now and then, by the seed.
//! - The source of a `cp.async` counts as read by its thread when it is issued.

mod barrier;
mod copy;
mod decode;
mod map;
mod queue;
mod reduce;
#[cfg(test)]
mod tests;

use super::warp::Warp;
use super::{At, Flow, Machine, Stop};
use crate::hazard::HazardKind;
use crate::ir::Addr;
use crate::mem::{FencedSpace, Scope, Space};
use crate::request::FaultKind;
use crate::tensor_map::Field;

pub use barrier::MbarrierOp;
pub use copy::{CopyAsync, CopyBulk, StoreAsync};
pub use decode::decode;
pub use queue::{AsyncWait, Asyncs, cta_ended, end_launch, is_over, land_one, progress, warp_ended};

/// An instruction of this family.
pub enum Bulk {
    /// A fence.
    Fence(Fence),
    /// `mbarrier…`
    Mbarrier(MbarrierOp),
    /// `cp.async` of 4, 8 or 16 bytes.
    CopyAsync(CopyAsync),
    /// `cp.async.commit_group`
    CommitCopies,
    /// `cp.async.wait_group`; `None` is `wait_all`, which waits for the open group too.
    WaitCopies(Option<u32>),
    /// `cp.async.mbarrier.arrive`: the address, and whether the arrival is one of those that the barrier expects.
    ArriveCopies(Addr, Space, bool),
    /// `cp.async.bulk…`, `cp.reduce.async.bulk…`
    CopyBulk(CopyBulk),
    /// `cp.async.bulk.prefetch…`: nothing but its checks.
    Prefetch,
    /// `cp.async.bulk.commit_group`
    CommitGroup,
    /// `cp.async.bulk.wait_group`: how many groups may be pending, and whether only their reads are waited for.
    WaitGroup(u32, bool),
    /// `st.async`, `red.async`
    StoreAsync(StoreAsync),
    /// `fence.proxy.tensormap`: scope, and for an acquire the map's address.
    FenceMap(Scope, Option<Addr>),
    /// `tensormap.cp_fenceproxy`: destination, source, scope.
    CopyMap(Addr, Addr, Scope),
    /// `tensormap.replace`: address, space, field, register of the value and whether it has 64 bits.
    Replace(Addr, Space, Field, u16, bool),
}

/// Fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// `fence`, `membar`
    Memory(Scope),
    /// `fence.mbarrier_init`
    MbarrierInit,
    /// `fence.proxy.async`
    Async(FencedSpace),
    /// `fence.proxy.alias`: addresses have no aliases here.
    Alias,
}

/// The address in the lanes that need one, with a hazard if it is undefined.
fn addresses(m: &mut Machine<'_>, warp: &Warp, addr: &Addr, at: At) -> [u64; 32] {
    super::memory::check_address(m, warp, addr, at);
    super::memory::addresses(warp, addr)
}

/// Reports undefined operands that decide something.
fn demand32(m: &mut Machine<'_>, warp: &Warp, register: u16, at: At, what: &str) {
    let undef = warp.regs.undef32(register);
    m.demand(warp, at.pc, at.mask, undef, what);
}

/// Executes one.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Bulk, at: At) -> Result<Flow, Stop> {
    match op {
        Bulk::Fence(fence) => {
            execute_fence(m, warp, *fence, at);
            Ok(Flow::Next)
        }
        Bulk::Mbarrier(op) => barrier::execute(m, warp, op, at),
        Bulk::CopyAsync(op) => copy::copy_async(m, warp, op, at),
        Bulk::CommitCopies => {
            queue::commit_copies(m, warp, at.mask);
            Ok(Flow::Next)
        }
        Bulk::WaitCopies(pending) => {
            queue::wait_copies(m, warp, at.mask, *pending);
            Ok(Flow::Next)
        }
        Bulk::ArriveCopies(addr, space, noinc) => copy::arrive_copies(m, warp, addr, *space, *noinc, at),
        Bulk::CopyBulk(op) => copy::copy_bulk(m, warp, op, at),
        Bulk::Prefetch => Ok(Flow::Next),
        Bulk::CommitGroup => {
            queue::commit_bulk(m, warp, at.mask);
            Ok(Flow::Next)
        }
        Bulk::WaitGroup(pending, read) => {
            queue::wait_bulk(m, warp, at, *pending as usize, *read);
            Ok(Flow::Next)
        }
        Bulk::StoreAsync(op) => copy::store_async(m, warp, op, at),
        Bulk::FenceMap(scope, addr) => map::fence(m, warp, *scope, addr.as_ref(), at),
        Bulk::CopyMap(to, from, scope) => map::copy(m, warp, to, from, *scope, at),
        Bulk::Replace(addr, space, field, value, wide) => map::replace(m, warp, addr, *space, *field, (*value, *wide), at),
    }
}

fn execute_fence(m: &mut Machine<'_>, warp: &mut Warp, fence: Fence, at: At) {
    let order = &mut m.mem.tracker.order;
    match fence {
        Fence::Memory(scope) => order.fence(&mut warp.order, at.mask, scope),
        Fence::MbarrierInit => {
            let fence = order.fence_mbarrier_init(&mut warp.order, at.mask);
            m.asyncs.publish_barriers(warp.id, at.mask, fence);
        }
        Fence::Async(space) => order.fence_proxy_async(&mut warp.order, at.mask, space),
        Fence::Alias => {}
    }
}

/// The piece of memory that holds `len` bytes, or a fault.
#[allow(clippy::too_many_arguments, reason = "a memory's place and the one who touches it")]
fn range(
    m: &mut Machine<'_>,
    warp: &Warp,
    pc: u32,
    lane: u32,
    space: Space,
    address: u64,
    len: u64,
    align: u64,
    write: bool,
) -> Result<(crate::mem::Which, usize), Stop> {
    let kind = match m.mem.locate(warp.home, space, address, write) {
        Ok((crate::mem::Which::Local, ..)) => HazardKind::UndefinedBehavior,
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
    let site = m.site(warp, pc, lane as usize);
    m.mem.tracker.hazards.report(kind, site, Some(address), || message.clone());
    m.fault(warp, pc, 1 << lane, FaultKind::IllegalAddress, format!("{}: {message}", kind.what()))
}
