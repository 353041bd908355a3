//! [`Cuda`]: the operations of the tensor crate, a file per family beside its kernels.

mod binary;
mod create;
mod fused;
mod index;
mod matmul;
mod reduce;
mod softmax;
mod sort;
mod unary;

use crate::allocator::Memory;
use crate::args::{Args, buffer};
use crate::context::{Context, Start, Transfers};
use crate::kernels::Family;
use std::sync::Arc;
use tensor::shape::Shape;
use tensor::{
    Backend, BinaryOp, DType, Device, DeviceError, Distribution, Fused, Layout, ReduceOp, Scalar, Storage, Tensor, UnaryOp,
    WeakDevice,
};

/// A GPU as a [`Backend`]. All work goes to one stream, so that operations happen in the order in which they are called.
#[derive(Debug)]
pub struct Cuda {
    context: Arc<Context>,
    device: WeakDevice,
}

impl Cuda {
    /// A device whose work goes through `context`.
    pub(crate) fn device_over(context: Context) -> Device {
        let context = Arc::new(context);
        Device::new_cyclic(|device| Cuda { context, device })
    }

    /// Copies between host and device so far.
    pub fn transfers(&self) -> Transfers {
        self.context.transfers()
    }

    /// What the allocator holds.
    pub fn memory(&self) -> Memory {
        self.context.memory()
    }

    fn handle(&self) -> Device {
        self.device.upgrade().expect("a device is alive while it is asked to compute")
    }

    fn args(&self) -> Args<'_> {
        Args::new(&self.context)
    }

    /// A fresh contiguous tensor, to be filled by a kernel.
    fn empty(&self, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape = shape.into();
        let what = || format!("{}: a tensor of shape {shape} of {dtype}", operation());
        let buffer = self.context.alloc(shape.numel() * dtype.size(), what);
        Tensor::from_parts(Storage::new(buffer, self.handle()), Layout::contiguous(shape), dtype)
    }

    /// Starts a kernel that fills `outs`; none for an empty grid. What cannot be started is lost.
    fn start(&self, start: &Start<'_>, args: &Args<'_>, outs: &[&Tensor]) {
        if start.grid == 0 {
            return;
        }
        if args.lost {
            self.context.fail(start.kernel, "an operand was lost to a fault that was reported before");
        }
        if !self.context.start(start, args.bytes()) {
            outs.iter().for_each(|t| buffer(&self.context, t).lose());
        }
    }

    /// Starts a kernel on `grid` blocks, without clusters and without dynamic shared memory.
    fn launch(&self, family: Family, kernel: &str, grid: usize, block: [u32; 2], args: Args<'_>, outs: &[&Tensor]) {
        self.start(&Start::new(family, kernel, grid, block), &args, outs);
    }

    /// One thread per element.
    fn each(&self, family: Family, kernel: &str, elements: usize, args: Args<'_>, outs: &[&Tensor]) {
        let block = elements_block(elements);
        self.launch(family, kernel, elements.div_ceil(block as usize), [block, 1], args, outs);
    }

    /// One block per row, whose size depends on the row's length alone, as the order of summation does.
    fn rows(&self, family: Family, kernel: &str, rows: usize, length: usize, args: Args<'_>, outs: &[&Tensor]) {
        self.launch(family, kernel, rows, [row_block(length), 1], args, outs);
    }
}

/// The operation that was called, for messages.
fn operation() -> &'static str {
    tensor::running_operation().unwrap_or("operation")
}

/// Threads per block where each does one element.
fn elements_block(elements: usize) -> u32 {
    elements.next_multiple_of(32).clamp(32, 256) as u32
}

/// Threads of a block that works on one row.
fn row_block(length: usize) -> u32 {
    if length <= 512 { 32 } else { 256 }
}

/// The dtype in a kernel's name: bool counts as u8.
fn numeric(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}

/// A kernel that moves elements without looking at them.
fn moving(name: &str, dtype: DType) -> String {
    format!("{name}_b{}", 8 * dtype.size())
}

/// A kernel for a dtype.
fn typed(name: &str, dtype: DType) -> String {
    format!("{name}_{}", numeric(dtype))
}

/// A shape with one size replaced.
fn with(dims: &[usize], dim: usize, size: usize) -> Shape {
    dims.iter().enumerate().map(|(d, &n)| if d == dim { size } else { n }).collect()
}

impl Backend for Cuda {
    fn name(&self) -> String {
        self.context.name.clone()
    }
    fn upload(&self, bytes: Vec<u8>) -> Result<Storage, DeviceError> {
        Ok(Storage::new(self.context.upload(&bytes)?, self.handle()))
    }
    fn download(&self, storage: &Storage, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let Some(buffer) = storage.buffer().filter(|b: &&crate::context::CudaBuffer| b.is_of(&self.context)) else {
            panic!("{} was asked to read a storage on {}", self.context.name, storage.device());
        };
        self.context.download(buffer, bytes)
    }
    fn synchronize(&self) -> Result<(), DeviceError> {
        self.context.synchronize()
    }
    fn full(&self, shape: &Shape, value: Scalar, dtype: DType) -> Tensor {
        create::full(self, shape, value, dtype)
    }
    fn arange(&self, start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
        create::arange(self, start, step, len, dtype)
    }
    fn random(&self, shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
        create::random(self, shape, dtype, distribution, seed, offset)
    }
    fn copy(&self, x: &Tensor, dtype: DType) -> Tensor {
        create::copy(self, x, dtype)
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Tensor {
        unary::unary(self, op, x)
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Tensor {
        binary::binary(self, op, a, b)
    }
    fn where_(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
        binary::where_(self, condition, a, b)
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor {
        reduce::reduce(self, op, x, dims)
    }
    fn arg_reduce(&self, largest: bool, x: &Tensor, dim: usize) -> Tensor {
        reduce::arg_reduce(self, largest, x, dim)
    }
    fn cumsum(&self, x: &Tensor, dim: usize) -> Tensor {
        reduce::cumsum(self, x, dim)
    }
    fn softmax(&self, x: &Tensor, log: bool) -> Tensor {
        softmax::softmax(self, x, log)
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Tensor {
        matmul::matmul(self, a, b)
    }
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        index::gather(self, x, dim, index)
    }
    fn scatter(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
        index::scatter(self, x, dim, index, src, add)
    }
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        index::index_select(self, x, dim, index)
    }
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor {
        index::index_add(self, x, dim, index, src, alpha)
    }
    fn write_rows(&self, cache: &mut Tensor, positions: &[usize], src: &Tensor) {
        index::write_rows(self, cache, positions, src);
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
        sort::sort(self, x, dim, descending)
    }
    fn cat(&self, parts: &[Tensor], dim: usize) -> Tensor {
        create::cat(self, parts, dim)
    }
    fn tri(&self, x: &Tensor, k: i64, upper: bool) -> Tensor {
        create::tri(self, x, k, upper)
    }
    fn fused(&self, op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
        fused::fused(self, op, x)
    }
}
