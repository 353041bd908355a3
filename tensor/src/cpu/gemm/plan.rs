//! How a product is cut: which operand is packed, how much at a time, and which task computes what.

use super::block::{Out, Right, block};
use super::kernel::{Kernels, Micro, Mode};
use super::pack::{Scratch, left_room, pack_left, pack_right};
use super::{KC, View};
use crate::operation::interruptible;
use rayon::prelude::*;

/// Rows of C in a task, at most: few enough for tasks to even out, and a copy of the left operand's block, `MC` x `KC`
/// floats, fits the second-level cache.
const MC: usize = 336;

/// Elements of the right operand that are packed at a time: half of a second-level cache.
const PACKED: usize = 1 << 18;

/// `C = A · B`: everything that the stages of one product share. The sizes are not zero.
#[derive(Clone, Copy)]
pub struct Product<T: 'static> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: View<T>,
    pub b: View<T>,
    pub c: Out<T>,
    /// Whether the product is added to what C holds.
    pub accumulate: bool,
    /// The number of threads to plan for.
    pub threads: usize,
    pub kernels: &'static Kernels<T>,
    /// Whether each task works on a copy of its part of the left operand.
    pub copy: bool,
}

impl<T: Micro> Product<T> {
    /// Computes the product.
    ///
    /// The operands were checked against their storage when they were made into views, and `kernels` are for an
    /// instruction set that the processor has: that is what the unsafe blocks below rest on.
    pub fn run(self) {
        let Product { m, n, k, b, .. } = self;
        let transpose = b.col != 1 && n > 1 && m * (k + n) < n * k / 2;
        let mut product = if transpose { self.t() } else { self };
        // Lines 2 KiB apart fall into at most two sets of the first-level cache. And a large matrix that is read across
        // its lines comes from memory, which is fast for whole lines only.
        let Product { m, k, a, .. } = product;
        let (row, col) = (a.row.unsigned_abs(), a.col.unsigned_abs());
        let conflicting = (row.max(col) * size_of::<T>()).is_multiple_of(2048);
        product.copy = conflicting || row < col && m * k >= 1 << 20;
        product.run_panels();
    }

    /// The same product as `Cᵀ = Bᵀ · Aᵀ`.
    fn t(self) -> Self {
        Product { m: self.n, n: self.m, a: self.b.t(), b: self.a.t(), c: self.c.t(), ..self }
    }

    /// Packs the right operand piece by piece and multiplies each, or reads it in place.
    fn run_panels(self) {
        let Product { m, n, k, b, .. } = self;
        if (b.col == 1 || n == 1) && m < 64 {
            return self.run_tasks(None);
        }
        let width = self.kernels.panel_cols();
        let cols = (PACKED / KC.min(k) / width).max(1) * width;
        for j in (0..n).step_by(cols) {
            let n = cols.min(n - j);
            let padded = n.next_multiple_of(width);
            let depth = (PACKED / padded / KC).max(1) * KC;
            let mut packed = Scratch::take(depth.min(k) * padded);
            for p in (0..k).step_by(depth) {
                let k = depth.min(k - p);
                // SAFETY: `p < k`, `j < n`.
                let part = unsafe {
                    Product {
                        n,
                        k,
                        a: self.a.from(0, p),
                        b: b.from(p, j),
                        c: self.c.from(0, j),
                        accumulate: self.accumulate || p > 0,
                        ..self
                    }
                };
                let packed = &mut packed[..k * padded];
                part.pack(packed);
                part.run_tasks(Some(packed));
            }
        }
    }

    /// Packs all of the right operand: for each block of k its panels, one after the other, each `kc` x a panel's width.
    fn pack(self, packed: &mut [T]) {
        let Product { n, b, kernels, .. } = self;
        let width = kernels.panel_cols();
        let panels = n.div_ceil(width);
        let panel = |p: usize, q: usize, dst: &mut [T]| {
            // SAFETY: rows `p..` and columns from `q * width` lie in `b`.
            unsafe {
                let b = b.from(p, q * width);
                pack_right(kernels, dst.len() / width, width.min(n - q * width), b, dst);
            }
        };
        let blocks = KC * panels * width;
        if self.threads > 1 && packed.len() >= 1 << 16 {
            packed.par_chunks_mut(blocks).enumerate().for_each(|(p, block)| {
                let panels = block.par_chunks_mut(block.len() / panels).enumerate();
                panels.for_each(|(q, dst)| panel(p * KC, q, dst));
            });
        } else {
            for (p, block) in packed.chunks_mut(blocks).enumerate() {
                let panels = block.chunks_mut(block.len() / panels).enumerate();
                panels.for_each(|(q, dst)| panel(p * KC, q, dst));
            }
        }
    }

    /// Deals regions of C to tasks.
    fn run_tasks(self, packed: Option<&[T]>) {
        let Product { m, n, threads, kernels, .. } = self;
        let width = kernels.panel_cols();
        let strips = n.div_ceil(width);
        // Rows first, a multiple of the number of threads; columns only where the rows do not suffice.
        let tiles = m.div_ceil(kernels.rows());
        let row_tasks = m.div_ceil(MC).next_multiple_of(threads).min(tiles);
        let col_tasks = threads.div_ceil(row_tasks).min(strips);
        let region = |task: usize| {
            let (i, j) = (task % row_tasks, task / row_tasks);
            let rows = m * i / row_tasks..m * (i + 1) / row_tasks;
            let cols = strips * j / col_tasks * width..strips * (j + 1) / col_tasks * width;
            self.run_region(rows.start, rows.len(), cols.start, cols.end.min(n) - cols.start, packed);
        };
        let count = row_tasks * col_tasks;
        if threads > 1 && count > 1 {
            interruptible(|| (0..count).into_par_iter().for_each(region));
        } else {
            (0..count).for_each(region);
        }
    }

    /// Computes `rows` x `cols` of C from `(i, j)` on, block of k by block.
    fn run_region(self, i: usize, rows: usize, j: usize, cols: usize, packed: Option<&[T]>) {
        let Product { n, k, a, b, c, kernels, .. } = self;
        let width = kernels.panel_cols();
        let padded = n.next_multiple_of(width);
        let copy = self.copy && cols > width;
        let mut left = copy.then(|| Scratch::take(left_room(rows, KC.min(k))));
        for p in (0..k).step_by(KC) {
            let kc = KC.min(k - p);
            let mode = if p > 0 || self.accumulate { Mode::Add } else { Mode::Store };
            // SAFETY: the region lies in C and belongs to this task; rows `i..`, columns `j..` and `p..p + kc` lie in the
            // operands; packed panels are where `pack` put them.
            unsafe {
                let mut l = a.from(i, p);
                if let Some(left) = &mut left {
                    l = pack_left(rows, kc, l, left);
                }
                let r = match packed {
                    Some(packed) => {
                        Right { ptr: packed[p * padded + j * kc..].as_ptr(), row: width as isize, panel: Some(kc * width) }
                    }
                    None => Right { ptr: b.at(p, j), row: b.row, panel: None },
                };
                block(kernels, (rows, cols, kc), l, r, c.from(i, j), mode);
            }
        }
    }
}
