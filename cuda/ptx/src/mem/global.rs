//! Global memory: allocations far apart, none of whose addresses is ever given out again.
//!
//! # A wrong index must not find another allocation
//! A pointer does not say which allocation it was made from, so an access is checked against whatever lies at its address, and a
//! wrong index is seen only where it leads to nothing. Therefore neighbours are further apart than any allocation is long: an index
//! that is off by up to an allocation's length (a stride or an extent taken twice), or that fell a little below zero, be it signed
//! or 2^32 too large, meets no other allocation. The difference of two pointers does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::contents::Contents;
use super::parallel::Accesses;
use super::shadow::Segment;

/// The first address of global memory. Nothing is mapped below, nor in the gaps between allocations.
pub const GLOBAL_BASE: u64 = 0x0400_0000_0000;
/// Alignment of every allocation, as the driver gives it.
const ALIGN: u64 = 256;
/// Unmapped bytes behind an allocation.
const GAP: u64 = 1 << 32;
const _: () = assert!(GAP > MAX_ALLOCATION);
/// Behind the first 19 thousand allocations there is less room: addresses stay below those of a process on the host, which some
/// programs tell apart by the address.
const ROOMY: u64 = 0x5000_0000_0000;
const SMALL_GAP: u64 = 1 << 20;

/// What can be wrong with a call of the host on global memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The process could not provide the bytes.
    #[error("out of memory: {bytes} bytes asked for (an allocation has at most {MAX_ALLOCATION} bytes)")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The address lies in no allocation.
    #[error("address {address:#x} lies in no allocation")]
    NotAllocated {
        /// The address.
        address: u64,
    },
    /// The range leaves its allocation.
    #[error("{len} bytes at {address:#x} leave their allocation of {size} bytes at {base:#x}")]
    OutOfBounds {
        /// The address.
        address: u64,
        /// Bytes from there.
        len: u64,
        /// Where the allocation begins.
        base: u64,
        /// Its bytes.
        size: u64,
    },
    /// The allocation was freed before.
    #[error("address {address:#x} lies in an allocation that was freed")]
    Freed {
        /// The address.
        address: u64,
    },
    /// The bytes that were asked for are not all there: nothing wrote this one.
    #[error("byte {at} of {len} at {address:#x} was never written")]
    NeverWritten {
        /// The address of the first byte that was asked for.
        address: u64,
        /// The byte, from there.
        at: usize,
        /// Bytes that were asked for.
        len: usize,
    },
    /// Only the first address of an allocation can be freed.
    #[error("address {address:#x} is not the start of an allocation")]
    NotAStart {
        /// The address.
        address: u64,
    },
}

/// The largest allocation: offsets are 32-bit.
pub const MAX_ALLOCATION: u64 = u32::MAX as u64;

pub(crate) struct Allocation {
    pub segment: Segment,
    pub len: u64,
    pub read_only: bool,
    pub freed: bool,
}

/// The allocations of a device, by address.
pub struct Global {
    allocations: Vec<Allocation>,
    next: u64,
    last: usize,
    /// What this is a view of: its allocations are then not sorted, and only those that were accessed.
    below: Option<Below>,
    /// What the launch before accessed, if its clusters ran side by side.
    pub(super) accesses: Option<Accesses>,
}

impl Default for Global {
    fn default() -> Self {
        Self { allocations: Vec::new(), next: GLOBAL_BASE, last: 0, below: None, accesses: None }
    }
}

impl Global {
    /// Allocates `bytes` uninitialised bytes at a multiple of 256.
    pub fn alloc(&mut self, bytes: u64) -> Result<u64, MemoryError> {
        if bytes > MAX_ALLOCATION || Vec::<u8>::new().try_reserve_exact(bytes as usize).is_err() {
            return Err(MemoryError::OutOfMemory { bytes });
        }
        let base = self.next;
        self.next = (base + bytes).next_multiple_of(ALIGN) + if base < ROOMY { GAP } else { SMALL_GAP };
        let segment = Segment::new(base, bytes as usize, false);
        self.allocations.push(Allocation { segment, len: bytes, read_only: false, freed: false });
        Ok(base)
    }

