//! Structures of NVIDIA's headers, as far as fields of them are read here.

/// `dim3`
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim3 {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}

impl Dim3 {
    pub fn array(self) -> [u32; 3] {
        [self.x, self.y, self.z]
    }
}

/// `cudaPitchedPtr`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PitchedPtr {
    pub ptr: u64,
    pub pitch: u64,
    pub xsize: u64,
    pub ysize: u64,
}

/// `cudaExtent`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extent {
    pub width: u64,
    pub height: u64,
    pub depth: u64,
}

/// `cudaMemcpy3DParms`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memcpy3D {
    pub from_array: u64,
    pub from_at: [u64; 3],
    pub from: PitchedPtr,
    pub to_array: u64,
    pub to_at: [u64; 3],
    pub to: PitchedPtr,
    pub extent: Extent,
    pub kind: u32,
}

/// `cudaLaunchConfig_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    pub grid: Dim3,
    pub block: Dim3,
    pub shared_bytes: u64,
    pub stream: u64,
    pub attributes: *const LaunchAttribute,
    pub attribute_count: u32,
}

/// `CUlaunchConfig`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DriverLaunchConfig {
    pub grid: Dim3,
    pub block: Dim3,
    pub shared_bytes: u32,
    pub stream: u64,
    pub attributes: *const LaunchAttribute,
    pub attribute_count: u32,
}

/// `cudaLaunchAttribute` and `CUlaunchAttribute`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchAttribute {
    pub id: u32,
    pub pad: u32,
    /// The union, of which the first three words are read.
    pub value: [u32; 16],
}

/// `cudaFuncAttributes`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct FuncAttributes {
    pub shared_bytes: u64,
    pub const_bytes: u64,
    pub local_bytes: u64,
    pub max_threads_per_block: i32,
    pub registers: i32,
    pub ptx_version: i32,
    pub binary_version: i32,
    pub cache_mode_ca: i32,
    pub max_dynamic_shared: i32,
    pub carveout: i32,
    pub cluster_must_be_set: i32,
    pub required_cluster: [i32; 3],
    pub cluster_scheduling: i32,
    pub large_clusters: i32,
}

/// `cudaPointerAttributes`, the part before what is reserved.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PointerAttributes {
    pub kind: u32,
    pub device: i32,
    pub device_pointer: u64,
    pub host_pointer: u64,
}

/// `cudaKernelNodeParams`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelNodeParams {
    pub function: u64,
    pub grid: Dim3,
    pub block: Dim3,
    pub shared_bytes: u32,
    pub params: *const u64,
    pub extra: *const u64,
}

/// `cudaMemsetParams`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemsetParams {
    pub to: u64,
    pub pitch: u64,
    pub value: u32,
    pub element: u32,
    pub width: u64,
    pub height: u64,
}

/// `cudaHostNodeParams`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostNodeParams {
    pub function: u64,
    pub data: u64,
}

/// `CUDA_MEMCPY2D`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DriverMemcpy2D {
    pub from_x: u64,
    pub from_y: u64,
    pub from: DriverSide,
    pub from_pitch: u64,
    pub to_x: u64,
    pub to_y: u64,
    pub to: DriverSide,
    pub to_pitch: u64,
    pub width: u64,
    pub height: u64,
}

/// Kind of memory (1 host, 2 device, 3 array, 4 unified), and its address by kind.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DriverSide {
    pub kind: u32,
    pub host: u64,
    pub device: u64,
    pub array: u64,
}

/// `CUDA_MEMCPY3D`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DriverMemcpy3D {
    pub from_at: [u64; 3],
    pub from_level: u64,
    pub from: DriverSide,
    pub from_reserved: u64,
    pub from_pitch: u64,
    pub from_height: u64,
    pub to_at: [u64; 3],
    pub to_level: u64,
    pub to: DriverSide,
    pub to_reserved: u64,
    pub to_pitch: u64,
    pub to_height: u64,
    pub extent: [u64; 3],
}

/// `cudaChannelFormatDesc`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ChannelFormat {
    pub bits: [i32; 4],
    pub kind: u32,
}
