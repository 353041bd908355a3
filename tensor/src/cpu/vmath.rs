//! Elementary functions of `f32` slices, without branches, so that they vectorise.
//!
//! Each function is a short scalar one, `#[inline(always)]`, that a loop inside [`dispatch!`] applies to a slice; kernels
//! that fuse them with other work call the scalar ones. Vector body and tail are the same code, so an element's result
//! does not depend on its place. Polynomials are minimax fits (Remez) of the reduced function.
//!
//! Errors, measured against `f64` over every 17th `f32`, in ulp, with AVX2 and AVX-512:
//!
//! | function | ulp | |
//! | --- | --- | --- |
//! | `exp` | 1.1 | results below 2⁻¹²⁶ are zero: no subnormal leaves a softmax |
//! | `log` | 1.0 | subnormal arguments too |
//! | `tanh` | 1.5 | |
//! | `sigmoid` | 2.5 | zero below −88.7 |
//! | `silu` | 3.0 | zero below −88.7, where it is under 3 · 10⁻³⁷; `silu(-∞)` is NaN, as `x / (1 + exp(-x))` gives it and PyTorch too |
//! | `gelu` | 4.0 | with erf, relative in both tails; `gelu(-∞)` is NaN likewise |
//!
//! Where there is no fused multiply-add the bound of each is 0.5 higher. NaN gives NaN.

use super::simd::{dispatch, fma};

dispatch! {
    /// `y = exp(x)`.
    pub fn exp(x: &[f32], y: &mut [f32]) {
        map(x, y, exp1::<FMA>);
    }

    /// `y = ln(x)`.
    pub fn log(x: &[f32], y: &mut [f32]) {
        map(x, y, log1::<FMA>);
    }

    /// `y = tanh(x)`.
    pub fn tanh(x: &[f32], y: &mut [f32]) {
        map(x, y, tanh1::<FMA>);
    }

    /// `y = 1 / (1 + exp(-x))`.
    pub fn sigmoid(x: &[f32], y: &mut [f32]) {
        map(x, y, sigmoid1::<FMA>);
    }

    /// `y = x / (1 + exp(-x))` (Elfwing et al., 2018).
    pub fn silu(x: &[f32], y: &mut [f32]) {
        map(x, y, silu1::<FMA>);
    }

    /// `y = x · Φ(x)` with the normal distribution's Φ (Hendrycks and Gimpel, 2016).
    pub fn gelu(x: &[f32], y: &mut [f32]) {
        map(x, y, gelu1::<FMA>);
    }
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    assert_eq!(x.len(), y.len());
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

/// `c[0] + c[1] x + …` by Horner's rule.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for i in (0..N - 1).rev() {
        y = fma::<FMA, _>(y, x, c[i]);
    }
    y
}

/// ln 2 in two parts; the first has ten bits, so that its products with an exponent are exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `exp(x)` for one element.
#[inline(always)]
pub fn exp1<const FMA: bool>(x: f32) -> f32 {
    exp_sum::<FMA>(x, 0.0)
}

/// `exp(x + rest)` for a `rest` that is tiny beside 1.
///
/// `x = n ln 2 + r`, and a polynomial for `exp(r)`. The rounding to the integer `n` is done by adding 1.5 · 2²³, which
/// leaves `n` in the low bits.
#[inline(always)]
fn exp_sum<const FMA: bool>(x: f32, rest: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let shifted = fma::<FMA, _>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA, _>(n, -LN2[1], fma::<FMA, _>(n, -LN2[0], x)) + rest;
    let p = polynomial::<FMA, 5>(r, [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_78, 0.001_381_448]);
    let y = fma::<FMA, _>(p, r * r, r) + 1.0;
    // 2ⁿ in two factors: n reaches 128, which has no float of its own.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    let y = y * power(half) * power(n.wrapping_sub(half));
    // NaN fails both comparisons and has come through the polynomial.
    if x < -87.336_54 {
        0.0
    } else if x > 88.722_84 {
        f32::INFINITY
    } else {
        y
    }
}

