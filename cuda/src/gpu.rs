//! [`Cuda`]: a GPU as a device of the tensor crate, and how a kernel is started on it.

use crate::allocator::Memory;
use crate::args::{Args, buffer};
use crate::context::{Context, Start, Transfers};
use crate::kernels::Family;
use ptx::Report;
use ptx::driver::Properties;
use std::sync::Arc;
use tensor::shape::Shape;
use tensor::{DType, Device, Layout, Storage, Tensor, WeakDevice};

/// A GPU as a [`Backend`](tensor::Backend). All work goes to one stream, so that operations happen in the order in which they are called.
#[derive(Debug)]
pub struct Cuda {
    pub(crate) context: Arc<Context>,
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

    /// What kernels are chosen by.
    pub fn properties(&self) -> Properties {
        self.context.properties
    }

    /// What came of the last launch, once, where the GPU knows more than whether it failed: hazards, and counters if asked for.
    pub fn report(&self) -> Option<Report> {
        self.context.report()
    }

    /// What the allocator holds.
    pub fn memory(&self) -> Memory {
        self.context.memory()
    }

    pub(crate) fn handle(&self) -> Device {
        self.device.upgrade().expect("a device is alive while it is asked to compute")
    }

    pub(crate) fn args(&self) -> Args<'_> {
        Args::new(&self.context)
    }

    /// A fresh contiguous tensor, to be filled by a kernel.
    pub(crate) fn empty(&self, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape = shape.into();
        let what = || format!("{}: a tensor of shape {shape} of {dtype}", operation());
        let buffer = self.context.alloc(shape.numel() * dtype.size(), what);
        Tensor::from_parts(Storage::new(buffer, self.handle()), Layout::contiguous(shape), dtype)
    }

    /// Starts a kernel that fills `outs`; none for an empty grid. What cannot be started is lost.
    pub(crate) fn start(&self, start: &Start<'_>, args: &Args<'_>, outs: &[&Tensor]) {
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
    pub(crate) fn launch(&self, family: Family, kernel: &str, grid: usize, block: [u32; 2], args: Args<'_>, outs: &[&Tensor]) {
        self.start(&Start::new(family, kernel, grid, block), &args, outs);
    }

    /// One thread per element.
    pub(crate) fn each(&self, family: Family, kernel: &str, elements: usize, args: Args<'_>, outs: &[&Tensor]) {
        let block = elements_block(elements);
        self.launch(family, kernel, elements.div_ceil(block as usize), [block, 1], args, outs);
    }

    /// One block per row, whose size depends on the row's length alone, as the order of summation does.
    pub(crate) fn rows(&self, family: Family, kernel: &str, rows: usize, length: usize, args: Args<'_>, outs: &[&Tensor]) {
        self.launch(family, kernel, rows, [row_block(length), 1], args, outs);
    }
}

/// The operation that was called, for messages.
pub(crate) fn operation() -> &'static str {
    tensor::running_operation().unwrap_or("operation")
}

/// Threads per block where each does one element.
pub(crate) fn elements_block(elements: usize) -> u32 {
    elements.next_multiple_of(32).clamp(32, 256) as u32
}

/// Threads of a block that works on one row.
fn row_block(length: usize) -> u32 {
    if length <= 512 { 32 } else { 256 }
}

/// The dtype in a kernel's name: bool counts as u8.
pub(crate) fn numeric(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}

/// A kernel that moves elements without looking at them.
pub(crate) fn moving(name: &str, dtype: DType) -> String {
    format!("{name}_b{}", 8 * dtype.size())
}

/// A kernel for a dtype.
pub(crate) fn typed(name: &str, dtype: DType) -> String {
    format!("{name}_{}", numeric(dtype))
}

/// A shape with one size replaced.
pub(crate) fn with(dims: &[usize], dim: usize, size: usize) -> Shape {
    dims.iter().enumerate().map(|(d, &n)| if d == dim { size } else { n }).collect()
}
