//! NVIDIA's driver, loaded when the first device is opened.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr::null_mut;

use cudarc::driver::{result, sys};

use super::{DevicePtr, Driver, DriverError, Properties, failed};
use crate::ir::ParamInfo;
use crate::request::{Launch, ModuleHandle};
use crate::tensor_map::{ElementType, L2Promotion, MAP_BYTES, OobFill, Swizzle, TensorMap};

/// One card and its primary context.
pub struct Card {
    ordinal: i32,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    description: String,
    properties: Properties,
    /// Each with the kernels that were started so far.
    modules: Vec<(sys::CUmodule, HashMap<String, sys::CUfunction>)>,
}

// SAFETY: the handles are used behind `&mut self` only, and every call makes the context current on its thread first.
unsafe impl Send for Card {}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Card(cuda:{}, {})", self.ordinal, self.description)
    }
}

/// A failed call by its name.
trait Named<T> {
    fn named(self, what: &str) -> Result<T, DriverError>;
}
impl<T> Named<T> for Result<T, result::DriverError> {
    fn named(self, what: &str) -> Result<T, DriverError> {
        self.map_err(|e| failed(what, reason(e)))
    }
}

fn reason(e: result::DriverError) -> String {
    match (e.error_name(), e.error_string()) {
        (Ok(name), Ok(text)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
        _ => format!("{:?}", e.0),
    }
}

impl Card {
    /// Opens a card.
    ///
    /// # Errors
    /// If there is no driver, or no such card.
    pub fn open(ordinal: usize) -> Result<Card, DriverError> {
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
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().named("cuDriverGetVersion")?;
        let (release, update) = (version / 1000, version % 1000 / 10);
        let description = format!("{name}, compute capability {major}.{minor}, {processors} SMs, CUDA driver {release}.{update}");
        let mut card = Card { ordinal, device, context, stream: null_mut(), description, properties, modules: vec![] };
        card.enter()?;
        card.stream = result::stream::create(result::stream::StreamKind::NonBlocking).named("cuStreamCreate")?;
        Ok(card)
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained for as long as `self` lives.
        unsafe { result::ctx::set_current(self.context) }.named("cuCtxSetCurrent")
    }

    /// A kernel of a module, looked up by its name once.
    fn kernel(&mut self, module: ModuleHandle, name: &str) -> Result<sys::CUfunction, DriverError> {
        let (module, kernels) =
            self.modules.get_mut(module.0).ok_or_else(|| failed(name, "its module was not loaded by this driver"))?;
        if let Some(&kernel) = kernels.get(name) {
            return Ok(kernel);
        }
        let text = CString::new(name).map_err(|e| failed(name, e))?;
        // SAFETY: the module is loaded.
        let kernel = unsafe { result::module::get_function(*module, text) }.named(name)?;
        kernels.insert(name.to_string(), kernel);
        Ok(kernel)
    }
}

impl Driver for Card {
    fn name(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn properties(&self) -> Properties {
        self.properties
    }

    fn alloc(&mut self, bytes: u64) -> Result<DevicePtr, DriverError> {
        self.enter()?;
        // SAFETY: the context is current.
        match unsafe { result::malloc_sync(bytes as usize) } {
            Ok(ptr) => Ok(ptr),
            Err(result::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, total) = result::mem_get_info().named("cuMemGetInfo")?;
                Err(DriverError::OutOfMemory { asked: bytes, free: free as u64, total: total as u64 })
            }
            Err(e) => Err(e).named("cuMemAlloc"),
        }
    }

    fn free(&mut self, ptr: DevicePtr) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: `ptr` comes from `alloc`; the call waits for work that uses it.
        unsafe { result::free_sync(ptr) }.named("cuMemFree")
    }

    fn recycles(&self) -> bool {
        true
    }

    fn upload(&mut self, to: DevicePtr, bytes: &[u8]) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives a block of at least this size. From pageable memory the driver copies the bytes before the
        // call returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }.named("cuMemcpyHtoD")
    }

    fn download(&mut self, to: &mut [u8], from: DevicePtr) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives a block of at least this size; the stream is waited for before `to` is used.
        unsafe {
            result::memcpy_dtoh_async(to, from, self.stream).named("cuMemcpyDtoH")?;
            result::stream::synchronize(self.stream).named("cuStreamSynchronize")
        }
    }

    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives blocks of at least this size.
        unsafe { result::memcpy_dtod_async(to, from, bytes as usize, self.stream) }.named("cuMemcpyDtoD")
    }

    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller gives a block of at least this size.
        unsafe { result::memset_d8_async(to, byte, bytes as usize, self.stream) }.named("cuMemsetD8")
    }

    fn load(&mut self, file: &str, ptx: &str) -> Result<ModuleHandle, DriverError> {
        self.enter()?;
        let what = format!("loading {file}");
        let text = CString::new(ptx).map_err(|e| failed(&what, e))?;
        // SAFETY: PTX text that ends in a zero byte.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.named(&what)?;
        self.modules.push((module, HashMap::new()));
        Ok(ModuleHandle(self.modules.len() - 1))
    }

    fn variable(&mut self, module: ModuleHandle, name: &str) -> Result<(DevicePtr, u64), DriverError> {
        self.enter()?;
        let (module, _) = self.modules.get(module.0).ok_or_else(|| failed(name, "its module was not loaded by this driver"))?;
        let text = CString::new(name).map_err(|e| failed(name, e))?;
        let (mut ptr, mut bytes) = (0, 0);
        // SAFETY: the module is loaded, and all pointers are valid for the call.
        unsafe { sys::cuModuleGetGlobal_v2(&mut ptr, &mut bytes, *module, text.as_ptr()) }.result().named(name)?;
        Ok((ptr, bytes as u64))
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), DriverError> {
        self.enter()?;
        let function = self.kernel(launch.module, &launch.entry)?;
        let params = match launch.packed() {
            Some(block) => block.to_vec(),
            None => launch.pack(&params(function)?).map_err(|e| failed("launch", e))?,
        };
        if launch.shared_bytes > 0 {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST;
            // SAFETY: a function of a loaded module.
            unsafe { result::function::set_function_attribute(function, MOST, launch.shared_bytes as i32) }
                .named(&format!("{} B of dynamic shared memory", launch.shared_bytes))?;
        }
        let mut attributes = attributes(launch);
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.block[0],
            blockDimY: launch.block[1],
            blockDimZ: launch.block[2],
            sharedMemBytes: launch.shared_bytes,
            hStream: self.stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: attributes.len() as u32,
        };
        let mut size = params.len();
        let mut extra: [*mut c_void; 5] = [
            sys::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT as usize as *mut c_void,
            params.as_ptr() as *mut c_void,
            sys::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT as usize as *mut c_void,
            (&raw mut size).cast(),
            null_mut(), // CU_LAUNCH_PARAM_END
        ];
        let extra = if params.is_empty() { null_mut() } else { extra.as_mut_ptr() };
        // SAFETY: everything pointed to lives until the call returns, and the driver has copied the arguments by then. That
        // they fit the kernel is the caller's part.
        unsafe { sys::cuLaunchKernelEx(&config, function, null_mut(), extra) }.result().named("cuLaunchKernelEx")
    }

    fn tensor_map(&mut self, map: &TensorMap) -> Result<[u8; MAP_BYTES], DriverError> {
        use sys::{CUtensorMapFloatOOBfill as Fill, CUtensorMapL2promotion as Promotion, CUtensorMapSwizzle as Pattern};
        map.check().map_err(|e| failed("tensor map", e))?;
        self.enter()?;
        let swizzle = match map.swizzle {
            Swizzle::None => Pattern::CU_TENSOR_MAP_SWIZZLE_NONE,
            Swizzle::B32 => Pattern::CU_TENSOR_MAP_SWIZZLE_32B,
            Swizzle::B64 => Pattern::CU_TENSOR_MAP_SWIZZLE_64B,
            Swizzle::B128 => Pattern::CU_TENSOR_MAP_SWIZZLE_128B,
        };
        let promotion = match map.l2_promotion {
            L2Promotion::None => Promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            L2Promotion::B64 => Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_64B,
            L2Promotion::B128 => Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            L2Promotion::B256 => Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        };
        let fill = match map.oob_fill {
            OobFill::Zero => Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            OobFill::Nan => Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA,
        };
        let mut encoded = sys::CUtensorMap_st { opaque: [0; 16] };
        // SAFETY: every array has as many entries as the rank says (`TensorMap::check` has seen to it) and outlives the call,
        // which writes the 128 bytes of a map.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut encoded,
                element(map.element),
                map.dims.len() as u32,
                map.address as *mut c_void,
                map.dims.as_ptr(),
                map.strides.as_ptr(),
                map.box_dims.as_ptr(),
                map.element_strides.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE, // `check` refuses the others
                swizzle,
                promotion,
                fill,
            )
        }
        .result()
        .named("cuTensorMapEncodeTiled")?;
        let mut bytes = [0; MAP_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(encoded.opaque) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Ok(bytes)
    }

    fn synchronize(&mut self) -> Result<(), DriverError> {
        self.enter()?;
        result::ctx::synchronize().named("cuCtxSynchronize")
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: everything was created here and nothing uses it any more. What fails is lost with the context.
        unsafe {
            let _ = result::ctx::synchronize();
            let _ = result::stream::destroy(self.stream);
            self.modules.iter().for_each(|&(m, _)| _ = result::module::unload(m));
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// What a launch asks for beside its extents.
fn attributes(launch: &Launch) -> Vec<sys::CUlaunchAttribute> {
    use sys::CUlaunchAttributeID::*;
    use sys::CUlaunchAttributeValue as Value;
    let [x, y, z] = launch.cluster;
    let cluster = Value { clusterDim: sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z } };
    let all = [
        (launch.cluster != [1, 1, 1], CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, cluster),
        (launch.cooperative, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, Value { cooperative: 1 }),
        (
            launch.dependent,
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            Value { programmaticStreamSerializationAllowed: 1 },
        ),
    ];
    let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
    wanted.map(|(_, id, value)| sys::CUlaunchAttribute { id, pad: [0; 4], value }).collect()
}

/// The parameters of a kernel, of which the driver knows places and sizes alone.
fn params(function: sys::CUfunction) -> Result<Vec<ParamInfo>, DriverError> {
    let mut all = Vec::new();
    loop {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: a function of a loaded module; both pointers are valid for the call.
        match unsafe { sys::cuFuncGetParamInfo(function, all.len(), &mut offset, &mut size) } {
            // The one past the last.
            sys::CUresult::CUDA_ERROR_INVALID_VALUE => return Ok(all),
            other => other.result().named("cuFuncGetParamInfo")?,
        }
        all.push(ParamInfo::bytes(format!("param_{}", all.len()), offset as u32, size as u32));
    }
}

fn element(element: ElementType) -> sys::CUtensorMapDataType {
    use ElementType::*;
    use sys::CUtensorMapDataType::*;
    match element {
        U8 => CU_TENSOR_MAP_DATA_TYPE_UINT8,
        U16 => CU_TENSOR_MAP_DATA_TYPE_UINT16,
        U32 => CU_TENSOR_MAP_DATA_TYPE_UINT32,
        I32 => CU_TENSOR_MAP_DATA_TYPE_INT32,
        U64 => CU_TENSOR_MAP_DATA_TYPE_UINT64,
        I64 => CU_TENSOR_MAP_DATA_TYPE_INT64,
        F16 => CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        F32 => CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        F64 => CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        Bf16 => CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        F32Ftz => CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ,
        Tf32 => CU_TENSOR_MAP_DATA_TYPE_TFLOAT32,
        Tf32Ftz => CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ,
    }
}
