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

pub(crate) mod barrier;
pub(crate) mod copy;
mod decode;
mod ledger;
mod map;
pub(crate) mod op;
mod queue;
mod state;
#[cfg(test)]
mod tests;

use super::flow::{At, Flow, Stop};
use super::machine::Machine;
use super::warp::Warp;
use crate::mem::FencedSpace;
use op::Fence;

pub use decode::decode;
pub use ledger::missing;
pub use op::Bulk;
pub use queue::{cta_ended, end_launch, land_one, progress, warp_ended};
pub use state::Asyncs;

impl Bulk {
    /// Whether it is an atomic operation on global memory.
    pub fn reduces_global(&self) -> bool {
        matches!(self, Bulk::CopyBulk(copy) if copy.reduce.is_some() && !matches!(copy.to, copy::Side::Shared(_)))
    }
}

/// Executes one.
pub fn execute(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, op: &Bulk, at: At<'_>) -> Result<Flow, Stop> {
    match op {
        Bulk::Fence(fence) => execute_fence(m, asyncs, warp, *fence, at),
        Bulk::Mbarrier(op) => return barrier::execute(m, asyncs, warp, op, at),
        Bulk::CopyAsync(op) => return copy::copy_async(m, asyncs, warp, op, at),
        Bulk::CommitCopies => queue::commit_copies(m, asyncs, warp, at.mask),
        Bulk::WaitCopies(pending) => queue::wait_copies(m, asyncs, warp, at.mask, *pending),
        Bulk::ArriveCopies(addr, space, noinc) => return copy::arrive_copies(m, asyncs, warp, addr, *space, *noinc, at),
        Bulk::CopyBulk(op) => return copy::copy_bulk(m, asyncs, warp, op, at),
        Bulk::Prefetch => {}
        Bulk::CommitGroup => queue::commit_bulk(m, asyncs, warp, at.mask),
        Bulk::WaitGroup(pending, read) => queue::wait_bulk(m, asyncs, warp, at, *pending as usize, *read),
        Bulk::StoreAsync(op) => return copy::store_async(m, asyncs, warp, op, at),
        Bulk::FenceMap(scope, addr) => return map::fence(m, asyncs, warp, *scope, addr.as_ref(), at),
        Bulk::CopyMap(to, from, scope) => return map::copy(m, asyncs, warp, to, from, *scope, at),
        Bulk::Replace(addr, space, field, value, wide) => {
            return map::replace(m, warp, addr, *space, *field, (*value, *wide), at);
        }
    }
    Ok(Flow::Next)
}

fn execute_fence(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, fence: Fence, at: At<'_>) {
    let order = &mut m.mem.tracker.order;
    match fence {
        Fence::Memory(scope) => order.fence(&mut warp.order, at.mask, scope),
        Fence::MbarrierInit => {
            let fence = order.fence_mbarrier_init(&mut warp.order, at.mask);
            asyncs.publish_barriers(warp.id, at.mask, fence);
        }
        Fence::Restricted(scope) => {
            order.fence_proxy_async(&mut warp.order, at.mask, FencedSpace::All);
            order.fence(&mut warp.order, at.mask, scope);
        }
        Fence::Async(space) => order.fence_proxy_async(&mut warp.order, at.mask, space),
        Fence::Alias => {}
    }
}
