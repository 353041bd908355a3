//! Micro-kernels for AVX2 and AVX-512.
//!
//! AVX-512 has 32 registers: a tile of 14 x 2 takes 28, two more hold the right operand and one the broadcast. That is 28
//! multiply-adds for 16 loads, within the two of each that a core issues a cycle. AVX2 has 16: 6 x 2.

use super::{Kernels, Lanes, Tile, micro};
use std::arch::x86_64::*;

/// Implements [`Lanes`] for a register by intrinsics. The closures' names stand for address, count and register; they are
/// pasted, not called, so that everything is inlined into the function that has the instruction set.
macro_rules! lanes {
    ($v:ty, $t:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident,
     |$p:ident, $count:ident| $load_first:expr, |$q:ident, $m:ident, $x:ident| $store_first:expr) => {
        impl Lanes<$t> for $v {
            const LANES: usize = $n;
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                // SAFETY: the caller has the instruction set.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller has the instruction set and vouches for the address.
                unsafe { $load(p) }
            }
            #[inline(always)]
            unsafe fn load_first($p: *const $t, $count: usize) -> Self {
                // SAFETY: as in `load`; lanes outside the mask are not touched.
                unsafe { $load_first }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: as in `load`.
                unsafe { $store(p, self) }
            }
            #[inline(always)]
            unsafe fn store_first(self, $q: *mut $t, $m: usize) {
                let $x = self;
                // SAFETY: as in `load`; lanes outside the mask are not touched.
                unsafe { $store_first }
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                unsafe { $fma(self, b, c) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                unsafe { $add(self, b) }
            }
        }
    };
}

/// Ones in the first `n` of 32-bit lanes, zeros after: `n` lanes from the middle.
static MASK32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
/// The same for 64-bit lanes.
static MASK64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

/// # Safety
/// AVX2, `n <= 8`.
#[inline(always)]
unsafe fn mask32(n: usize) -> __m256i {
    // SAFETY: eight lanes from `8 - n <= 8` lie within the table.
    unsafe { _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast()) }
}

/// # Safety
/// AVX2, `n <= 4`.
#[inline(always)]
unsafe fn mask64(n: usize) -> __m256i {
    // SAFETY: four lanes from `4 - n <= 4` lie within the table.
    unsafe { _mm256_loadu_si256(MASK64.as_ptr().add(4 - n).cast()) }
}

/// The mask of the first `n < 32` lanes.
#[inline(always)]
fn bits(n: usize) -> u16 {
    ((1u32 << n) - 1) as u16
}

lanes!(
    __m512,
    f32,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    |p, n| _mm512_maskz_loadu_ps(bits(n), p),
    |p, n, x| _mm512_mask_storeu_ps(p, bits(n), x)
);
lanes!(
    __m512d,
    f64,
    8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_add_pd,
    |p, n| _mm512_maskz_loadu_pd(bits(n) as u8, p),
    |p, n, x| _mm512_mask_storeu_pd(p, bits(n) as u8, x)
);
lanes!(
    __m256,
    f32,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    |p, n| _mm256_maskload_ps(p, mask32(n)),
    |p, n, x| _mm256_maskstore_ps(p, mask32(n), x)
);
lanes!(
    __m256d,
    f64,
    4,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_fmadd_pd,
    _mm256_add_pd,
    |p, n| _mm256_maskload_pd(p, mask64(n)),
    |p, n, x| _mm256_maskstore_pd(p, mask64(n), x)
);

table!(AVX512_F32: f32, __m512, transpose transpose_f32x16,
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14], [1 2 3 4 5 6 7 8 9 10 11 12 13 14], [1 2 3 4 5 6], "avx512f,avx512vl,avx2,fma");
table!(AVX512_F64: f64, __m512d, transpose super::transpose_plain::<f64, 8>,
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14], [1 2 3 4 5 6 7 8 9 10 11 12 13 14], [1 2 3 4 5 6], "avx512f,avx512vl,avx2,fma");
table!(AVX2_F32: f32, __m256, transpose transpose_f32x8, [1 2 3 4 5 6], [1 2 3 4 5 6], [1 2], "avx2,fma");
table!(AVX2_F64: f64, __m256d, transpose super::transpose_plain::<f64, 4>, [1 2 3 4 5 6], [1 2 3 4 5 6], [1 2], "avx2,fma");

