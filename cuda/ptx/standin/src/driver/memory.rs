//! Memory and copies.

use crate::call::{Result, failure, offer};
use crate::device::{Work, healthy, submit};
use crate::host;
use crate::memory::{Block, Copy, Fill, Kind, TOTAL, pitch};
use crate::status::Status;
use crate::types::{DriverMemcpy2D, DriverMemcpy3D, DriverSide};

fn alloc(out: *mut u64, bytes: u64, kind: Kind) -> Result {
    if bytes == 0 {
        return Err(failure(Status::INVALID_VALUE, "an allocation of no bytes"));
    }
    host::put(out, healthy(|d| d.blocks.alloc(&mut d.gpu, bytes, kind))?)
}

fn free(address: u64) -> Result {
    healthy(|d| d.blocks.free(&mut d.gpu, address))
}

fn copy(stream: u64, copy: Copy) -> Result {
    submit(stream, Work::Copy(copy))
}

/// Elements of `bytes` bytes.
fn fill(stream: u64, to: u64, row: u64, (value, element): (u32, usize), [width, height]: [u64; 2]) -> Result {
    submit(stream, Work::Fill(Fill { to, value, element, pitch: [row, row * height], extent: [width, height, 1] }))
}

/// The address of a side.
fn side(side: DriverSide) -> Result<u64> {
    match side.kind {
        1 => Ok(side.host),
        2 | 4 => Ok(side.device),
        _ => Err(failure(Status::NOT_SUPPORTED, "arrays are not offered")),
    }
}

fn plane(from: *const DriverMemcpy2D) -> Result<Copy> {
    let p = host::get(from)?;
    let to = side(p.to)? + p.to_x + p.to_y * p.to_pitch;
    let from = side(p.from)? + p.from_x + p.from_y * p.from_pitch;
    // A pitch of 0 is that of rows without gaps.
    let or_dense = |pitch: u64| if pitch == 0 { p.width } else { pitch };
    Ok(Copy::plane((to, or_dense(p.to_pitch)), (from, or_dense(p.from_pitch)), [p.width, p.height], 4))
}

fn cuboid(from: *const DriverMemcpy3D) -> Result<Copy> {
    let p = host::get(from)?;
    let or = |value: u64, otherwise: u64| if value == 0 { otherwise } else { value };
    let [width, height, _] = p.extent;
    let place = |address: u64, [x, y, z]: [u64; 3], pitch: u64, rows: u64| {
        let pitch = [or(pitch, width), or(pitch, width) * or(rows, height)];
        (address + x + y * pitch[0] + z * pitch[1], pitch)
    };
    let (to, to_pitch) = place(side(p.to)?, p.to_at, p.to_pitch, p.to_height);
    let (from, from_pitch) = place(side(p.from)?, p.from_at, p.from_pitch, p.from_height);
    Ok(Copy { to, from, to_device: false, from_device: false, to_pitch, from_pitch, extent: p.extent })
}

/// The block that holds an address of either side, and the address's offset in it.
fn block(address: u64) -> Result<(Block, u64)> {
    healthy(|d| {
        if let Some(block) = d.blocks.find(address) {
            return Ok((*block, address - block.address));
        }
        match d.blocks.find_host(address) {
            Some(block) => Ok((*block, address - block.host().unwrap_or(address))),
            None => Err(Status::INVALID_VALUE.into()),
        }
    })
}

fn attribute(out: u64, number: u32, address: u64) -> Result {
    let (block, offset) = block(address)?;
    match number {
        2 => host::put(out as *mut u32, if matches!(block.kind, Kind::Device | Kind::Managed) { 2 } else { 1 }),
        3 => host::put(out as *mut u64, block.address + offset),
        4 => host::put(out as *mut u64, block.host().ok_or(Status::INVALID_VALUE)? + offset),
        7 => host::put(out as *mut u64, block.address),
        8 => host::put(out as *mut u32, u32::from(block.kind == Kind::Managed)),
        9 => host::put(out as *mut i32, 0),
        11 => host::put(out as *mut u64, block.address),
        12 => host::put(out as *mut u64, block.bytes),
        13 => host::put(out as *mut u32, 1),
        _ => Err(failure(Status::NOT_SUPPORTED, format!("attribute {number} of a pointer is not offered"))),
    }
}

