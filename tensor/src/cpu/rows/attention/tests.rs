use super::super::tests::{Random, U};
use super::*;
use crate::cpu::simd::forced;

/// Operands of one head with rows some distance apart, as views of `[batch, seq, heads, dim]` have them.
struct Case {
    seq: usize,
    seen: usize,
    scale: f32,
    /// `(data, stride, cols)` of q, k, v and the output's gradient.
    operands: [(Vec<f32>, usize, usize); 4],
}

impl Case {
    fn random(random: &mut Random, seq: usize, seen: usize, dim: usize, v_dim: usize) -> Case {
        let mut operand = |rows: usize, cols: usize| {
            let stride = cols + random.below(3) * 8;
            (random.values((rows - 1) * stride + cols, 1.5), stride, cols)
        };
        let operands = [operand(seq, dim), operand(seen, dim), operand(seen, v_dim), operand(seq, v_dim)];
        Case { seq, seen, scale: 1.0 / (dim as f32).sqrt(), operands }
    }

    fn head(&self, i: usize) -> Head<'_> {
        let (data, stride, cols) = &self.operands[i];
        Head { data, stride: *stride, cols: *cols }
    }

    fn get(&self, operand: usize, i: usize, d: usize) -> f64 {
        f64::from(self.head(operand).row(i)[d])
    }

    fn dot(&self, a: usize, i: usize, b: usize, j: usize) -> (f64, f64) {
        let products = (0..self.head(a).cols).map(|d| self.get(a, i, d) * self.get(b, j, d));
        products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()))
    }

    fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut lse) = (vec![9.0; self.seq * self.head(2).cols], vec![9.0; self.seq]);
        attention(self.head(0), Keys::Rows(self.head(1)), self.head(2), self.seq, self.seen, self.scale, &mut out, &mut lse);
        (out, lse)
    }

    fn backward(&self, out: &[f32], lse: &[f32]) -> [Vec<f32>; 3] {
        let [mut dq, mut dk, mut dv] =
            [(self.seq, 0), (self.seen, 1), (self.seen, 2)].map(|(n, i)| vec![9.0; n * self.head(i).cols]);
        let out = Head { data: out, stride: self.head(2).cols, cols: self.head(2).cols };
        let saved = (self.head(0), self.head(1), self.head(2), out, lse);
        attention_backward(self.head(3), saved, self.seq, self.seen, self.scale, &mut dq, &mut dk, &mut dv);
        [dq, dk, dv]
    }

    /// Compares both passes with plain loops in f64. Bounds carry each quantity's first-order error along.
    fn check(&self) {
        let (dim, v_dim) = (self.head(0).cols, self.head(2).cols);
        let scale = f64::from(self.scale);
        let (out, lse) = self.forward();
        let ours = self.backward(&out, &lse);
        let mut exact = [(self.seq, dim), (self.seen, dim), (self.seen, v_dim)].map(|(n, d)| vec![(0.0, 0.0); n * d]);
        for i in 0..self.seq {
            let n = (self.seen + i + 1).saturating_sub(self.seq);
            if n == 0 {
                assert!(out[i * v_dim..][..v_dim].iter().all(|x| *x == 0.0) && lse[i] == f32::NEG_INFINITY);
                continue;
            }
            // Scores and their absolute errors: a chain over dim, the scale.
            let scores: Vec<(f64, f64)> =
                (0..n).map(|j| self.dot(0, i, 1, j)).map(|(s, size)| (s * scale, size * scale)).collect();
            let max = scores.iter().map(|s| s.0).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s.0 - max).exp()).sum();
            let p: Vec<f64> = scores.iter().map(|s| (s.0 - max).exp() / sum).collect();
            let worst = scores.iter().map(|s| s.1).fold(0.0, f64::max) * (dim + 2) as f64 * U;
            let spread = scores.iter().map(|s| max - s.0).fold(0.0, f64::max) * U + 3.0 * U;
            // Relative error of an unnormalised probability (the maximum's own error cancels), and of the sum.
            let (e, added) = (2.0 * worst + spread, (n / 16 + 6) as f64 * U);
            let exact_lse = max + sum.ln();
            let lse_bound = worst + e + added + 2.0 * U * (sum.ln() + exact_lse.abs());
            assert!((f64::from(lse[i]) - exact_lse).abs() <= lse_bound * 1.01, "lse {} is not {exact_lse}", lse[i]);
            let mut o = vec![(0.0, 0.0); v_dim];
            for d in 0..v_dim {
                let terms = (0..n).map(|j| p[j] * self.get(2, j, d));
                let (x, size) = terms.fold((0.0, 0.0), |(x, size), t| (x + t, size + t.abs()));
                // Everything below exp(-70) was dropped.
                let bound = size * (2.0 * e + added + (n + 3) as f64 * U) * 1.01 + n as f64 * 1e-30;
                let ours = f64::from(out[i * v_dim + d]);
                assert!((ours - x).abs() <= bound, "out ({i}, {d}): {ours} is not {x} within {bound:e}");
                o[d] = (x, bound);
            }
            // delta = dO · O: the output's error and a sum's.
            let terms = (0..v_dim).map(|d| (self.get(3, i, d), o[d]));
            let (delta, delta_error) = terms.fold((0.0, 0.0), |(sum, error), (g, (x, bound))| {
                (sum + g * x, error + g.abs() * (bound + x.abs() * (v_dim + 1) as f64 * U))
            });
            for j in 0..n {
                // P is recomputed from the rounded log-sum-exp.
                let p_error =
                    p[j] * (worst + lse_bound + spread + 2.0 * U * (scores[j].0.abs() + exact_lse.abs())) * 1.01 + 1e-30;
                let (dp, dp_size) = self.dot(3, i, 2, j);
                let ds = p[j] * (dp - delta) * scale;
                let dp_error = dp_size * (v_dim + 1) as f64 * U + delta_error;
                let ds_error = scale * (p_error * (dp - delta).abs() + p[j] * dp_error) + 4.0 * U * ds.abs();
                let chain = (self.seq.max(self.seen) + 2) as f64 * U;
                let mut add = |which: usize, at: usize, x: (f64, f64), y: f64| {
                    let slot: &mut (f64, f64) = &mut exact[which][at];
                    slot.0 += x.0 * y;
                    slot.1 += 1.01 * (x.1 * y.abs() + chain * (x.0 * y).abs());
                };
                for d in 0..dim {
                    add(0, i * dim + d, (ds, ds_error), self.get(1, j, d));
                    add(1, j * dim + d, (ds, ds_error), self.get(0, i, d));
                }
                for d in 0..v_dim {
                    add(2, j * v_dim + d, (p[j], p_error), self.get(3, i, d));
                }
            }
        }
        for (name, (ours, exact)) in ["dq", "dk", "dv"].iter().zip(ours.iter().zip(&exact)) {
            for (at, (&ours, &(x, bound))) in ours.iter().zip(exact).enumerate() {
                let ours = f64::from(ours);
                assert!((ours - x).abs() <= bound, "{name}[{at}]: {ours} is not {x} within {bound:e}");
            }
        }
    }
}

