use super::*;
use crate::cpu::fold::LANES;
use crate::cpu::simd::forced;

/// Unit roundoff.
pub(crate) const U: f64 = 1.0 / (1 << 24) as f64;

/// A small generator of its own, so that the tests need nothing else.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58476d1ce4e5b9) >> 16
    }
    pub fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n
    }
    pub fn values(&mut self, n: usize, scale: f64) -> Vec<f32> {
        (0..n).map(|_| (scale * (self.bits() as f64 / (1u64 << 47) as f64 - 1.0)) as f32).collect()
    }
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Rows to test: every short length, some around the lanes' multiples, a long one; at several magnitudes.
pub(crate) fn each_row(mut f: impl FnMut(&[f32], &mut Random)) {
    let mut random = Random(1);
    for n in (1..40).chain([47, 48, 49, 63, 64, 65, 128, 400, 1003]) {
        for scale in [0.1, 3.0, 60.0] {
            let x = random.values(n, scale);
            forced::each(|_| f(&x, &mut random));
        }
    }
}

#[track_caller]
pub(crate) fn close(ours: f32, exact: f64, bound: f64) {
    assert!((f64::from(ours) - exact).abs() <= bound, "{ours} is not {exact} within {bound:e}");
}

#[test]
fn softmaxes_agree_with_f64() {
    each_row(|x, _| {
        let n = x.len();
        let wx = wide(x);
        let max = wx.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = wx.iter().map(|x| (x - max).exp()).sum();
        let (mut y, mut log) = (vec![0.0; n], vec![0.0; n]);
        softmax(x, &mut y);
        log_softmax(x, &mut log);
        // An exponential: its argument's rounding (relative to it, at most 120 here) and two roundings of its own. Sums
        // add a rounding for each term of a lane and level of the tree.
        let added = (n / LANES + 5) as f64 * U;
        let e = |x: f64| (x - max).abs() * U + 2.0 * U;
        let mean: f64 = wx.iter().map(|&x| e(x) * (x - max).exp() / sum).sum();
        for i in 0..n {
            let exact = (wx[i] - max).exp() / sum;
            let relative = e(wx[i]) + mean + added + 3.0 * U;
            close(y[i], exact, exact * relative * 1.01 + f64::from(f32::MIN_POSITIVE));
            let exact = wx[i] - max - sum.ln();
            close(log[i], exact, (mean + added) * 1.01 + 2.0 * U * (sum.ln() + exact.abs() + (wx[i] - max).abs()));
        }
        assert!(y.iter().all(|y| *y == 0.0 || y.is_normal()));
    });
}

#[test]
fn softmax_of_special_values() {
    const INF: f32 = f32::INFINITY;
    forced::each(|_| {
        for n in [1, 3, 16, 40] {
            for bad in [f32::NAN, INF] {
                let mut x = vec![1.0; n];
                x[n / 2] = bad;
                let mut y = vec![0.0; n];
                softmax(&x, &mut y);
                assert!(y.iter().all(|y| y.is_nan()));
            }
            let mut x = vec![-INF; n];
            x[n / 3] = 2.0;
            let mut y = vec![5.0; n];
            softmax(&x, &mut y);
            assert!((0..n).all(|i| y[i] == if i == n / 3 { 1.0 } else { 0.0 }));
            log_softmax(&x, &mut y);
            assert!((0..n).all(|i| y[i] == if i == n / 3 { 0.0 } else { -INF }));
        }
    });
}

#[test]
fn rows_are_the_same_for_avx2_and_avx512() {
    let mut random = Random(3);
    let x = random.values(333, 5.0);
    let mut seen: Vec<Vec<u32>> = Vec::new();
    forced::each(|isa| {
        let mut y = vec![0.0; 333];
        softmax(&x, &mut y);
        if isa != crate::cpu::simd::Isa::Portable {
            seen.push(y.iter().map(|y| y.to_bits()).collect());
        }
    });
    assert!(seen.windows(2).all(|w| w[0] == w[1]));
}