    /// Frees the allocation that begins at `address`; its addresses stay known as freed.
    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        let i = self.find(address, 0)?;
        let allocation = &mut self.allocations[i];
        if allocation.segment.base != address {
            return Err(MemoryError::NotAStart { address });
        }
        allocation.freed = true;
        allocation.segment = Segment::new(address, 0, false);
        Ok(())
    }

    /// Frees an allocation that nobody will use again: if nothing was allocated after it, its addresses go to the next.
    pub(crate) fn take_back(&mut self, address: u64) -> Result<(), MemoryError> {
        if self.allocations.last().is_none_or(|last| last.segment.base != address) {
            return self.free(address);
        }
        self.allocations.pop();
        self.next = address;
        Ok(())
    }

    /// Makes the allocation at `address` one that kernels may only read (constants, parameters).
    pub fn set_read_only(&mut self, address: u64) -> Result<(), MemoryError> {
        let i = self.find(address, 0)?;
        self.allocations[i].read_only = true;
        Ok(())
    }

    fn find(&self, address: u64, len: u64) -> Result<usize, MemoryError> {
        let i = self.index(address).ok_or(MemoryError::NotAllocated { address })?;
        let a = &self.allocations[i];
        if a.freed {
            return Err(MemoryError::Freed { address });
        }
        if (address - a.segment.base).saturating_add(len) > a.len {
            return Err(MemoryError::OutOfBounds { address, len, base: a.segment.base, size: a.len });
        }
        Ok(i)
    }

    /// The allocation that an address lies in or, for one just past an end, behind; freed ones too.
    fn index(&self, address: u64) -> Option<usize> {
        let i = self.allocations.partition_point(|a| a.segment.base <= address).checked_sub(1)?;
        let a = &self.allocations[i];
        (address - a.segment.base <= a.len).then_some(i)
    }

    /// The number of the allocation that holds `address`, freed or not.
    pub(crate) fn locate(&mut self, address: u64) -> Option<usize> {
        if let Some(a) = self.allocations.get(self.last)
            && address.wrapping_sub(a.segment.base) < a.len
        {
            return Some(self.last);
        }
        if let Some(below) = &mut self.below {
            let holds = |a: &Allocation| address.wrapping_sub(a.segment.base) < a.len;
            self.last = match self.allocations.iter().position(holds) {
                Some(i) => i,
                None => {
                    self.allocations.push(below.find(address)?);
                    self.allocations.len() - 1
                }
            };
            return Some(self.last);
        }
        let i = self.index(address).filter(|&i| address - self.allocations[i].segment.base < self.allocations[i].len)?;
        self.last = i;
        Some(i)
    }

    /// Where an access that is out of bounds is, seen from the nearest allocation. A view does not know: who accesses there ends in a fault,
    /// and runs again on the memory itself.
    pub(crate) fn nearest(&self, address: u64) -> Option<String> {
        let after = self.allocations.partition_point(|a| a.segment.base <= address);
        let (behind, before) = self.allocations.split_at(after);
        let name = |a: &Allocation| format!("the {} bytes at {:#x}", a.len, a.segment.base);
        let past = behind.last().map(|a| (address.saturating_sub(a.segment.base + a.len), "past the end of", a));
        let short = before.first().map(|a| (a.segment.base.saturating_sub(address), "before", a));
        let (distance, side, a) = [past, short].into_iter().flatten().min_by_key(|n| n.0)?;
        let inside = address.wrapping_sub(a.segment.base) < a.len;
        Some(if inside { format!("across the end of {}", name(a)) } else { format!("{distance} bytes {side} {}", name(a)) })
    }

    /// Of a view, the numbers that its allocations have below.
    pub(super) fn origins(&self) -> Vec<usize> {
        self.below.as_ref().map_or(Vec::new(), |below| below.origins.clone())
    }

    pub(crate) fn allocation(&mut self, i: usize) -> &mut Allocation {
        &mut self.allocations[i]
    }

    /// The allocation of a number, if it was not taken back.
    pub(super) fn existing(&mut self, i: usize) -> Option<&mut Allocation> {
        self.allocations.get_mut(i)
    }

    /// Writes bytes from the host.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let (segment, at) = self.range(address, bytes.len() as u64)?;
        segment.bytes_mut(at, bytes.len()).copy_from_slice(bytes);
        segment.set_initialized(at, bytes.len(), true);
        Ok(())
    }

    /// Sets `len` bytes to one value.
    pub fn fill(&mut self, address: u64, byte: u8, len: u64) -> Result<(), MemoryError> {
        let (segment, at) = self.range(address, len)?;
        segment.bytes_mut(at, len as usize).fill(byte);
        segment.set_initialized(at, len as usize, true);
        Ok(())
    }

    fn range(&mut self, address: u64, len: u64) -> Result<(&mut Segment, usize), MemoryError> {
        let i = self.find(address, len)?;
        let segment = &mut self.allocations[i].segment;
        let at = (address - segment.base) as usize;
        Ok((segment, at))
    }

    /// Reads bytes to the host; those never written read as 0xFF.
    pub fn read(&self, address: u64, len: usize) -> Result<Vec<u8>, MemoryError> {
        let a = &self.allocations[self.find(address, len as u64)?];
        let at = (address - a.segment.base) as usize;
        Ok(a.segment.contents.peek(at, len).to_vec())
    }

    /// Copies bytes, and with them which were ever written.
    pub fn copy(&mut self, to: u64, from: u64, len: usize) -> Result<(), MemoryError> {
        let (data, written) = self.read_with_mask(from, len)?;
        let (segment, at) = self.range(to, len as u64)?;
        segment.bytes_mut(at, len).copy_from_slice(&data);
        let mut start = 0;
        for run in written.chunk_by(|a, b| a == b) {
            segment.set_initialized(at + start, run.len(), run[0]);
            start += run.len();
        }
        Ok(())
    }

    /// Whether an address lies below the next allocation's.
    pub fn owns(&self, address: u64) -> bool {
        (GLOBAL_BASE..self.next).contains(&address)
    }

    /// Every byte counts as written.
    pub fn assume_written(&mut self) {
        for a in self.allocations.iter_mut().filter(|a| !a.freed) {
            a.segment.set_initialized(0, a.len as usize, true);
        }
    }

    /// Reads bytes to the host, and for each whether it was ever written.
    pub fn read_with_mask(&self, address: u64, len: usize) -> Result<(Vec<u8>, Vec<bool>), MemoryError> {
        let a = &self.allocations[self.find(address, len as u64)?];
        let at = (address - a.segment.base) as usize;
        let mask = (at..at + len).map(|i| a.segment.initialized(i, 1)).collect();
        Ok((a.segment.contents.peek(at, len).to_vec(), mask))
    }
}

