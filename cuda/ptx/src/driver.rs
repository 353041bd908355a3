//! [`Driver`]: what a host asks of a GPU, kept so small that a process can play one.
//!
//! Two implementations: [`card`] talks to NVIDIA's driver, which it loads when first asked; [`interpreted`] runs the same PTX on
//! this crate's [`Gpu`](crate::Gpu).

#[cfg(feature = "card")]
pub mod card;
pub mod interpreted;

use std::fmt;

use crate::request::{Launch, ModuleHandle, Report};
use crate::tensor_map::{MAP_BYTES, TensorMap};

/// An address in device memory.
pub type DevicePtr = u64;

/// What can go wrong at a driver.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DriverError {
    /// No memory.
    #[error("out of memory: {asked} bytes were asked for, {free} of {total} are free")]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that the device has.
        total: u64,
    },
    /// A call was refused, or a kernel that ran before has failed.
    #[error("{what}: {reason}")]
    Failed {
        /// The call, or the kernel.
        what: String,
        /// Why.
        reason: String,
    },
    /// There is no such device.
    #[error("{0}")]
    NoDevice(String),
}

fn failed(what: impl fmt::Display, reason: impl fmt::Display) -> DriverError {
    DriverError::Failed { what: what.to_string(), reason: reason.to_string() }
}

/// What kernels are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Compute capability: `(9, 0)` for a Hopper.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block can have at most.
    pub shared_per_block: u32,
}

/// A GPU with one queue of work, which is done in order; only [`Driver::synchronize`] and [`Driver::download`] wait for it.
///
/// Any call may fail because of work that was started before.
pub trait Driver: fmt::Debug + Send {
    /// For messages, such as `cuda:0`.
    fn name(&self) -> String;
    /// The card's name and what it has, in words.
    fn description(&self) -> String;
    /// What it has.
    fn properties(&self) -> Properties;

    /// A block of uninitialised memory, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`DriverError::OutOfMemory`].
    fn alloc(&mut self, bytes: u64) -> Result<DevicePtr, DriverError>;
    /// Gives a block back. Work that uses it may still be under way.
    ///
    /// # Errors
    /// If it is no block.
    fn free(&mut self, ptr: DevicePtr) -> Result<(), DriverError>;
    /// Whether a block should be used again for another tensor. A driver that watches over memory says no: it sees the use of
    /// what was freed, and of what was never written, only in blocks of its own.
    fn recycles(&self) -> bool;

    /// Copies from the host; the bytes are taken before it returns.
    ///
    /// # Errors
    /// If the driver refuses.
    fn upload(&mut self, to: DevicePtr, bytes: &[u8]) -> Result<(), DriverError>;
    /// Copies to the host after everything that was started.
    ///
    /// # Errors
    /// If the driver refuses, or started work failed.
    fn download(&mut self, to: &mut [u8], from: DevicePtr) -> Result<(), DriverError>;
    /// Copies within the device.
    ///
    /// # Errors
    /// If the driver refuses.
    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64) -> Result<(), DriverError>;
    /// Sets bytes.
    ///
    /// # Errors
    /// If the driver refuses.
    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64) -> Result<(), DriverError>;

    /// Loads PTX; `file` is its name in messages.
    ///
    /// # Errors
    /// If the driver does not take it.
    fn load(&mut self, file: &str, ptx: &str) -> Result<ModuleHandle, DriverError>;
    /// Where a module's variable (`__device__`, `__constant__`) lies, and how many bytes it has.
    ///
    /// # Errors
    /// If the module has no such variable.
    fn variable(&mut self, module: ModuleHandle, name: &str) -> Result<(DevicePtr, u64), DriverError>;
    /// Starts a kernel. A cluster of `[1, 1, 1]` is what the kernel demands.
    ///
    /// # Errors
    /// If the module has no such kernel, or it cannot be started so.
    fn launch(&mut self, launch: &Launch) -> Result<(), DriverError>;
    /// What came of the last launch, once, where the driver knows more than whether it failed.
    fn report(&mut self) -> Option<Report> {
        None
    }
    /// A tensor map, to be passed to a kernel by value at a multiple of [`MAP_ALIGN`](crate::tensor_map::MAP_ALIGN) bytes.
    ///
    /// # Errors
    /// If a limit is broken, by its name.
    fn tensor_map(&mut self, map: &TensorMap) -> Result<[u8; MAP_BYTES], DriverError>;

    /// Waits for everything that was started.
    ///
    /// # Errors
    /// The first failure of what was started.
    fn synchronize(&mut self) -> Result<(), DriverError>;
}
