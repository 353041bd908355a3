//! Data types: [`DType`], the Rust types behind it ([`Element`]), [`Scalar`]s and PyTorch's promotion rules.

use half::{bf16, f16};
use std::fmt;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit brain float: 8 exponent bits, 7 mantissa bits.
    BF16,
    /// 16-bit IEEE float.
    F16,
    /// 8-bit float e4m3fn (OCP FP8): storage only; cast it before computing.
    F8E4M3,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// Boolean, stored as one byte 0 or 1.
    Bool,
}

impl DType {
    /// All data types.
    pub const ALL: [DType; 9] =
        [DType::F64, DType::F32, DType::BF16, DType::F16, DType::F8E4M3, DType::I64, DType::I32, DType::U8, DType::Bool];

    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::F8E4M3 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::BF16 | DType::F16 | DType::F8E4M3)
    }

    /// Whether this is an integer type (bool is not).
    pub fn is_int(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::U8)
    }

    /// What sums of this type, and operations of several steps, are computed in before they are rounded once: f32 for the half
    /// types, i64 for integers and bool. The others, and f8e4m3, which is for storage only, stand for themselves.
    pub fn accumulator(self) -> DType {
        match self {
            DType::BF16 | DType::F16 => DType::F32,
            DType::I64 | DType::I32 | DType::U8 | DType::Bool => DType::I64,
            DType::F64 | DType::F32 | DType::F8E4M3 => self,
        }
    }

    /// Whether arithmetic in this type is done in [`DType::accumulator`], f32, and rounded once.
    pub(crate) fn is_half(self) -> bool {
        matches!(self, DType::BF16 | DType::F16)
    }

    /// The distance from 1 to the next larger value; twice the unit roundoff. Zero for integers.
    pub fn epsilon(self) -> f64 {
        match self {
            DType::F64 => f64::EPSILON,
            DType::F32 => f32::EPSILON as f64,
            DType::BF16 => 1.0 / 128.0,
            DType::F16 => 1.0 / 1024.0,
            DType::F8E4M3 => 1.0 / 8.0,
            _ => 0.0,
        }
    }

    /// The type of `a op b` for two tensors of at least one dimension each (PyTorch's promotion).
    pub fn promote(self, other: DType) -> DType {
        use DType::*;
        let (a, b) = (self, other);
        if a == b {
            return a;
        }
        match (a.category(), b.category()) {
            (x, y) if x > y => a,
            (x, y) if x < y => b,
            (2, _) => match (a, b) {
                (F64, _) | (_, F64) => F64,
                _ => F32, // bf16 with f16 has no common half type
            },
            _ => match (a, b) {
                (I64, _) | (_, I64) => I64,
                _ => I32,
            },
        }
    }

    /// 0 bool, 1 integer, 2 float: a weakly typed operand only matters when its category is higher.
    pub(crate) fn category(self) -> u8 {
        match self {
            DType::Bool => 0,
            DType::I64 | DType::I32 | DType::U8 => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::F8E4M3 => "f8e4m3",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U8 => "u8",
            DType::Bool => "bool",
        })
    }
}

/// A Rust type that can be an element of a tensor.
pub trait Element: Copy + Send + Sync + 'static {
    /// The corresponding [`DType`].
    const DTYPE: DType;
    /// The bytes of `values` in native order.
    fn encode(values: &[Self]) -> Vec<u8>;
    /// Values from native-order bytes.
    fn decode(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! pod_element {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn encode(values: &[Self]) -> Vec<u8> {
                bytemuck::cast_slice(values).to_vec()
            }
            fn decode(bytes: &[u8]) -> Vec<Self> {
                bytemuck::pod_collect_to_vec(bytes)
            }
        }
    )*};
}
pod_element!(f64 => F64, f32 => F32, bf16 => BF16, f16 => F16, F8E4M3 => F8E4M3, i64 => I64, i32 => I32, u8 => U8);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn encode(values: &[Self]) -> Vec<u8> {
        values.iter().map(|&b| b as u8).collect()
    }
    fn decode(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|&b| b != 0).collect()
    }
}

/// An 8-bit float, e4m3fn of the OCP FP8 specification: 4 exponent bits (bias 7), 3 mantissa bits, no infinity,
/// NaN = `S.1111.111`, largest finite value 448.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F8E4M3(pub u8);

impl F8E4M3 {
    /// Rounds to nearest, ties to even, without saturation: beyond 448 (after rounding; 464 is the tie and becomes 448) and NaN
    /// give NaN.
    pub fn from_f32(x: f32) -> Self {
        let sign = ((x.to_bits() >> 24) & 0x80) as u8;
        let a = x.abs();
        if a.is_nan() || a > 464.0 {
            return F8E4M3(sign | 0x7f);
        }
        // Below 2^-6 the spacing is that of the subnormals, 2^-9; above, it is 2^(exponent - 3).
        let exponent = ((a.to_bits() >> 23) as i32 - 127).max(-6);
        let steps = (a as f64 / 2f64.powi(exponent - 3)).round_ties_even() as i32; // 0..=16
        F8E4M3(sign | (((exponent + 6) * 8 + steps) as u8))
    }

