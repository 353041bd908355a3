//! CPU memory: 64-byte aligned, always initialised, recycled through a pool.
//!
//! A training step asks for the same sizes again and again, and a fresh large block costs a page fault for every 4 KiB.
//! Sizes are rounded up to one of four steps between powers of two, so that slightly different shapes share blocks.
//!
//! What is in use and what waits for reuse hold together at most twice what tensors have needed at one time: where a fresh block
//! would exceed that, those that have waited longest go. Sizes come and go with the lengths of sequences, and would pile up.

use crate::storage::Buffer;
use bytemuck::{Pod, Zeroable};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A block of host memory.
pub struct CpuBuffer {
    lines: Vec<Line>,
    bytes: usize,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// That tensors hold.
    pub used: usize,
    /// With what is kept for reuse.
    pub held: usize,
}

/// The most memory of tensors on the CPU at one time.
pub fn peak_memory() -> MemoryUsage {
    pool().peak
}

#[derive(Default)]
struct Pool {
    /// What waits for reuse by its size in lines, each with when it came, the first to come in front.
    idle: HashMap<usize, VecDeque<(u64, Vec<Line>)>>,
    now: MemoryUsage,
    peak: MemoryUsage,
    /// Blocks that have come back.
    clock: u64,
}

/// Of memory that no panic leaves half changed.
fn pool() -> MutexGuard<'static, Pool> {
    static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// The block of so many lines that came back last.
    fn take(&mut self, lines: usize) -> Option<Vec<Line>> {
        let (_, block) = self.idle.get_mut(&lines)?.pop_back()?;
        self.used(64 * lines);
        Some(block)
    }

    /// Counts bytes as used, of what is held.
    fn used(&mut self, bytes: usize) {
        self.now.used += bytes;
        self.peak.used = self.peak.used.max(self.now.used);
    }

    /// Counts a fresh block, and hands out those that have to make room for it.
    fn grow(&mut self, bytes: usize) -> Vec<Vec<Line>> {
        self.used(bytes);
        self.now.held += bytes;
        let mut gone = Vec::new();
        while self.now.held > self.now.used.max(2 * self.peak.used) {
            let blocks = self.idle.values_mut().filter(|blocks| !blocks.is_empty()).min_by_key(|blocks| blocks[0].0);
            let (_, block) = blocks.and_then(VecDeque::pop_front).expect("what is held and not used is idle");
            self.now.held -= 64 * block.len();
            gone.push(block);
        }
        self.peak.held = self.peak.held.max(self.now.held);
        gone
    }

    fn put(&mut self, block: Vec<Line>) {
        self.now.used -= 64 * block.len();
        self.clock += 1;
        self.idle.entry(block.len()).or_default().push_back((self.clock, block));
    }
}

/// Rounds up to a multiple of a quarter of the power of two below.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 8).max(1);
    lines.div_ceil(step) * step
}

impl CpuBuffer {
    /// A block whose contents are unspecified but initialised; `None` if there is no memory for it.
    pub fn new(bytes: usize) -> Option<CpuBuffer> {
        let class = size_class(bytes.div_ceil(64).max(1));
        let recycled = pool().take(class);
        let lines = match recycled {
            Some(lines) => lines,
            None => {
                let lines = bytemuck::allocation::try_zeroed_vec(class).ok()?;
                let gone = pool().grow(64 * class);
                drop(gone); // without the lock
                lines
            }
        };
        Some(CpuBuffer { lines, bytes })
    }

    /// The contents.
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&bytemuck::cast_slice::<Line, u8>(&self.lines)[..self.bytes])
    }

    /// The contents, to fill.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<Line, u8>(&mut self.lines)[..self.bytes])
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        pool().put(std::mem::take(&mut self.lines));
    }
}

impl Buffer for CpuBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_at_most_a_quarter() {
        for n in 1..5000 {
            let c = size_class(n);
            assert!(c >= n && 4 * c <= 5 * n + 4, "{n} -> {c}");
            assert_eq!(size_class(c), c);
        }
    }

    fn block(lines: usize) -> Vec<Line> {
        vec![Line::zeroed(); lines]
    }

    /// Sizes that never come again take the place of each other.
    #[test]
    fn the_pool_holds_twice_what_was_needed_at_one_time() {
        let mut pool = Pool::default();
        for lines in 100..300 {
            assert!(pool.take(lines).is_none());
            pool.grow(64 * lines);
            pool.put(block(lines));
        }
        let idle: usize = pool.idle.values().flatten().map(|(_, block)| 64 * block.len()).sum();
        assert_eq!((pool.now.used, pool.now.held), (0, idle));
        assert!(idle <= 2 * pool.peak.used && pool.peak.used == 64 * 299, "{idle} of {:?}", pool.peak);
        assert!(pool.take(100).is_none() && pool.take(298).is_some(), "the first to come are the first to go");
        assert_eq!(pool.now.used, 64 * 298);
    }

    /// Of one size those go first that have waited longest, and the last that came is used first.
    #[test]
    fn what_is_used_again_and_again_stays() {
        let mut pool = Pool::default();
        pool.grow(64 * 10);
        pool.grow(64 * 10);
        pool.put(block(10));
        pool.put(block(10));
        for lines in [3, 4, 5, 6, 7] {
            let again = pool.take(10).expect("it came back last");
            let gone = pool.grow(64 * lines);
            pool.put(block(lines));
            pool.put(again);
            assert!(gone.iter().all(|block| block.len() != 10 || lines > 5), "{lines}");
        }
        assert!(pool.take(10).is_some() && pool.take(10).is_none(), "the other one made room");
        assert!(pool.peak.held <= 2 * pool.peak.used);
    }
}
