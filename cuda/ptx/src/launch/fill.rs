//! Pseudo-random contents of buffers, so that a launch file needs no file of bytes beside it.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::error::LaunchError;
use super::fields::Field;

/// `{"dtype": …, "seed": n, "low": x, "high": y}`: values drawn evenly from [low, high), rounded to the type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Random {
    /// Type of the numbers.
    pub dtype: Dtype,
    /// The same seed gives the same numbers, on every machine.
    pub seed: u64,
    /// The least.
    pub low: f64,
    /// What they stay below.
    pub high: f64,
}

/// Types that can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Dtype {
    U8,
    U32,
    I32,
    F16,
    Bf16,
    F32,
    F64,
    E4m3,
}

impl Random {
    pub(super) fn read(field: &Field) -> Result<Random, LaunchError> {
        field.only(&["dtype", "seed", "low", "high"])?;
        let dtype = field.required("dtype")?.word()?;
        let number = |name: &str, default: f64| field.optional(name)?.map_or(Ok(default), |f| f.f64());
        let (low, high) = (number("low", -1.0)?, number("high", 1.0)?);
        if low >= high {
            return Err(field.error(format!("low must be below high, found {low} and {high}")));
        }
        let seed = field.optional("seed")?.map_or(Ok(0), |f| f.u64())?;
        Ok(Random { dtype, seed, low, high })
    }

    /// `len` bytes; the same for the same description on every machine.
    pub(super) fn bytes(&self, len: usize) -> Vec<u8> {
        let mut state = self.seed;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            let unit = (next(&mut state) >> 11) as f64 / (1u64 << 53) as f64;
            let value = self.low + (self.high - self.low) * unit;
            match self.dtype {
                Dtype::U8 => bytes.push(value.floor() as u8),
                Dtype::U32 => bytes.extend((value.floor() as u32).to_le_bytes()),
                Dtype::I32 => bytes.extend((value.floor() as i32).to_le_bytes()),
                Dtype::F16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
                Dtype::Bf16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
                Dtype::F32 => bytes.extend((value as f32).to_le_bytes()),
                Dtype::F64 => bytes.extend(value.to_le_bytes()),
                Dtype::E4m3 => bytes.push(e4m3(value)),
            }
        }
        bytes.truncate(len);
        bytes
    }
}

/// The nearest of the 254 finite e4m3 values; a search is plenty for filling test buffers.
fn e4m3(value: f64) -> u8 {
    let decode = |bits: u8| {
        let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
        let size = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7) };
        if bits & 0x80 == 0 { size } else { -size }
    };
    let sign = if value < 0.0 { 0x80 } else { 0 };
    (0..0x7f)
        .map(|bits| bits | sign)
        .min_by(|&a, &b| (decode(a) - value).abs().total_cmp(&(decode(b) - value).abs()))
        .unwrap_or(0)
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