    /// The exact value.
    pub fn to_f32(self) -> f32 {
        let magnitude = self.0 & 0x7f;
        let (e, m) = ((magnitude >> 3) as i32, (magnitude & 7) as f32);
        let value = match magnitude {
            0x7f => f32::NAN,
            _ if e == 0 => m * 2f32.powi(-9),
            _ => (8.0 + m) * 2f32.powi(e - 10),
        };
        if self.0 & 0x80 != 0 { -value } else { value }
    }
}

/// The `f32` next to `x` on the side of zero, its last bit set where something was cut off: rounding it again to a format
/// that is two bits shorter or more gives what rounding `x` once would. (`half` itself drops the low word of an `f64`.)
pub(crate) fn to_odd(x: f64) -> f32 {
    let y = x as f32;
    if f64::from(y) == x || y.is_nan() {
        return y;
    }
    let toward_zero = y.to_bits() - u32::from(f64::from(y).abs() > x.abs());
    f32::from_bits(toward_zero | 1)
}

/// A number without a data type of its own: in an operation with a tensor it takes the tensor's, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A floating-point number.
    Float(f64),
    /// An integer.
    Int(i64),
    /// A boolean.
    Bool(bool),
}

impl Scalar {
    /// The value as f64.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Float(x) => x,
            Scalar::Int(x) => x as f64,
            Scalar::Bool(x) => x as u8 as f64,
        }
    }

    /// The value as i64; floats are truncated.
    pub fn as_i64(self) -> i64 {
        match self {
            Scalar::Float(x) => x as i64,
            Scalar::Int(x) => x,
            Scalar::Bool(x) => x as i64,
        }
    }

    /// The value as f32, rounded once.
    pub fn as_f32(self) -> f32 {
        match self {
            Scalar::Float(x) => x as f32,
            Scalar::Int(x) => x as f32,
            Scalar::Bool(x) => x as u8 as f32,
        }
    }

    /// The bits of the value in a dtype, in the low end of a word. Floats are rounded once, integers wrap.
    pub fn to_bits(self, dtype: DType) -> u64 {
        let narrow = match self {
            Scalar::Float(x) => to_odd(x),
            other => other.as_f32(),
        };
        match dtype {
            DType::F64 => self.as_f64().to_bits(),
            DType::F32 => self.as_f32().to_bits().into(),
            DType::BF16 => bf16::from_f32(narrow).to_bits().into(),
            DType::F16 => f16::from_f32(narrow).to_bits().into(),
            DType::F8E4M3 => F8E4M3::from_f32(narrow).0.into(),
            DType::I64 | DType::I32 | DType::U8 => self.as_i64() as u64,
            DType::Bool => (self.as_f64() != 0.0).into(),
        }
    }

    /// The type the scalar takes beside nothing else: f32, i64 or bool.
    pub fn default_dtype(self) -> DType {
        match self {
            Scalar::Float(_) => DType::F32,
            Scalar::Int(_) => DType::I64,
            Scalar::Bool(_) => DType::Bool,
        }
    }
}

macro_rules! scalar_from {
    ($($t:ty => $v:ident as $w:ty),*) => {$(
        impl From<$t> for Scalar {
            fn from(x: $t) -> Self {
                Scalar::$v(x as $w)
            }
        }
    )*};
}
scalar_from!(f64 => Float as f64, f32 => Float as f64, i64 => Int as i64, i32 => Int as i64, u8 => Int as i64, usize => Int as i64, bool => Bool as bool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f8_value_round_trips_and_neighbours_round_to_even() {
        for bits in 0..=255u8 {
            let x = F8E4M3(bits).to_f32();
            if x.is_nan() {
                assert!(F8E4M3::from_f32(x).to_f32().is_nan());
                continue;
            }
            assert_eq!(F8E4M3::from_f32(x).0, bits, "{x}");
            let next = F8E4M3(bits.wrapping_add(1)).to_f32();
            if bits & 0x7f < 0x7e {
                let even = if bits % 2 == 0 { bits } else { bits + 1 };
                assert_eq!(F8E4M3::from_f32((x + next) / 2.0).0, even, "between {x} and {next}");
            }
        }
        for (x, want) in [(463.9, 448.0), (464.0, 448.0), (464.0f32.next_up(), f32::NAN), (480.0, f32::NAN)] {
            for sign in [1.0, -1.0] {
                assert_eq!(F8E4M3::from_f32(sign * x).to_f32().to_bits() << 1, (sign * want).to_bits() << 1, "{x}");
            }
        }
    }

    #[test]
    fn promotion_follows_pytorch() {
        use DType::*;
        for (a, b, want) in [
            (F32, I64, F32),
            (BF16, F16, F32),
            (BF16, I64, BF16),
            (U8, I32, I32),
            (Bool, U8, U8),
            (F64, F32, F64),
            (I32, I64, I64),
        ] {
            assert_eq!(a.promote(b), want);
            assert_eq!(b.promote(a), want);
        }
    }
}
