//! The device, errors, versions, and what has no effect here.

use std::cell::Cell;
use std::ffi::c_char;

use crate::call::{Result, failure, last_error, offer};
use crate::device::{device, healthy};
use crate::entry;
use crate::host;
use crate::properties::{self, Layout};
use crate::status::Status;
use crate::types::ChannelFormat;

thread_local! {
    static FLAGS: Cell<u32> = const { Cell::new(0) };
}

/// There is one device.
pub fn only(device: i32) -> Result {
    if device == 0 {
        return Ok(());
    }
    Err(failure(Status::INVALID_DEVICE, format!("device {device}; there is only device 0")))
}

/// The version of the library that the program was linked with.
pub fn version() -> i32 {
    if host::is_loaded(c"libcudart.so.12") { 12_090 } else { 13_000 }
}

/// What kernels are allowed: stack, printf, heap and the like, as a card has them at first.
pub fn limit(number: u32) -> Result<u64> {
    Ok(match number {
        0 => 1024,
        1 => 1 << 20,
        2 => 8 << 20,
        3 => 2,
        4 => 2048,
        5 => 64,
        6 => 0,
        _ => return Err(failure(Status::UNSUPPORTED_LIMIT, format!("{number} is no limit"))),
    })
}

fn with_nul(text: &'static str) -> *const c_char {
    text.as_ptr().cast()
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn cudaGetErrorName(error: i32) -> *const c_char {
    with_nul(Status(error).runtime_name())
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn cudaGetErrorString(error: i32) -> *const c_char {
    with_nul(Status(error).text())
}

/// The last failure, which is forgotten, unless a kernel failed: that stays.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn cudaGetLastError() -> i32 {
    let last = last_error(true);
    device(|d| Ok(d.fault.map_or(last, |f| f.0))).unwrap_or(last)
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn cudaPeekAtLastError() -> i32 {
    let last = last_error(false);
    device(|d| Ok(d.fault.map_or(last, |f| f.0))).unwrap_or(last)
}

/// A plain function of its arguments; what it describes (arrays, textures) is not offered.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn cudaCreateChannelDesc(x: i32, y: i32, z: i32, w: i32, kind: u32) -> ChannelFormat {
    ChannelFormat { bits: [x, y, z, w], kind }
}

offer! { runtime;
    cudaGetDeviceCount(out: *mut i32) { host::put(out, 1) }
    cudaGetDevice(out: *mut i32) { host::put(out, 0) }
    cudaSetDevice(number: i32) { only(number)?; healthy(|_| Ok(())) }
    cudaInitDevice(number: i32, _device_flags: u32, _flags: u32) { only(number) }
    cudaChooseDevice(out: *mut i32, _wanted: u64) { host::put(out, 0) }
    cudaSetValidDevices(_list: u64, _count: i32) { Ok(()) }
    cudaGetDeviceProperties(out: u64, number: i32) { only(number)?; properties::write(out, Layout::Cuda13) }
    cudaGetDeviceProperties_v2(out: u64, number: i32) { only(number)?; properties::write(out, Layout::Cuda12) }
    cudaDeviceGetAttribute(out: *mut i32, attribute: u32, number: i32) {
        only(number)?;
        host::put(out, properties::attribute(attribute)?)
    }
    cudaDeviceReset() { device(|d| { d.fault = None; Ok(()) }) }
    cudaSetDeviceFlags(flags: u32) { FLAGS.set(flags); Ok(()) }
    cudaGetDeviceFlags(out: *mut u32) { host::put(out, FLAGS.get()) }
    cudaDeviceSetLimit(number: u32, _value: u64) { limit(number).map(|_| ()) }
    cudaDeviceGetLimit(out: *mut u64, number: u32) { host::put(out, limit(number)?) }
    cudaDeviceGetCacheConfig | cudaDeviceGetSharedMemConfig(out: *mut u32) { host::put(out, 0) }
    cudaDeviceSetCacheConfig | cudaDeviceSetSharedMemConfig(_config: u32) { Ok(()) }
    cudaDeviceCanAccessPeer(out: *mut i32, _number: i32, _peer: i32) { host::put(out, 0) }
    cudaDeviceGetPCIBusId(out: u64, bytes: i32, number: i32) {
        only(number)?;
        let text = b"0000:01:00.0\0";
        if (bytes as usize) < text.len() {
            return Err(failure(Status::INVALID_VALUE, format!("the bus's name does not fit {bytes} bytes")));
        }
        host::write(out, text);
        Ok(())
    }
    cudaDeviceGetByPCIBusId(out: *mut i32, _name: *const c_char) { host::put(out, 0) }
    cudaDriverGetVersion(out: *mut i32) { host::put(out, 13_000) }
    cudaRuntimeGetVersion(out: *mut i32) { host::put(out, version()) }
    cudaProfilerStart | cudaProfilerStop() { Ok(()) }
    cudaGetDriverEntryPoint | cudaGetDriverEntryPoint_ptsz(name: *const c_char, out: *mut u64, _flags: u64, found: *mut u32) {
        entry::point(&host::text(name)?, version(), out, found)
    }
    cudaGetDriverEntryPointByVersion | cudaGetDriverEntryPointByVersion_ptsz(
        name: *const c_char, out: *mut u64, version: u32, _flags: u64, found: *mut u32,
    ) {
        entry::point(&host::text(name)?, version as i32, out, found)
    }
}
