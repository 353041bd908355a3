use super::*;
use crate::cpu::simd::{Isa, forced};

/// One product, C with rows `c_row` apart, on all the threads there are.
fn gemm<T: Gemm>(size: Size, a: Mat<T>, b: Mat<T>, c: &mut [T], c_row: usize, accumulate: bool) {
    gemm_on(size, a, b, c, c_row, accumulate, rayon::current_num_threads());
}

impl<'a, T> Mat<'a, T> {
    /// A row-major matrix of `cols` columns that starts at `data[0]`.
    fn row_major(data: &'a [T], cols: usize) -> Self {
        Mat { data, offset: 0, row_stride: cols as isize, col_stride: 1 }
    }

    /// The transpose, without a copy.
    fn t(self) -> Self {
        Mat { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A small generator of its own, so that the tests need nothing else.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58476d1ce4e5b9) >> 16
    }
    fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n
    }
    /// A value in [-1, 1) with a full mantissa, for either float.
    fn value(&mut self) -> f64 {
        self.bits() as f64 / (1u64 << 47) as f64 - 1.0
    }
}

trait Test: Gemm + std::fmt::Debug {
    /// Unit roundoff.
    const U: f64;
    fn of(x: f64) -> Self;
    fn f64(self) -> f64;
    fn bits(self) -> u64;
}
macro_rules! test {
    ($($t:ty, $u:expr, $of:expr, $to:expr;)*) => {$(
        impl Test for $t {
            const U: f64 = $u;
            fn of(x: f64) -> $t { $of(x) }
            fn f64(self) -> f64 { $to(self) }
            fn bits(self) -> u64 { self.to_bits().into() }
        }
    )*};
}
test! {
    f32, f32::EPSILON as f64 / 2.0, |x| x as f32, f64::from;
    f64, f64::EPSILON / 2.0, |x| x, |x| x;
}

/// An operand with a layout drawn at random: row-major, transposed, padded, every other column, reversed, expanded.
struct Operand<T> {
    data: Vec<T>,
    offset: usize,
    row: isize,
    col: isize,
}

impl<T: Test> Operand<T> {
    fn random(random: &mut Random, rows: usize, cols: usize) -> Self {
        let (r, c) = (rows as isize, cols as isize);
        let (row, col, offset) = match random.below(8) {
            0 | 1 => (c, 1, 0),
            2 | 3 => (1, r, 0),
            4 => (c + random.below(9) as isize, 1, random.below(5)),
            5 => (2 * c + 1, 2, 3),
            6 => (-c, 1, (rows - 1) * cols),
            _ => {
                if random.below(2) == 0 {
                    (0, 1, 1)
                } else {
                    (1, 0, 1)
                }
            }
        };
        // Not an element more than the view needs: reading past it is reading past the allocation.
        let reach = (r - 1) * row.max(0) + (c - 1) * col;
        let len = offset.max(offset + reach as usize) + 1 + if row < 0 { cols - 1 } else { 0 };
        let data = (0..len).map(|_| T::of(random.value())).collect();
        Operand { data, offset, row, col }
    }

    fn mat(&self) -> Mat<'_, T> {
        Mat { data: &self.data, offset: self.offset, row_stride: self.row, col_stride: self.col }
    }

    fn get(&self, i: usize, j: usize) -> T {
        self.data[(self.offset as isize + i as isize * self.row + j as isize * self.col) as usize]
    }
}

fn size(random: &mut Random) -> Size {
    let edge = |random: &mut Random| match random.below(4) {
        0 => 1 + random.below(4),
        1 => 1 + random.below(20),
        2 => 1 + random.below(90),
        _ => 1 + random.below(200),
    };
    let k = if random.below(3) == 0 { 200 + random.below(600) } else { edge(random) };
    (edge(random), edge(random), k)
}

