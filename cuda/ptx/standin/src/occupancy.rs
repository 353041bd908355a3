//! How much of a kernel a multiprocessor holds, by threads, shared memory and what `.maxnreg` promises. How many registers a compiler
//! would take cannot be read off PTX: where nothing is promised they are no limit.

use ptx::KernelInfo;

use crate::properties::{BLOCK_SHARED, RESERVED_SHARED, SM_BLOCKS, SM_REGISTERS, SM_SHARED, SM_THREADS, multiprocessors};

/// Shared memory is given in units.
const SHARED_UNIT: u32 = 128;

/// Threads of the largest block.
pub fn max_threads(info: &KernelInfo) -> u32 {
    info.reqntid.or(info.maxntid).map_or(1024, |n| n.iter().product::<u32>().min(1024))
}

/// Registers a thread: what is promised, or what the largest block leaves to each of its threads.
pub fn registers(info: &KernelInfo) -> u32 {
    info.maxnreg.unwrap_or((SM_REGISTERS / max_threads(info).next_multiple_of(32)).min(255) / 8 * 8)
}

/// CTAs of `threads` threads that a multiprocessor holds.
pub fn blocks(info: &KernelInfo, threads: u32, dynamic_shared: u32) -> u32 {
    if threads == 0 || threads > max_threads(info) {
        return 0;
    }
    let own = info.static_shared.saturating_add(dynamic_shared);
    if own > BLOCK_SHARED {
        return 0;
    }
    let threads = threads.next_multiple_of(32);
    let by_registers = info.maxnreg.map_or(SM_BLOCKS, |r| SM_REGISTERS / (r.max(1) * threads));
    let by_shared = SM_SHARED / (own + RESERVED_SHARED).next_multiple_of(SHARED_UNIT);
    (SM_THREADS / threads).min(by_shared).min(by_registers).min(SM_BLOCKS)
}

/// Dynamic shared memory that each of `count` CTAs may have.
pub fn dynamic_shared(info: &KernelInfo, count: u32) -> u32 {
    let each = (SM_SHARED / count.max(1) / SHARED_UNIT * SHARED_UNIT).saturating_sub(RESERVED_SHARED);
    each.min(BLOCK_SHARED).saturating_sub(info.static_shared)
}

/// Clusters of `ctas` CTAs that the device holds.
pub fn clusters(info: &KernelInfo, threads: u32, dynamic_shared: u32, ctas: u32) -> u32 {
    multiprocessors() * blocks(info, threads, dynamic_shared) / ctas.max(1)
}
