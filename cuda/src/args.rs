//! [`Args`]: the parameters of a launch, and where the elements lie that they point at.

use crate::context::{Context, CudaBuffer};
use bytemuck::{NoUninit, bytes_of};
use ptx::driver::DevicePtr;
use tensor::layout::{Loops, Strides};
use tensor::{Tensor, refuse};

/// Dimensions that a kernel's loop can have, once those that allow it are merged: `MAX_RANK` in `kernels/common.cuh`.
const MAX_RANK: usize = 8;

/// The numbers of a shape or of strides but one.
pub(crate) fn without(numbers: &[usize], dim: usize) -> Strides {
    numbers.iter().enumerate().filter(|&(d, _)| d != dim).map(|(_, &n)| n).collect()
}

/// The parameters of a launch, laid out as in C.
pub(crate) struct Args<'a> {
    context: &'a Context,
    bytes: Vec<u8>,
    /// Whether an operand was lost to a fault.
    pub lost: bool,
}

impl<'a> Args<'a> {
    pub fn new(context: &'a Context) -> Args<'a> {
        Args { context, bytes: Vec::with_capacity(256), lost: false }
    }

    /// A number, at a multiple of its size.
    pub fn value<T: NoUninit>(mut self, value: T) -> Self {
        let at = self.bytes.len().next_multiple_of(size_of::<T>());
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes_of(&value));
        self
    }

    pub fn size(self, value: usize) -> Self {
        self.value(value as u64)
    }

    /// Members of a struct of 8-byte numbers.
    pub fn sizes(self, values: &[usize]) -> Self {
        values.iter().fold(self, |args, &v| args.size(v))
    }

    pub fn flag(self, value: bool) -> Self {
        self.value(u32::from(value))
    }

    /// Where a tensor's first element lies.
    ///
    /// # Panics
    /// If it lies on another device.
    #[track_caller]
    pub fn tensor(self, t: &Tensor) -> Self {
        let ptr = address(self.context, t);
        self.reads(t).value(ptr)
    }

    /// Notes an operand that the kernel reads by a map.
    #[track_caller]
    pub fn reads(mut self, t: &Tensor) -> Self {
        self.lost |= buffer(self.context, t).is_lost();
        self
    }

    /// A tensor map, at a multiple of 64.
    pub fn map(mut self, map: &[u8; 128]) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        self.bytes.extend_from_slice(map);
        self
    }

    /// A tensor that may not be there; its pointer is then null.
    #[track_caller]
    pub fn optional(self, t: Option<&Tensor>) -> Self {
        match t {
            Some(t) => self.tensor(t),
            None => self.value(0u64),
        }
    }

    /// Where, and in whose name, the kernel reports faults.
    pub fn faults(self, op: &'static str) -> Self {
        let (words, code) = self.context.fault_words(op);
        self.value(words).value(code)
    }

    /// The loops over the operands: the kernels' `Layout`.
    ///
    /// # Panics
    /// If there are more than 8.
    #[track_caller]
    pub fn loops<const N: usize>(self, loops: &Loops<N>) -> Self {
        let Loops { sizes, strides, .. } = loops;
        let rank = sizes.len();
        if rank > MAX_RANK {
            refuse!("{sizes:?} with strides {strides:?} needs a loop over {rank} dimensions, more than {MAX_RANK}");
        }
        let padded = |args: Self, numbers: &[usize], with: usize| {
            (0..MAX_RANK).fold(args, |args, d| args.size(numbers.get(d).copied().unwrap_or(with)))
        };
        let args = padded(self.size(rank), sizes, 1);
        strides.iter().fold(args, |args, strides| padded(args, strides, 0))
    }

    /// The loops over whole tensors of one shape.
    #[track_caller]
    pub fn loops_over<const N: usize>(self, tensors: [&Tensor; N]) -> Self {
        self.loops(&Loops::new(tensors.map(Tensor::layout)))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where a tensor's first element lies.
///
/// # Panics
/// If it lies on another device.
#[track_caller]
pub(crate) fn address(context: &Context, t: &Tensor) -> DevicePtr {
    buffer(context, t).ptr() + (t.layout().offset() * t.dtype().size()) as DevicePtr
}

/// The buffer behind a tensor.
///
/// # Panics
/// If it lies on another device.
#[track_caller]
pub(crate) fn buffer<'t>(context: &Context, t: &'t Tensor) -> &'t CudaBuffer {
    match t.storage().buffer::<CudaBuffer>().filter(|b| b.is_of(context)) {
        Some(buffer) => buffer,
        None => refuse!("{} was handed a tensor on {}", context.name, t.device()),
    }
}
