//! Cutting an output into parts and filling them on the current rayon pool.
//!
//! Parts become boxed tasks for one non-generic driver: instantiating rayon's machinery anew for each of the hundreds of
//! kernels would make up most of this crate's compile time.

use crate::operation::interruptible;
use rayon::prelude::*;

/// Below this many elements a loop is not worth a second thread.
pub(crate) const GRAIN: usize = 1 << 14;

/// One part of the work.
pub(crate) type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs the tasks, in any order.
pub(crate) fn run(tasks: Vec<Task<'_>>) {
    if tasks.len() < 2 || rayon::current_num_threads() == 1 {
        tasks.into_iter().for_each(|task| task());
    } else {
        interruptible(|| tasks.into_par_iter().with_max_len(1).for_each(|task| task()));
    }
}

/// Calls `f(first index, chunk)` over chunks of `out`, in parallel where it is long; chunk bounds are multiples of `unit`.
pub(crate) fn par_chunks<T: Send>(out: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let unit = unit.max(1);
    let chunk = GRAIN.div_ceil(unit) * unit;
    if out.len() <= chunk {
        f(0, out);
    } else {
        par_parts(out, chunk, &|i, part| f(i * chunk, part));
    }
}

/// Calls `f(number, part)` over parts of `size` elements, each a task.
pub(crate) fn par_parts<T: Send>(out: &mut [T], size: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    run(out.chunks_mut(size).enumerate().map(|(i, part)| Box::new(move || f(i, part)) as Task<'_>).collect());
}

/// As [`par_chunks`] over two outputs cut at the same rows, `unit_a` elements of one going with `unit_b` of the other; `f` gets
/// the number of the first row.
pub(crate) fn par_chunks2<A: Send, B: Send>(
    a: &mut [A],
    unit_a: usize,
    b: &mut [B],
    unit_b: usize,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (unit_a, unit_b) = (unit_a.max(1), unit_b.max(1));
    let rows = GRAIN.div_ceil(unit_a.max(unit_b));
    if a.len() <= rows * unit_a {
        f(0, a, b);
    } else {
        par_parts2(a, rows * unit_a, b, rows * unit_b, &|i, a, b| f(i * rows, a, b));
    }
}

/// A part's number and its two outputs.
type Part2<'a, A, B> = dyn Fn(usize, &mut [A], &mut [B]) + Sync + 'a;

/// As [`par_parts`] over two outputs.
pub(crate) fn par_parts2<A: Send, B: Send>(a: &mut [A], size_a: usize, b: &mut [B], size_b: usize, f: &Part2<'_, A, B>) {
    let parts = a.chunks_mut(size_a).zip(b.chunks_mut(size_b)).enumerate();
    run(parts.map(|(i, (a, b))| Box::new(move || f(i, a, b)) as Task<'_>).collect());
}
