//! How kernels are told where elements lie: [`Layouts`], and [`Args`], the parameters of a launch.

use crate::context::{Context, CudaBuffer};
use crate::driver::DevicePtr;
use bytemuck::{NoUninit, bytes_of};
use smallvec::SmallVec;
use tensor::Tensor;

/// Dimensions that a kernel's loop can have, once those that allow it are merged: `MAX_RANK` in `kernels/common.cuh`.
const MAX_RANK: usize = 8;

/// Sizes, or strides in elements, from the slowest dimension to the fastest.
pub(crate) type Numbers = SmallVec<[usize; 6]>;

/// How `N` operands of one shape lie in memory, dimensions merged where all of them allow it: the kernels' `Layout`.
pub(crate) struct Layouts<const N: usize> {
    sizes: Numbers,
    strides: [Numbers; N],
}

impl<const N: usize> Layouts<N> {
    /// # Panics
    /// If more than 8 dimensions are left.
    #[track_caller]
    pub fn new(sizes: &[usize], operands: [&[usize]; N]) -> Layouts<N> {
        let mut out = Layouts { sizes: Numbers::new(), strides: std::array::from_fn(|_| Numbers::new()) };
        for (d, &size) in sizes.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let last = out.sizes.len().wrapping_sub(1);
            if !out.sizes.is_empty() && (0..N).all(|k| out.strides[k][last] == operands[k][d] * size) {
                out.sizes[last] *= size;
                (0..N).for_each(|k| out.strides[k][last] = operands[k][d]);
            } else {
                out.sizes.push(size);
                (0..N).for_each(|k| out.strides[k].push(operands[k][d]));
            }
        }
        if out.sizes.is_empty() {
            out.sizes.push(1);
            out.strides.iter_mut().for_each(|s| s.push(1));
        }
        let rank = out.sizes.len();
        assert!(
            rank <= MAX_RANK,
            "cuda: {sizes:?} with strides {operands:?} needs a loop over {rank} dimensions, more than {MAX_RANK}"
        );
        out
    }

    /// The operands' strides, where the loop has one dimension.
    pub fn one_dimension(&self) -> Option<[usize; N]> {
        (self.sizes.len() == 1).then(|| std::array::from_fn(|k| if self.sizes[0] == 1 { 0 } else { self.strides[k][0] }))
    }

    /// Stride of the fastest dimension of an operand.
    pub fn inner(&self, operand: usize) -> usize {
        self.strides[operand][self.sizes.len() - 1]
    }
}

/// The layout of tensors of one shape.
#[track_caller]
pub(crate) fn layouts<const N: usize>(tensors: [&Tensor; N]) -> Layouts<N> {
    Layouts::new(tensors[0].dims(), tensors.map(Tensor::strides))
}

/// The numbers of a shape or of strides but one.
pub(crate) fn without(numbers: &[usize], dim: usize) -> Numbers {
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

    pub fn layout<const N: usize>(self, layouts: &Layouts<N>) -> Self {
        let padded = |args: Self, numbers: &[usize], with: usize| {
            (0..MAX_RANK).fold(args, |args, d| args.size(numbers.get(d).copied().unwrap_or(with)))
        };
        let args = padded(self.size(layouts.sizes.len()), &layouts.sizes, 1);
        layouts.strides.iter().fold(args, |args, strides| padded(args, strides, 0))
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
        None => panic!("{} was handed a tensor on {}", context.name, t.device()),
    }
}

#[cfg(test)]
mod tests {
    use super::Layouts;

    #[test]
    fn dimensions_merge_where_every_operand_allows_it() {
        let l = Layouts::new(&[2, 3, 4], [&[12, 4, 1], &[12, 4, 1]]);
        assert_eq!((&l.sizes[..], &l.strides[1][..]), (&[24][..], &[1][..]));
        let l = Layouts::new(&[2, 1, 3, 4], [&[12, 7, 4, 1], &[0, 9, 4, 1]]);
        assert_eq!((&l.sizes[..], &l.strides[0][..], &l.strides[1][..]), (&[2, 12][..], &[12, 1][..], &[0, 1][..]));
        let l = Layouts::new(&[1, 1], [&[5, 5]]);
        assert_eq!((&l.sizes[..], l.inner(0)), (&[1][..], 1));
    }
}