/// Against a triple loop in f64. The bound: in one element every product passes through at most `min(k, KC)` roundings of
/// its chain, one for the product itself (unfused), and one for each block and for the accumulated C; then the result is
/// rounded to its type.
fn agrees_with_f64<T: Test>(rounds: usize, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let (m, n, k) = size(&mut random);
        let (a, b) = (Operand::<T>::random(&mut random, m, k), Operand::<T>::random(&mut random, k, n));
        let c_row = n + random.below(3);
        let accumulate = random.below(2) == 0;
        let before: Vec<T> = (0..m * c_row).map(|_| T::of(random.value())).collect();
        forced::each(|isa| {
            let mut c = before.clone();
            gemm((m, n, k), a.mat(), b.mat(), &mut c, c_row, accumulate);
            let roundings = (k.min(KC) + 2 + k.div_ceil(KC)) as f64;
            let gamma = roundings * T::U / (1.0 - roundings * T::U);
            for i in 0..m {
                for j in 0..c_row {
                    let (old, new) = (before[i * c_row + j], c[i * c_row + j]);
                    if j >= n {
                        assert_eq!(old.bits(), new.bits(), "{isa:?} wrote outside C");
                        continue;
                    }
                    let start = if accumulate { old.f64() } else { 0.0 };
                    let (mut sum, mut magnitude) = (start, start.abs());
                    for p in 0..k {
                        let product = a.get(i, p).f64() * b.get(p, j).f64();
                        sum += product;
                        magnitude += product.abs();
                    }
                    // The reference's own error, for f64, is of the same form with a chain of k.
                    let own = (k + 1) as f64 * 2f64.powi(-53);
                    let bound = (gamma + own) * magnitude;
                    let error = (new.f64() - sum).abs();
                    assert!(error <= bound, "{isa:?} {m}x{n}x{k} ({i}, {j}): {new:?} is {error:e} off, bound {bound:e}");
                }
            }
        });
    }
}

#[test]
fn f32_agrees_with_f64() {
    agrees_with_f64::<f32>(150, 1);
}

#[test]
fn f64_agrees_with_f64() {
    agrees_with_f64::<f64>(100, 2);
}

/// What the order of accumulation is documented to be, spelled out.
fn chain(k: usize, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32, start: Option<f32>, fused: bool) -> f32 {
    let block =
        |p: usize| (p..k.min(p + KC)).fold(0f32, |sum, p| if fused { a(p).mul_add(b(p), sum) } else { a(p) * b(p) + sum });
    let mut sums = (0..k).step_by(KC).map(block);
    let first = start.unwrap_or_else(|| sums.next().unwrap());
    sums.fold(first, |sum, block| sum + block)
}

#[test]
fn every_element_is_the_documented_chain() {
    let mut random = Random(5);
    for _ in 0..150 {
        let (m, n, k) = size(&mut random);
        let (a, b) = (Operand::<f32>::random(&mut random, m, k), Operand::<f32>::random(&mut random, k, n));
        let accumulate = random.below(2) == 0;
        let before: Vec<f32> = (0..m * n).map(|_| random.value() as f32).collect();
        forced::each(|isa| {
            let mut c = before.clone();
            gemm((m, n, k), a.mat(), b.mat(), &mut c, n, accumulate);
            let fused = isa != Isa::Portable || crate::cpu::simd::BASELINE_FMA;
            for _ in 0..50 {
                let (i, j) = (random.below(m), random.below(n));
                let start = accumulate.then(|| before[i * n + j]);
                let expected = chain(k, |p| a.get(i, p), |p| b.get(p, j), start, fused);
                assert_eq!(c[i * n + j].to_bits(), expected.to_bits(), "{isa:?} {m}x{n}x{k} ({i}, {j})");
            }
        });
    }
}