/// A device's memory while clusters look at it from several threads.
pub(crate) struct Frozen {
    inner: Mutex<Inner>,
}

struct Inner {
    global: Global,
    /// The contents that views look at, by allocation: taken out of `global`.
    shared: HashMap<usize, Arc<Contents>>,
}

/// What a view is of, and which of its allocations each of the view's is.
struct Below {
    frozen: Arc<Frozen>,
    origins: Vec<usize>,
}

impl Frozen {
    /// Freezes a device's memory.
    pub fn new(global: Global) -> Arc<Frozen> {
        Arc::new(Frozen { inner: Mutex::new(Inner { global, shared: HashMap::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view of it: an allocation appears there when it is first accessed.
    pub fn view(self: &Arc<Self>) -> Global {
        Global { below: Some(Below { frozen: self.clone(), origins: Vec::new() }), ..Global::default() }
    }

    /// The memory again. Every view is gone.
    pub fn thaw(self: Arc<Self>) -> Global {
        let inner = Arc::into_inner(self).expect("views are gone").inner;
        let Inner { mut global, shared } = inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (i, contents) in shared {
            global.allocation(i).segment.contents = Arc::into_inner(contents).expect("views are gone");
        }
        global
    }
}

impl Below {
    /// The allocation that holds an address, as a view's own.
    fn find(&mut self, address: u64) -> Option<Allocation> {
        let mut inner = self.frozen.lock();
        let i = inner.global.locate(address)?;
        let Inner { global, shared } = &mut *inner;
        let allocation = global.allocation(i);
        let contents = shared.entry(i).or_insert_with(|| Arc::new(std::mem::take(&mut allocation.segment.contents)));
        let mut segment = Segment::of(allocation.segment.base, Contents::view(contents.clone()), false);
        segment.pages.touched = Some(Vec::new());
        self.origins.push(i);
        Some(Allocation { segment, ..*allocation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_index_leads_from_one_allocation_to_another() {
        let mut g = Global::default();
        let a = [100u64, 1 << 20, 4, 3 << 20, 8].map(|bytes| (g.alloc(bytes).unwrap(), bytes));
        for (&(from, len), &(to, more)) in a.iter().zip(&a[1..]) {
            assert!(to - (from + len) >= GAP.max(len).max(more) && to % ALIGN == 0, "{from:#x} {to:#x}");
        }
        let (first, len) = a[1];
        assert_eq!(g.nearest(first + len - 2).unwrap(), format!("across the end of the {len} bytes at {first:#x}"));
        for index in [i64::from(u32::MAX), i64::from(i32::MIN) + 1, len as i64 / 4, -1, -(len as i64)] {
            assert_eq!(g.locate(first.wrapping_add_signed(4 * index)), None, "{index}");
        }
        assert_eq!(g.nearest(first + len).unwrap(), format!("0 bytes past the end of the {len} bytes at {first:#x}"));
        assert_eq!(g.nearest(first - 4).unwrap(), format!("4 bytes before the {len} bytes at {first:#x}"));
    }

    #[test]
    fn allocations_have_gaps_and_freed_ones_are_remembered() {
        let mut g = Global::default();
        let a = g.alloc(100).unwrap();
        let b = g.alloc(0).unwrap();
        let c = g.alloc(8).unwrap();
        assert!(a % 256 == 0 && b % 256 == 0 && b - a >= 100 + GAP && c > b);
        assert_eq!(g.read_with_mask(a, 2).unwrap(), (vec![0xFF; 2], vec![false; 2]));
        g.write(a + 98, &[1, 2]).unwrap();
        assert_eq!(g.read(a + 98, 2).unwrap(), [1, 2]);
        assert_eq!(g.write(a + 99, &[1, 2]), Err(MemoryError::OutOfBounds { address: a + 99, len: 2, base: a, size: 100 }));
        assert_eq!(g.read(a + 101, 0), Err(MemoryError::NotAllocated { address: a + 101 }));
        assert_eq!(g.read(8, 1), Err(MemoryError::NotAllocated { address: 8 }));
        assert_eq!(g.free(a + 4), Err(MemoryError::NotAStart { address: a + 4 }));
        g.free(a).unwrap();
        assert_eq!(g.free(a), Err(MemoryError::Freed { address: a }));
        assert_eq!(g.read(a, 1), Err(MemoryError::Freed { address: a }));
        assert!(matches!(g.alloc(1 << 40), Err(MemoryError::OutOfMemory { .. })));
        let d = g.alloc(4).unwrap();
        let e = g.alloc(4).unwrap();
        g.take_back(e).unwrap();
        assert_eq!(g.alloc(8), Ok(e));
        g.take_back(c).unwrap();
        assert_eq!(g.read(c, 1), Err(MemoryError::Freed { address: c }));
        let c = g.alloc(8).unwrap();
        assert!(g.owns(a) && g.owns(d) && !g.owns(c + 2 * GAP) && !g.owns(8));
        g.write(d + 1, &[7]).unwrap();
        assert_eq!(g.read_with_mask(d, 4).unwrap().1, [false, true, false, false]);
        g.write(c, &[9; 8]).unwrap();
        g.copy(c + 2, d, 4).unwrap();
        let (data, written) = g.read_with_mask(c, 8).unwrap();
        assert_eq!(
            (data, written),
            (vec![9, 9, 0xFF, 7, 0xFF, 0xFF, 9, 9], [true, true, false, true, false, false, true, true].into())
        );
        g.assume_written();
        assert_eq!(g.read_with_mask(d, 4).unwrap().1, [true; 4]);
    }
}
