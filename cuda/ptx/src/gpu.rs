//! The public face of the machine: memory, modules, launches.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::exec;
use crate::exec::module::{Module, parsed};
use crate::ir::program::{RelocationTarget, handle};
use crate::mem::{Global, MemoryError};
use crate::observe::Observe;
use crate::request::{Launch, ModuleHandle, Options, Report};
use crate::text::Errors;
use crate::text::ast::Space;

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The PTX is not understood.
    #[error(transparent)]
    Ptx(#[from] Errors),
    /// Its variables find no memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
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
    /// The last launch, if the host has not touched memory since.
    last: Option<u32>,
}

impl Default for Gpu {
    fn default() -> Gpu {
        Gpu::new(Options::default())
    }
}

impl Gpu {
    /// A GPU with empty memory.
    pub fn new(options: Options) -> Gpu {
        Gpu { memory: Global::default(), options, modules: Vec::new(), launches: 0, last: None }
    }

    /// Runs `test` on a fresh GPU for each of so many schedules, from seed 0 on, with nothing but the letter of the ISA to rely on
    /// ([`Options::pedantic`]), until one fails.
    ///
    /// # Errors
    /// The first error of `test`. If `test` panics, the seed goes to standard error.
    pub fn schedules<E>(seeds: u64, mut test: impl FnMut(&mut Gpu) -> Result<(), E>) -> Result<(), E> {
        struct Seed(u64);
        impl Drop for Seed {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("with the schedule of seed {}", self.0);
                }
            }
        }
        (0..seeds).try_for_each(|seed| {
            let _note = Seed(seed);
            test(&mut Gpu::new(Options { counters: false, ..Options::pedantic(seed) }))
        })
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
        self.last = None;
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
        self.last = None;
        self.memory.fill(ptr, byte, len)
    }

    /// Copies within global memory; bytes that nothing wrote stay so.
    pub fn copy(&mut self, to: u64, from: u64, len: usize) -> Result<(), MemoryError> {
        self.last = None;
        self.memory.copy(to, from, len)
    }

    /// Whether an address is one that global memory gave out, freed ones too.
    pub fn owns(&self, ptr: u64) -> bool {
        self.memory.owns(ptr)
    }

    /// Looks for hazards from the next launch on, or no more. What a launch writes that is not looked at counts as written from
    /// the first byte of memory to the last.
    pub fn look_for_hazards(&mut self, on: bool) {
        if on && !self.options.hazards {
            self.memory.assume_written();
        }
        self.options.hazards = on;
    }

    /// What of the next launches is to be seen.
    pub fn observe(&mut self, observe: Observe) {
        self.options.observe = observe;
    }

    /// Places a module's variables in memory.
    pub fn load(&mut self, module: Arc<Module>) -> Result<ModuleHandle, MemoryError> {
        let mut globals = Vec::with_capacity(module.program.globals.len());
        for g in &module.program.globals {
            globals.push(self.memory.alloc(g.bytes.max(1))?);
        }
        for (g, &at) in module.program.globals.iter().zip(&globals) {
            let mut bytes = g.init.clone();
            for r in &g.relocations {
                let address = match r.target {
                    RelocationTarget::Global(v) => globals[v as usize],
                    RelocationTarget::Function(f) => handle(f),
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

    /// Parses PTX, which `file` names in messages, and places its variables in memory. A text is parsed once in a process.
    ///
    /// # Errors
    /// If the PTX is not understood, or its variables find no memory.
    pub fn load_ptx(&mut self, file: &str, text: &str) -> Result<ModuleHandle, LoadError> {
        Ok(self.load(parsed(file, text)?)?)
    }

    /// A module's `__device__` or `__constant__` variable, if there is one of this name in the PTX.
    pub fn variable(&self, module: ModuleHandle, name: &str) -> Option<Buffer> {
        let loaded = self.modules.get(module.0)?;
        let i = loaded.module.program.globals.iter().position(|g| g.name == name)?;
        Some(Buffer { ptr: loaded.globals[i], bytes: loaded.module.program.globals[i].bytes })
    }

    /// What a launch of a module's kernel works with: memory, the code, and the addresses of the module's variables.
    pub(crate) fn parts(&mut self, module: ModuleHandle) -> Option<(&mut Global, &Module, &[u64])> {
        let loaded = self.modules.get(module.0)?;
        Some((&mut self.memory, &loaded.module, &loaded.globals))
    }

    /// Runs a kernel, to its end or to a fault: the report says which. Each launch of a GPU has a stream of choices of its own,
    /// drawn from the seed.
    #[must_use = "what is wrong with the kernel is in the report: ask it for `assert_clean()` or `clean()?`"]
    pub fn launch(&mut self, launch: &Launch) -> Report {
        let Some(loaded) = self.modules.get(launch.module.0) else {
            return Report::refused(&launch.entry, "the module handle is not of this GPU".into());
        };
        self.launches += 1;
        let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(self.launches));
        let mut options = self.options.clone();
        options.step_limit = options.step_limit.min(launch.step_limit.unwrap_or(u64::MAX));
        options.time_limit = options.time_limit.into_iter().chain(launch.time_limit).min();
        let before = self.last.replace(self.launches).filter(|_| launch.dependent);
        let number = (self.launches, seed, before);
        exec::launch::launch(&options, &mut self.memory, &loaded.module, &loaded.globals, launch, number)
            .unwrap_or_else(|message| Report::refused(&launch.entry, message))
    }
}
