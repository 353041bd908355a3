//! Initialisation, the device, contexts (all of which are the one device), errors.

use std::cell::RefCell;
use std::ffi::c_char;

use crate::call::{Result, failure, offer};
use crate::device::{device, healthy};
use crate::entry;
use crate::host;
use crate::memory::TOTAL;
use crate::properties::{self, NAME, UUID};
use crate::runtime::{POOL, limit, only, pool_attribute};
use crate::status::Status;

/// The primary context; those that a program creates are numbered after it.
const PRIMARY: u64 = 9 << 36 | 16;

thread_local! {
    /// The contexts of a thread, the current one last.
    static CONTEXTS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn current() -> u64 {
    CONTEXTS.with_borrow(|all| all.last().copied().unwrap_or(0))
}

fn push(context: u64) {
    CONTEXTS.with_borrow_mut(|all| all.push(context));
}

fn create(out: *mut u64, number: i32) -> Result {
    only(number)?;
    let context = device(|d| Ok(d.new_context(PRIMARY)))?;
    push(context);
    host::put(out, context)
}

fn text(out: *mut *const c_char, text: Option<&'static str>) -> Result {
    host::put(out, text.map_or(std::ptr::null(), |t| t.as_ptr().cast()))?;
    text.map(|_| ()).ok_or_else(|| Status::INVALID_VALUE.into())
}

offer! { driver;
    cuInit(_flags: u32) { Ok(()) }
    cuDriverGetVersion(out: *mut i32) { host::put(out, 13_000) }
    cuGetErrorName(status: i32, out: *mut *const c_char) { text(out, Status(status).driver_name()) }
    cuGetErrorString(status: i32, out: *mut *const c_char) { text(out, Status(status).driver_text()) }
    cuGetProcAddress(name: *const c_char, out: *mut u64, version: i32, _flags: u64) {
        entry::point(&host::text(name)?, version, out, std::ptr::null_mut())
    }
    cuGetProcAddress_v2(name: *const c_char, out: *mut u64, version: i32, _flags: u64, found: *mut u32) {
        entry::point(&host::text(name)?, version, out, found)
    }
    // What NVIDIA's static runtime wants of its driver beside the documented functions.
    cuGetExportTable(out: *mut u64, _table: u64) {
        host::put_if(out, 0);
        let why = "the tables that a statically linked runtime takes from its driver are not offered; link with `-cudart shared`";
        Err(failure(Status::NOT_FOUND, why))
    }
    cuDeviceGetCount(out: *mut i32) { host::put(out, 1) }
    cuDeviceGet(out: *mut i32, number: i32) { only(number)?; host::put(out, 0) }
    cuDeviceGetName(out: u64, bytes: i32, number: i32) {
        only(number)?;
        let len = NAME.len().min((bytes.max(1) - 1) as usize);
        host::write(out, &NAME.as_bytes()[..len]);
        host::write(out + len as u64, &[0]);
        Ok(())
    }
    cuDeviceGetUuid | cuDeviceGetUuid_v2(out: u64, number: i32) { only(number)?; host::write(out, UUID); Ok(()) }
    cuDeviceTotalMem_v2(out: *mut u64, number: i32) { only(number)?; host::put(out, TOTAL) }
    cuDeviceGetAttribute(out: *mut i32, attribute: u32, number: i32) {
        only(number)?;
        host::put(out, properties::attribute(attribute)?)
    }
    cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, number: i32) {
        only(number)?;
        host::put(major, 9)?;
        host::put(minor, 0)
    }
    cuDeviceCanAccessPeer(out: *mut i32, _number: i32, _peer: i32) { host::put(out, 0) }
    cuDeviceGetDefaultMemPool | cuDeviceGetMemPool(out: *mut u64, _number: i32) { host::put(out, POOL) }
    cuMemPoolCreate(out: *mut u64, _properties: u64) { host::put(out, POOL) }
    cuMemPoolGetAttribute(_pool: u64, number: u32, out: u64) { pool_attribute(number, out) }
    cuMemPoolDestroy | cuMemPoolTrimTo | cuMemPoolSetAccess | cuMemPoolSetAttribute(_pool: u64) { Ok(()) }
    cuDevicePrimaryCtxRetain(out: *mut u64, number: i32) { only(number)?; host::put(out, PRIMARY) }
    cuDevicePrimaryCtxRelease_v2 | cuDevicePrimaryCtxSetFlags_v2(number: i32) { only(number) }
    cuDevicePrimaryCtxReset_v2(number: i32) { only(number)?; device(|d| { d.fault = None; Ok(()) }) }
    cuDevicePrimaryCtxGetState(_number: i32, flags: *mut u32, active: *mut i32) {
        host::put_if(flags, 0);
        host::put(active, 1)
    }
    cuCtxCreate_v2(out: *mut u64, _flags: u32, number: i32) { create(out, number) }
    cuCtxCreate_v4(out: *mut u64, _parameters: u64, _flags: u32, number: i32) { create(out, number) }
    cuCtxDestroy_v2(context: u64) {
        CONTEXTS.with_borrow_mut(|all| all.retain(|c| *c != context));
        Ok(())
    }
    cuCtxPushCurrent_v2(context: u64) { push(context); Ok(()) }
    cuCtxPopCurrent_v2(out: *mut u64) {
        let popped = CONTEXTS.with_borrow_mut(Vec::pop);
        host::put_if(out, popped.unwrap_or(0));
        popped.map(|_| ()).ok_or_else(|| Status::INVALID_CONTEXT.into())
    }
    cuCtxSetCurrent(context: u64) {
        CONTEXTS.with_borrow_mut(|all| {
            all.pop();
            if context != 0 {
                all.push(context);
            }
        });
        Ok(())
    }
    cuCtxGetCurrent(out: *mut u64) { host::put(out, current()) }
    cuCtxGetDevice(out: *mut i32) { host::put(out, 0) }
    cuCtxGetFlags(out: *mut u32) { host::put(out, 0) }
    cuCtxGetId(context: u64, out: *mut u64) { host::put(out, context) }
    cuCtxGetApiVersion(_context: u64, out: *mut u32) { host::put(out, 13_000) }
    cuCtxGetLimit(out: *mut u64, number: u32) { host::put(out, limit(number)?) }
    cuCtxSetLimit(number: u32, _value: u64) { limit(number).map(|_| ()) }
    cuCtxGetCacheConfig | cuCtxGetSharedMemConfig(out: *mut u32) { host::put(out, 0) }
    cuCtxSetCacheConfig | cuCtxSetSharedMemConfig | cuCtxSetFlags(_config: u32) { Ok(()) }
    cuCtxGetStreamPriorityRange(least: *mut i32, greatest: *mut i32) {
        host::put_if(least, 0);
        host::put_if(greatest, -5);
        Ok(())
    }
    cuCtxSynchronize | cuCtxResetPersistingL2Cache() { healthy(|_| Ok(())) }
    cuProfilerStart | cuProfilerStop() { Ok(()) }
}