/// Any rows and columns, multiplied on their own and on any number of threads, are bit-equal to the same elements of the
/// whole.
fn batch_invariant<T: Test>((m, n, k): Size, rounds: usize, random: &mut Random) {
    let (a, b) = (Operand::<T>::random(random, m, k), Operand::<T>::random(random, k, n));
    let pools = [1, 2, 5].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    forced::each(|isa| {
        let mut whole = vec![T::ZERO; m * n];
        gemm((m, n, k), a.mat(), b.mat(), &mut whole, n, false);
        for _ in 0..rounds {
            let (i, j) = (random.below(m), random.below(n));
            let rows = if random.below(2) == 0 { 1 } else { 1 + random.below(m - i) };
            let cols = if random.below(2) == 0 { 1 + random.below(n - j) } else { n - j };
            let part = |mat: Mat<'_, T>, i: usize, j: usize| -> usize {
                (mat.offset as isize + i as isize * mat.row_stride + j as isize * mat.col_stride) as usize
            };
            let (pa, pb) = (a.mat(), b.mat());
            // The columns of B, sometimes copied to the other layout.
            let copy: Vec<T> = (0..cols * k).map(|x| b.get(x % k, j + x / k)).collect();
            let pa = Mat { offset: part(pa, i, 0), ..pa };
            let pb = match random.below(2) {
                0 => Mat { offset: part(pb, 0, j), ..pb },
                _ => Mat::row_major(&copy, k).t(),
            };
            let mut c = vec![T::ZERO; rows * cols];
            let threads = [1, 2, 5][random.below(3)];
            let product = || gemm_on((rows, cols, k), pa, pb, &mut c, cols, false, threads);
            pools[random.below(3)].install(|| forced::with(isa, product));
            for (x, c) in c.into_iter().enumerate() {
                let (y, x) = (i + x / cols, j + x % cols);
                assert_eq!(c.bits(), whole[y * n + x].bits(), "{isa:?} {rows}x{cols}x{k} in {m}x{n}, at ({y}, {x})");
            }
        }
    });
}

#[test]
fn parts_are_bit_equal_to_the_whole() {
    let mut random = Random(6);
    for _ in 0..40 {
        let s = size(&mut random);
        batch_invariant::<f32>(s, 8, &mut random);
    }
    for _ in 0..10 {
        let s = size(&mut random);
        batch_invariant::<f64>(s, 8, &mut random);
    }
}

#[test]
fn a_row_of_a_tall_product_is_the_row_alone() {
    batch_invariant::<f32>((4096, 96, 300), 8, &mut Random(7));
    batch_invariant::<f32>((700, 513, 513), 8, &mut Random(8));
}

#[test]
fn batches_are_their_items() {
    let mut random = Random(9);
    for _ in 0..40 {
        let (m, n, k) = size(&mut random);
        let batch = random.below(20);
        let a: Vec<f32> = (0..batch * m * k).map(|_| random.value() as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|_| random.value() as f32).collect();
        let a = |i: usize| Mat::row_major(&a[i * m * k..(i + 1) * m * k], k);
        let mut c = vec![1.0; batch * m * n];
        gemm_batch(batch, (m, n, k), a, |_| Mat::row_major(&b, n), &mut c, true);
        for i in 0..batch {
            let mut one = vec![1.0; m * n];
            gemm((m, n, k), a(i), Mat::row_major(&b, n), &mut one, n, true);
            assert!(one.iter().zip(&c[i * m * n..]).all(|(x, y)| x.to_bits() == y.to_bits()));
        }
    }
}

#[test]
fn integers_wrap() {
    let mut random = Random(10);
    for _ in 0..30 {
        let (m, n, k) = (1 + random.below(20), 1 + random.below(20), 1 + random.below(20));
        let a: Vec<i64> = (0..m * k).map(|_| (random.bits() as i64) << 16).collect();
        let b: Vec<i64> = (0..n * k).map(|_| random.bits() as i64).collect();
        let mut c = vec![5; m * n];
        gemm((m, n, k), Mat::row_major(&a, k), Mat::row_major(&b, k).t(), &mut c, n, true);
        for i in 0..m {
            for j in 0..n {
                let exact: i128 = 5 + (0..k).map(|p| a[i * k + p] as i128 * b[j * k + p] as i128).sum::<i128>();
                assert_eq!(c[i * n + j], exact as i64);
            }
        }
    }
}