#[test]
fn both_passes_agree_with_f64() {
    let mut random = Random(1);
    for _ in 0..40 {
        let seq = 1 + random.below(75);
        let seen = if random.below(4) == 0 { 1 + random.below(80) } else { seq + random.below(70) };
        let (dim, v_dim) = match random.below(3) {
            0 => (32, 32),
            _ => (1 + random.below(70), 1 + random.below(70)),
        };
        let case = Case::random(&mut random, seq, seen, dim, v_dim);
        forced::each(|_| case.check());
    }
}

#[test]
fn a_long_sequence_agrees_with_f64() {
    let case = Case::random(&mut Random(2), 300, 300, 32, 32);
    forced::each(|_| case.check());
}

/// Each query alone, or some of them together, against the keys it sees, in rows or in columns: as bits.
fn decode_equals_training(case: &Case, random: &mut Random) {
    let (out, lse) = case.forward();
    let (q, k, v) = (case.head(0), case.head(1), case.head(2));
    let (dim, capacity) = (k.cols, case.seen + 5);
    let transposed: Vec<f32> = (0..dim * capacity)
        .map(|i| if i % capacity < case.seen { k.row(i % capacity)[i / capacity] } else { f32::NAN })
        .collect();
    let columns = Head { data: &transposed, stride: capacity, cols: capacity };
    for round in 0..24 {
        let first = random.below(case.seq);
        let rows = if round % 2 == 0 { 1 } else { 1 + random.below(case.seq - first) };
        let seen = case.seen + first + rows - case.seq;
        let (mut part, mut part_lse) = (vec![0.0; rows * v.cols], vec![0.0; rows]);
        let q = Head { data: &q.data[first * q.stride..], ..q };
        let k = if round % 4 < 2 { Keys::Rows(k) } else { Keys::Columns(columns) };
        attention(q, k, v, rows, seen, case.scale, &mut part, &mut part_lse);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&part), bits(&out[first * v.cols..][..rows * v.cols]), "{rows} rows from {first} of {}", case.seq);
        assert_eq!(bits(&part_lse), bits(&lse[first..][..rows]));
    }
}

#[test]
fn a_query_alone_gives_the_same_bits_as_in_a_sequence() {
    let mut random = Random(3);
    for (seq, seen, dim, v_dim) in
        [(1, 1, 3, 5), (20, 20, 32, 32), (150, 150, 32, 32), (333, 400, 32, 32), (100, 101, 24, 65), (600, 600, 16, 32)]
    {
        let case = Case::random(&mut random, seq, seen, dim, v_dim);
        forced::each(|_| decode_equals_training(&case, &mut random));
    }
}

/// What a query does not see does not reach it, not even as `0 · NaN`.
#[test]
fn later_keys_do_not_leak() {
    let mut random = Random(4);
    for poison in [f32::NAN, f32::INFINITY, -1e38, -0.0] {
        let clean = Case::random(&mut random, 40, 40, 8, 12);
        let mut poisoned = Case { operands: clean.operands.clone(), ..clean };
        for operand in [1, 2] {
            let (data, stride, _) = &mut poisoned.operands[operand];
            data[20 * *stride..].fill(poison);
        }
        forced::each(|_| {
            let ((a, a_lse), (b, b_lse)) = (clean.forward(), poisoned.forward());
            let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same(&a[..20 * 12], &b[..20 * 12]) && same(&a_lse[..20], &b_lse[..20]), "{poison}");
        });
    }
}
