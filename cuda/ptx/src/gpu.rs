//! The public face of the machine: memory, modules, launches.

use std::fmt;
use std::sync::Arc;

use crate::counters::Counters;
use crate::exec;
use crate::hazard::{Hazard, Place};
use crate::ir::Module;
use crate::ir::module::RelocationTarget;
use crate::mem::{Global, MemoryError};
use crate::text::ast::Space;

/// When asynchronous operations land.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asynchrony {
    /// As late as the memory model allows, in a seeded order, and early now and then.
    #[default]
    Adversarial,
    /// At once.
    Eager,
}

/// What a [`Gpu`] does beside computing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides every choice that the ISA leaves open.
    pub seed: u64,
    /// Look for hazards.
    pub hazards: bool,
    /// Count.
    pub counters: bool,
    /// When asynchronous operations land.
    pub asynchrony: Asynchrony,
    /// Warp instructions after which a launch is given up.
    pub step_limit: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, hazards: true, counters: true, asynchrony: Asynchrony::Adversarial, step_limit: u64::MAX }
    }
}

/// A module that was loaded into a [`Gpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleHandle(usize);

/// A kernel launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The module.
    pub module: ModuleHandle,
    /// The kernel's name.
    pub entry: String,
    /// CTAs.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// CTAs of a cluster; `[1, 1, 1]` for none.
    pub cluster: [u32; 3],
    /// Dynamic shared memory of a CTA.
    pub shared_bytes: u32,
    /// Parameters, laid out as [`Module::params`] says.
    pub params: Vec<u8>,
}

/// What came of a launch that ran to its end.
#[derive(Debug)]
pub struct Report {
    /// Instructions executed, summed over threads.
    pub instructions: u64,
    /// What was found wrong.
    pub hazards: Vec<Hazard>,
    /// Counters, if wanted.
    pub counters: Option<Counters>,
    /// What the kernel printed.
    pub printed: String,
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The launch was refused.
    InvalidLaunch,
    /// `trap` was executed.
    Trap,
    /// A device assertion failed.
    Assert,
    /// Nothing can go on.
    Deadlock,
    /// An access outside of memory, or misaligned.
    IllegalAddress,
    /// Something else that ends a kernel.
    IllegalInstruction,
    /// The launch took too many steps.
    StepLimit,
}

/// Why a launch ended early.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// The particulars.
    pub message: String,
    /// Where.
    pub at: Option<Box<Place>>,
    /// What was found wrong up to then.
    pub hazards: Vec<Hazard>,
    /// What the kernel had printed.
    pub printed: String,
}

impl Fault {
    /// A fault without hazards yet.
    pub fn new(kind: FaultKind, message: String, at: Option<Place>) -> Fault {
        Fault { kind, message, at: at.map(Box::new), hazards: Vec::new(), printed: String::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(at) = &self.at {
            write!(f, " at {at}")?;
        }
        Ok(())
    }
}

struct Loaded {
    module: Arc<Module>,
    globals: Vec<u64>,
}

/// A Hopper GPU in a process.
pub struct Gpu {
    options: Options,
    memory: Global,
    modules: Vec<Loaded>,
    launches: u32,
}

impl Gpu {
    /// A GPU with empty memory.
    pub fn new(options: Options) -> Gpu {
        Gpu { memory: Global::default(), options, modules: Vec::new(), launches: 0 }
    }

    /// Allocates `bytes` of global memory, 256-byte aligned and uninitialised.
    pub fn alloc(&mut self, bytes: u64) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes)
    }

    /// Frees what [`Gpu::alloc`] gave.
    pub fn free(&mut self, ptr: u64) -> Result<(), MemoryError> {
        self.memory.free(ptr)
    }

    /// Writes global memory.
    pub fn write(&mut self, ptr: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(ptr, bytes)
    }

    /// Reads global memory; bytes that nothing wrote read as 0xFF.
    pub fn read(&self, ptr: u64, len: usize) -> Result<Vec<u8>, MemoryError> {
        self.memory.read(ptr, len)
    }

    /// Reads global memory, and says of each byte whether it was ever written.
    pub fn read_initialized(&self, ptr: u64, len: usize) -> Result<(Vec<u8>, Vec<bool>), MemoryError> {
        self.memory.read_with_mask(ptr, len)
    }

    /// Sets `len` bytes to `byte`.
    pub fn fill(&mut self, ptr: u64, byte: u8, len: u64) -> Result<(), MemoryError> {
        self.memory.fill(ptr, byte, len)
    }

    /// Places a module's variables in memory.
    pub fn load(&mut self, module: Arc<Module>) -> Result<ModuleHandle, MemoryError> {
        let mut globals = Vec::with_capacity(module.globals.len());
        for g in &module.globals {
            globals.push(self.memory.alloc(g.bytes.max(1))?);
        }
        for (g, &at) in module.globals.iter().zip(&globals) {
            let mut bytes = g.init.clone();
            for r in &g.relocations {
                let address = match r.target {
                    RelocationTarget::Global(v) => globals[v as usize],
                    RelocationTarget::Function(f) => exec::calls::handle(f),
                }
                .wrapping_add(r.offset as u64);
                let value = (address & r.mask).checked_shr(r.mask.trailing_zeros()).unwrap_or(0);
                bytes[r.at..r.at + r.size].copy_from_slice(&value.to_le_bytes()[..r.size]);
            }
            if bytes.is_empty() {
                self.memory.fill(at, 0, g.bytes)?;
            } else {
                self.memory.write(at, &bytes)?;
            }
            if g.space == Space::Const {
                self.memory.set_read_only(at)?;
            }
        }
        self.modules.push(Loaded { module, globals });
        Ok(ModuleHandle(self.modules.len() - 1))
    }

    /// Address and size of a module's global variable.
    pub fn global(&self, module: ModuleHandle, name: &str) -> Option<(u64, u64)> {
        let loaded = self.modules.get(module.0)?;
        let i = loaded.module.globals.iter().position(|g| g.name == name)?;
        Some((loaded.globals[i], loaded.module.globals[i].bytes))
    }

    /// Runs a kernel to its end. Each launch of a GPU has a stream of choices of its own, drawn from the seed.
    pub fn launch(&mut self, launch: &Launch) -> Result<Report, Fault> {
        let loaded = self
            .modules
            .get(launch.module.0)
            .ok_or_else(|| Fault::new(FaultKind::InvalidLaunch, "the module handle is not of this GPU".into(), None))?;
        self.launches += 1;
        let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(self.launches));
        exec::launch::launch(&self.options, &mut self.memory, &loaded.module, &loaded.globals, launch, (self.launches, seed))
    }
}
