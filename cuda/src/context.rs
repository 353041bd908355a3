//! What the backend and its buffers share: a driver with its allocator, the kernels loaded so far, and the fault that waits to
//! be reported.
//!
//! **Faults.** An operation returns a tensor, not a `Result`. What goes wrong (no memory, a kernel that faults, a position that
//! does not exist) sticks here: until it is reported, nothing more is started, and what would have been computed is *lost*. It is
//! reported once, by the next synchronisation or read-back; a lost tensor stays lost and says so wherever it is used.

#[cfg(test)]
mod tests;

use crate::allocator::{Allocator, Memory};
use crate::kernels::Family;
use ptx::driver::{DevicePtr, Driver, DriverError, Properties};
use ptx::tensor_map::TensorMap;
use ptx::{Launch, ModuleHandle, Report};
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tensor::{Buffer, DeviceError};

/// Copies between host and device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Copies to the device.
    pub uploads: u64,
    /// Their bytes.
    pub uploaded: u64,
    /// Copies to the host. The words in which kernels report faults are not counted.
    pub downloads: u64,
    /// Their bytes.
    pub downloaded: u64,
}

/// Tensor maps that are kept before all are forgotten.
const MAPS: usize = 1 << 12;

/// Bytes in which kernels report faults: `Fault` in `kernels/common.cuh`.
const FAULT_BYTES: usize = 24;

pub(crate) struct Context {
    pub name: String,
    pub properties: Properties,
    state: Mutex<State>,
}

struct State {
    driver: Box<dyn Driver>,
    allocator: Allocator,
    modules: HashMap<&'static str, ModuleHandle>,
    /// Tensor maps encoded so far, by what they describe.
    maps: HashMap<TensorMap, [u8; 128]>,
    transfers: Transfers,
    fault: Option<String>,
    /// Where kernels report faults, once one that can was started.
    words: Option<DevicePtr>,
    /// Who can report one, by the code less 1.
    reporters: Vec<&'static str>,
    /// Whether a kernel may have reported one since the last look.
    reporting: bool,
}

/// A block of device memory that belongs to a tensor.
pub(crate) struct CudaBuffer {
    context: Arc<Context>,
    ptr: DevicePtr,
    bytes: usize,
    lost: AtomicBool,
}

impl CudaBuffer {
    pub fn ptr(&self) -> DevicePtr {
        self.ptr
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }

    pub fn lose(&self) {
        self.lost.store(true, Relaxed);
    }

    /// Whether it lies on the device of `context`.
    pub fn is_of(&self, context: &Context) -> bool {
        std::ptr::eq(&*self.context, context)
    }
}

impl Buffer for CudaBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if self.bytes > 0 && self.ptr != 0 {
            let state = &mut *self.context.lock();
            if let Err(e) = state.allocator.free(&mut *state.driver, self.ptr, self.bytes as u64) {
                state.fail("free", &e);
            }
        }
    }
}

/// A kernel launch as the backend asks for it.
pub(crate) struct Start<'a> {
    pub family: Family,
    pub kernel: &'a str,
    pub grid: u64,
    pub block: [u32; 2],
    /// Blocks per cluster, along the grid.
    pub cluster: u32,
    /// Bytes of dynamic shared memory per block.
    pub shared: u32,
    /// Whether the kernel may report a fault: [`Context::fault_words`] are then among the arguments.
    pub reports: bool,
}

impl<'a> Start<'a> {
    /// Without clusters, dynamic shared memory and reports.
    pub fn new(family: Family, kernel: &'a str, grid: usize, block: [u32; 2]) -> Start<'a> {
        Start { family, kernel, grid: grid as u64, block, cluster: 1, shared: 0, reports: false }
    }
}

impl State {
    fn fail(&mut self, what: impl fmt::Display, error: &dyn fmt::Display) {
        self.fault.get_or_insert_with(|| format!("{what}: {error}"));
    }

