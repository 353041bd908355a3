//! The instructions of this family.

use super::barrier::MbarrierOp;
use super::copy::{CopyAsync, CopyBulk, StoreAsync};
use crate::ir::Addr;
use crate::mem::{FencedSpace, Scope, Space};
use crate::tensor_map::Field;

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
    /// `fence.proxy.async::generic`: between proxies, and between threads of the cluster.
    Restricted(Scope),
    /// `fence.proxy.alias`: addresses have no aliases here.
    Alias,
}
