//! A real card as a [`Machine`], so that a launch file can be run on both and compared.
//!
//! The driver is loaded when [`Card::open`] is called; without one that is an error, not a panic.

use std::ffi::{CStr, CString, c_void};
use std::sync::Arc;

use cudarc::driver::{DriverError, result, sys};

use crate::launch::{KernelLaunch, LaunchError, Machine};
use crate::tensor_map::{Interleave, L2Promotion, OobFill, TensorMap};
use crate::{Fault, FaultKind, Module, Report};

/// The first card of this machine.
pub struct Card {
    name: String,
    modules: Vec<sys::CUmodule>,
    buffers: Vec<sys::CUdeviceptr>,
}

impl Card {
    /// Opens device 0.
    pub fn open() -> Result<Card, LaunchError> {
        // SAFETY: it only tries to load the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(LaunchError::Card("no CUDA driver on this machine".into()));
        }
        let open = || -> Result<String, DriverError> {
            result::init()?;
            let device = result::device::get(0)?;
            // SAFETY: the context is of a device that exists, and stays retained as long as the process lives.
            unsafe { result::ctx::set_current(result::primary_ctx::retain(device)?)? };
            let mut version = 0;
            // SAFETY: the pointer is valid for the call.
            unsafe { sys::cuDriverGetVersion(&mut version).result()? };
            let (major, minor) = (version / 1000, version % 1000 / 10);
            Ok(format!("{}, CUDA driver {major}.{minor}", result::device::get_name(device)?))
        };
        let name = open().map_err(|e| LaunchError::Card(format!("the card cannot be opened: {}", describe(e))))?;
        Ok(Card { name, modules: Vec::new(), buffers: Vec::new() })
    }

    /// Card and driver.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // After a fault in a kernel the context is lost and these fail; the process then ends anyway.
        for &buffer in &self.buffers {
            // SAFETY: each was allocated once and is freed once.
            let _ = unsafe { result::free_sync(buffer) };
        }
        for &module in &self.modules {
            // SAFETY: each was loaded once and is unloaded once.
            let _ = unsafe { result::module::unload(module) };
        }
    }
}

fn describe(error: DriverError) -> String {
    error.error_string().map_or_else(|_| format!("{error:?}"), |text: &CStr| text.to_string_lossy().into_owned())
}

impl Machine for Card {
    fn alloc(&mut self, bytes: u64) -> Result<u64, String> {
        // SAFETY: no precondition.
        let buffer = unsafe { result::malloc_sync(bytes as usize) }.map_err(describe)?;
        self.buffers.push(buffer);
        Ok(buffer)
    }

    fn write(&mut self, ptr: u64, bytes: &[u8]) -> Result<(), String> {
        // SAFETY: the driver checks the range.
        unsafe { result::memcpy_htod_sync(ptr, bytes) }.map_err(describe)
    }

    fn read(&mut self, ptr: u64, len: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0u8; len];
        // SAFETY: the driver checks the range; the destination has `len` bytes.
        unsafe { result::memcpy_dtoh_sync(&mut bytes, ptr) }.map_err(describe)?;
        Ok(bytes)
    }

    fn encode(&mut self, map: &TensorMap) -> Result<[u8; 128], String> {
        use sys::{CUtensorMapFloatOOBfill as Fill, CUtensorMapInterleave as Inter, CUtensorMapL2promotion as Promotion};
        let mut encoded = sys::CUtensorMap_st { opaque: [0; 16] };
        let interleave = match map.interleave {
            Interleave::None => Inter::CU_TENSOR_MAP_INTERLEAVE_NONE,
            Interleave::B16 => Inter::CU_TENSOR_MAP_INTERLEAVE_16B,
            Interleave::B32 => Inter::CU_TENSOR_MAP_INTERLEAVE_32B,
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
        // SAFETY: every array has as many entries as the rank says (`TensorMap::check` has seen to it) and outlives the call.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut encoded,
                element(map),
                map.dims.len() as u32,
                map.address as *mut c_void,
                map.dims.as_ptr(),
                map.strides.as_ptr(),
                map.box_dims.as_ptr(),
                map.element_strides.as_ptr(),
                interleave,
                swizzle(map),
                promotion,
                fill,
            )
        }
        .result()
        .map_err(describe)?;
        let mut bytes = [0u8; 128];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(encoded.opaque) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Ok(bytes)
    }

    fn load(&mut self, _: &Arc<Module>, source: &str) -> Result<usize, String> {
        let text = CString::new(source).map_err(|_| "a NUL byte in the PTX".to_string())?;
        // SAFETY: the image is PTX text that ends with a NUL byte.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.map_err(describe)?;
        self.modules.push(module);
        Ok(self.modules.len() - 1)
    }

    fn launch(&mut self, module: usize, launch: &KernelLaunch) -> Result<Report, Fault> {
        let run = || -> Result<(), DriverError> {
            let name = CString::new(launch.entry.as_str()).unwrap_or_default();
            // SAFETY: the module is loaded.
            let function = unsafe { result::module::get_function(self.modules[module], name)? };
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function exists.
            unsafe { result::function::set_function_attribute(function, attribute, launch.shared_bytes as i32)? };
            let mut params: Vec<*mut c_void> = launch
                .layout
                .iter()
                .map(|&(offset, size)| launch.params[offset..offset + size].as_ptr().cast_mut().cast())
                .collect();
            let mut attributes = Vec::new();
            if let Some([x, y, z]) = launch.cluster {
                let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
                value.clusterDim.x = x;
                value.clusterDim.y = y;
                value.clusterDim.z = z;
                let id = sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
                attributes.push(sys::CUlaunchAttribute { id, pad: [0; 4], value });
            }
            let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
            let config = sys::CUlaunchConfig {
                gridDimX: gx,
                gridDimY: gy,
                gridDimZ: gz,
                blockDimX: bx,
                blockDimY: by,
                blockDimZ: bz,
                sharedMemBytes: launch.shared_bytes,
                hStream: std::ptr::null_mut(),
                attrs: attributes.as_mut_ptr(),
                numAttrs: attributes.len() as u32,
            };
            // SAFETY: the parameters are as many and as long as the kernel's, which `Prepared` has checked; they outlive the call,
            // which copies them.
            unsafe { sys::cuLaunchKernelEx(&config, function, params.as_mut_ptr(), std::ptr::null_mut()).result()? };
            result::ctx::synchronize()
        };
        run().map_err(|e| Fault::new(FaultKind::IllegalInstruction, describe(e), None))?;
        Ok(Report { instructions: 0, hazards: Vec::new(), counters: None, printed: String::new() })
    }
}

fn element(map: &TensorMap) -> sys::CUtensorMapDataType {
    use crate::tensor_map::ElementType::*;
    use sys::CUtensorMapDataType::*;
    match map.element {
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

fn swizzle(map: &TensorMap) -> sys::CUtensorMapSwizzle {
    use crate::matrix::swizzle::Swizzle;
    use sys::CUtensorMapSwizzle::*;
    match map.swizzle {
        Swizzle::None => CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::B32 => CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::B64 => CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::B128 => CU_TENSOR_MAP_SWIZZLE_128B,
    }
}