    /// A family's kernels, loaded by the first that asks.
    fn module(&mut self, family: Family) -> Result<ModuleHandle, DriverError> {
        if let Some(&module) = self.modules.get(family.name) {
            return Ok(module);
        }
        let module = self.driver.load(&format!("{}.ptx", family.name), family.ptx)?;
        self.modules.insert(family.name, module);
        Ok(module)
    }

    fn start(&mut self, start: &Start<'_>, args: &[u8]) -> Result<(), DriverError> {
        let module = self.module(start.family)?;
        let Ok(grid) = u32::try_from(start.grid) else {
            return Err(DriverError::Failed { what: "launch".into(), reason: format!("{} blocks are too many", start.grid) });
        };
        let launch = Launch::new(module, start.kernel).grid(grid).block(start.block).cluster(start.cluster);
        self.driver.launch(&launch.shared_bytes(start.shared).params(args.to_vec()))?;
        self.reporting |= start.reports;
        Ok(())
    }

    /// The fault that waits, with what kernels have reported.
    fn take_fault(&mut self) -> Option<String> {
        let looked = match self.words.filter(|_| std::mem::take(&mut self.reporting)) {
            Some(words) => self.read_words(words),
            None => Ok(()),
        };
        if let Err(e) = looked {
            self.fail("reading a fault", &e);
        }
        self.fault.take()
    }

    fn read_words(&mut self, ptr: DevicePtr) -> Result<(), DriverError> {
        let mut words = [0u64; FAULT_BYTES / 8];
        self.driver.download(bytemuck::cast_slice_mut(&mut words), ptr)?;
        if let Some(&op) = self.reporters.get((words[0] as usize).wrapping_sub(1)) {
            let (position, size) = (words[1] as i64, words[2]);
            self.fail(op, &format!("position {position} does not exist in a dimension of size {size}"));
            self.driver.fill(ptr, 0, FAULT_BYTES as u64)?;
        }
        Ok(())
    }
}

impl Context {
    pub fn new(driver: Box<dyn Driver>) -> Context {
        let state = State {
            allocator: Allocator::default(),
            modules: HashMap::new(),
            maps: HashMap::new(),
            transfers: Transfers::default(),
            fault: None,
            words: None,
            reporters: Vec::new(),
            reporting: false,
            driver,
        };
        Context { name: state.driver.name(), properties: state.driver.properties(), state: Mutex::new(state) }
    }

    /// A panic elsewhere leaves the state as it was between two driver calls, so that the lock can be taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, message: impl fmt::Display) -> DeviceError {
        DeviceError { device: self.name.clone(), message: message.to_string() }
    }

    /// An uninitialised block for `what`; a lost one where there is no memory or a fault waits.
    pub fn alloc(self: &Arc<Self>, bytes: usize, what: impl FnOnce() -> String) -> CudaBuffer {
        let state = &mut *self.lock();
        let ptr = match (bytes, &state.fault) {
            (0, None) => Ok(0),
            (_, Some(_)) => Err(()),
            _ => state.allocator.alloc(&mut *state.driver, bytes as u64).map_err(|e| state.fail(what(), &e)),
        };
        CudaBuffer { context: self.clone(), ptr: ptr.unwrap_or(0), bytes, lost: AtomicBool::new(ptr.is_err()) }
    }

    /// Starts a kernel. Whether it did; if not, a fault waits.
    pub fn start(&self, start: &Start<'_>, args: &[u8]) -> bool {
        let state = &mut *self.lock();
        if state.fault.is_some() {
            return false;
        }
        let started = state.start(start, args);
        if let Err(e) = &started {
            // The interpreter names the kernel itself.
            let why = e.to_string();
            state.fail(start.kernel, &why.strip_prefix(&format!("{}: ", start.kernel)).unwrap_or(&why));
        }
        started.is_ok()
    }

