//! Modules, their kernels and variables, and what the program's own functions and variables stand for.
//!
//! A fat binary is read when something of it is first used, as CUDA does by default: a program with hundreds of kernels parses what it
//! launches.

use std::collections::HashMap;
use std::sync::Arc;

use ptx::{Gpu, KernelInfo, Module, ModuleHandle, ParamInfo};

use crate::call::{Failure, Result, failure};
use crate::fatbin;
use crate::handles::Handles;
use crate::memory::Blocks;
use crate::status::Status;

/// A module that is in the device's memory.
#[derive(Clone)]
pub struct Loaded {
    pub module: Arc<Module>,
    pub handle: ModuleHandle,
    /// Its text, for captures.
    pub text: Arc<str>,
    /// What messages call it.
    pub name: Arc<str>,
}

/// A module, loaded or not yet.
struct Image {
    /// Where the program has it.
    source: u64,
    loaded: Option<std::result::Result<Loaded, (Status, String)>>,
}

/// A kernel that the program has a handle or a function for.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub image: u64,
    pub name: String,
    /// `cudaFuncAttributeMaxDynamicSharedMemorySize`
    pub max_dynamic_shared: u32,
    /// `cudaFuncAttributeNonPortableClusterSizeAllowed`
    pub large_clusters: bool,
    /// `cudaFuncAttributePreferredSharedMemoryCarveout`
    pub carveout: i32,
}

/// The most dynamic shared memory without asking for more.
pub const SHARED_BY_DEFAULT: u32 = 48 << 10;

/// A variable that the program knows by one of its own.
#[derive(Clone, Debug)]
struct Variable {
    image: u64,
    name: String,
}

/// See the [module](self).
pub struct Modules {
    images: Handles<Image>,
    pub kernels: Handles<Kernel>,
    /// Handles by image and name, so that a kernel has one.
    names: HashMap<(u64, String), u64>,
    /// Kernels by the address of the program's function.
    functions: HashMap<u64, u64>,
    variables: HashMap<u64, Variable>,
    /// `__managed__` variables: the program's pointer to fill in, by image.
    managed: HashMap<u64, Vec<(u64, String)>>,
    loads: u32,
}

impl Default for Modules {
    fn default() -> Modules {
        Modules {
            images: Handles::new("module", 2),
            kernels: Handles::new("kernel", 3),
            names: HashMap::new(),
            functions: HashMap::new(),
            variables: HashMap::new(),
            managed: HashMap::new(),
            loads: 0,
        }
    }
}

impl Modules {
    /// A module to be read when it is used.
    pub fn add(&mut self, source: u64) -> u64 {
        self.images.add(Image { source, loaded: None })
    }

    /// Forgets a module. What it has in memory stays.
    pub fn remove(&mut self, image: u64) -> Result {
        self.images.remove(image).map(|_| ())
    }

    /// A kernel's handle, whether the module has it or not.
    pub fn kernel(&mut self, image: u64, name: String) -> u64 {
        let key = (image, name);
        if let Some(&known) = self.names.get(&key) {
            return known;
        }
        let kernel =
            Kernel { image, name: key.1.clone(), max_dynamic_shared: SHARED_BY_DEFAULT, large_clusters: false, carveout: -1 };
        let handle = self.kernels.add(kernel);
        self.names.insert(key, handle);
        handle
    }

    /// A function of the program stands for a kernel.
    pub fn register_function(&mut self, image: u64, function: u64, name: String) {
        let kernel = self.kernel(image, name);
        self.functions.insert(function, kernel);
    }

    /// A variable of the program stands for one of the module.
    pub fn register_variable(&mut self, image: u64, variable: u64, name: String) {
        self.variables.insert(variable, Variable { image, name });
    }

    /// A pointer of the program is to point to a `__managed__` variable.
    pub fn register_managed(&mut self, image: u64, pointer: u64, name: String) {
        self.variables.insert(pointer, Variable { image, name: name.clone() });
        self.managed.entry(image).or_default().push((pointer, name));
    }

