//! Memory of both sides, and copies between them.
//!
//! The device's memory is the interpreter's, and the program cannot touch it. *Shared* memory (managed, pinned, registered) is the
//! program's own, which kernels see: its bytes are taken over before each launch and given back after it. What kernels see of it
//! counts as written. Managed and pinned memory lies at one address for both sides; of registered memory the device has its own.

use std::collections::BTreeMap;

use ptx::{Gpu, MemoryError};

use crate::call::{Failure, Result, failure};
use crate::host;
use crate::status::Status;

/// Bytes of the card that is played.
pub const TOTAL: u64 = 80 << 30;
const PAGE: u64 = 4096;
/// What rows of pitched memory are a multiple of.
const PITCH: u64 = 512;

/// How a block came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Device,
    Managed,
    /// With the flags it was asked for with.
    Pinned(u32),
    /// The program's address, and flags.
    Registered(u64, u32),
}

/// An allocation.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub address: u64,
    pub bytes: u64,
    pub kind: Kind,
}

impl Block {
    /// Where the program has it, if it can touch it.
    pub fn host(&self) -> Option<u64> {
        match self.kind {
            Kind::Device => None,
            Kind::Managed | Kind::Pinned(_) => Some(self.address),
            Kind::Registered(host, _) => Some(host),
        }
    }
}

/// All blocks, by their device address.
#[derive(Default)]
pub struct Blocks {
    all: BTreeMap<u64, Block>,
    used: u64,
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Failure {
        let status = match error {
            MemoryError::OutOfMemory { .. } => Status::OUT_OF_MEMORY,
            _ => Status::INVALID_VALUE,
        };
        failure(status, error.to_string())
    }
}

/// Bytes of whole pages.
fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

impl Blocks {
    /// Bytes that are not in use.
    pub fn free_bytes(&self) -> u64 {
        TOTAL - self.used
    }

    /// Device memory; null for no bytes.
    pub fn alloc(&mut self, gpu: &mut Gpu, bytes: u64, kind: Kind) -> Result<u64> {
        if bytes == 0 {
            return Ok(0);
        }
        let on_card = matches!(kind, Kind::Device | Kind::Managed);
        if on_card && bytes > self.free_bytes() {
            let why = format!("{bytes} bytes were asked for, {} of {TOTAL} are free", self.free_bytes());
            return Err(failure(Status::OUT_OF_MEMORY, why));
        }
        let address = gpu.alloc(bytes)?;
        if matches!(kind, Kind::Managed | Kind::Pinned(_)) {
            self.share(address, bytes)?;
        }
        self.all.insert(address, Block { address, bytes, kind });
        self.used += if on_card { bytes } else { 0 };
        Ok(address)
    }

    /// Puts the program's memory where the device's block lies.
    fn share(&mut self, address: u64, bytes: u64) -> Result {
        // The pages around a block hold nothing else: allocations lie further apart.
        let start = address - address % PAGE;
        if host::map(start, pages(address + bytes - start) as usize) {
            return Ok(());
        }
        Err(failure(Status::OUT_OF_MEMORY, format!("the process has no room for {bytes} bytes at {address:#x}")))
    }

    /// Makes a variable that a module has there one that the program can touch, with what it holds.
    pub fn manage(&mut self, gpu: &Gpu, address: u64, bytes: u64) -> Result {
        self.share(address, bytes)?;
        host::write(address, &gpu.read(address, bytes as usize)?);
        self.used += bytes;
        self.all.insert(address, Block { address, bytes, kind: Kind::Managed });
        Ok(())
    }

    /// The program's memory, seen by the device at an address of its own.
    pub fn register(&mut self, gpu: &mut Gpu, host: u64, bytes: u64, flags: u32) -> Result {
        self.alloc(gpu, bytes, Kind::Registered(host, flags)).map(|_| ())
    }

    /// Gives a block back.
    pub fn free(&mut self, gpu: &mut Gpu, address: u64) -> Result {
        if address == 0 {
            return Ok(());
        }
        let Some(block) = self.all.remove(&address) else {
            return Err(failure(Status::INVALID_VALUE, format!("{address:#x} is not the start of an allocation")));
        };
        if matches!(block.kind, Kind::Device | Kind::Managed) {
            self.used -= block.bytes;
        }
        gpu.free(address)?;
        if matches!(block.kind, Kind::Managed | Kind::Pinned(_)) {
            let start = address - address % PAGE;
            host::unmap(start, pages(address + block.bytes - start) as usize);
        }
        Ok(())
    }

    /// Ends the registration of the program's memory.
    pub fn unregister(&mut self, gpu: &mut Gpu, host: u64) -> Result {
        let found = self.all.values().find(|b| matches!(b.kind, Kind::Registered(h, _) if h == host)).map(|b| b.address);
        match found {
            Some(address) => self.free(gpu, address),
            None => Err(failure(Status::HOST_MEMORY_NOT_REGISTERED, format!("{host:#x} was not registered"))),
        }
    }

    /// The block that holds a device address.
    pub fn find(&self, address: u64) -> Option<&Block> {
        self.all.range(..=address).next_back().map(|(_, b)| b).filter(|b| address - b.address < b.bytes)
    }

    /// The block that holds an address of the program.
    pub fn find_host(&self, address: u64) -> Option<&Block> {
        self.all.values().find(|b| b.host().is_some_and(|h| address.wrapping_sub(h) < b.bytes))
    }

