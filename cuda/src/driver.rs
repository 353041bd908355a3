//! [`Driver`]: what the backend asks of a GPU, kept so small that a process can play one.
//!
//! Two implementations: [`cudarc`] talks to NVIDIA's driver, which it loads when first asked; [`interpreted`] runs the same
//! PTX on the interpreter of the `ptx` crate.

pub mod cudarc;
pub mod interpreted;

use std::fmt;
use std::time::Duration;

/// An address in device memory.
pub type DevicePtr = u64;

/// What can go wrong at a driver.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DriverError {
    /// No memory.
    #[error("out of memory: {asked} bytes were asked for, {free} of {total} are free")]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that the device has.
        total: u64,
    },
    /// A call was refused, or a kernel that ran before has failed.
    #[error("{what}: {reason}")]
    Failed {
        /// The call, or the kernel.
        what: String,
        /// Why.
        reason: String,
    },
    /// There is no such device.
    #[error("{0}")]
    NoDevice(String),
}

/// A module of kernels that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Module(pub usize);

/// A kernel of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel(pub usize);

/// A queue of work, done in order. [`Stream::DEFAULT`] is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(pub usize);

impl Stream {
    /// The stream that the backend works on.
    pub const DEFAULT: Stream = Stream(0);
}

/// A point in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event(pub usize);

/// Work recorded once, to be started as often as wanted with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Graph(pub usize);

/// A kernel with everything it needs to start.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// What runs.
    pub kernel: Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads a block.
    pub block: [u32; 3],
    /// Blocks a cluster; `[1, 1, 1]` for none.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory a block.
    pub shared: u32,
    /// The parameters, laid out as in C: each at a multiple of its alignment.
    pub args: &'a [u8],
}

/// The elements of a [`TensorMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names of CUtensorMapDataType
pub enum MapType {
    U8,
    U16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
    BF16,
}

/// How rows of a box are permuted in shared memory, so that columns lie in different banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
}

/// A tensor in global memory as the copy engine sees it (`cuTensorMapEncodeTiled`): up to 5 dimensions, the fastest first,
/// read and written in boxes. What lies outside is read as zeros.
#[derive(Clone, Debug)]
pub struct TensorMap<'a> {
    /// Elements.
    pub dtype: MapType,
    /// Where the first element lies: a multiple of 16.
    pub base: DevicePtr,
    /// Sizes in elements, fastest dimension first.
    pub sizes: &'a [u64],
    /// Strides in bytes of all dimensions but the first: multiples of 16.
    pub strides: &'a [u64],
    /// Sizes of the box, each at most 256.
    pub window: &'a [u32],
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

/// What kernels are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Compute capability: `(9, 0)` for a Hopper.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block can have at most.
    pub shared_per_block: u32,
}

/// A GPU. Work is started in order on streams; only [`Driver::synchronize`], [`Driver::download`] and [`Driver::elapsed`] wait.
pub trait Driver: fmt::Debug + Send {
    /// For messages, such as `cuda:0`.
    fn name(&self) -> String;
    /// The card's name and what it has, in words.
    fn description(&self) -> String;
    /// What it has.
    fn properties(&self) -> Properties;

    /// A block of uninitialised memory, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`DriverError::OutOfMemory`].
    fn alloc(&mut self, bytes: u64) -> Result<DevicePtr, DriverError>;
    /// Gives a block back. Work that uses it may still be under way.
    ///
    /// # Errors
    /// If it is no block.
    fn free(&mut self, ptr: DevicePtr) -> Result<(), DriverError>;
    /// Bytes free, and bytes that the device has.
    ///
    /// # Errors
    /// If the device is lost.
    fn memory(&self) -> Result<(u64, u64), DriverError>;
    /// Whether a block should be used again for another tensor. A driver that watches over memory says no: it sees the use of
    /// what was freed, and of what was never written, only in blocks of its own.
    fn recycles(&self) -> bool;

    /// Copies from the host; the bytes are taken before it returns.
    ///
    /// # Errors
    /// As all calls: if this one, or work that was started before, fails.
    fn upload(&mut self, to: DevicePtr, bytes: &[u8], stream: Stream) -> Result<(), DriverError>;
    /// Copies to the host after everything that was started on the stream.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn download(&mut self, to: &mut [u8], from: DevicePtr, stream: Stream) -> Result<(), DriverError>;
    /// Copies within the device.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DriverError>;
    /// Sets bytes.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64, stream: Stream) -> Result<(), DriverError>;

    /// Loads a module of PTX; `name` is for messages.
    ///
    /// # Errors
    /// If the driver does not take it.
    fn load(&mut self, name: &str, ptx: &'static str) -> Result<Module, DriverError>;
    /// A kernel by its name in the PTX.
    ///
    /// # Errors
    /// If there is none.
    fn kernel(&mut self, module: Module, name: &str) -> Result<Kernel, DriverError>;
    /// Starts a kernel.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn launch(&mut self, launch: &Launch<'_>, stream: Stream) -> Result<(), DriverError>;
    /// The 128 bytes of a tensor map, to be passed to a kernel by value at a multiple of 64 bytes.
    ///
    /// # Errors
    /// If a limit is broken, by its name.
    fn tensor_map(&mut self, map: &TensorMap<'_>) -> Result<[u8; 128], DriverError>;

    /// Another stream.
    ///
    /// # Errors
    /// If there are too many.
    fn stream(&mut self) -> Result<Stream, DriverError>;
    /// Marks where a stream is now.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn record(&mut self, stream: Stream) -> Result<Event, DriverError>;
    /// Lets what comes on a stream wait for an event of another one.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DriverError>;
    /// The time between two events, once both have happened.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration, DriverError>;
    /// Waits for everything that was started.
    ///
    /// # Errors
    /// The first failure of what was started.
    fn synchronize(&mut self) -> Result<(), DriverError>;

    /// From here on, work on the stream is recorded instead of started.
    ///
    /// # Errors
    /// If a recording is under way.
    fn begin_graph(&mut self, stream: Stream) -> Result<(), DriverError>;
    /// Ends the recording.
    ///
    /// # Errors
    /// If there is none.
    fn end_graph(&mut self, stream: Stream) -> Result<Graph, DriverError>;
    /// Starts what was recorded.
    ///
    /// # Errors
    /// See [`Driver::upload`].
    fn replay(&mut self, graph: Graph, stream: Stream) -> Result<(), DriverError>;
}
