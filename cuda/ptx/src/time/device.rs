//! A GPU that foretells: it takes the same launches as the others, and times them instead of running them.

use std::fmt;
use std::ops::Range;

use super::card::Card;
use super::foretell::{Request, foretell};
use super::view::View;
use super::{Foretold, TimeError};
use crate::driver::{DevicePtr, Driver, DriverError, Properties};
use crate::exec::module::parsed;
use crate::gpu::Gpu;
use crate::request::{Launch, ModuleHandle, Options};
use crate::tensor_map::{MAP_BYTES, TensorMap};

/// A GPU whose launches are timed.
///
/// What is uploaded is known, and what kernels compute from it and from their parameters; the rest of memory is not, and cannot be read back.
pub struct Device {
    card: Card,
    gpu: Gpu,
    foretold: Vec<Foretold>,
    watch: Option<(u32, Range<u64>)>,
    views: Vec<View>,
}

fn failed(what: &str, reason: impl fmt::Display) -> DriverError {
    DriverError::Failed { what: what.into(), reason: reason.to_string() }
}

impl Device {
    /// A card with empty memory.
    pub fn new(card: Card) -> Device {
        Device {
            card,
            gpu: Gpu::new(Options { hazards: false, ..Options::default() }),
            foretold: Vec::new(),
            watch: None,
            views: Vec::new(),
        }
    }

    /// From the next launch on, what multiprocessor `sm` does in these clocks is to be seen: see [`Device::views`].
    pub fn watch(&mut self, sm: u32, clocks: Range<u64>) {
        self.watch = Some((sm, clocks));
    }

    /// What was seen of each launch that was watched.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The times of the launches so far.
    pub fn foretold(&self) -> &[Foretold] {
        &self.foretold
    }

    /// Foretells a launch.
    ///
    /// # Errors
    /// If it cannot be, see [`TimeError`].
    pub fn time(&mut self, launch: &Launch) -> Result<Foretold, TimeError> {
        let Some((memory, module, globals)) = self.gpu.parts(launch.module) else {
            return Err(TimeError::Launch("the module handle is not of this GPU".into()));
        };
        let view = self.watch.clone().map(|(sm, clocks)| View::new(sm, clocks));
        let (foretold, view) = foretell(memory, &Request { card: &self.card, module, globals, launch }, view)?;
        if let Some(mut view) = view {
            view.finish(format!("{} on {}: {:.1} us", foretold.kernel, foretold.card, foretold.us), &module.program);
            self.views.push(view);
        }
        Ok(foretold)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time::Device({})", self.card.name)
    }
}

impl Driver for Device {
    fn name(&self) -> String {
        format!("foretold:{}", self.card.name)
    }

    fn description(&self) -> String {
        format!("a model of the time that kernels take on {}", self.card.name)
    }

    fn properties(&self) -> Properties {
        Properties { capability: (9, 0), multiprocessors: self.card.multiprocessors, shared_per_block: 227 << 10 }
    }

    fn alloc(&mut self, bytes: u64) -> Result<DevicePtr, DriverError> {
        self.gpu.alloc(bytes).map_err(|e| failed("alloc", e))
    }

    fn free(&mut self, ptr: DevicePtr) -> Result<(), DriverError> {
        self.gpu.free(ptr).map_err(|e| failed("free", e))
    }

    fn recycles(&self) -> bool {
        false
    }

    fn upload(&mut self, to: DevicePtr, bytes: &[u8]) -> Result<(), DriverError> {
        self.gpu.write(to, bytes).map_err(|e| failed("upload", e))
    }

    fn download(&mut self, _to: &mut [u8], _from: DevicePtr) -> Result<(), DriverError> {
        Err(failed("read-back", "a kernel's time is foretold without its results"))
    }

    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64) -> Result<(), DriverError> {
        self.gpu.copy(to, from, bytes as usize).map_err(|e| failed("copy", e))
    }

    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64) -> Result<(), DriverError> {
        self.gpu.fill(to, byte, bytes).map_err(|e| failed("fill", e))
    }

    fn load(&mut self, file: &str, ptx: &str) -> Result<ModuleHandle, DriverError> {
        let module = parsed(file, ptx).map_err(|e| failed(file, e))?;
        self.gpu.load(module).map_err(|e| failed(file, e))
    }

    fn variable(&mut self, module: ModuleHandle, name: &str) -> Result<(DevicePtr, u64), DriverError> {
        let found = self.gpu.variable(module, name).map(|v| (v.ptr(), v.bytes()));
        found.ok_or_else(|| failed(name, "the module has no such variable"))
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), DriverError> {
        let foretold = self.time(launch).map_err(|e| failed(&launch.entry, e))?;
        self.foretold.push(foretold);
        Ok(())
    }

    fn tensor_map(&mut self, map: &TensorMap) -> Result<[u8; MAP_BYTES], DriverError> {
        map.encode().map_err(|e| failed("tensor map", e))
    }

    fn synchronize(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
}
