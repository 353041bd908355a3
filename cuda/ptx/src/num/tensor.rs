//! The tensor cores' arithmetic: D = A·B + C over small dense tiles.
//!
//! **Model.** What the H100 computes, as published bit-accurate models describe it (arXiv 2512.07004, 2511.10909). The products of one
//! instruction and the element of C form one sum for each element of D:
//! 1. Each product is exact, with the exponent e(a) + e(b); C has its own. A subnormal has the exponent of the smallest normal
//!    number of its type. (tf32 operands lose their low 13 bits first.)
//! 2. With E the largest exponent of the terms that are not zero (at least −126), each term is truncated toward zero to a multiple of 2^(E−25),
//!    in fp8 wgmma of 2^(E−13).
//! 3. The terms are added exactly, and the sum is truncated toward zero to f32, in fp8 wgmma to f32 with 13 bits of mantissa, or
//!    rounded to nearest even to f16.
//!
//! So the order of k inside an instruction does not matter, a long fp8 accumulation loses what a card's loses, and no multiply
//! ever rounds. Integer sums are exact; then they wrap, or clamp with `.satfinite`. f64 is a chain of fused multiply-adds, k upward.

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::ops::Range;

use super::NAN32;
use super::convert::{bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32};
use super::half::Kind;

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
    /// Signed integer of 4 bits.
    S4,
    /// Unsigned integer of 4 bits.
    U4,
    /// A bit.
    B1,
}

impl Element {
    /// Its width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Element::Tf32 => 32,
            Element::F16 | Element::Bf16 => 16,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 8,
            Element::S4 | Element::U4 => 4,
            Element::B1 => 1,
        }
    }

    /// How many fill a 32-bit register.
    pub const fn per_register(self) -> usize {
        32 / self.bits() as usize
    }

    /// An integer type, whose sums are integers.
    pub const fn is_integer(self) -> bool {
        matches!(self, Element::S8 | Element::U8 | Element::S4 | Element::U4 | Element::B1)
    }

    /// The exponent of the type's smallest normal number.
    const fn min_exponent(self) -> f32 {
        match self {
            Element::F16 | Element::E5m2 => -14.0,
            Element::E4m3 => -6.0,
            _ => -126.0,
        }
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
            Element::S4 => f32::from((bits << 4) as i8 >> 4),
            Element::U4 => f32::from(bits as u8 & 15),
            Element::B1 => f32::from(bits as u8 & 1),
        }
    }
}

/// How the terms of a sum are aligned, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 25 bits below the largest exponent, truncated to f32.
    Single,
    /// 13 bits below the largest exponent, truncated to 13 bits of mantissa: fp8 wgmma.
    Short,
    /// 25 bits below the largest exponent, rounded to f16.
    Half,
    /// As `Half`, but with 13 bits: fp8 wgmma into f16.
    ShortHalf,
}

impl Precision {
    /// Bits below the largest exponent.
    const fn fraction(self) -> f32 {
        match self {
            Precision::Single | Precision::Half => 25.0,
            Precision::Short | Precision::ShortHalf => 13.0,
        }
    }

    /// The exponent of the smallest normal number of C's type.
    const fn least_of_c(self) -> f32 {
        if self.is_half() { -14.0 } else { -126.0 }
    }

    const fn is_half(self) -> bool {
        matches!(self, Precision::Half | Precision::ShortHalf)
    }

    #[inline(always)]
    fn round(self, x: f64) -> f32 {
        if self.is_half() {
            return Kind::F16.to_f32(Kind::F16.of_f64(x));
        }
        let near = x as f32;
        let beyond = f64::from(near).abs() > x.abs() && x.abs() < 2f64.powi(128);
        let bits = if beyond { near.to_bits() - 1 } else { near.to_bits() };
        let bits = if self == Precision::Short { bits & !0x3ff } else { bits };
        if x.is_nan() { f32::from_bits(NAN32) } else { f32::from_bits(bits) }
    }
}

/// An operand tile, dense: rows of A by k, or k by columns of B.
pub struct Tile {
    values: Vec<f32>,
    /// Far below any where the value is zero.
    exponents: Vec<f32>,
}

