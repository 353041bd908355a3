//! Memory, copies and symbols.

use crate::call::{Result, failure, offer};
use crate::device::{Work, healthy, submit};
use crate::host;
use crate::memory::{Copy, Fill, Kind, TOTAL, pitch};
use crate::status::Status;
use crate::types::{Extent, Memcpy3D, PitchedPtr, PointerAttributes};

fn alloc(out: *mut u64, bytes: u64, kind: Kind) -> Result {
    host::put(out, healthy(|d| d.blocks.alloc(&mut d.gpu, bytes, kind))?)
}

pub fn free(address: u64) -> Result {
    healthy(|d| d.blocks.free(&mut d.gpu, address))
}

fn copy(stream: u64, copy: Copy) -> Result {
    submit(stream, Work::Copy(copy))
}

fn fill(stream: u64, to: u64, row: u64, value: i32, [width, height, depth]: [u64; 3]) -> Result {
    let value = value as u32 & 0xff;
    submit(stream, Work::Fill(Fill { to, value, element: 1, pitch: [row, row * height], extent: [width, height, depth] }))
}

fn symbol(variable: u64) -> Result<(u64, u64)> {
    healthy(|d| d.modules.symbol(&mut d.gpu, &mut d.blocks, variable))
}

/// The address of a part of a symbol.
pub fn part_of_symbol(variable: u64, offset: u64, count: u64) -> Result<u64> {
    let (address, bytes) = symbol(variable)?;
    if offset.saturating_add(count) > bytes {
        let why = format!("{count} bytes at {offset} of a variable of {bytes} bytes");
        return Err(failure(Status::INVALID_VALUE, why));
    }
    Ok(address + offset)
}

/// A copy as `cudaMemcpy3D` describes it.
pub fn box_of(from: *const Memcpy3D) -> Result<Copy> {
    let p = host::get(from)?;
    if p.from_array != 0 || p.to_array != 0 {
        return Err(failure(Status::NOT_SUPPORTED, "arrays are not offered"));
    }
    let corner = |side: &PitchedPtr, [x, y, z]: [u64; 3]| side.ptr + x + y * side.pitch + z * side.pitch * side.ysize;
    Ok(Copy {
        to: corner(&p.to, p.to_at),
        from: corner(&p.from, p.from_at),
        to_device: p.kind == 1 || p.kind == 3,
        from_device: p.kind == 2 || p.kind == 3,
        to_pitch: [p.to.pitch, p.to.pitch * p.to.ysize],
        from_pitch: [p.from.pitch, p.from.pitch * p.from.ysize],
        extent: [p.extent.width, p.extent.height, p.extent.depth],
    })
}

fn plane(to: (u64, u64), from: (u64, u64), [width, height]: [u64; 2], kind: u32) -> Result<Copy> {
    if width > to.1 || width > from.1 {
        let why = format!("rows of {width} bytes with pitches of {} and {}", to.1, from.1);
        return Err(failure(Status::INVALID_PITCH, why));
    }
    Ok(Copy::plane(to, from, [width, height], kind))
}

