//! The tensor cores' arithmetic: D = A·B + C over small dense tiles.
//!
//! **Model.** Products of f16, bf16, fp8 and tf32 operands are exact in f32 (tf32 operands lose their low 13 bits first, as the
//! hardware drops them). They are added to the accumulator one k after the other, from k = 0 upward, each sum rounded to
//! nearest even. The order is that of k alone, so a result never depends on the tile's shape, and the error against the exact
//! dot product is at most K·2^−24 of the sum of magnitudes, K counted over the whole accumulation. An f16 accumulator is summed
//! in f32 over one instruction and rounded once, to nearest, at its end. Integers wrap, or clamp with `.satfinite`. f64 is a
//! chain of fused multiply-adds.
//!
//! A Hopper card aligns the products of one instruction to the largest exponent among them, keeps a few bits below f32 (for
//! fp8: below about 2^−13 of the largest), truncates and adds them at once (arXiv 2512.07004). That is **not** modelled bit for
//! bit: results agree with a card's within the two error bounds, not in their last bits; and the precision that fp8 loses on
//! a card through its short accumulator is not lost here.

/// `d[m][n] += Σ_k a[m][k] · b[k][n]`, everything row-major and dense, k upward.
pub fn multiply_add_f32(d: &mut [f32], a: &[f32], b: &[f32], n: usize, k: usize) {
    if n == 0 || k == 0 {
        return;
    }
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        // Blocks of columns whose sums stay in registers while k runs.
        let mut first = 0;
        while first + BLOCK <= n {
            let block: &mut [f32; BLOCK] = (&mut d[first..first + BLOCK]).try_into().expect("a block");
            let mut sums = *block;
            for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
                let b: &[f32; BLOCK] = b[first..first + BLOCK].try_into().expect("a block");
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
            *block = sums;
            first += BLOCK;
        }
        for column in first..n {
            for (k, &a) in a.iter().enumerate() {
                d[column] += a * b[k * n + column];
            }
        }
    }
}

const BLOCK: usize = 16;

/// As [`multiply_add_f32`] over integers that wrap.
pub fn multiply_add_i32(d: &mut [i32], a: &[i32], b: &[i32], n: usize, k: usize) {
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            for (sum, &b) in d.iter_mut().zip(b) {
                *sum = sum.wrapping_add(a.wrapping_mul(b));
            }
        }
    }
}

/// As [`multiply_add_i32`], the sum exact and then clamped to the range of an i32.
pub fn multiply_add_i32_saturating(d: &mut [i32], a: &[i32], b: &[i32], n: usize, k: usize) {
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (column, d) in d.iter_mut().enumerate() {
            let products = a.iter().enumerate().map(|(k, &a)| i64::from(a) * i64::from(b[k * n + column]));
            *d = (i64::from(*d) + products.sum::<i64>()).clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        }
    }
}

/// As [`multiply_add_f32`] over f64, each step fused.
pub fn multiply_add_f64(d: &mut [f64], a: &[f64], b: &[f64], n: usize, k: usize) {
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            for (sum, &b) in d.iter_mut().zip(b) {
                *sum = a.mul_add(b, *sum);
            }
        }
    }
}
