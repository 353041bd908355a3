//! Memory pools: handles, since memory that is freed is free at once and nothing is kept.

use crate::call::{Result, failure, offer};
use crate::device::healthy;
use crate::host;
use crate::memory::TOTAL;
use crate::status::Status;

/// The pool that is there from the start, and any that a program makes: they do not differ.
pub const POOL: u64 = 8 << 36 | 16;

/// Reads an attribute of a pool: the release threshold and the reuse policies as they are at first, bytes in use as they are.
pub fn attribute(number: u32, out: u64) -> Result {
    let used = healthy(|d| Ok(TOTAL - d.blocks.free_bytes()))?;
    match number {
        1..=3 => host::put(out as *mut u32, 1),
        4 => host::put(out as *mut u64, 0),
        5..=8 => host::put(out as *mut u64, used),
        _ => Err(failure(Status::INVALID_VALUE, format!("{number} is no attribute of a pool"))),
    }
}

offer! { runtime;
    cudaMemPoolCreate(out: *mut u64, _properties: u64) { host::put(out, POOL) }
    cudaDeviceGetDefaultMemPool | cudaDeviceGetMemPool(out: *mut u64, _number: i32) { host::put(out, POOL) }
    cudaMemGetDefaultMemPool | cudaMemGetMemPool(out: *mut u64, _location: u64, _kind: u32) { host::put(out, POOL) }
    cudaDeviceSetMemPool(_number: i32, _pool: u64) { Ok(()) }
    cudaMemPoolDestroy | cudaMemPoolTrimTo | cudaMemPoolSetAccess | cudaMemPoolSetAttribute(_pool: u64) { Ok(()) }
    cudaMemPoolGetAttribute(_pool: u64, number: u32, out: u64) { attribute(number, out) }
    cudaMemPoolGetAccess(out: *mut u32, _pool: u64, _location: u64) { host::put(out, 3) }
}