/// Transposes 8 x 8 floats in registers: pairs, quadruples, then 128-bit halves.
///
/// # Safety
/// AVX; `src` and `dst` are valid for 8 rows of 8 elements at their strides.
#[target_feature(enable = "avx")]
unsafe fn transpose_f32x8(src: *const f32, src_row: isize, dst: *mut f32, dst_row: isize) {
    // SAFETY: in range by the contract above.
    unsafe {
        let x: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(src.offset(i as isize * src_row)));
        let pairs =
            |i: usize| [_mm256_unpacklo_ps(x[i], x[i + 1]), _mm256_unpackhi_ps(x[i], x[i + 1])].map(|v| _mm256_castps_pd(v));
        // Of four rows from `i` on: column q in the left half and column 4 + q in the right half.
        let columns = |i: usize| {
            let ([a, b], [c, d]) = (pairs(i), pairs(i + 2));
            [_mm256_unpacklo_pd(a, c), _mm256_unpackhi_pd(a, c), _mm256_unpacklo_pd(b, d), _mm256_unpackhi_pd(b, d)]
                .map(|v| _mm256_castpd_ps(v))
        };
        for (q, (upper, lower)) in columns(0).into_iter().zip(columns(4)).enumerate() {
            let q = q as isize;
            _mm256_storeu_ps(dst.offset(q * dst_row), _mm256_permute2f128_ps::<0x20>(upper, lower));
            _mm256_storeu_ps(dst.offset((4 + q) * dst_row), _mm256_permute2f128_ps::<0x31>(upper, lower));
        }
    }
}

/// Transposes 16 x 16 floats in registers: pairs, quadruples, then 128-bit blocks.
///
/// # Safety
/// AVX-512 F; `src` and `dst` are valid for 16 rows of 16 elements at their strides.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_f32x16(src: *const f32, src_row: isize, dst: *mut f32, dst_row: isize) {
    // SAFETY: in range by the contract above.
    unsafe {
        let x: [__m512; 16] = std::array::from_fn(|i| _mm512_loadu_ps(src.offset(i as isize * src_row)));
        let mut y = [_mm512_setzero_ps(); 16];
        for i in 0..8 {
            y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
        }
        // Now z[4b + q] holds, in 128-bit block w, column 4w + q of rows 4b .. 4b + 4.
        let mut z = [_mm512_setzero_ps(); 16];
        for b in 0..4 {
            let pd = |i: usize| _mm512_castps_pd(y[4 * b + i]);
            z[4 * b] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(0), pd(2)));
            z[4 * b + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(0), pd(2)));
            z[4 * b + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(1), pd(3)));
            z[4 * b + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(1), pd(3)));
        }
        for q in 0..4 {
            let even_lo = _mm512_shuffle_f32x4::<0b10_00_10_00>(z[q], z[4 + q]);
            let odd_lo = _mm512_shuffle_f32x4::<0b11_01_11_01>(z[q], z[4 + q]);
            let even_hi = _mm512_shuffle_f32x4::<0b10_00_10_00>(z[8 + q], z[12 + q]);
            let odd_hi = _mm512_shuffle_f32x4::<0b11_01_11_01>(z[8 + q], z[12 + q]);
            let columns = [
                _mm512_shuffle_f32x4::<0b10_00_10_00>(even_lo, even_hi),
                _mm512_shuffle_f32x4::<0b10_00_10_00>(odd_lo, odd_hi),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(even_lo, even_hi),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(odd_lo, odd_hi),
            ];
            for (w, column) in columns.into_iter().enumerate() {
                _mm512_storeu_ps(dst.offset((4 * w + q) as isize * dst_row), column);
            }
        }
    }
}
