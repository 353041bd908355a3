//! The order in which a reduction joins its terms: one for rows, for columns and for any layout.
//!
//! Terms are cut into leaves of [`LEAF`], counted from zero. A leaf has [`LANES`] accumulators: term `i` goes to number
//! `i mod LANES`, in ascending order, and halving joins them, number `i` with `i + 8`, then with `i + 4`, and so on. A leaf of
//! at most `LANES` terms has one, which saves the joining: sums over a few rows are frequent. Leaves are joined pairwise: the
//! first 2ᵏ with the others, 2ᵏ being the largest power of two below their number, and each side in the same way. The order
//! depends on the number of terms alone, not on other outputs, on strides or on threads; the error grows with `LEAF / LANES`
//! and the logarithm of the number of leaves.

use super::parallel::{GRAIN, Task, par_parts, run};
use bytemuck::Pod;

/// Accumulators of a leaf: enough to fill one AVX-512 register of `f32` or two of AVX2.
pub const LANES: usize = 16;

/// Terms of a leaf: short enough to keep the error small, long enough to hide the joining.
const LEAF: usize = 1024;

/// Columns whose accumulators are worked on together, 32 KiB of them in `f32`: enough to read memory in long runs, few enough
/// for the nearest caches.
const STRIP: usize = 512;

