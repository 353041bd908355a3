//! How a kernel for products is started: its arguments, and the maps by which the copy engine knows the operands.

use super::kernel::{DEPTH, Feed, Kernel};
use super::product::{Major, Operand, Product, batches};
use crate::args::{Args, address};
use crate::context::Start;
use crate::gpu::Cuda;
use ptx::driver::DriverError;
use ptx::tensor_map::{ElementType, L2Promotion, Swizzle, TensorMap};
use tensor::{DType, Tensor};

impl Kernel {
    /// Fills `y` `[…, m, n]` with the product of `a` and `b`, which it accepts.
    pub(super) fn start(&self, cuda: &Cuda, p: &Product, y: &Tensor, a: &Tensor, b: &Tensor) {
        let args = match self.feed {
            Feed::Elements | Feed::Chunks => strided(cuda, p, y, a, b),
            Feed::Boxes { stores, .. } => self.boxes(cuda, p, y, a, b, stores),
        };
        let grid = self.grid(p, &cuda.context.properties);
        let entry = self.entry(p);
        let start = Start::new(self.family, &entry, grid, [self.threads, 1]);
        cuda.start(&Start { cluster: self.cluster as u32, shared: self.shared() as u32, ..start }, &args, &[y]);
    }

    /// The parameters of rungs from 4 on.
    fn boxes<'a>(&self, cuda: &'a Cuda, p: &Product, y: &Tensor, a: &Tensor, b: &Tensor, stores: bool) -> Args<'a> {
        let [rows, columns] = self.tile;
        // The copy engine takes rows of multiples of 16 bytes; other results are stored by the warps.
        let stored = stores && p.n.is_multiple_of(8);
        let c = Operand { stride: p.n, k_stride: 1, batch_stride: Some(p.m * p.n), aligned: true };
        let maps = || -> Result<Vec<[u8; 128]>, DriverError> {
            let a_map = map(cuda, a, &p.a, p.m, p, rows)?;
            let b_map = map(cuda, b, &p.b, p.n, p, columns / self.cluster)?;
            // Where it is not used, any map does.
            let c_map = if stored { map(cuda, y, &c, p.m, &Product { k: p.n, ..*p }, DEPTH)? } else { a_map };
            Ok(if stores { vec![a_map, b_map, c_map] } else { vec![a_map, b_map] })
        };
        let args = cuda.args().tensor(y).reads(a).reads(b);
        let maps = maps().unwrap_or_else(|e| {
            cuda.context.fail("matmul", &e.to_string()); // and nothing is started while a fault waits
            vec![]
        });
        let args = maps.iter().fold(args, |args, map| args.map(map));
        let args = [p.m, p.n, p.k, p.batch].into_iter().fold(args, |args, number| args.value(number as u32));
        args.flag(p.a.batch_stride != Some(0)).flag(p.b.batch_stride != Some(0)).flag(stored)
    }
}

/// The parameters of the rungs that compute addresses themselves.
fn strided<'a>(cuda: &'a Cuda, p: &Product, y: &Tensor, a: &Tensor, b: &Tensor) -> Args<'a> {
    let sizes = [p.m, p.n, p.k, p.a.stride, p.a.k_stride, p.b.k_stride, p.b.stride];
    cuda.args().tensor(y).tensor(a).tensor(b).sizes(&sizes).loops(&batches(a, b))
}

/// `count` rows or columns of an operand as the copy engine sees it, in boxes of 64 elements by `rows` where k runs fastest, and by
/// 64 of k where it does not.
fn map(cuda: &Cuda, t: &Tensor, o: &Operand, count: usize, p: &Product, rows: usize) -> Result<[u8; 128], DriverError> {
    let (inner, outer, stride, window) = match o.major(p.dtype).expect("`accepts` has seen to it") {
        Major::K => (p.k, count, o.stride, rows),
        Major::Mn => (count, p.k, o.k_stride, DEPTH),
    };
    // A stride over one matrix is read by nobody, but has to be one.
    let (batch, batch_stride) = match o.batch_stride {
        None | Some(0) => (1, stride),
        Some(batch_stride) => (p.batch, batch_stride),
    };
    let element = if p.dtype == DType::BF16 { ElementType::Bf16 } else { ElementType::F16 };
    let dims = [inner, outer, batch].map(|n| n as u64);
    let dense = TensorMap::dense(element, address(&cuda.context, t), &dims, &[DEPTH as u32, window as u32, 1]);
    let strides = vec![2 * stride as u64, 2 * batch_stride as u64];
    cuda.context.tensor_map(TensorMap { strides, swizzle: Swizzle::B128, l2_promotion: L2Promotion::B128, ..dense })
}
