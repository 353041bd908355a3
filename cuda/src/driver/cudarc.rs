//! NVIDIA's driver, loaded when the first device is opened.

use super::{Driver, DriverError, Event, Graph, Kernel, Launch, MapType, Module, Properties, Stream, Swizzle, TensorMap};
use cudarc::driver::{result, sys};
use std::ffi::{CString, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::time::Duration;

/// One card and its primary context.
pub struct Cudarc {
    ordinal: i32,
    device: sys::CUdevice,
    context: sys::CUcontext,
    description: String,
    properties: Properties,
    modules: Vec<sys::CUmodule>,
    kernels: Vec<sys::CUfunction>,
    streams: Vec<sys::CUstream>,
    events: Vec<sys::CUevent>,
    graphs: Vec<sys::CUgraphExec>,
}

// SAFETY: the handles are used behind `&mut self` only, and every call makes the context current on its thread first.
unsafe impl Send for Cudarc {}

impl fmt::Debug for Cudarc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cudarc(cuda:{}, {})", self.ordinal, self.description)
    }
}

/// A failed call by its name.
trait Named<T> {
    fn named(self, what: &str) -> Result<T, DriverError>;
}
impl<T> Named<T> for Result<T, result::DriverError> {
    fn named(self, what: &str) -> Result<T, DriverError> {
        self.map_err(|e| DriverError::Failed { what: what.into(), reason: reason(e) })
    }
}

