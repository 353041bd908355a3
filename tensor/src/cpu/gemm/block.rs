//! One k-block on a region of C: the loops around the micro-kernels.

use super::View;
use super::kernel::{Kernels, Micro, Mode, Tile};

/// The right operand of a block.
#[derive(Clone, Copy)]
pub struct Right<T> {
    pub ptr: *const T,
    /// Distance of rows.
    pub row: isize,
    /// Distance of packed panels; `None` where the operand is read in place, its columns contiguous.
    pub panel: Option<usize>,
}

/// A region of C, at any strides.
#[derive(Clone, Copy)]
pub struct Out<T> {
    pub ptr: *mut T,
    pub row: isize,
    pub col: isize,
}

impl<T: Copy> Out<T> {
    /// The part from `(i, j)` on.
    ///
    /// # Safety
    /// `(i, j)` lies in the matrix.
    pub unsafe fn from(self, i: usize, j: usize) -> Self {
        // SAFETY: the caller's contract.
        Out { ptr: unsafe { self.ptr.offset(i as isize * self.row + j as isize * self.col) }, ..self }
    }

    pub fn t(self) -> Self {
        Out { ptr: self.ptr, row: self.col, col: self.row }
    }
}

/// Room for the largest tile: 14 rows of 32 floats, 6 of 64.
const TILE: usize = 14 * 32;

/// `C (m x n) = L (m x k) · R (k x n)` in the given mode, each element one chain over `k`.
///
/// Row tiles outside, strips of a panel's width inside: a tile's rows of L stay in the first-level cache and R in the
/// second-level cache, and C is written row by row, which memory likes best. Rows are dealt evenly to tiles, 16 as 8 + 8
/// and not 14 + 2.
///
/// # Safety
/// The kernels' instruction set is present; `l`, `r` are readable and `c` writable, by nobody else, for these sizes.
pub unsafe fn block<T: Micro>(
    kernels: &Kernels<T>,
    (m, n, k): (usize, usize, usize),
    l: View<T>,
    r: Right<T>,
    c: Out<T>,
    mode: Mode,
) {
    let lanes = kernels.lanes;
    let tiles = m.div_ceil(kernels.rows());
    let may_be_wide = r.panel.is_none() && m <= kernels.wide.len();
    debug_assert!(c.col == 1 || mode != Mode::Resume);
    let mut i = 0;
    for t in 0..tiles {
        let rows = (m - i) / (tiles - t);
        let mut j = 0;
        while j < n {
            let (table, width) = match n - j {
                rest if may_be_wide && rest > 3 * lanes => (kernels.wide, 4 * lanes),
                rest if rest > lanes => (kernels.panel, 2 * lanes),
                _ => (kernels.narrow, lanes),
            };
            let cols = width.min(n - j);
            let offset = r.panel.map_or(j, |panel| j / (2 * lanes) * panel);
            // SAFETY: rows `i..i + rows` and columns `j..j + cols` lie inside the block; the scratch tile holds `rows`
            // rows of `width`, at most 14 x 32, and is written before it is read.
            unsafe {
                let mut tile = Tile {
                    k,
                    l: l.at(i, 0),
                    l_row: l.row,
                    l_col: l.col,
                    r: r.ptr.add(offset),
                    r_row: r.row,
                    c: c.from(i, j).ptr,
                    c_row: c.row,
                    cols,
                    mode,
                };
                if c.col == 1 {
                    table[rows - 1](&tile);
                } else {
                    let mut scratch = std::mem::MaybeUninit::<[T; TILE]>::uninit();
                    let out = std::mem::replace(&mut tile.c, scratch.as_mut_ptr().cast());
                    tile.c_row = width as isize;
                    tile.mode = Mode::Store;
                    table[rows - 1](&tile);
                    for x in 0..cols {
                        for y in 0..rows {
                            let sum = *tile.c.add(y * width + x);
                            let c = Out { ptr: out, ..c }.from(y, x).ptr;
                            *c = if mode == Mode::Add { (*c).plus(sum) } else { sum };
                        }
                    }
                }
            }
            j += cols;
        }
        i += rows;
    }
}