offer! { runtime;
    cudaMalloc(out: *mut u64, bytes: u64) { alloc(out, bytes, Kind::Device) }
    cudaMallocManaged(out: *mut u64, bytes: u64, _flags: u32) { alloc(out, bytes, Kind::Managed) }
    cudaMallocHost(out: *mut u64, bytes: u64) { alloc(out, bytes, Kind::Pinned(0)) }
    cudaHostAlloc(out: *mut u64, bytes: u64, flags: u32) { alloc(out, bytes, Kind::Pinned(flags)) }
    cudaMallocPitch(out: *mut u64, row: *mut u64, width: u64, height: u64) {
        host::put(row, pitch(width))?;
        alloc(out, pitch(width) * height, Kind::Device)
    }
    cudaMalloc3D(out: *mut PitchedPtr, extent: Extent) {
        let row = pitch(extent.width);
        let ptr = healthy(|d| d.blocks.alloc(&mut d.gpu, row * extent.height * extent.depth, Kind::Device))?;
        host::put(out, PitchedPtr { ptr, pitch: row, xsize: extent.width, ysize: extent.height })
    }
    cudaFree | cudaFreeHost(address: u64) { free(address) }
    cudaMallocAsync | cudaMallocAsync_ptsz(out: *mut u64, bytes: u64, _stream: u64) { alloc(out, bytes, Kind::Device) }
    cudaMallocFromPoolAsync | cudaMallocFromPoolAsync_ptsz(out: *mut u64, bytes: u64, _pool: u64, _stream: u64) {
        alloc(out, bytes, Kind::Device)
    }
    cudaFreeAsync | cudaFreeAsync_ptsz(address: u64, _stream: u64) { free(address) }
    cudaHostRegister(host: u64, bytes: u64, flags: u32) { healthy(|d| d.blocks.register(&mut d.gpu, host, bytes, flags)) }
    cudaHostUnregister(host: u64) { healthy(|d| d.blocks.unregister(&mut d.gpu, host)) }
    cudaHostGetDevicePointer(out: *mut u64, host: u64, _flags: u32) {
        let found = healthy(|d| Ok(d.blocks.find_host(host).map(|b| b.address + (host - b.host().unwrap_or(host)))))?;
        let unknown = || failure(Status::INVALID_VALUE, format!("{host:#x} is neither pinned nor registered"));
        host::put(out, found.ok_or_else(unknown)?)
    }
    cudaHostGetFlags(out: *mut u32, host: u64) {
        let kind = healthy(|d| Ok(d.blocks.find_host(host).map(|b| b.kind)))?;
        match kind {
            Some(Kind::Pinned(flags) | Kind::Registered(_, flags)) => host::put(out, flags),
            _ => Err(failure(Status::INVALID_VALUE, format!("{host:#x} is neither pinned nor registered"))),
        }
    }
    cudaPointerGetAttributes(out: *mut PointerAttributes, address: u64) {
        let found = healthy(|d| Ok(d.blocks.find(address).or_else(|| d.blocks.find_host(address)).copied()))?;
        let attributes = match found {
            None => PointerAttributes { kind: 0, device: -2, device_pointer: 0, host_pointer: address },
            Some(block) => {
                let offset = address.wrapping_sub(if address >= block.address && address - block.address < block.bytes {
                    block.address
                } else {
                    block.host().unwrap_or(0)
                });
                let kind = match block.kind {
                    Kind::Device => 2,
                    Kind::Managed => 3,
                    Kind::Pinned(_) | Kind::Registered(..) => 1,
                };
                let host_pointer = block.host().map_or(0, |h| h + offset);
                PointerAttributes { kind, device: 0, device_pointer: block.address + offset, host_pointer }
            }
        };
        host::put(out, attributes)
    }
    cudaMemGetInfo(free: *mut u64, total: *mut u64) {
        host::put(free, healthy(|d| Ok(d.blocks.free_bytes()))?)?;
        host::put(total, TOTAL)
    }
    cudaMemcpy | cudaMemcpy_ptds(to: u64, from: u64, bytes: u64, kind: u32) { copy(0, Copy::line(to, from, bytes, kind)) }
    cudaMemcpyAsync | cudaMemcpyAsync_ptsz(to: u64, from: u64, bytes: u64, kind: u32, stream: u64) {
        copy(stream, Copy::line(to, from, bytes, kind))
    }
    cudaMemcpyPeer(to: u64, _to_device: i32, from: u64, _from_device: i32, bytes: u64) { copy(0, Copy::line(to, from, bytes, 3)) }
    cudaMemcpyPeerAsync(to: u64, _to_device: i32, from: u64, _from_device: i32, bytes: u64, stream: u64) {
        copy(stream, Copy::line(to, from, bytes, 3))
    }
    cudaMemcpy2D | cudaMemcpy2D_ptds(to: u64, to_row: u64, from: u64, from_row: u64, width: u64, height: u64, kind: u32) {
        copy(0, plane((to, to_row), (from, from_row), [width, height], kind)?)
    }
    cudaMemcpy2DAsync | cudaMemcpy2DAsync_ptsz(
        to: u64, to_row: u64, from: u64, from_row: u64, width: u64, height: u64, kind: u32, stream: u64,
    ) {
        copy(stream, plane((to, to_row), (from, from_row), [width, height], kind)?)
    }
    cudaMemcpy3D | cudaMemcpy3D_ptds(parameters: *const Memcpy3D) { copy(0, box_of(parameters)?) }
    cudaMemcpy3DAsync | cudaMemcpy3DAsync_ptsz(parameters: *const Memcpy3D, stream: u64) { copy(stream, box_of(parameters)?) }
    cudaMemset | cudaMemset_ptds(to: u64, value: i32, bytes: u64) { fill(0, to, bytes, value, [bytes, 1, 1]) }
    cudaMemsetAsync | cudaMemsetAsync_ptsz(to: u64, value: i32, bytes: u64, stream: u64) {
        fill(stream, to, bytes, value, [bytes, 1, 1])
    }
    cudaMemset2D | cudaMemset2D_ptds(to: u64, row: u64, value: i32, width: u64, height: u64) {
        fill(0, to, row, value, [width, height, 1])
    }
    cudaMemset2DAsync | cudaMemset2DAsync_ptsz(to: u64, row: u64, value: i32, width: u64, height: u64, stream: u64) {
        fill(stream, to, row, value, [width, height, 1])
    }
    cudaMemset3D | cudaMemset3D_ptds(to: PitchedPtr, value: i32, extent: Extent) { fill_box(0, to, value, extent) }
    cudaMemset3DAsync | cudaMemset3DAsync_ptsz(to: PitchedPtr, value: i32, extent: Extent, stream: u64) {
        fill_box(stream, to, value, extent)
    }
    cudaMemcpyToSymbol | cudaMemcpyToSymbol_ptds(variable: u64, from: u64, bytes: u64, offset: u64, kind: u32) {
        copy(0, Copy::line(part_of_symbol(variable, offset, bytes)?, from, bytes, kind))
    }
    cudaMemcpyToSymbolAsync | cudaMemcpyToSymbolAsync_ptsz(
        variable: u64, from: u64, bytes: u64, offset: u64, kind: u32, stream: u64,
    ) {
        copy(stream, Copy::line(part_of_symbol(variable, offset, bytes)?, from, bytes, kind))
    }
    cudaMemcpyFromSymbol | cudaMemcpyFromSymbol_ptds(to: u64, variable: u64, bytes: u64, offset: u64, kind: u32) {
        copy(0, Copy::line(to, part_of_symbol(variable, offset, bytes)?, bytes, kind))
    }
    cudaMemcpyFromSymbolAsync | cudaMemcpyFromSymbolAsync_ptsz(
        to: u64, variable: u64, bytes: u64, offset: u64, kind: u32, stream: u64,
    ) {
        copy(stream, Copy::line(to, part_of_symbol(variable, offset, bytes)?, bytes, kind))
    }
    cudaGetSymbolAddress(out: *mut u64, variable: u64) { host::put(out, symbol(variable)?.0) }
    cudaGetSymbolSize(out: *mut u64, variable: u64) { host::put(out, symbol(variable)?.1) }
    // Managed memory is where it is needed: advice and prefetching change nothing.
    cudaMemAdvise | cudaMemAdvise_v2 | cudaMemPrefetchAsync | cudaMemPrefetchAsync_ptsz | cudaMemPrefetchAsync_v2
        | cudaMemPrefetchAsync_v2_ptsz | cudaStreamAttachMemAsync | cudaStreamAttachMemAsync_ptsz() {
        healthy(|_| Ok(()))
    }
}

fn fill_box(stream: u64, to: PitchedPtr, value: i32, extent: Extent) -> Result {
    let value = value as u32 & 0xff;
    let pitch = [to.pitch, to.pitch * to.ysize];
    let extent = [extent.width, extent.height, extent.depth];
    submit(stream, Work::Fill(Fill { to: to.ptr, value, element: 1, pitch, extent }))
}