/// `ln(x)` for one element: `x = 2ᵉ m` with `m` between √½ and √2.
#[inline(always)]
pub fn log1<const FMA: bool>(x: f32) -> f32 {
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = (scaled.to_bits() as i32).wrapping_sub(SQRT_HALF);
    let e = (bits >> 23) as f32 - if subnormal { 23.0 } else { 0.0 };
    let f = f32::from_bits(((bits & 0x007f_ffff) + SQRT_HALF) as u32) - 1.0;
    let p = polynomial::<FMA, 9>(
        f,
        [
            0.333_333_13,
            -0.250_000_1,
            0.200_021_2,
            -0.166_679_96,
            0.142_195_54,
            -0.124_055_9,
            0.118_881_53,
            -0.116_756_31,
            0.067_466_26,
        ],
    );
    let square = f * f;
    let small = fma::<FMA, _>(e, LN2[1], f * square * p);
    let y = fma::<FMA, _>(e, LN2[0], fma::<FMA, _>(-0.5, square, small) + f);
    if x < 0.0 {
        f32::NAN
    } else if x == 0.0 {
        f32::NEG_INFINITY
    } else if x < f32::INFINITY {
        y
    } else {
        x
    }
}

/// `tanh(x)` for one element: a polynomial near zero, `1 - 2 / (exp(2|x|) + 1)` elsewhere.
#[inline(always)]
pub fn tanh1<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let p = polynomial::<FMA, 5>(z, [-0.333_332_84, 0.133_314_91, -0.053_743_44, 0.020_650_383, -0.005_716_806]);
    let near = fma::<FMA, _>(p * z, a, a);
    let far = 1.0 - 2.0 / (exp1::<FMA>(2.0 * a) + 1.0);
    (if a < 0.625 { near } else { far }).copysign(x)
}

/// `1 / (1 + exp(-x))` for one element.
#[inline(always)]
pub fn sigmoid1<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp1::<FMA>(-x))
}

/// `x / (1 + exp(-x))` for one element.
#[inline(always)]
pub fn silu1<const FMA: bool>(x: f32) -> f32 {
    x / (1.0 + exp1::<FMA>(-x))
}

