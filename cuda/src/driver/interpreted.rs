//! A GPU inside the process: the interpreter of the `ptx` crate as a [`Driver`].
//!
//! Everything happens at once, in the order in which it is asked for, which is one of the orders that streams allow. A hazard
//! that the interpreter names is a failure of its kernel, and so is a read-back of bytes that nothing wrote.

use super::{
    DevicePtr, Driver, DriverError, Event, Graph, Kernel, Launch, MapType, Module, Properties, Stream, Swizzle, TensorMap,
};
use ptx::tensor_map::ElementType;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a GPU is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything that a card leaves open: the order of warps, when asynchronous copies land, and the like.
    pub seed: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors: kernels that stay on one for several tiles are started on as many.
    pub multiprocessors: u32,
    /// Whether hazards are looked for; they cost most of the time.
    pub hazards: bool,
    /// Whether blocks of memory are used again for other tensors, as on a card. Then fewer mistakes are seen.
    pub recycle: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, memory: 80 << 30, multiprocessors: 132, hazards: true, recycle: false }
    }
}

/// See the [module](self).
pub struct Interpreted {
    options: Options,
    gpu: ptx::Gpu,
    blocks: HashMap<DevicePtr, u64>,
    used: u64,
    modules: Vec<(ptx::ModuleHandle, Arc<ptx::Module>)>,
    kernels: Vec<(ptx::ModuleHandle, String)>,
    streams: usize,
    events: Vec<Instant>,
    graphs: Vec<Vec<Work>>,
    recording: Option<(Stream, Vec<Work>)>,
}

/// What a graph can hold.
#[derive(Clone)]
enum Work {
    Launch(ptx::Launch),
    Copy(DevicePtr, DevicePtr, u64),
    Fill(DevicePtr, u8, u64),
    Upload(DevicePtr, Vec<u8>),
}

fn failed(what: impl fmt::Display, reason: impl fmt::Display) -> DriverError {
    DriverError::Failed { what: what.to_string(), reason: reason.to_string() }
}

/// Parsing a module takes longer than most kernels: each text is parsed once in a process.
fn parsed(name: &str, text: &'static str) -> Result<Arc<ptx::Module>, DriverError> {
    static CACHE: Mutex<Option<HashMap<&'static str, Arc<ptx::Module>>>> = Mutex::new(None);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = cache.get_or_insert_default();
    if let Some(module) = cache.get(text) {
        return Ok(module.clone());
    }
    let first = |e: ptx::Errors| e.to_string().lines().take(4).collect::<Vec<_>>().join("\n");
    let module = ptx::Module::parse(&format!("{name}.ptx"), text).map_err(|e| failed(format!("loading {name}.ptx"), first(e)))?;
    let module = Arc::new(module);
    cache.insert(text, module.clone());
    Ok(module)
}

impl Interpreted {
    /// A GPU with empty memory.
    pub fn new(options: Options) -> Interpreted {
        let gpu = ptx::Options { seed: options.seed, hazards: options.hazards, counters: false, ..ptx::Options::default() };
        Interpreted {
            options,
            gpu: ptx::Gpu::new(gpu),
            blocks: HashMap::new(),
            used: 0,
            modules: vec![],
            kernels: vec![],
            streams: 1,
            events: vec![],
            graphs: vec![],
            recording: None,
        }
    }

    /// Does it, or notes it where the stream is being recorded.
    fn submit(&mut self, work: Work, stream: Stream) -> Result<(), DriverError> {
        match &mut self.recording {
            Some((recorded, list)) if *recorded == stream => {
                list.push(work);
                Ok(())
            }
            _ => self.perform(&work),
        }
    }

    fn perform(&mut self, work: &Work) -> Result<(), DriverError> {
        match work {
            Work::Launch(launch) => self.run(launch),
            &Work::Copy(to, from, bytes) => {
                let values = self.written(from, bytes as usize)?;
                self.gpu.write(to, &values).map_err(|e| failed("copy", e))
            }
            &Work::Fill(to, byte, bytes) => self.gpu.fill(to, byte, bytes).map_err(|e| failed("fill", e)),
            Work::Upload(to, bytes) => self.gpu.write(*to, bytes).map_err(|e| failed("upload", e)),
        }
    }

    fn run(&mut self, launch: &ptx::Launch) -> Result<(), DriverError> {
        let describe = |hazards: &[ptx::Hazard]| hazards.iter().take(4).map(|h| format!("\n  {h}")).collect::<String>();
        match self.gpu.launch(launch) {
            Ok(report) if report.hazards.is_empty() => Ok(()),
            Ok(report) => Err(failed(&launch.entry, format!("{} hazards{}", report.hazards.len(), describe(&report.hazards)))),
            Err(fault) => Err(failed(&launch.entry, format!("{fault}{}", describe(&fault.hazards)))),
        }
    }