    /// Copies within the device, as [`Context::start`].
    pub fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: usize) -> bool {
        let state = &mut *self.lock();
        if state.fault.is_some() {
            return false;
        }
        state.driver.copy(to, from, bytes as u64).map_err(|e| state.fail("copy", &e)).is_ok()
    }

    /// Notes a fault found before anything was started.
    pub fn fail(&self, what: &str, why: &str) {
        self.lock().fail(what, &why);
    }

    /// The 128 bytes by which a kernel's copy engine knows a tensor, encoded by the first that asks: with the allocator's blocks
    /// the same tensors come again at the same addresses.
    pub fn tensor_map(&self, map: TensorMap) -> Result<[u8; 128], DriverError> {
        let state = &mut *self.lock();
        if let Some(bytes) = state.maps.get(&map) {
            return Ok(*bytes);
        }
        let bytes = state.driver.tensor_map(&map)?;
        if state.maps.len() == MAPS {
            state.maps.clear();
        }
        state.maps.insert(map, bytes);
        Ok(bytes)
    }

    /// What came of the last launch, once, where the driver knows more than whether it failed.
    pub fn report(&self) -> Option<Report> {
        self.lock().driver.report()
    }

    /// Where kernels report faults, and the code by which `op` does.
    pub fn fault_words(&self, op: &'static str) -> (DevicePtr, u64) {
        let state = &mut *self.lock();
        let known = state.reporters.iter().position(|&r| r == op);
        let code = 1 + known.unwrap_or_else(|| {
            state.reporters.push(op);
            state.reporters.len() - 1
        });
        if let Some(words) = state.words {
            return (words, code as u64);
        }
        let made = state.allocator.alloc(&mut *state.driver, FAULT_BYTES as u64).and_then(|words| {
            state.driver.fill(words, 0, FAULT_BYTES as u64)?;
            Ok(words)
        });
        match made {
            Ok(words) => (*state.words.insert(words), code as u64),
            Err(e) => {
                state.fail(op, &e);
                (0, code as u64)
            }
        }
    }

    pub fn upload(self: &Arc<Self>, bytes: &[u8]) -> Result<CudaBuffer, DeviceError> {
        let state = &mut *self.lock();
        let mut ptr = 0;
        if !bytes.is_empty() {
            let made = state.allocator.alloc(&mut *state.driver, bytes.len() as u64);
            ptr = made.map_err(|e| self.error(e))?;
            state.driver.upload(ptr, bytes).map_err(|e| self.error(e))?;
            state.transfers.uploads += 1;
            state.transfers.uploaded += bytes.len() as u64;
        }
        Ok(CudaBuffer { context: self.clone(), ptr, bytes: bytes.len(), lost: AtomicBool::new(false) })
    }

    pub fn download(&self, buffer: &CudaBuffer, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let state = &mut *self.lock();
        let mut to = vec![0; bytes];
        if bytes > 0 && state.fault.is_none() && !buffer.is_lost() {
            match state.driver.download(&mut to, buffer.ptr) {
                Ok(()) => {
                    state.transfers.downloads += 1;
                    state.transfers.downloaded += bytes as u64;
                }
                Err(e) => state.fail("reading back", &e),
            }
        }
        match state.take_fault() {
            Some(fault) => Err(self.error(fault)),
            None if buffer.is_lost() => Err(self.error("this tensor was lost to a fault that was reported before")),
            None => Ok(to),
        }
    }

    pub fn synchronize(&self) -> Result<(), DeviceError> {
        let state = &mut *self.lock();
        if let Err(e) = state.driver.synchronize() {
            state.fail("synchronisation", &e);
        }
        state.take_fault().map_or(Ok(()), |fault| Err(self.error(fault)))
    }

    pub fn transfers(&self) -> Transfers {
        self.lock().transfers
    }

    pub fn memory(&self) -> Memory {
        self.lock().allocator.memory()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.name)
    }
}
