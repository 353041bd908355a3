//! Causal attention of one head, forward and backward.
//!
//! **Batch invariance.** A query that sees `n` keys gets the same bits alone (a decoding step) and among others (a
//! training pass): a score is one chain of multiply-adds over the head's dimension, a row's maximum and sum follow the
//! order of [`super`], which `n` alone decides, and an output element is one chain over the keys in ascending order.
//! Online softmax, which rescales as it goes, would tie the bits to the size of a block; a row of scores is short enough
//! to be kept instead.
//!
//! The products run on the micro-kernels of [`gemm`](crate::cpu::gemm): lanes are keys for the scores (keys are
//! transposed into panels), columns of V for the output.
//!
//! The backward pass recomputes the probabilities from the saved log-sum-exp, panel of keys by panel, in the manner of
//! FlashAttention-2 (Dao, 2023), sequentially and so deterministically.

use super::{dot, max_of, sum_of};
use crate::cpu::gemm::{Micro, Mode, Out, Right, Scratch, View, block, left_room, pack_left, pack_right};
use crate::cpu::simd::{dispatch, isa};
use crate::cpu::vmath::{exp1, log1};

/// Queries that are worked on together.
const QUERIES: usize = 56;

/// Probabilities below `exp(-70)` of the largest are zero: less than any sum's rounding, and far from subnormal.
const NEGLIGIBLE: f32 = -70.0;

/// One head's matrix: row `i` is `data[i * stride..][..cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Storage from the first row on.
    pub data: &'a [f32],
    /// Distance from one row to the next.
    pub stride: usize,
    /// Length of a row.
    pub cols: usize,
}

impl<'a> Head<'a> {
    fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..self.cols]
    }

    /// Rows from `i` on as raw parts; panics where the head has fewer than `rows`.
    fn view(&self, rows: usize) -> View<f32> {
        let end = |last: usize| last.checked_mul(self.stride)?.checked_add(self.cols);
        let fits = rows == 0 || end(rows - 1).is_some_and(|end| end <= self.data.len());
        assert!(fits, "attention: {rows} rows leave the storage");
        View { ptr: self.data.as_ptr(), row: self.stride as isize, col: 1 }
    }
}

/// The keys of a head: a row each, or a column each, as a cache keeps them whose readers want neighbouring keys side by side.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// `[keys, dim]`
    Rows(Head<'a>),
    /// `[dim, keys]`
    Columns(Head<'a>),
}

impl Keys<'_> {
    /// The first `seen` keys of size `dim` as columns; panics where they are fewer or of another size.
    fn columns(&self, dim: usize, seen: usize) -> View<f32> {
        match self {
            Keys::Rows(head) => {
                assert!(head.cols == dim, "attention: sizes differ");
                head.view(seen).t()
            }
            Keys::Columns(head) => {
                assert!(head.cols >= seen, "attention: sizes differ");
                head.view(dim)
            }
        }
    }
}

/// A matrix as the right operand of a product, in place.
fn in_place(view: View<f32>) -> Right<f32> {
    Right { ptr: view.ptr, row: view.row, panel: None }
}

/// A packed panel as the right operand of a product.
fn panel(packed: &[f32], width: usize) -> Right<f32> {
    Right { ptr: packed.as_ptr(), row: width as isize, panel: Some(packed.len()) }
}

/// Rows of `pitch` elements as the output of a product.
fn rows_of(data: &mut [f32], pitch: usize) -> Out<f32> {
    Out { ptr: data.as_mut_ptr(), row: pitch as isize, col: 1 }
}