/// `x Φ(x)` for one element.
///
/// The upper tail of the distribution, `Q(a) = exp(-a²/2) R(a)`, with a polynomial in `(a - 4) / (a + 4)` for
/// `(a + 1) R(a)`: accurate relative to the tail, where `1 + erf` would cancel. The rounding of `a²`, magnified by the
/// exponential, is carried along.
#[inline(always)]
pub fn gelu1<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    // Beyond 13.5 the exponential is zero; NaN stays.
    let a = if a > 13.5 { 13.5 } else { a };
    let square = a * a;
    let lost = if FMA {
        fma::<FMA, _>(a, a, -square)
    } else {
        // Dekker's product: the upper half of `a` has 12 bits.
        let upper = f32::from_bits(a.to_bits() & 0xffff_f000);
        let lower = a - upper;
        ((upper * upper - square) + 2.0 * upper * lower) + lower * lower
    };
    let p = polynomial::<FMA, 11>(
        (a - 4.0) / (a + 4.0),
        [
            0.472_053_2,
            -0.096_703_47,
            0.013_999_587,
            0.028_600_015,
            -0.032_197_084,
            0.017_940_082,
            -0.005_005_505,
            -0.000_304_424_8,
            0.000_694_706_34,
            -0.000_057_949_415,
            -0.000_070_654_93,
        ],
    );
    let ratio = p / (a + 1.0);
    let e = exp_sum::<FMA>(-0.5 * square, -0.5 * lost);
    // The exponential last: its product with the ratio alone may be subnormal.
    if x < 0.0 { x * ratio * e } else { x - a * ratio * e }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{BASELINE_FMA, Isa, forced};

    struct Function {
        name: &'static str,
        ours: fn(&[f32], &mut [f32]),
        exact: fn(f64) -> f64,
        /// Errors in ulp with and without a fused multiply-add.
        ulp: [f64; 2],
        /// Magnitudes up to this may be flushed to zero.
        zero: f64,
    }

    const TINY: f64 = f32::MIN_POSITIVE as f64;

    const FUNCTIONS: [Function; 6] = [
        Function { name: "exp", ours: exp, exact: f64::exp, ulp: [1.1, 1.6], zero: TINY },
        Function { name: "log", ours: log, exact: f64::ln, ulp: [1.0, 1.5], zero: TINY },
        Function { name: "tanh", ours: tanh, exact: f64::tanh, ulp: [1.5, 2.0], zero: TINY },
        Function { name: "sigmoid", ours: sigmoid, exact: |x| 1.0 / (1.0 + (-x).exp()), ulp: [2.5, 3.0], zero: TINY },
        Function { name: "silu", ours: silu, exact: |x| x / (1.0 + (-x).exp()), ulp: [3.0, 3.5], zero: 89.0 * 0.25 * TINY },
        Function {
            name: "gelu",
            ours: gelu,
            exact: |x| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            ulp: [4.0, 4.5],
            zero: TINY,
        },
    ];

    /// The distance of floats around `x`, normal ones at least.
    fn ulp(x: f64) -> f64 {
        let exponent = (x.abs().to_bits() >> 52) as i32 - 1023;
        2f64.powi(exponent.max(-126) - 23)
    }

    /// The largest error in ulp over every `step`th float; infinities and NaN must be met exactly.
    fn worst(f: &Function, step: usize, first: u64) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        let all: Vec<f32> = (first..1 << 32).step_by(step).map(|bits| f32::from_bits(bits as u32)).collect();
        let mut y = vec![0.0; 4096];
        for x in all.chunks(4096) {
            (f.ours)(x, &mut y[..x.len()]);
            for (&x, &y) in x.iter().zip(&y) {
                let exact = (f.exact)(f64::from(x));
                let error = if exact.is_nan() || y.is_nan() {
                    if exact.is_nan() && y.is_nan() { 0.0 } else { f64::INFINITY }
                } else if (exact as f32).is_infinite() || y.is_infinite() {
                    if exact as f32 == y { 0.0 } else { f64::INFINITY }
                } else if exact.abs() <= f.zero && y == 0.0 {
                    0.0
                } else {
                    (f64::from(y) - exact).abs() / ulp(exact)
                };
                if error > worst.0 {
                    worst = (error, x);
                }
            }
        }
        worst
    }

    #[test]
    fn errors_are_as_documented() {
        forced::each(|isa| {
            for f in &FUNCTIONS {
                let (error, x) = worst(f, 9973, 0);
                let fused = isa != Isa::Portable || BASELINE_FMA;
                let bound = f.ulp[usize::from(!fused)];
                println!("{isa:?} {}: {error:.3} ulp at {x:e}", f.name);
                assert!(error <= bound, "{isa:?} {}: {error} ulp at {x:e}", f.name);
            }
        });
    }

    #[test]
    fn special_values() {
        const INF: f32 = f32::INFINITY;
        let cases: [(&Function, &[(f32, f32)]); 4] = [
            (&FUNCTIONS[0], &[(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (1e30, INF), (-1e30, 0.0), (1e-40, 1.0)]),
            (&FUNCTIONS[1], &[(0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF), (-1.0, f32::NAN), (-INF, f32::NAN)]),
            (&FUNCTIONS[2], &[(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (1e-40, 1e-40)]),
            (&FUNCTIONS[3], &[(0.0, 0.5), (INF, 1.0), (-INF, 0.0)]),
        ];
        forced::each(|_| {
            for (f, pairs) in cases {
                for &(x, expected) in pairs {
                    // Long enough to pass through a vector body.
                    let mut y = [5.0; 40];
                    (f.ours)(&[x; 40], &mut y);
                    let same = |y: f32| y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan();
                    assert!(y.into_iter().all(same), "{}({x}) = {y:?}", f.name);
                }
            }
            for f in &FUNCTIONS {
                let mut y = [5.0; 40];
                (f.ours)(&[f32::NAN; 40], &mut y);
                assert!(y.into_iter().all(f32::is_nan), "{}(NaN)", f.name);
            }
        });
    }

    #[test]
    fn an_element_does_not_depend_on_its_place() {
        let x: Vec<f32> = (0..200).map(|i| (i as f32 - 100.3) * 0.37).collect();
        forced::each(|isa| {
            for f in &FUNCTIONS {
                let mut whole = vec![0.0; 200];
                (f.ours)(&x, &mut whole);
                for (start, len) in [(0, 1), (3, 17), (50, 33), (199, 1), (100, 64), (7, 5)] {
                    let mut part = vec![0.0; len];
                    (f.ours)(&x[start..][..len], &mut part);
                    let same = part.iter().zip(&whole[start..]).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{isa:?} {}", f.name);
                }
            }
        });
    }

    #[test]
    #[ignore = "takes minutes"]
    fn errors_are_as_documented_over_many_floats() {
        for f in &FUNCTIONS {
            let (error, x) = worst(f, 17, 0);
            println!("{}: {error:.3} ulp at {x:e}", f.name);
            assert!(error <= f.ulp[0], "{}: {error} ulp at {x:e}", f.name);
        }
    }
}
