//! Packing, and the memory it packs into.

use super::View;
use super::kernel::{Kernels, Micro};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// One cache line, so that buffers are aligned to it.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "only the address is used")] [u8; 64]);

thread_local! {
    static POOL: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A working buffer taken from this thread's pool and returned on drop, so that the hot path does not allocate.
///
/// It is taken out, not borrowed: a thread that waits inside rayon may run another kernel, which then takes another one.
/// The contents are what the last user left.
pub struct Scratch<T> {
    lines: Vec<Line>,
    len: usize,
    // A raw pointer keeps it on its thread.
    element: PhantomData<*mut T>,
}

impl<T: Micro> Scratch<T> {
    /// A buffer of `len` elements.
    pub fn take(len: usize) -> Self {
        let need = len.checked_mul(size_of::<T>()).expect("a scratch buffer of more bytes than an address reaches");
        let need = need.div_ceil(size_of::<Line>());
        // The one that fits best: the smallest that is large enough, else the largest, which then grows.
        let mut lines = POOL.with_borrow_mut(|pool| {
            let fit = |i: &usize| (pool[*i].len() < need, pool[*i].len().abs_diff(need));
            (0..pool.len()).min_by_key(fit).map(|i| pool.swap_remove(i)).unwrap_or_default()
        });
        if lines.len() < need {
            lines.clear();
            lines.resize(need, Line([0; 64]));
        }
        Scratch { lines, len, element: PhantomData }
    }

    /// Cache lines that it holds.
    #[cfg(test)]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // At thread exit the pool may be gone; the buffer then goes too.
        let _ = POOL.try_with(|pool| pool.borrow_mut().push(lines));
    }
}

impl<T: Micro> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len` elements, aligned to 64; `Micro` types are floats, valid for any bits, and
        // the bytes were zeroed when allocated.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Micro> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Packs a panel of the right operand: `dst[p * width + j] = b[p, j]` for `j < n`, zero for `n <= j < width`.
///
/// # Safety
/// The kernels' instruction set is present and `b` is readable for `k` x `n`; `dst` holds `k * width`.
pub unsafe fn pack_right<T: Micro>(kernels: &Kernels<T>, k: usize, n: usize, b: View<T>, dst: &mut [T]) {
    let width = kernels.panel_cols();
    debug_assert!(dst.len() == k * width && n <= width);
    if n < width {
        dst.fill(T::default());
    }
    if b.col == 1 {
        for (p, row) in dst.chunks_exact_mut(width).enumerate() {
            // SAFETY: row `p < k` of `b` has `n` contiguous elements.
            row[..n].copy_from_slice(unsafe { std::slice::from_raw_parts(b.at(p, 0), n) });
        }
        return;
    }
    // Whole squares go through registers where a column of `b` is contiguous; the rest goes element by element.
    let lanes = kernels.lanes;
    let (k_square, n_square) = if b.row == 1 { (k - k % lanes, n - n % lanes) } else { (0, 0) };
    for j in (0..n_square).step_by(lanes) {
        for p in (0..k_square).step_by(lanes) {
            // SAFETY: the square lies inside both `b` and `dst`.
            unsafe { (kernels.transpose)(b.at(p, j), b.col, dst.as_mut_ptr().add(p * width + j), width as isize) }
        }
    }
    for (p, row) in dst.chunks_exact_mut(width).enumerate() {
        let from = if p < k_square { n_square } else { 0 };
        for (j, x) in row[..n].iter_mut().enumerate().skip(from) {
            // SAFETY: `p < k`, `j < n`.
            *x = unsafe { *b.at(p, j) };
        }
    }
}

/// Copies a block of the left operand, in the order it has in memory, to rows whose distance is good for the cache.
/// Returns the copy.
///
/// # Safety
/// `a` is readable for `m` x `k`.
pub unsafe fn pack_left<T: Micro>(m: usize, k: usize, a: View<T>, buffer: &mut Scratch<T>) -> View<T> {
    let by_rows = a.col.unsigned_abs() <= a.row.unsigned_abs();
    let (lines, len, line_step, step) = if by_rows { (m, k, a.row, a.col) } else { (k, m, a.col, a.row) };
    let pitch = left_pitch(len);
    let dst = &mut buffer[..lines * pitch];
    for (i, line) in dst.chunks_exact_mut(pitch).enumerate() {
        // SAFETY: line `i` and its `len` elements lie in the block.
        unsafe {
            let src = a.ptr.offset(i as isize * line_step);
            if step == 1 {
                line[..len].copy_from_slice(std::slice::from_raw_parts(src, len));
            } else {
                for (p, x) in line[..len].iter_mut().enumerate() {
                    *x = *src.offset(p as isize * step);
                }
            }
        }
    }
    let (row, col) = if by_rows { (pitch as isize, 1) } else { (1, pitch as isize) };
    View { ptr: dst.as_ptr(), row, col }
}

/// The distance of lines of `len` elements in a packed left operand: an odd number of cache lines, so that neighbouring
/// lines fall into different sets of the cache.
fn left_pitch(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// The room that [`pack_left`] needs, by rows or by columns.
pub fn left_room(m: usize, k: usize) -> usize {
    (m * left_pitch(k)).max(k * left_pitch(m))
}
