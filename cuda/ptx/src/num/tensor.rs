//! The tensor cores' arithmetic: D = A·B + C over small dense tiles.
//!
//! **Model.** Products of f16, bf16, fp8, tf32 and 8-bit integer operands are exact in f32, but for bf16 or tf32 products below
//! its subnormals (tf32 operands lose their low 13 bits first, as the hardware drops them). They are added to the accumulator
//! one k after the other, from k = 0 upward, each sum rounded to nearest even. The order is that of k alone, so a result never
//! depends on the tile's shape, and the error against the exact dot product is at most K·2^−24 of the sum of magnitudes, K
//! counted over the whole accumulation. An f16 accumulator is summed in f32 over one instruction and rounded once, to nearest, at its
//! end. Integer sums of one instruction are exact; then they wrap, or clamp with `.satfinite`. f64 is a chain of fused
//! multiply-adds.
//!
//! A Hopper card aligns the products of one instruction to the largest exponent among them, keeps a few bits below f32 (for
//! fp8: about 13 bits below the largest), truncates, and adds them at once (arXiv 2512.07004). That is **not** modelled bit for
//! bit: results agree with a card's within the two error bounds, not in their last bits; and the precision that fp8 loses on
//! a card through its short accumulator is not lost here.

use super::convert::{bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32};

/// What A or B consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// f32 whose low 13 bits do not count.
    Tf32,
    /// 8-bit float with 3 bits of mantissa.
    E4m3,
    /// 8-bit float with 2 bits of mantissa.
    E5m2,
    /// Signed byte.
    S8,
    /// Unsigned byte.
    U8,
}

impl Element {
    /// Its width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Element::Tf32 => 32,
            Element::F16 | Element::Bf16 => 16,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 8,
        }
    }

    /// How many fill a 32-bit register.
    pub const fn per_register(self) -> usize {
        32 / self.bits() as usize
    }

    /// An integer type, whose sums are integers.
    pub const fn is_integer(self) -> bool {
        matches!(self, Element::S8 | Element::U8)
    }

    /// The value of the element in the low bits of `bits`.
    #[inline(always)]
    pub fn value(self, bits: u32) -> f32 {
        match self {
            Element::F16 => f32::from_bits(f16_to_f32(bits as u16)),
            Element::Bf16 => f32::from_bits(bf16_to_f32(bits as u16)),
            Element::Tf32 => f32::from_bits(bits & !0x1fff),
            Element::E4m3 => e4m3_to_f32(bits as u8),
            Element::E5m2 => e5m2_to_f32(bits as u8),
            Element::S8 => f32::from(bits as i8),
            Element::U8 => f32::from(bits as u8),
        }
    }
}

/// `d[m][n] += Σ_k a[m][k] · b[k][n]`, everything row-major and dense, k upward. The products are exact or rounded as above.
pub fn multiply_add_f32(d: &mut [f32], a: &[f32], b: &[f32], n: usize, k: usize) {
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        let mut first = 0;
        while first + 16 <= n {
            columns::<16>(d, a, b, n, first);
            first += 16;
        }
        while first + 8 <= n {
            columns::<8>(d, a, b, n, first);
            first += 8;
        }
        for column in first..n {
            columns::<1>(d, a, b, n, column);
        }
    }
}

/// The columns from `first` on of one row: few enough that their sums stay in registers while k runs.
#[inline(always)]
fn columns<const COUNT: usize>(d: &mut [f32], a: &[f32], b: &[f32], n: usize, first: usize) {
    let Some(d) = d[first..].first_chunk_mut::<COUNT>() else { return };
    let mut sums = *d;
    for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
        for (sum, &b) in sums.iter_mut().zip(&b[first..first + COUNT]) {
            *sum += a * b;
        }
    }
    *d = sums;
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

/// An integer accumulator plus the exact sum of one instruction's products.
pub fn accumulate_s32(c: i32, sum: f32, saturate: bool) -> i32 {
    // At most 32 products below 2^16: the sum is an integer that f32 holds exactly.
    let sum = sum as i32;
    if saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) }
}
