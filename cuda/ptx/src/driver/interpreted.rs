//! A GPU inside the process: the interpreter as a [`Driver`].
//!
//! Everything happens at once, in the order in which it is asked for. A hazard that the interpreter names is a failure of its
//! kernel, and so is a read-back of bytes that nothing wrote.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::{DevicePtr, Driver, DriverError, Properties, failed};
use crate::exec::module::parsed;
use crate::gpu::Gpu;
use crate::hazard::Hazard;
use crate::observe::{Interrupt, Observe};
use crate::request::{self, Election, Launch, ModuleHandle, Report};
use crate::tensor_map::{MAP_BYTES, TensorMap};
use crate::text::Errors;

/// How a GPU is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything that a card leaves open: the order of warps, when asynchronous copies land, and the like.
    pub seed: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors: kernels that stay on one for several tiles are started on as many.
    pub multiprocessors: u32,
    /// Whether hazards are looked for; they cost most of the time.
    pub hazards: bool,
    /// Whether strict hazards, which break the letter of the ISA and nothing else, are failures too.
    pub strict: bool,
    /// Which lane `elect.sync` picks.
    pub election: Election,
    /// Whether launches are counted by kernel and line, for [`Driver::report`].
    pub counters: bool,
    /// Whether bytes that nothing wrote can be copied and read back, as 0xFF; it is a fault otherwise.
    pub unwritten: bool,
    /// Whether blocks of memory are used again for other tensors, as on a card. Then fewer mistakes are seen.
    pub recycle: bool,
    /// Warp instructions after which a launch is given up.
    pub step_limit: u64,
    /// Time after which a launch is given up; none if not given.
    pub time_limit: Option<Duration>,
    /// What of a launch is to be seen.
    pub observe: Observe,
    /// Asks a launch under way where it stands, or ends it.
    pub interrupt: Option<Interrupt>,
    /// Threads that may run CTAs of one launch side by side; 0: as many as there are processors. No result depends on it.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 0,
            memory: 80 << 30,
            multiprocessors: 132,
            hazards: true,
            strict: false,
            election: Election::Lowest,
            counters: false,
            unwritten: false,
            recycle: false,
            step_limit: u64::MAX,
            time_limit: None,
            observe: Observe::default(),
            interrupt: None,
            threads: 0,
        }
    }
}

impl Options {
    /// What kernels of one's own are best tested with: nothing but the letter of the ISA holds. Strict hazards count, and
    /// `elect.sync` picks any lane.
    pub fn pedantic(seed: u64) -> Options {
        Options { seed, strict: true, election: Election::Seeded, ..Options::default() }
    }
}

/// See the [module](self).
pub struct Interpreted {
    options: Options,
    gpu: Gpu,
    blocks: HashMap<DevicePtr, u64>,
    used: u64,
    report: Option<Report>,
}

/// The first few, a line each.
fn describe(hazards: &[Hazard]) -> String {
    hazards.iter().take(4).map(|h| format!("\n  {h}")).collect()
}

impl Interpreted {
    /// A GPU with empty memory.
    pub fn new(options: Options) -> Interpreted {
        let Options { seed, hazards, strict, election, counters, step_limit, time_limit, threads, .. } = options;
        let gpu = Gpu::new(request::Options {
            seed,
            hazards,
            strict,
            election,
            counters,
            step_limit,
            time_limit,
            multiprocessors: options.multiprocessors,
            observe: options.observe.clone(),
            interrupt: options.interrupt.clone(),
            threads,
            ..request::Options::default()
        });
        Interpreted { options, gpu, blocks: HashMap::new(), used: 0, report: None }
    }

    /// Bytes that something wrote.
    fn written(&self, from: DevicePtr, bytes: usize) -> Result<Vec<u8>, DriverError> {
        if !self.options.hazards || self.options.unwritten {
            return self.gpu.read(from, bytes).map_err(|e| failed("read-back", e));
        }
        let (values, initialized) = self.gpu.read_initialized(from, bytes).map_err(|e| failed("read-back", e))?;
        match initialized.iter().position(|&i| !i) {
            Some(at) => Err(failed("read-back", format!("byte {at} of {bytes} was never written"))),
            None => Ok(values),
        }
    }
}

impl fmt::Debug for Interpreted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interpreted({:?})", self.options)
    }
}

impl Driver for Interpreted {
    fn name(&self) -> String {
        "interpreted".into()
    }

    fn description(&self) -> String {
        format!("a Hopper GPU played by an interpreter of PTX (seed {})", self.options.seed)
    }

    fn properties(&self) -> Properties {
        Properties { capability: (9, 0), multiprocessors: self.options.multiprocessors, shared_per_block: 227 << 10 }
    }

    fn alloc(&mut self, bytes: u64) -> Result<DevicePtr, DriverError> {
        let total = self.options.memory;
        if bytes > total - self.used {
            return Err(DriverError::OutOfMemory { asked: bytes, free: total - self.used, total });
        }
        let ptr = self.gpu.alloc(bytes).map_err(|e| failed("alloc", e))?;
        self.blocks.insert(ptr, bytes);
        self.used += bytes;
        Ok(ptr)
    }

    fn free(&mut self, ptr: DevicePtr) -> Result<(), DriverError> {
        self.used -= self.blocks.remove(&ptr).ok_or_else(|| failed("free", format!("{ptr:#x} is no block")))?;
        self.gpu.free(ptr).map_err(|e| failed("free", e))
    }

    fn recycles(&self) -> bool {
        self.options.recycle
    }

    fn upload(&mut self, to: DevicePtr, bytes: &[u8]) -> Result<(), DriverError> {
        self.gpu.write(to, bytes).map_err(|e| failed("upload", e))
    }

    fn download(&mut self, to: &mut [u8], from: DevicePtr) -> Result<(), DriverError> {
        to.copy_from_slice(&self.written(from, to.len())?);
        Ok(())
    }

    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64) -> Result<(), DriverError> {
        let values = self.written(from, bytes as usize)?;
        self.gpu.write(to, &values).map_err(|e| failed("copy", e))
    }

    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64) -> Result<(), DriverError> {
        self.gpu.fill(to, byte, bytes).map_err(|e| failed("fill", e))
    }

    fn load(&mut self, file: &str, ptx: &str) -> Result<ModuleHandle, DriverError> {
        let what = format!("loading {file}");
        let first = |e: Errors| e.to_string().lines().take(4).collect::<Vec<_>>().join("\n");
        let module = parsed(file, ptx).map_err(|e| failed(&what, first(e)))?;
        self.gpu.load(module).map_err(|e| failed(&what, e))
    }

    fn variable(&mut self, module: ModuleHandle, name: &str) -> Result<(DevicePtr, u64), DriverError> {
        self.gpu
            .variable(module, name)
            .map(|v| (v.ptr(), v.bytes()))
            .ok_or_else(|| failed(name, "the module has no such variable"))
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), DriverError> {
        let report = self.gpu.launch(launch);
        let hazards = &report.hazards;
        let why = match &report.fault {
            None if hazards.is_empty() => None,
            None => Some(format!("{} hazards{}", hazards.len(), describe(hazards))),
            Some(fault) => Some(format!("{fault}{}", describe(hazards))),
        };
        self.report = Some(report);
        why.map_or(Ok(()), |why| Err(failed(&launch.entry, why)))
    }

    fn report(&mut self) -> Option<Report> {
        self.report.take()
    }

    fn tensor_map(&mut self, map: &TensorMap) -> Result<[u8; MAP_BYTES], DriverError> {
        map.encode().map_err(|e| failed("tensor map", e))
    }

    fn synchronize(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
}