offer! { driver;
    cuMemGetInfo_v2(free: *mut u64, total: *mut u64) {
        host::put(free, healthy(|d| Ok(d.blocks.free_bytes()))?)?;
        host::put(total, TOTAL)
    }
    cuMemAlloc_v2(out: *mut u64, bytes: u64) { alloc(out, bytes, Kind::Device) }
    cuMemAllocPitch_v2(out: *mut u64, row: *mut u64, width: u64, height: u64, _element: u32) {
        host::put(row, pitch(width))?;
        alloc(out, pitch(width) * height, Kind::Device)
    }
    cuMemAllocManaged(out: *mut u64, bytes: u64, _flags: u32) { alloc(out, bytes, Kind::Managed) }
    cuMemAllocHost_v2(out: *mut u64, bytes: u64) { alloc(out, bytes, Kind::Pinned(0)) }
    cuMemHostAlloc(out: *mut u64, bytes: u64, flags: u32) { alloc(out, bytes, Kind::Pinned(flags)) }
    cuMemAllocAsync | cuMemAllocAsync_ptsz(out: *mut u64, bytes: u64, _stream: u64) { alloc(out, bytes, Kind::Device) }
    cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz(out: *mut u64, bytes: u64, _pool: u64, _stream: u64) {
        alloc(out, bytes, Kind::Device)
    }
    cuMemFree_v2 | cuMemFreeHost(address: u64) { free(address) }
    cuMemFreeAsync | cuMemFreeAsync_ptsz(address: u64, _stream: u64) { free(address) }
    cuMemHostRegister_v2(host: u64, bytes: u64, flags: u32) { healthy(|d| d.blocks.register(&mut d.gpu, host, bytes, flags)) }
    cuMemHostUnregister(host: u64) { healthy(|d| d.blocks.unregister(&mut d.gpu, host)) }
    cuMemHostGetDevicePointer_v2(out: *mut u64, host: u64, _flags: u32) {
        let (block, offset) = block(host)?;
        host::put(out, block.address + offset)
    }
    cuMemGetAddressRange_v2(base: *mut u64, bytes: *mut u64, address: u64) {
        let (block, _) = block(address)?;
        host::put_if(base, block.address);
        host::put_if(bytes, block.bytes);
        Ok(())
    }
    cuPointerGetAttribute(out: u64, number: u32, address: u64) { attribute(out, number, address) }
    cuPointerGetAttributes(count: u32, numbers: *const u32, outs: *const u64, address: u64) {
        let (numbers, outs) = (host::list(numbers, count as usize)?, host::list(outs, count as usize)?);
        numbers.into_iter().zip(outs).try_for_each(|(number, out)| attribute(out, number, address))
    }
    cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds(to: u64, from: u64, bytes: u64) { copy(0, Copy::line(to, from, bytes, 1)) }
    cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds(to: u64, from: u64, bytes: u64) { copy(0, Copy::line(to, from, bytes, 2)) }
    cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds(to: u64, from: u64, bytes: u64) { copy(0, Copy::line(to, from, bytes, 3)) }
    cuMemcpy | cuMemcpy_ptds(to: u64, from: u64, bytes: u64) { copy(0, Copy::line(to, from, bytes, 4)) }
    cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz(to: u64, from: u64, bytes: u64, stream: u64) {
        copy(stream, Copy::line(to, from, bytes, 1))
    }
    cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz(to: u64, from: u64, bytes: u64, stream: u64) {
        copy(stream, Copy::line(to, from, bytes, 2))
    }
    cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz(to: u64, from: u64, bytes: u64, stream: u64) {
        copy(stream, Copy::line(to, from, bytes, 3))
    }
    cuMemcpyAsync | cuMemcpyAsync_ptsz(to: u64, from: u64, bytes: u64, stream: u64) { copy(stream, Copy::line(to, from, bytes, 4)) }
    cuMemcpy2D_v2 | cuMemcpy2D_v2_ptds | cuMemcpy2DUnaligned_v2 | cuMemcpy2DUnaligned_v2_ptds(parameters: *const DriverMemcpy2D) {
        copy(0, plane(parameters)?)
    }
    cuMemcpy2DAsync_v2 | cuMemcpy2DAsync_v2_ptsz(parameters: *const DriverMemcpy2D, stream: u64) { copy(stream, plane(parameters)?) }
    cuMemcpy3D_v2 | cuMemcpy3D_v2_ptds(parameters: *const DriverMemcpy3D) { copy(0, cuboid(parameters)?) }
    cuMemcpy3DAsync_v2 | cuMemcpy3DAsync_v2_ptsz(parameters: *const DriverMemcpy3D, stream: u64) {
        copy(stream, cuboid(parameters)?)
    }
    cuMemsetD8_v2 | cuMemsetD8_v2_ptds(to: u64, value: u8, count: u64) { fill(0, to, count, (value.into(), 1), [count, 1]) }
    cuMemsetD16_v2 | cuMemsetD16_v2_ptds(to: u64, value: u16, count: u64) { fill(0, to, count * 2, (value.into(), 2), [count, 1]) }
    cuMemsetD32_v2 | cuMemsetD32_v2_ptds(to: u64, value: u32, count: u64) { fill(0, to, count * 4, (value, 4), [count, 1]) }
    cuMemsetD8Async | cuMemsetD8Async_ptsz(to: u64, value: u8, count: u64, stream: u64) {
        fill(stream, to, count, (value.into(), 1), [count, 1])
    }
    cuMemsetD16Async | cuMemsetD16Async_ptsz(to: u64, value: u16, count: u64, stream: u64) {
        fill(stream, to, count * 2, (value.into(), 2), [count, 1])
    }
    cuMemsetD32Async | cuMemsetD32Async_ptsz(to: u64, value: u32, count: u64, stream: u64) {
        fill(stream, to, count * 4, (value, 4), [count, 1])
    }
    cuMemsetD2D8_v2 | cuMemsetD2D8_v2_ptds(to: u64, row: u64, value: u8, width: u64, height: u64) {
        fill(0, to, row, (value.into(), 1), [width, height])
    }
    cuMemsetD2D16_v2 | cuMemsetD2D16_v2_ptds(to: u64, row: u64, value: u16, width: u64, height: u64) {
        fill(0, to, row, (value.into(), 2), [width, height])
    }
    cuMemsetD2D32_v2 | cuMemsetD2D32_v2_ptds(to: u64, row: u64, value: u32, width: u64, height: u64) {
        fill(0, to, row, (value, 4), [width, height])
    }
    cuMemsetD2D8Async | cuMemsetD2D8Async_ptsz(to: u64, row: u64, value: u8, width: u64, height: u64, stream: u64) {
        fill(stream, to, row, (value.into(), 1), [width, height])
    }
    cuMemsetD2D32Async | cuMemsetD2D32Async_ptsz(to: u64, row: u64, value: u32, width: u64, height: u64, stream: u64) {
        fill(stream, to, row, (value, 4), [width, height])
    }
    // Managed memory is where it is needed.
    cuMemAdvise | cuMemAdvise_v2 | cuMemPrefetchAsync_v2 | cuMemPrefetchAsync_v2_ptsz | cuStreamAttachMemAsync
        | cuStreamAttachMemAsync_ptsz() {
        healthy(|_| Ok(()))
    }
}