fn reason(e: result::DriverError) -> String {
    match (e.error_name(), e.error_string()) {
        (Ok(name), Ok(text)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
        _ => format!("{:?}", e.0),
    }
}

impl Cudarc {
    /// Opens a card.
    ///
    /// # Errors
    /// If there is no driver, or no such card.
    pub fn open(ordinal: usize) -> Result<Cudarc, DriverError> {
        // SAFETY: it tries to load a library, which has no other effect. Without it any other call would panic.
        if !unsafe { sys::is_culib_present() } {
            return Err(DriverError::NoDevice("no NVIDIA driver was found on this machine (libcuda.so.1)".into()));
        }
        result::init().named("cuInit")?;
        let count = result::device::get_count().named("cuDeviceGetCount")?;
        let ordinal = i32::try_from(ordinal).ok().filter(|&i| i < count).ok_or_else(|| {
            DriverError::NoDevice(format!("there is no device cuda:{ordinal}; the NVIDIA driver sees {count} of them"))
        })?;
        let device = result::device::get(ordinal).named("cuDeviceGet")?;
        let name = result::device::get_name(device).named("cuDeviceGetName")?;
        use sys::CUdevice_attribute_enum::*;
        // SAFETY: `device` was just got, and the attributes exist since CUDA 5.
        let attribute = |a| unsafe { result::device::get_attribute(device, a) }.named("cuDeviceGetAttribute");
        let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let processors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        if major < 8 {
            return Err(DriverError::NoDevice(format!(
                "cuda:{ordinal} is {name} with compute capability {major}.{minor}; 8.0 or later is needed"
            )));
        }
        // SAFETY: as above; the context is released when this is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.named("cuDevicePrimaryCtxRetain")?;
        let shared = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let properties = Properties {
            capability: (major as u32, minor as u32),
            multiprocessors: processors as u32,
            shared_per_block: shared as u32,
        };
        let description = format!("{name}, compute capability {major}.{minor}, {processors} SMs");
        let mut card = Cudarc {
            ordinal,
            device,
            context,
            description,
            properties,
            modules: vec![],
            kernels: vec![],
            streams: vec![],
            events: vec![],
            graphs: vec![],
        };
        card.stream()?;
        Ok(card)
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained for as long as `self` lives.
        unsafe { result::ctx::set_current(self.context) }.named("cuCtxSetCurrent")
    }

    fn at(&self, stream: Stream) -> sys::CUstream {
        self.streams[stream.0]
    }
}

impl Driver for Cudarc {
    fn name(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn properties(&self) -> Properties {
        self.properties
    }

    fn alloc(&mut self, bytes: u64) -> Result<u64, DriverError> {
        self.enter()?;
        // SAFETY: the context is current.
        match unsafe { result::malloc_sync(bytes as usize) } {
            Ok(ptr) => Ok(ptr),
            Err(result::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, total) = self.memory()?;
                Err(DriverError::OutOfMemory { asked: bytes, free, total })
            }
            Err(e) => Err(e).named("cuMemAlloc"),
        }
    }

    fn free(&mut self, ptr: u64) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: `ptr` comes from `alloc`; the call waits for work that uses it.
        unsafe { result::free_sync(ptr) }.named("cuMemFree")
    }

    fn memory(&self) -> Result<(u64, u64), DriverError> {
        self.enter()?;
        let (free, total) = result::mem_get_info().named("cuMemGetInfo")?;
        Ok((free as u64, total as u64))
    }

    fn recycles(&self) -> bool {
        true
    }

    fn upload(&mut self, to: u64, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives a block of at least this size. From pageable memory the driver copies the bytes before the
        // call returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.at(stream)) }.named("cuMemcpyHtoD")
    }

    fn download(&mut self, to: &mut [u8], from: u64, stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives a block of at least this size; the stream is waited for before `to` is used.
        unsafe {
            result::memcpy_dtoh_async(to, from, self.at(stream)).named("cuMemcpyDtoH")?;
            result::stream::synchronize(self.at(stream)).named("cuStreamSynchronize")
        }
    }

    fn copy(&mut self, to: u64, from: u64, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives blocks of at least this size.
        unsafe { result::memcpy_dtod_async(to, from, bytes as usize, self.at(stream)) }.named("cuMemcpyDtoD")
    }

    fn fill(&mut self, to: u64, byte: u8, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives a block of at least this size.
        unsafe { result::memset_d8_async(to, byte, bytes as usize, self.at(stream)) }.named("cuMemsetD8")
    }

    fn load(&mut self, name: &str, ptx: &'static str) -> Result<Module, DriverError> {
        self.enter()?;
        let text = CString::new(ptx).map_err(|e| DriverError::Failed { what: name.into(), reason: e.to_string() })?;
        // SAFETY: PTX text that ends in a zero byte.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.named(&format!("loading {name}.ptx"))?;
        self.modules.push(module);
        Ok(Module(self.modules.len() - 1))
    }

    fn kernel(&mut self, module: Module, name: &str) -> Result<Kernel, DriverError> {
        self.enter()?;
        let text = CString::new(name).expect("a kernel's name has no zero byte");
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(self.modules[module.0], text) }.named(name)?;
        self.kernels.push(function);
        Ok(Kernel(self.kernels.len() - 1))
    }

    fn launch(&mut self, launch: &Launch<'_>, stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        let function = self.kernels[launch.kernel.0];
        if launch.shared > 48 << 10 {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST;
            // SAFETY: a function of a loaded module.
            unsafe { result::function::set_function_attribute(function, MOST, launch.shared as i32) }
                .named(&format!("{} B of dynamic shared memory", launch.shared))?;
        }
        let cluster =
            sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: launch.cluster[0], y: launch.cluster[1], z: launch.cluster[2] };
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { clusterDim: cluster },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.block[0],
            blockDimY: launch.block[1],
            blockDimZ: launch.block[2],
            sharedMemBytes: launch.shared,
            hStream: self.at(stream),
            attrs: &mut attribute,
            numAttrs: u32::from(launch.cluster != [1, 1, 1]),
        };
        let mut size = launch.args.len();
        let mut extra: [*mut c_void; 5] = [
            sys::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT as usize as *mut c_void,
            launch.args.as_ptr() as *mut c_void,
            sys::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT as usize as *mut c_void,
            (&raw mut size).cast(),
            std::ptr::null_mut(), // CU_LAUNCH_PARAM_END
        ];
        // SAFETY: everything pointed to lives until the call returns, and the driver has copied the arguments by then. That
        // they fit the kernel is the caller's part.
        unsafe { sys::cuLaunchKernelEx(&config, function, std::ptr::null_mut(), extra.as_mut_ptr()) }
            .result()
            .named("cuLaunchKernelEx")
    }

    fn tensor_map(&mut self, map: &TensorMap<'_>) -> Result<[u8; 128], DriverError> {
        use sys::CUtensorMapDataType_enum::*;
        self.enter()?;
        let dtype = match map.dtype {
            MapType::U8 => CU_TENSOR_MAP_DATA_TYPE_UINT8,
            MapType::U16 => CU_TENSOR_MAP_DATA_TYPE_UINT16,
            MapType::U32 => CU_TENSOR_MAP_DATA_TYPE_UINT32,
            MapType::I32 => CU_TENSOR_MAP_DATA_TYPE_INT32,
            MapType::U64 => CU_TENSOR_MAP_DATA_TYPE_UINT64,
            MapType::I64 => CU_TENSOR_MAP_DATA_TYPE_INT64,
            MapType::F16 => CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            MapType::F32 => CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            MapType::F64 => CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
            MapType::BF16 => CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        };
        let swizzle = match map.swizzle {
            Swizzle::None => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
            Swizzle::B32 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B,
            Swizzle::B64 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
            Swizzle::B128 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        };
        let ones = vec![1u32; map.sizes.len()];
        let mut encoded = MaybeUninit::<sys::CUtensorMap>::zeroed();
        // SAFETY: the slices have as many elements as the driver reads, and it writes the 128 bytes of a map.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                encoded.as_mut_ptr(),
                dtype,
                map.sizes.len() as u32,
                map.base as *mut c_void,
                map.sizes.as_ptr(),
                map.strides.as_ptr(),
                map.window.as_ptr(),
                ones.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
            .result()
            .named("cuTensorMapEncodeTiled")?;
            Ok(encoded.as_ptr().cast::<[u8; 128]>().read())
        }
    }

    fn stream(&mut self) -> Result<Stream, DriverError> {
        self.enter()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).named("cuStreamCreate")?;
        self.streams.push(stream);
        Ok(Stream(self.streams.len() - 1))
    }

    fn record(&mut self, stream: Stream) -> Result<Event, DriverError> {
        self.enter()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).named("cuEventCreate")?;
        self.events.push(event);
        // SAFETY: both were created here.
        unsafe { result::event::record(event, self.at(stream)) }.named("cuEventRecord")?;
        Ok(Event(self.events.len() - 1))
    }

    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DriverError> {
        self.enter()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both were created here.
        unsafe { result::stream::wait_event(self.at(stream), self.events[event.0], flags) }.named("cuStreamWaitEvent")
    }

    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration, DriverError> {
        self.enter()?;
        // SAFETY: both were created here.
        let milliseconds = unsafe {
            result::event::synchronize(self.events[to.0]).named("cuEventSynchronize")?;
            result::event::elapsed(self.events[from.0], self.events[to.0]).named("cuEventElapsedTime")?
        };
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1e3))
    }

    fn synchronize(&mut self) -> Result<(), DriverError> {
        self.enter()?;
        result::ctx::synchronize().named("cuCtxSynchronize")
    }

    fn begin_graph(&mut self, stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream was created here.
        unsafe { result::stream::begin_capture(self.at(stream), mode) }.named("cuStreamBeginCapture")
    }

    fn end_graph(&mut self, stream: Stream) -> Result<Graph, DriverError> {
        self.enter()?;
        // SAFETY: the stream was created here, and the graph is no longer needed once it is instantiated.
        let exec = unsafe {
            let graph = result::stream::end_capture(self.at(stream)).named("cuStreamEndCapture")?;
            let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)).named("cuGraphInstantiate");
            result::graph::destroy(graph).named("cuGraphDestroy")?;
            exec?
        };
        self.graphs.push(exec);
        Ok(Graph(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: Graph, stream: Stream) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: both were created here.
        unsafe { result::graph::launch(self.graphs[graph.0], self.at(stream)) }.named("cuGraphLaunch")
    }
}

impl Drop for Cudarc {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: everything was created here and nothing uses it any more. What fails is lost with the context.
        unsafe {
            let _ = result::ctx::synchronize();
            self.graphs.iter().for_each(|&g| _ = result::graph::exec_destroy(g));
            self.events.iter().for_each(|&e| _ = result::event::destroy(e));
            self.streams.iter().for_each(|&s| _ = result::stream::destroy(s));
            self.modules.iter().for_each(|&m| _ = result::module::unload(m));
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