/// Causal attention of one head: query `i` of `seq` sees the first `seen - seq + i + 1` keys (none: its output is zero).
/// `q` is `[seq, dim]`, `v` `[seen, v_dim]`. Writes `out` `[seq, v_dim]` and `lse` `[seq]`, the
/// log-sum-exp of each row of scaled scores.
///
/// # Panics
/// Where a head's data or an output is too short.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn attention(q: Head, k: Keys, v: Head, seq: usize, seen: usize, scale: f32, out: &mut [f32], lse: &mut [f32]) {
    let (dim, v_dim) = (q.cols, v.cols);
    assert!(out.len() == seq * v_dim && lse.len() == seq, "attention: sizes differ");
    let kernels = f32::kernels(isa());
    let width = kernels.panel_cols();
    let visible = |i: usize| (seen + i + 1).saturating_sub(seq);
    let (q, keys, values) = (q.view(seq), k.columns(dim, seen), v.view(seen));
    let pitch = seen.next_multiple_of(width) + 16;
    let mut scores = Scratch::<f32>::take(seq.min(QUERIES) * pitch);
    let mut packed = Scratch::<f32>::take(dim * width);
    let mut queries = Scratch::<f32>::take(left_room(seq.min(QUERIES), dim));
    for first in (0..seq).step_by(QUERIES) {
        let rows = QUERIES.min(seq - first);
        let most = visible(first + rows - 1);
        // SAFETY: `first + rows <= seq`.
        let l = unsafe { pack_left(rows, dim, q.from(first, 0), &mut queries) };
        // A query alone sees all of them: keys that lie as they are wanted take one product.
        let width = if rows == 1 && keys.col == 1 { most.max(1) } else { width };
        for j in (0..most).step_by(width) {
            let cols = width.min(most - j);
            // Rows from this one on see key `j`.
            let from = (j + seq).saturating_sub(seen + first);
            // SAFETY: keys `j..j + cols` and queries `from..rows` exist; a row of scores has room for a last panel.
            unsafe {
                let k = keys.from(0, j);
                let right = if k.col == 1 {
                    in_place(k)
                } else {
                    pack_right(kernels, dim, cols, k, &mut packed);
                    panel(&packed, width)
                };
                let c = rows_of(&mut scores, pitch).from(from, j);
                block(kernels, (rows - from, cols, dim), l.from(from, 0), right, c, Mode::Store);
            }
        }
        // The sums of the exponentials wait until the products are done.
        let mut sums = [0.0; QUERIES];
        for t in 0..rows {
            let (seen, unseen) = scores[t * pitch..][..most].split_at_mut(visible(first + t));
            (lse[first + t], sums[t]) = exponentials(seen, scale);
            unseen.fill(0.0);
        }
        let out = &mut out[first * v_dim..][..rows * v_dim];
        for from in (0..rows).step_by(kernels.rows()) {
            let rows = kernels.rows().min(rows - from);
            let product = |t: usize, rows: usize, keys: usize, out: &mut [f32]| {
                // SAFETY: rows `t..t + rows` of scores and of the output exist, and `keys <= seen` rows of `v`.
                unsafe {
                    let l = View { ptr: scores[t * pitch..].as_ptr(), row: pitch as isize, col: 1 };
                    let c = rows_of(out, v_dim).from(t, 0);
                    block(kernels, (rows, v_dim, keys), l, in_place(values), c, Mode::Store);
                }
            };
            // Rows of a tile share the keys of the last: those that a row does not see weigh nothing, unless they are NaN
            // or infinite.
            let (fewest, most) = (visible(first + from), visible(first + from + rows - 1));
            if (fewest..most).all(|j| all_finite(v.row(j))) {
                product(from, rows, most, out);
            } else {
                (from..from + rows).for_each(|t| product(t, 1, visible(first + t), out));
            }
        }
        for (out, &sum) in out.chunks_exact_mut(v_dim).zip(&sums) {
            let inverse = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            // Adding zero makes +0 of -0, the one trace that keys of no weight can leave.
            out.iter_mut().for_each(|x| *x = *x * inverse + 0.0);
        }
    }
}