    /// Bytes that something wrote.
    fn written(&self, from: DevicePtr, bytes: usize) -> Result<Vec<u8>, DriverError> {
        if !self.options.hazards {
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

    fn memory(&self) -> Result<(u64, u64), DriverError> {
        Ok((self.options.memory - self.used, self.options.memory))
    }

    fn recycles(&self) -> bool {
        self.options.recycle
    }

    fn upload(&mut self, to: DevicePtr, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        self.submit(Work::Upload(to, bytes.to_vec()), stream)
    }

    fn download(&mut self, to: &mut [u8], from: DevicePtr, stream: Stream) -> Result<(), DriverError> {
        if self.recording.as_ref().is_some_and(|(recorded, _)| *recorded == stream) {
            return Err(failed("read-back", "the stream is being recorded"));
        }
        to.copy_from_slice(&self.written(from, to.len())?);
        Ok(())
    }

    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.submit(Work::Copy(to, from, bytes), stream)
    }

    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.submit(Work::Fill(to, byte, bytes), stream)
    }

    fn load(&mut self, name: &str, ptx: &'static str) -> Result<Module, DriverError> {
        let module = parsed(name, ptx)?;
        let handle = self.gpu.load(module.clone()).map_err(|e| failed(format!("loading {name}.ptx"), e))?;
        self.modules.push((handle, module));
        Ok(Module(self.modules.len() - 1))
    }

    fn kernel(&mut self, module: Module, name: &str) -> Result<Kernel, DriverError> {
        let (handle, module) = &self.modules[module.0];
        if module.params(name).is_none() {
            return Err(failed(name, "the module has no such kernel"));
        }
        self.kernels.push((*handle, name.to_string()));
        Ok(Kernel(self.kernels.len() - 1))
    }

    fn launch(&mut self, launch: &Launch<'_>, stream: Stream) -> Result<(), DriverError> {
        let (module, entry) = self.kernels[launch.kernel.0].clone();
        let launch = ptx::Launch {
            module,
            entry,
            grid: launch.grid,
            block: launch.block,
            cluster: launch.cluster,
            shared_bytes: launch.shared,
            params: launch.args.to_vec(),
        };
        self.submit(Work::Launch(launch), stream)
    }

    fn tensor_map(&mut self, map: &TensorMap<'_>) -> Result<[u8; 128], DriverError> {
        let element = match map.dtype {
            MapType::U8 => ElementType::U8,
            MapType::U16 => ElementType::U16,
            MapType::U32 => ElementType::U32,
            MapType::I32 => ElementType::I32,
            MapType::U64 => ElementType::U64,
            MapType::I64 => ElementType::I64,
            MapType::F16 => ElementType::F16,
            MapType::F32 => ElementType::F32,
            MapType::F64 => ElementType::F64,
            MapType::BF16 => ElementType::Bf16,
        };
        let swizzle = match map.swizzle {
            Swizzle::None => ptx::matrix::Swizzle::None,
            Swizzle::B32 => ptx::matrix::Swizzle::B32,
            Swizzle::B64 => ptx::matrix::Swizzle::B64,
            Swizzle::B128 => ptx::matrix::Swizzle::B128,
        };
        let dense = ptx::tensor_map::TensorMap::dense(element, map.base, map.sizes, map.window);
        let full = ptx::tensor_map::TensorMap { strides: map.strides.to_vec(), swizzle, ..dense };
        full.encode().map_err(|e| failed("tensor map", e))
    }

    fn stream(&mut self) -> Result<Stream, DriverError> {
        self.streams += 1;
        Ok(Stream(self.streams - 1))
    }

    fn record(&mut self, _: Stream) -> Result<Event, DriverError> {
        self.events.push(Instant::now());
        Ok(Event(self.events.len() - 1))
    }

    fn wait(&mut self, _: Stream, _: Event) -> Result<(), DriverError> {
        Ok(()) // it has happened
    }

    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration, DriverError> {
        Ok(self.events[to.0].saturating_duration_since(self.events[from.0]))
    }

    fn synchronize(&mut self) -> Result<(), DriverError> {
        Ok(())
    }

    fn begin_graph(&mut self, stream: Stream) -> Result<(), DriverError> {
        if self.recording.is_some() {
            return Err(failed("begin_graph", "another recording is under way"));
        }
        self.recording = Some((stream, vec![]));
        Ok(())
    }

    fn end_graph(&mut self, stream: Stream) -> Result<Graph, DriverError> {
        match self.recording.take() {
            Some((recorded, list)) if recorded == stream => {
                self.graphs.push(list);
                Ok(Graph(self.graphs.len() - 1))
            }
            other => {
                self.recording = other;
                Err(failed("end_graph", "the stream is not being recorded"))
            }
        }
    }

    fn replay(&mut self, graph: Graph, _: Stream) -> Result<(), DriverError> {
        let list = self.graphs[graph.0].clone();
        list.iter().try_for_each(|work| self.perform(work))
    }
}
