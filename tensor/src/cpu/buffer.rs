//! CPU memory: 64-byte aligned, always initialised, recycled through a pool.
//!
//! A training step asks for the same sizes again and again, and a fresh large block costs a page fault for every 4 KiB.
//! Sizes are rounded up to one of four steps between powers of two, so that slightly different shapes share blocks.

use bytemuck::{Pod, Zeroable};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::storage::Buffer;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A block of host memory.
pub struct CpuBuffer {
    lines: Vec<Line>,
    bytes: usize,
}

static POOL: Mutex<Option<HashMap<usize, Vec<Vec<Line>>>>> = Mutex::new(None);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static IDLE: AtomicUsize = AtomicUsize::new(0);

/// Blocks kept for reuse hold at most this much.
const MAX_IDLE: usize = 8 << 30;

/// The most memory that tensors on the CPU have held at one time, in bytes.
pub fn peak_memory() -> usize {
    PEAK.load(Relaxed)
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
        let recycled = POOL.lock().unwrap().as_mut().and_then(|p| p.get_mut(&class)).and_then(Vec::pop);
        let lines = match recycled {
            Some(lines) => {
                IDLE.fetch_sub(class * 64, Relaxed);
                lines
            }
            None => bytemuck::allocation::try_zeroed_vec(class).ok()?,
        };
        let live = LIVE.fetch_add(class * 64, Relaxed) + class * 64;
        PEAK.fetch_max(live, Relaxed);
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
        let lines = std::mem::take(&mut self.lines);
        let bytes = lines.len() * 64;
        LIVE.fetch_sub(bytes, Relaxed);
        if IDLE.load(Relaxed) + bytes > MAX_IDLE {
            return;
        }
        if let Ok(mut pool) = POOL.lock() {
            IDLE.fetch_add(bytes, Relaxed);
            pool.get_or_insert_default().entry(lines.len()).or_default().push(lines);
        }
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
}