/// The gradients of [`attention`] with respect to `q`, `k` and `v`: `grad` is that of the output, `saved` is q, k, v, the
/// output and the log-sum-exps. With `P = exp(S - lse)`: `dV = Pᵀ·dO`, `dS = P ∘ (dO·Vᵀ - rowsum(dO ∘ O)) · scale`,
/// `dQ = dS·K`, `dK = dSᵀ·Q`. `dq`, `dk` and `dv` are overwritten.
///
/// # Panics
/// Where a head's data or an output is too short.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn attention_backward(
    grad: Head,
    (q, k, v, out, lse): (Head, Head, Head, Head, &[f32]),
    seq: usize,
    seen: usize,
    scale: f32,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (dim, v_dim) = (q.cols, v.cols);
    assert!(k.cols == dim && grad.cols == v_dim && out.cols == v_dim && lse.len() == seq, "attention: sizes differ");
    assert!(dq.len() == seq * dim && dk.len() == seen * dim && dv.len() == seen * v_dim, "attention: sizes differ");
    let kernels = f32::kernels(isa());
    let width = kernels.panel_cols();
    let (queries, keys, values, grads) = (q.view(seq), k.view(seen), v.view(seen), grad.view(seq));
    let mut delta = Scratch::<f32>::take(seq);
    for (i, delta) in delta.iter_mut().enumerate() {
        *delta = inner(grad.row(i), out.row(i));
    }
    [&mut *dq, &mut *dk, &mut *dv].into_iter().for_each(|d| d.fill(0.0));
    let (dq, dk, dv) = (rows_of(dq, dim), rows_of(dk, dim), rows_of(dv, v_dim));
    let mut packed_k = Scratch::<f32>::take(dim * width);
    let mut packed_v = Scratch::<f32>::take(v_dim * width);
    let mut p = Scratch::<f32>::take(QUERIES * width);
    let mut ds = Scratch::<f32>::take(QUERIES * width);
    for j in (0..seen).step_by(width) {
        let cols = width.min(seen - j);
        // SAFETY: keys `j..j + cols` exist.
        unsafe {
            pack_right(kernels, dim, cols, keys.from(j, 0).t(), &mut packed_k);
            pack_right(kernels, v_dim, cols, values.from(j, 0).t(), &mut packed_v);
        }
        // Queries from this one on see key `j`.
        let from = (j + seq).saturating_sub(seen);
        for first in (from..seq).step_by(QUERIES) {
            let rows = QUERIES.min(seq - first);
            // SAFETY: queries `first..first + rows` and keys `j..j + cols` exist; the scratch tiles have room for `rows`
            // rows of `width`.
            unsafe {
                let c = rows_of(&mut p, width);
                let size = (rows, cols, dim);
                block(kernels, size, queries.from(first, 0), panel(&packed_k, width), c, Mode::Store);
                let c = rows_of(&mut ds, width);
                let size = (rows, cols, v_dim);
                block(kernels, size, grads.from(first, 0), panel(&packed_v, width), c, Mode::Store);
            }
            let visible = |t: usize| (seen + first + t + 1).saturating_sub(seq + j).min(cols);
            for t in 0..rows {
                let (p, ds) = (&mut p[t * width..][..cols], &mut ds[t * width..][..cols]);
                score_gradients(&mut p[..visible(t)], &mut ds[..visible(t)], scale, lse[first + t], delta[first + t]);
                p[visible(t)..].fill(0.0);
                ds[visible(t)..].fill(0.0);
            }
            let tile = |x: &[f32], t: usize| View { ptr: x[t * width..].as_ptr(), row: width as isize, col: 1 };
            let products = |t: usize, rows: usize, cols: usize| {
                let i = first + t;
                // SAFETY: rows `t..t + rows` of the tiles exist, queries `i..i + rows` and keys `j..j + cols` too.
                unsafe {
                    let r = in_place(grads.from(i, 0));
                    block(kernels, (cols, v_dim, rows), tile(&p, t).t(), r, dv.from(j, 0), Mode::Resume);
                    let r = in_place(queries.from(i, 0));
                    block(kernels, (cols, dim, rows), tile(&ds, t).t(), r, dk.from(j, 0), Mode::Resume);
                    let r = in_place(keys.from(j, 0));
                    block(kernels, (rows, dim, cols), tile(&ds, t), r, dq.from(i, 0), Mode::Resume);
                }
            };
            // What a query does not see weighs nothing, unless one of the two is NaN or infinite.
            let finite = || {
                (j..j + cols).all(|j| all_finite(k.row(j)))
                    && (first..first + rows).all(|i| all_finite(q.row(i)) && all_finite(grad.row(i)))
            };
            if visible(0) == cols || finite() {
                products(0, rows, cols);
            } else {
                (0..rows).filter(|&t| visible(t) > 0).for_each(|t| products(t, 1, visible(t)));
            }
        }
    }
}

dispatch! {
    /// Turns a row of scores `s` into `exp(scale · s - max)`; returns the row's log-sum-exp and the sum.
    fn exponentials(row: &mut [f32], scale: f32) -> (f32, f32) {
        row.iter_mut().for_each(|x| *x *= scale);
        let max = max_of(row);
        for x in row.iter_mut() {
            let d = *x - max;
            let e = exp1::<FMA>(d);
            *x = if d < NEGLIGIBLE { 0.0 } else { e };
        }
        let sum = sum_of(row, |e| e);
        (max + log1::<FMA>(sum), sum)
    }

    /// Turns scores into probabilities `p` and the gradients of probabilities, `dp`, into those of scores.
    fn score_gradients(p: &mut [f32], dp: &mut [f32], scale: f32, lse: f32, delta: f32) {
        for (p, dp) in p.iter_mut().zip(dp) {
            let d = *p * scale - lse;
            let e = exp1::<FMA>(d);
            *p = if d < NEGLIGIBLE { 0.0 } else { e };
            *dp = *p * (*dp - delta) * scale;
        }
    }

    fn inner(a: &[f32], b: &[f32]) -> f32 {
        dot::<FMA>(a, b)
    }

    fn all_finite(x: &[f32]) -> bool {
        // A sum of products with zero is zero, or NaN.
        sum_of(x, |x| x * 0.0) == 0.0
    }
}

#[cfg(test)]
mod tests;