    /// Kernels now see what the program wrote.
    pub fn before_launch(&self, gpu: &mut Gpu) -> Result {
        for (block, host) in self.all.values().filter_map(|b| Some((b, b.host()?))) {
            gpu.write(block.address, host::bytes(host, block.bytes as usize))?;
        }
        Ok(())
    }

    /// The program now sees what kernels wrote.
    pub fn after_launch(&self, gpu: &Gpu) -> Result {
        for (block, host) in self.all.values().filter_map(|b| Some((b, b.host()?))) {
            host::write(host, &gpu.read(block.address, block.bytes as usize)?);
        }
        Ok(())
    }

    /// Where an address can be read and written.
    fn side(&self, gpu: &Gpu, address: u64) -> Result<Side> {
        if let Some(host) = self.find(address).and_then(|b| Some(b.host()? + (address - b.address))) {
            return Ok(Side::Host(host));
        }
        Ok(if gpu.owns(address) { Side::Device(address) } else { Side::Host(address) })
    }

    /// Copies a box. Both sides are found by their addresses.
    pub fn copy(&self, gpu: &mut Gpu, copy: &Copy) -> Result {
        let [width, height, depth] = copy.extent;
        if width == 0 || height == 0 || depth == 0 {
            return Ok(());
        }
        for (address, device) in [(copy.to, copy.to_device), (copy.from, copy.from_device)] {
            if address == 0 {
                return Err(failure(Status::INVALID_VALUE, "a copy to or from a null pointer"));
            }
            if device && !gpu.owns(address) && self.find_host(address).is_none() {
                return Err(failure(Status::INVALID_VALUE, format!("{address:#x} is no address of the device")));
            }
        }
        let (to, from) = (self.side(gpu, copy.to)?, self.side(gpu, copy.from)?);
        // Rows without gaps are one.
        let dense = copy.to_pitch[0] == width && copy.from_pitch[0] == width || height == 1;
        let (width, rows) = if dense { (width * height, 1) } else { (width, height) };
        for z in 0..depth {
            for y in 0..rows {
                let offset = |pitch: [u64; 2]| z * pitch[1] + y * pitch[0];
                row(gpu, to.plus(offset(copy.to_pitch)), from.plus(offset(copy.from_pitch)), width as usize)?;
            }
        }
        Ok(())
    }

    /// Sets elements of 1, 2 or 4 bytes in a box.
    pub fn fill(&self, gpu: &mut Gpu, fill: &Fill) -> Result {
        let [width, height, depth] = fill.extent;
        if width * height * depth == 0 {
            return Ok(());
        }
        let side = self.side(gpu, fill.to)?;
        let value = &fill.value.to_le_bytes()[..fill.element];
        let row =
            value.repeat(if matches!(side, Side::Host(_)) || value.iter().any(|&b| b != value[0]) { width as usize } else { 0 });
        for z in 0..depth {
            for y in 0..height {
                match side.plus(z * fill.pitch[1] + y * fill.pitch[0]) {
                    Side::Host(to) => host::write(to, &row),
                    Side::Device(to) if row.is_empty() => gpu.fill(to, value[0], width * fill.element as u64)?,
                    Side::Device(to) => gpu.write(to, &row)?,
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Side {
    Host(u64),
    Device(u64),
}

impl Side {
    fn plus(self, offset: u64) -> Side {
        match self {
            Side::Host(a) => Side::Host(a + offset),
            Side::Device(a) => Side::Device(a + offset),
        }
    }
}

fn row(gpu: &mut Gpu, to: Side, from: Side, len: usize) -> Result {
    match (to, from) {
        (Side::Host(to), Side::Host(from)) => host::write(to, host::bytes(from, len)),
        (Side::Host(to), Side::Device(from)) => host::write(to, &gpu.read(from, len)?),
        (Side::Device(to), Side::Host(from)) => gpu.write(to, host::bytes(from, len))?,
        (Side::Device(to), Side::Device(from)) => gpu.copy(to, from, len)?,
    }
    Ok(())
}

/// A copy of a box of `extent` bytes, rows and slices.
#[derive(Clone, Debug)]
pub struct Copy {
    pub to: u64,
    pub from: u64,
    /// The program says that this side is the device's.
    pub to_device: bool,
    pub from_device: bool,
    /// Bytes from a row to the next, and from a slice to the next.
    pub to_pitch: [u64; 2],
    pub from_pitch: [u64; 2],
    pub extent: [u64; 3],
}

impl Copy {
    /// Of bytes in a row; `kind` is a `cudaMemcpyKind`.
    pub fn line(to: u64, from: u64, bytes: u64, kind: u32) -> Copy {
        Copy::plane((to, bytes), (from, bytes), [bytes, 1], kind)
    }

    /// Of rows, each side with its pitch.
    pub fn plane((to, to_pitch): (u64, u64), (from, from_pitch): (u64, u64), [width, height]: [u64; 2], kind: u32) -> Copy {
        Copy {
            to,
            from,
            to_device: kind == 1 || kind == 3,
            from_device: kind == 2 || kind == 3,
            to_pitch: [to_pitch, to_pitch * height],
            from_pitch: [from_pitch, from_pitch * height],
            extent: [width, height, 1],
        }
    }
}

/// A box of `extent` elements, rows and slices, of one value.
#[derive(Clone, Debug)]
pub struct Fill {
    pub to: u64,
    pub value: u32,
    /// Bytes of an element.
    pub element: usize,
    pub pitch: [u64; 2],
    pub extent: [u64; 3],
}

/// Bytes from a row to the next in pitched memory.
pub fn pitch(width: u64) -> u64 {
    width.next_multiple_of(PITCH)
}