#[test]
fn empty_products() {
    let none: [f32; 0] = [];
    let mut c = [3.0f32; 6];
    gemm((2, 3, 0), Mat::row_major(&none, 0), Mat::row_major(&none, 3), &mut c, 3, true);
    assert_eq!(c, [3.0; 6]);
    gemm((2, 3, 0), Mat::row_major(&none, 0), Mat::row_major(&none, 3), &mut c, 3, false);
    assert_eq!(c, [0.0; 6]);
    gemm((0, 3, 5), Mat::row_major(&none, 5), Mat::row_major(&[1.0; 15], 3), &mut [], 3, false);
    gemm_batch(0, (2, 3, 4), |_| Mat::row_major(&none, 4), |_| Mat::row_major(&none, 3), &mut [], false);
}

/// Infinities and NaN stay where the mathematics puts them, also beside the padding of packed panels.
#[test]
fn special_values_stay_in_their_row_and_column() {
    forced::each(|isa| {
        for (m, n, k) in [(3, 5, 7), (40, 33, 300), (70, 17, 20), (1, 40, 40)] {
            let mut a = vec![1f32; m * k];
            let mut b = vec![1f32; n * k];
            a[(m - 1) * k] = f32::NAN;
            b[(n - 1) * k] = f32::INFINITY;
            for (mat, col) in [(Mat::row_major(&b, k).t(), true), (Mat::row_major(&b, n), false)] {
                let mut c = vec![0f32; m * n];
                gemm((m, n, k), Mat::row_major(&a, k), mat, &mut c, n, false);
                for (x, c) in c.into_iter().enumerate() {
                    let (i, j) = (x / n, x % n);
                    let infinite = if col { j == n - 1 } else { j == (n - 1) * k % n };
                    let expected = if i == m - 1 {
                        f32::NAN
                    } else if infinite {
                        f32::INFINITY
                    } else {
                        k as f32
                    };
                    assert!(c == expected || c.is_nan() && expected.is_nan(), "{isa:?} ({i}, {j}): {c}, not {expected}");
                }
            }
        }
    });
}

#[test]
fn scratch_buffers_fit() {
    std::thread::spawn(|| {
        let sizes = [1000, 10, 100];
        let lines = |len: usize| Scratch::<f32>::take(16 * len).lines();
        let held = sizes.map(|n| Scratch::<f32>::take(16 * n));
        drop(held);
        // The smallest that is large enough, again and again; the largest grows where none is.
        assert_eq!([9, 10, 11, 100, 101, 1000, 5].map(lines), [10, 10, 100, 100, 1000, 1000, 10]);
        assert_eq!([2000, 1, 11, 101].map(lines), [2000, 10, 100, 2000]);
        let (a, b) = (Scratch::<f32>::take(16 * 2000), Scratch::<f32>::take(16 * 150));
        assert_eq!((a.lines(), b.lines()), (2000, 150));
    })
    .join()
    .unwrap();
}

/// Sizes whose products wrap to the length of C.
#[test]
#[should_panic(expected = "is not [1,")]
fn a_wrapped_size_of_c_panics() {
    let one = [1f32];
    let spread = Mat { data: &one[..], offset: 0, row_stride: 0, col_stride: 0 };
    gemm_batch(1, ((1 << 60) + 1, 16, 1), |_| spread, |_| spread, &mut [0.0; 16], false);
}

#[test]
#[should_panic(expected = "C leaves its storage")]
fn a_wrapped_row_of_c_panics() {
    let one = [1f32];
    let spread = Mat { data: &one[..], offset: 0, row_stride: 0, col_stride: 0 };
    gemm((3, 1, 1), spread, spread, &mut [0.0; 1], 1 << 63, false);
}

#[test]
#[should_panic(expected = "too large")]
fn wrapped_operands_panic() {
    let one = [1f32];
    let spread = Mat { data: &one[..], offset: 0, row_stride: 0, col_stride: 0 };
    gemm((16, 1, 1 << 60), spread, spread, &mut [0.0; 16], 1, false);
}

#[test]
#[should_panic(expected = "leaves its storage")]
fn an_operand_outside_its_slice_panics() {
    let a = [0f32; 11];
    gemm((3, 1, 4), Mat::row_major(&a, 4), Mat::row_major(&[0.0; 4], 1), &mut [0.0; 3], 1, false);
}