/// Folds `f` over the elements of `a` and `b` in [`LANES`] accumulators, then these by `join`: a leaf of any length.
#[inline(always)]
pub fn lanes<T: Copy>(a: &[T], b: &[T], start: T, f: impl Fn(T, T, T) -> T, join: impl Fn(T, T) -> T) -> T {
    debug_assert_eq!(a.len(), b.len());
    let mut lanes = [start; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], a[i], b[i]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = f(*lane, a, b);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// [`lanes`] over the leaves of one row, joined pairwise.
#[inline(always)]
pub fn row<T: Copy>(a: &[T], b: &[T], start: T, f: impl Fn(T, T, T) -> T + Copy, join: impl Fn(T, T) -> T + Copy) -> T {
    if a.len() <= LEAF {
        return lanes(a, b, start, f, join);
    }
    // Bit `i` of the number of leaves so far: whether a tree of 2ⁱ of them waits at `i` for its like.
    let (mut trees, mut count) = ([start; usize::BITS as usize], 0usize);
    for (a, b) in a.chunks(LEAF).zip(b.chunks(LEAF)) {
        let (mut sum, size) = (lanes(a, b, start, f, join), count.trailing_ones() as usize);
        trees[..size].iter().for_each(|&tree| sum = join(tree, sum));
        trees[size] = sum;
        count += 1;
    }
    let mut left = (0..trees.len()).filter(|i| count >> i & 1 == 1).map(|i| trees[i]);
    let last = left.next().expect("more than one leaf");
    left.fold(last, |sum, tree| join(tree, sum))
}

/// Reduces each row of `x`, `n` terms long, to its element of `out`. `zero` is neutral.
pub fn rows<T: Pod + Send + Sync>(x: &[T], n: usize, out: &mut [T], zero: T, f: impl Fn(T, T) -> T + Sync + Copy) {
    by_leaves(n, 1, out, zero, f, |sums, leaves| {
        let per = (GRAIN / n.min(LEAF)).max(1);
        par_parts(sums, per, &|part, sums| {
            for (i, sum) in sums.iter_mut().enumerate() {
                let (row, leaf) = ((part * per + i) / leaves, (part * per + i) % leaves);
                let terms = &x[row * n..][..n][leaf * LEAF..];
                let terms = &terms[..terms.len().min(LEAF)];
                *sum = match terms.len() {
                    0..=LANES => terms.iter().fold(zero, |sum, &x| f(sum, x)),
                    _ => lanes(terms, terms, zero, |sum, x, _| f(sum, x), f),
                };
            }
        });
    });
}

/// Reduces each column of `x`, `n` terms long, to its element of `out`; the columns lie side by side. `zero` is neutral.
pub fn columns<T: Pod + Send + Sync>(x: &[T], n: usize, out: &mut [T], zero: T, f: impl Fn(T, T) -> T + Sync + Copy) {
    let cols = out.len();
    let f = &f;
    by_leaves(n, cols, out, zero, f, |sums, _| {
        // A task is a leaf of as many strips as are worth a thread.
        let width = (GRAIN / n.min(LEAF)).next_multiple_of(STRIP);
        let leaf = |(leaf, sums)| {
            let x = &x[leaf * LEAF * cols..];
            let x = &x[..x.len().min(LEAF * cols)];
            let part = move |(i, sums)| Box::new(move || strips(x, cols, i * width, sums, zero, f)) as Task<'_>;
            <[T]>::chunks_mut(sums, width).enumerate().map(part)
        };
        run(sums.chunks_mut(cols).enumerate().flat_map(leaf).collect());
    });
}

/// Has `reduce` fill in the results of the leaves of `n` terms, and joins them: for `width` neighbouring outputs those of the
/// first leaf, then those of the second, and so on. `reduce` is also told the number of leaves.
fn by_leaves<T: Pod>(
    n: usize,
    width: usize,
    out: &mut [T],
    zero: T,
    f: impl Fn(T, T) -> T + Copy,
    reduce: impl Fn(&mut [T], usize),
) {
    match n.div_ceil(LEAF) {
        0 => out.fill(zero),
        1 => reduce(out, 1),
        leaves => {
            let mut sums = vec![zero; leaves * out.len()];
            reduce(&mut sums, leaves);
            for (out, sums) in out.chunks_exact_mut(width).zip(sums.chunks_exact_mut(leaves * width)) {
                join(sums, width, f);
                out.copy_from_slice(&sums[..width]);
            }
        }
    }
}

/// Joins leaves of `width` results each into the first of them.
fn join<T: Copy>(leaves: &mut [T], width: usize, f: impl Fn(T, T) -> T + Copy) {
    let count = leaves.len() / width;
    if count > 1 {
        let (a, b) = leaves.split_at_mut(count.next_power_of_two() / 2 * width);
        join(a, width, f);
        join(b, width, f);
        merge(&mut a[..width], &b[..width], f);
    }
}

/// One leaf of the columns from `first` on, `cols` being the distance of its rows.
fn strips<T: Copy>(x: &[T], cols: usize, first: usize, out: &mut [T], zero: T, f: impl Fn(T, T) -> T + Copy) {
    let accumulators = if x.len() / cols <= LANES { 1 } else { LANES };
    let mut lanes = vec![zero; accumulators * out.len().min(STRIP)];
    for (strip, out) in out.chunks_mut(STRIP).enumerate() {
        let (at, width) = (first + strip * STRIP, out.len());
        let lanes = &mut lanes[..accumulators * width];
        lanes.fill(zero);
        // Where a strip is the whole row, the terms of all accumulators are one run.
        let (run, distance) = if width == cols { (accumulators * cols, accumulators * cols) } else { (width, cols) };
        let mut rounds = x.chunks_exact(4 * accumulators * cols);
        for four in &mut rounds {
            for (i, lanes) in lanes.chunks_exact_mut(run).enumerate() {
                let terms = |round: usize| &four[round * accumulators * cols + i * distance + at..][..run];
                merge4(lanes, [terms(0), terms(1), terms(2), terms(3)], f);
            }
        }
        for round in rounds.remainder().chunks(accumulators * cols) {
            for (lanes, terms) in lanes.chunks_exact_mut(run).zip(round.chunks(distance)) {
                merge(lanes, &terms[at..], f);
            }
        }
        let mut half = accumulators * width / 2;
        while half >= width {
            let (a, b) = lanes.split_at_mut(half);
            merge(a, b, f);
            half /= 2;
        }
        out.copy_from_slice(&lanes[..width]);
    }
}

/// `f` of each accumulator and its term, as far as there are terms.
#[inline(always)]
fn merge<T: Copy>(accumulators: &mut [T], terms: &[T], f: impl Fn(T, T) -> T) {
    accumulators.iter_mut().zip(terms).for_each(|(a, &x)| *a = f(*a, x));
}

/// Four times [`merge`], each accumulator loaded and stored once.
#[inline(always)]
fn merge4<T: Copy>(accumulators: &mut [T], terms: [&[T]; 4], f: impl Fn(T, T) -> T) {
    let n = accumulators.len();
    let [p, q, r, s] = terms.map(|terms| &terms[..n]);
    for (i, a) in accumulators.iter_mut().enumerate() {
        *a = f(f(f(f(*a, p[i]), q[i]), r[i]), s[i]);
    }
}
