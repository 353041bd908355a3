//! A caching, stream-ordered allocator.
//!
//! A training step asks for the same sizes again and again, and the driver's own allocation waits for the whole device. A block
//! that was given back is used again at once: its next user comes later on the same stream, so that whatever still reads it is
//! done by then. Sizes are rounded up to one of four steps between powers of two, so that slightly different shapes share blocks.

use ptx::driver::{DevicePtr, Driver, DriverError};
use std::collections::HashMap;

/// What the allocator holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In tensors.
    pub live: u64,
    /// In blocks kept for the next tensor.
    pub idle: u64,
    /// The most that was ever live.
    pub peak: u64,
    /// Blocks that the driver was asked for.
    pub blocks: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Allocator {
    idle: HashMap<u64, Vec<DevicePtr>>,
    memory: Memory,
}

/// Rounds up to a multiple of a quarter of the power of two below, at least 512 bytes.
fn size_class(bytes: u64) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(512);
    bytes.div_ceil(step).max(1) * step
}

impl Allocator {
    /// A block of at least `bytes`.
    ///
    /// # Errors
    /// If there is no memory, even after the idle blocks went back to the driver.
    pub fn alloc(&mut self, driver: &mut dyn Driver, bytes: u64) -> Result<DevicePtr, DriverError> {
        // A driver that watches over memory is asked for the very size, to see what lies beyond it.
        let class = if driver.recycles() { size_class(bytes) } else { bytes };
        let ptr = match self.idle.get_mut(&class).and_then(Vec::pop) {
            Some(ptr) => {
                self.memory.idle -= class;
                ptr
            }
            None => {
                self.memory.blocks += 1;
                match driver.alloc(class) {
                    Err(DriverError::OutOfMemory { .. }) if self.memory.idle > 0 => {
                        self.release(driver)?;
                        driver.alloc(class)?
                    }
                    other => other?,
                }
            }
        };
        self.memory.live += class;
        self.memory.peak = self.memory.peak.max(self.memory.live);
        Ok(ptr)
    }

    /// Takes a block back that [`Allocator::alloc`] gave for `bytes`.
    ///
    /// # Errors
    /// If the driver does not know it.
    pub fn free(&mut self, driver: &mut dyn Driver, ptr: DevicePtr, bytes: u64) -> Result<(), DriverError> {
        if !driver.recycles() {
            self.memory.live -= bytes;
            return driver.free(ptr);
        }
        let class = size_class(bytes);
        self.memory.live -= class;
        self.memory.idle += class;
        self.idle.entry(class).or_default().push(ptr);
        Ok(())
    }

    /// Gives the idle blocks back to the driver.
    ///
    /// # Errors
    /// If the driver does not know one.
    pub fn release(&mut self, driver: &mut dyn Driver) -> Result<(), DriverError> {
        self.memory.idle = 0;
        self.idle.drain().flat_map(|(_, blocks)| blocks).try_for_each(|ptr| driver.free(ptr))
    }

    /// What is held.
    pub fn memory(&self) -> Memory {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_waste_at_most_a_quarter() {
        for n in (1..300_000).step_by(7) {
            let c = size_class(n);
            assert!(c >= n && (4 * c <= 5 * n + 4 || c - n < 512), "{n} -> {c}");
            assert_eq!(size_class(c), c);
        }
        assert_eq!(size_class(0), 512);
    }
}