impl Tile {
    /// A tile of these values of a type.
    pub fn new(values: &[f32], of: Element) -> Tile {
        Tile { values: values.to_vec(), exponents: values.iter().map(|&x| exponent(x, of.min_exponent())).collect() }
    }
}

#[inline(always)]
fn exponent(x: f32, least: f32) -> f32 {
    let field = (x.to_bits() >> 23 & 0xff) as i32 as f32 - 127.0;
    let exponent = if field > least { field } else { least };
    if x == 0.0 { -1000.0 } else { exponent }
}

/// `d[m][n] += Σ_k a[m][k] · b[k][n]` by the model; `d` is row-major and holds values of its type, n is a multiple of 8.
pub fn multiply_add(d: &mut [f32], a: &Tile, b: &Tile, n: usize, k: usize, precision: Precision) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as it was just asked.
        return unsafe { avx2::multiply_add(d, a, b, n, k, precision) };
    }
    multiply_add_anywhere(d, a, b, n, k, precision);
}

fn multiply_add_anywhere(d: &mut [f32], a: &Tile, b: &Tile, n: usize, k: usize, precision: Precision) {
    for (row, d) in d.chunks_exact_mut(n).enumerate() {
        let (blocks, _) = d.as_chunks_mut::<8>();
        for (i, d) in blocks.iter_mut().enumerate() {
            columns(d, a, row * k..(row + 1) * k, b, n, 8 * i, precision);
        }
    }
}

/// Eight columns from `first` on of one row: their sums stay in registers while k runs. Only additions and multiplications of
/// f64, which every host does two at a time.
#[inline(always)]
fn columns(d: &mut [f32; 8], a: &Tile, row: Range<usize>, b: &Tile, n: usize, first: usize, precision: Precision) {
    let mut largest = [-126.0; 8];
    for i in 0..8 {
        let e = exponent(d[i], precision.least_of_c());
        largest[i] = if e > -126.0 { e } else { -126.0 };
    }
    for (&e, f) in a.exponents[row.clone()].iter().zip(b.exponents.chunks_exact(n)) {
        let f = eight(f, first);
        for i in 0..8 {
            largest[i] = if e + f[i] > largest[i] { e + f[i] } else { largest[i] };
        }
    }
    let (mut sums, mut scale) = ([0.0; 8], [0.0; 8]);
    for i in 0..8 {
        scale[i] = power(precision.fraction() - largest[i]);
        let c = f64::from(d[i]);
        sums[i] = floor(c.abs() * scale[i]).copysign(c);
    }
    for (&x, y) in a.values[row].iter().zip(b.values.chunks_exact(n)) {
        let y = eight(y, first);
        let (sign, x) = (1f64.copysign(x.into()), f64::from(x.abs()));
        for i in 0..8 {
            sums[i] += floor(x * scale[i] * f64::from(y[i].abs())) * (sign * 1f64.copysign(y[i].into()));
        }
    }
    for i in 0..8 {
        d[i] = precision.round(sums[i] * power(largest[i] - precision.fraction()));
    }
}

/// 2^e for a small integer.
#[inline(always)]
fn power(e: f32) -> f64 {
    f64::from_bits(((1023 + e as i32) as u64) << 52)
}

#[inline(always)]
fn eight<T>(row: &[T], first: usize) -> &[T; 8] {
    row[first..].first_chunk().expect("n is a multiple of 8")
}

/// The integer part of a number that is not negative, has at most 24 significant bits and is below 2^27, as all terms are in
/// units of the last place: down by just under a half, then to nearest, by adding a number whose last place is 1.
#[inline(always)]
fn floor(x: f64) -> f64 {
    const ALMOST_HALF: f64 = 0.5 - 1.0 / (1u64 << 25) as f64;
    const BIG: f64 = (3u64 << 51) as f64;
    (x - ALMOST_HALF + BIG) - BIG
}

/// `d[m][n] += Σ_k a[m][k] · b[k][n]` for integers, whose sums of one instruction f32 holds exactly.
pub fn sum_products(d: &mut [f32], a: &[f32], b: &[f32], n: usize, k: usize) {
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            for (sum, &b) in d.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
}