    /// The handle of a kernel, given that or a function of the program.
    pub fn find(&self, function: u64) -> Result<u64> {
        match self.functions.get(&function) {
            Some(&kernel) => Ok(kernel),
            None if self.kernels.has(function) => Ok(function),
            None => Err(failure(Status::INVALID_DEVICE_FUNCTION, format!("{function:#x} is no kernel that was registered"))),
        }
    }

    /// A module in memory.
    pub fn load(&mut self, gpu: &mut Gpu, blocks: &mut Blocks, image: u64) -> Result<Loaded> {
        let entry = self.images.get(image)?;
        if let Some(loaded) = &entry.loaded {
            return loaded.clone().map_err(|(status, why)| failure(status, why));
        }
        let source = entry.source;
        self.loads += 1;
        let name = format!("module {}", self.loads);
        let loaded = place(gpu, source, &name);
        let kept = match &loaded {
            Ok(loaded) => Ok(loaded.clone()),
            Err(Failure { status, why }) => Err((*status, why.clone().unwrap_or_default())),
        };
        self.images.get_mut(image)?.loaded = Some(kept);
        let loaded = loaded?;
        for (pointer, name) in self.managed.get(&image).cloned().unwrap_or_default() {
            let Some(variable) = gpu.variable(loaded.handle, &name) else { continue };
            blocks.manage(gpu, variable.ptr(), variable.bytes())?;
            crate::host::put(pointer as *mut u64, variable.ptr())?;
        }
        Ok(loaded)
    }

    /// A kernel with its module, which has it.
    pub fn loaded(&mut self, gpu: &mut Gpu, blocks: &mut Blocks, kernel: u64) -> Result<(Kernel, Loaded)> {
        let kernel = self.kernels.get(kernel)?.clone();
        let loaded = self.load(gpu, blocks, kernel.image)?;
        if loaded.module.info(&kernel.name).is_none() {
            let known: Vec<&str> = loaded.module.kernels().take(8).collect();
            let why = format!("the module has no kernel `{}`; it has {}", kernel.name, known.join(", "));
            return Err(failure(Status::NOT_FOUND, why));
        }
        Ok((kernel, loaded))
    }

    /// Address and bytes of a module's variable.
    pub fn global(&mut self, gpu: &mut Gpu, blocks: &mut Blocks, image: u64, name: &str) -> Result<(u64, u64)> {
        let loaded = self.load(gpu, blocks, image)?;
        let missing = || failure(Status::NOT_FOUND, format!("the module has no variable `{name}`"));
        gpu.variable(loaded.handle, name).map(|v| (v.ptr(), v.bytes())).ok_or_else(missing)
    }

    /// Address and bytes of the variable that one of the program stands for.
    pub fn symbol(&mut self, gpu: &mut Gpu, blocks: &mut Blocks, variable: u64) -> Result<(u64, u64)> {
        let Some(Variable { image, name }) = self.variables.get(&variable).cloned() else {
            return Err(failure(Status::INVALID_SYMBOL, format!("{variable:#x} is no variable that was registered")));
        };
        self.global(gpu, blocks, image, &name)
    }
}

fn place(gpu: &mut Gpu, source: u64, name: &str) -> Result<Loaded> {
    let text = fatbin::ptx(source)?;
    let module = Module::parse(name, &text).map_err(|errors| {
        let all = errors.to_string();
        let first: Vec<&str> = all.lines().take(4).collect();
        failure(Status::INVALID_PTX, format!("the interpreter does not take the PTX\n  {}", first.join("\n  ")))
    })?;
    let module = Arc::new(module);
    let handle = gpu.load(module.clone())?;
    Ok(Loaded { module, handle, text: text.into(), name: name.into() })
}

impl Loaded {
    /// What a kernel of this module asks of its launch.
    pub fn info(&self, kernel: &str) -> Result<KernelInfo> {
        self.module.info(kernel).ok_or_else(|| Status::NOT_FOUND.into())
    }

    /// The parameters of a kernel.
    pub fn params(&self, kernel: &str) -> &[ParamInfo] {
        self.module.params(kernel).unwrap_or(&[])
    }
}
