//! The same sums by vectors of eight, where the processor has AVX2: in integers, into which the conversion truncates.
//!
//! Products of two elements are exact in f32: they have at most 22 bits, and those that underflow there are less than half of a unit where
//! the largest exponent is −100 or more. Terms are less than 4 · 2^25 units, so 16 of them are below 2^31. Every step is exact, so the
//! bits are those of the sums in f64.

use std::arch::x86_64::*;
use std::ops::Range;

use bytemuck::cast;

use super::{Precision, Tile, columns, eight};

/// Exponents between which the integers are right.
const USUAL: f32 = 100.0;
/// Steps whose terms an integer holds.
const STEPS: usize = 16;

/// [`multiply_add`](super::multiply_add)
#[target_feature(enable = "avx2")]
pub fn multiply_add(d: &mut [f32], a: &Tile, b: &Tile, n: usize, k: usize, precision: Precision) {
    // Infinity and NaN have the exponent 128.
    let finite = a.exponents.iter().chain(&b.exponents).fold(true, |all, &e| all & (e < 128.0));
    for (row, d) in d.chunks_exact_mut(n).enumerate() {
        let steps = row * k..(row + 1) * k;
        let (blocks, _) = d.as_chunks_mut::<8>();
        for (i, d) in blocks.iter_mut().enumerate() {
            let sums = if finite { usual(d, a, steps.clone(), b, n, 8 * i, precision) } else { None };
            match sums {
                Some(sums) => *d = sums,
                None => columns(d, a, steps.clone(), b, n, 8 * i, precision),
            }
        }
    }
}

/// Eight columns of one row, if their exponents are usual.
#[inline]
#[target_feature(enable = "avx2")]
fn usual(d: &[f32; 8], a: &Tile, row: Range<usize>, b: &Tile, n: usize, first: usize, precision: Precision) -> Option<[f32; 8]> {
    let c: __m256 = cast(*d);
    let field = _mm256_and_si256(_mm256_srli_epi32::<23>(_mm256_castps_si256(c)), _mm256_set1_epi32(0xff));
    let exponent = _mm256_sub_ps(_mm256_cvtepi32_ps(field), _mm256_set1_ps(127.0));
    let exponent = _mm256_max_ps(exponent, _mm256_set1_ps(precision.least_of_c()));
    let zero = _mm256_cmp_ps::<_CMP_EQ_OQ>(c, _mm256_setzero_ps());
    let mut largest = _mm256_blendv_ps(exponent, _mm256_set1_ps(-126.0), zero);
    for (&e, f) in a.exponents[row.clone()].iter().zip(b.exponents.chunks_exact(n)) {
        largest = _mm256_max_ps(largest, _mm256_add_ps(_mm256_set1_ps(e), cast(*eight(f, first))));
    }
    let distance = _mm256_andnot_ps(_mm256_set1_ps(-0.0), largest);
    if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(distance, _mm256_set1_ps(USUAL))) != 0xff {
        return None;
    }
    let shift = _mm256_sub_ps(_mm256_set1_ps(precision.fraction()), largest);
    let (scale, unit) = (power(shift), power(_mm256_sub_ps(_mm256_setzero_ps(), shift)));
    let mut sums = halves(_mm256_cvttps_epi32(_mm256_mul_ps(c, scale)));
    for (x, y) in a.values[row].chunks(STEPS).zip(b.values.chunks(STEPS * n)) {
        let mut terms = _mm256_setzero_si256();
        for (&x, y) in x.iter().zip(y.chunks_exact(n)) {
            let product = _mm256_mul_ps(_mm256_set1_ps(x), cast(*eight(y, first)));
            terms = _mm256_add_epi32(terms, _mm256_cvttps_epi32(_mm256_mul_ps(product, scale)));
        }
        let terms = halves(terms);
        sums = [_mm256_add_pd(sums[0], terms[0]), _mm256_add_pd(sums[1], terms[1])];
    }
    let units = [_mm256_cvtps_pd(_mm256_castps256_ps128(unit)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(unit))];
    let sums = [_mm256_mul_pd(sums[0], units[0]), _mm256_mul_pd(sums[1], units[1])];
    if precision.is_half() {
        let sums: [f64; 8] = cast(sums);
        return Some(sums.map(|x| precision.round(x)));
    }
    // Toward zero: the bits that f32 has no room for are cleared before.
    let kept = _mm256_castsi256_pd(_mm256_set1_epi64x(!0x1fff_ffff));
    let [low, high] = [_mm256_cvtpd_ps(_mm256_and_pd(sums[0], kept)), _mm256_cvtpd_ps(_mm256_and_pd(sums[1], kept))];
    let sums = _mm256_set_m128(high, low);
    let mantissa = if precision == Precision::Short { !0x3ff } else { !0 };
    Some(cast(_mm256_and_ps(sums, _mm256_castsi256_ps(_mm256_set1_epi32(mantissa)))))
}

/// 2^e for integers whose powers are normal numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn power(e: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvttps_epi32(e), _mm256_set1_epi32(127))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn halves(x: __m256i) -> [__m256d; 2] {
    [_mm256_cvtepi32_pd(_mm256_castsi256_si128(x)), _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(x))]
}