/// The same, or, for bits, the number of places in which a row and a column differ.
pub fn sum_bits_or_products(d: &mut [f32], a: &[f32], b: &[f32], n: usize, k: usize, differ: bool) {
    if !differ {
        return sum_products(d, a, b, n, k);
    }
    // a + b − 2ab for each pair of bits.
    sum_products(d, a, b, n, k);
    for (d, a) in d.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        let ones: f32 = a.iter().sum();
        for (column, sum) in d.iter_mut().enumerate() {
            let others: f32 = b.iter().skip(column).step_by(n).sum();
            *sum = ones + others - 2.0 * *sum;
        }
    }
}

/// `d[m][n] += Σ_k a[m][k] · b[k][n]` over f64, each step fused, k upward.
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
    // At most 64 products below 2^16, or 256 bits: the sum is an integer that f32 holds exactly.
    let sum = sum as i32;
    if saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways, bit by bit.
    fn check(a: &[f32], b: &[f32], c: f32, element: Element, precision: Precision) {
        let k = a.len();
        let wide: Vec<f32> = b.iter().flat_map(|&y| [y; 8]).collect();
        let (mut d, mut plain) = ([c; 8], [c; 8]);
        let tiles = (Tile::new(a, element), Tile::new(&wide, element));
        multiply_add(&mut d, &tiles.0, &tiles.1, 8, k, precision);
        multiply_add_anywhere(&mut plain, &tiles.0, &tiles.1, 8, k, precision);
        let same = d.iter().zip(&plain).all(|(d, e)| d.to_bits() == e.to_bits());
        assert!(same, "{d:?} {plain:?} of {a:?} {b:?} {c:e} {element:?} {precision:?}");
    }

    #[test]
    fn sums_by_eight_have_the_bits_of_the_plain_ones() {
        let mut state = 1_u32;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for round in 0..4000 {
            let element = [Element::Bf16, Element::F16, Element::Tf32, Element::E4m3, Element::E5m2][round % 5];
            let precision = [Precision::Single, Precision::Half, Precision::Short, Precision::ShortHalf][round % 4];
            let spread = 1 + draw(40);
            // Around the ends of what is summed in integers, and in the middle.
            let middle = [127, 127 - 55, 127 + 45, 127 - 50, 127 + 50][draw(5) as usize];
            let mut value = |_| {
                let bits = draw(1 << 24) | draw(256) << 24;
                let wide = bits & 0x807f_ffff | (middle + draw(spread) - spread / 2) << 23;
                match (element, draw(16)) {
                    (_, 0) => 0.0,
                    (_, 1) => -0.0,
                    (Element::Bf16 | Element::Tf32, _) => {
                        f32::from_bits(wide & !0x1fff & if element == Element::Bf16 { !0xffff } else { !0 })
                    }
                    _ => element.value(bits),
                }
            };
            let a: Vec<f32> = (0..32).map(&mut value).filter(|x| x.is_finite()).collect();
            let b: Vec<f32> = (0..a.len()).map(&mut value).map(|x| if x.is_finite() { x } else { 1.0 }).collect();
            let c = [0.0, -0.0, 1.0, -3.5, f32::from_bits(draw(1 << 23)), -1e-20][draw(6) as usize];
            check(&a, &b, c, element, precision);
        }
        // All terms as large as they get.
        let most = f32::from_bits(0x3fff_e000);
        check(&[most; 32], &[most; 32], 0.0, Element::Tf32, Precision::Single);
        check(&[most; 32], &[-most; 32], 0.0, Element::Tf32, Precision::Single);
        for odd in [f32::INFINITY, f32::NAN] {
            let mut d = [0.0; 8];
            multiply_add(
                &mut d,
                &Tile::new(&[0.0, 1.0], Element::Bf16),
                &Tile::new(&[odd; 16], Element::Bf16),
                8,
                2,
                Precision::Single,
            );
            assert!(d.iter().all(|x| x.is_nan()), "{d:?}");
        }
    }
}
