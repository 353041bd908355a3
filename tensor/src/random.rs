//! Seeded, counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! Element `i` of a draw is a pure function of `(seed, offset + i)`, so results do not depend on threads or devices, and a
//! generator's whole state is two integers that a checkpoint can hold.

use crate::backend::Distribution;
use crate::device::Device;
use crate::dtype::DType;
use crate::operation::operation;
use crate::refuse;
use crate::shape::Shape;
use crate::tensor::Tensor;
use half::{bf16, f16};

/// Ten rounds of Philox on a 128-bit counter with a 64-bit key: four independent random words.
pub fn philox(seed: u64, counter: u64) -> [u32; 4] {
    const M: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let mut key = [seed as u32, (seed >> 32) as u32];
    let mut c = [counter as u32, (counter >> 32) as u32, 0, 0];
    for _ in 0..10 {
        let (p0, p1) = (M[0] as u64 * c[0] as u64, M[1] as u64 * c[2] as u64);
        c = [(p1 >> 32) as u32 ^ c[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(W[0]), key[1].wrapping_add(W[1])];
    }
    c
}

/// Number `counter` of stream `seed`, uniform on `[0, 1)` with 53 bits.
pub fn uniform(seed: u64, counter: u64) -> f64 {
    let w = philox(seed, counter);
    (((w[0] as u64) << 32 | w[1] as u64) >> 11) as f64 / (1u64 << 53) as f64
}

/// The largest finite value of a dtype below `hi`, which limits draws on `[lo, hi)`: rounding alone would reach `hi`. It is `lo`
/// where the dtype has no value between the two. Integers are cut off instead of rounded, so f64's will do.
pub fn last_below(lo: f64, hi: f64, dtype: DType) -> f64 {
    let below = hi.next_down();
    // Of binary digits, and the exponent from which on down numbers lie evenly.
    let (digits, least, max) = match dtype {
        DType::F32 => (24, -126, f64::from(f32::MAX)),
        DType::BF16 => (8, -126, f64::from(bf16::MAX)),
        DType::F16 => (11, -14, f64::from(f16::MAX)),
        DType::F8E4M3 => (4, -6, 448.0),
        _ => return below.max(lo),
    };
    let exponent = (below.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let spacing = 2f64.powi(exponent.max(least) + 1 - digits);
    ((below / spacing).floor() * spacing).min(max).max(lo)
}

/// Number `counter` of stream `seed`, standard normal (Box–Muller).
pub fn normal(seed: u64, counter: u64) -> f64 {
    let w = philox(seed, counter);
    let u = ((((w[0] as u64) << 32 | w[1] as u64) >> 11) + 1) as f64 / (1u64 << 53) as f64; // (0, 1]
    let v = (((w[2] as u64) << 32 | w[3] as u64) >> 11) as f64 / (1u64 << 53) as f64;
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Number `counter` of stream `seed`, uniform on `lo..hi`.
pub fn integer(seed: u64, counter: u64, lo: i64, hi: i64) -> i64 {
    let w = philox(seed, counter);
    let word = (w[0] as u64) << 32 | w[1] as u64;
    let span = hi.wrapping_sub(lo) as u64;
    lo.wrapping_add(((word as u128 * span as u128) >> 64) as i64)
}

/// A stream of random numbers: a seed and how many were drawn.
///
/// ```
/// use tensor::{DType, Device, Generator};
/// let mut rng = Generator::new(7);
/// let x = rng.normal([2, 3], 0.0, 1.0, DType::F32, &Device::cpu());
/// assert_eq!(rng.state(), (7, 6));
/// assert_eq!(x.to_vec::<f32>(), Generator::new(7).normal([2, 3], 0.0, 1.0, DType::F32, &Device::cpu()).to_vec::<f32>());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    seed: u64,
    offset: u64,
}

impl Generator {
    /// The stream of `seed` from its start.
    pub fn new(seed: u64) -> Self {
        Generator { seed, offset: 0 }
    }

    /// A stream in the state that [`Generator::state`] gave.
    pub fn from_state((seed, offset): (u64, u64)) -> Self {
        Generator { seed, offset }
    }

    /// Seed and numbers drawn so far.
    pub fn state(&self) -> (u64, u64) {
        (self.seed, self.offset)
    }

    /// Uniform on `[lo, hi)`.
    ///
    /// # Panics
    /// If `lo` lies above `hi`, one of them or their distance is not finite, the dtype is no float, or no memory could hold the
    /// shape.
    #[track_caller]
    pub fn uniform(&mut self, shape: impl Into<Shape>, lo: f64, hi: f64, dtype: DType, device: &Device) -> Tensor {
        operation("uniform", || {
            if !(lo <= hi && (hi - lo).is_finite()) {
                refuse!("the bounds {lo} and {hi} are no finite range");
            }
            self.draw(shape.into(), dtype, Distribution::Uniform(lo, hi), device)
        })
    }

    /// Normal with a mean and a standard deviation.
    ///
    /// # Panics
    /// If `std` is negative, one of them is not finite, the dtype is no float, or no memory could hold the shape.
    #[track_caller]
    pub fn normal(&mut self, shape: impl Into<Shape>, mean: f64, std: f64, dtype: DType, device: &Device) -> Tensor {
        operation("normal", || {
            if !(mean.is_finite() && std >= 0.0 && std.is_finite()) {
                refuse!("mean {mean} and standard deviation {std}, expected finite numbers, the second not negative");
            }
            self.draw(shape.into(), dtype, Distribution::Normal(mean, std), device)
        })
    }

    /// i64 integers uniform on `lo..hi`.
    ///
    /// # Panics
    /// If the range is empty, or no memory could hold the shape.
    #[track_caller]
    pub fn randint(&mut self, lo: i64, hi: i64, shape: impl Into<Shape>, device: &Device) -> Tensor {
        operation("randint", || {
            if lo >= hi {
                refuse!("the range {lo}..{hi} is empty");
            }
            self.draw(shape.into(), DType::I64, Distribution::Int(lo, hi), device)
        })
    }

    fn draw(&mut self, shape: Shape, dtype: DType, distribution: Distribution, device: &Device) -> Tensor {
        if !dtype.is_float() && !matches!(distribution, Distribution::Int(..)) {
            refuse!("expected a float dtype, got {dtype}");
        }
        shape.expect_fits();
        let x = device.random(&shape, dtype, distribution, self.seed, self.offset);
        self.offset += shape.numel() as u64;
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(philox(0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    }

    #[test]
    fn the_last_value_below_a_bound_is_the_one_before_it() {
        use DType::*;
        let tiny = [(F32, -149), (BF16, -133), (F16, -24), (F8E4M3, -9)];
        for (dtype, exponent) in tiny {
            assert_eq!(last_below(-1.0, 0.0, dtype), -(2f64.powi(exponent)), "{dtype}");
        }
        for (dtype, below_one) in [(F64, -53), (F32, -24), (BF16, -8), (F16, -11), (F8E4M3, -4)] {
            assert_eq!(last_below(0.0, 1.0, dtype), 1.0 - 2f64.powi(below_one), "{dtype}");
            assert_eq!(last_below(-2.0, -1.0, dtype), -1.0 - 2f64.powi(below_one + 1), "{dtype}");
            assert_eq!(last_below(1.0, 1.0, dtype), 1.0, "{dtype}: no value between");
        }
        // Between two values, and beyond the largest.
        assert_eq!(last_below(0.0, 0.1, F32), f64::from(0.1f32.next_down()));
        assert_eq!(last_below(0.0, 1.005, BF16), 1.0);
        assert_eq!((last_below(0.0, 1e9, F16), last_below(0.0, 1e9, F8E4M3)), (65504.0, 448.0));
    }

    #[test]
    fn moments() {
        let n = 200_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let bound = 5.0 / (n as f64).sqrt(); // five standard errors of a unit-variance mean
        assert!(mean(&|i| normal(3, i)).abs() < bound);
        assert!((mean(&|i| normal(3, i).powi(2)) - 1.0).abs() < 2.0 * bound);
        assert!((mean(&|i| uniform(3, i)) - 0.5).abs() < bound);
        assert!((0..1000).all(|i| (-2..3).contains(&integer(3, i, -2, 3))));
    }
}
