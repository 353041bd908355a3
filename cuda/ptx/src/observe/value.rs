//! Bits as values of a type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::num::convert;

/// What bits are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Element {
    F64,
    F32,
    F16,
    Bf16,
    E4m3,
    E5m2,
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    /// Bits, in hexadecimal.
    B8,
    B16,
    B32,
    B64,
    /// A predicate.
    Pred,
}

use Element::*;

const NAMES: [(&str, Element); 18] = [
    ("f64", F64),
    ("f32", F32),
    ("f16", F16),
    ("bf16", Bf16),
    ("e4m3", E4m3),
    ("e5m2", E5m2),
    ("u8", U8),
    ("s8", S8),
    ("u16", U16),
    ("s16", S16),
    ("u32", U32),
    ("s32", S32),
    ("u64", U64),
    ("s64", S64),
    ("b8", B8),
    ("b16", B16),
    ("b32", B32),
    ("b64", B64),
];

impl Element {
    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            F64 | U64 | S64 | B64 => 8,
            F32 | U32 | S32 | B32 => 4,
            F16 | Bf16 | U16 | S16 | B16 => 2,
            E4m3 | E5m2 | U8 | S8 | B8 | Pred => 1,
        }
    }

    /// The value in words.
    pub fn value(self, bits: u64) -> String {
        match self {
            F64 => float(f64::from_bits(bits)),
            F32 => float(f32::from_bits(bits as u32).into()),
            F16 => float(f32::from_bits(convert::f16_to_f32(bits as u16)).into()),
            Bf16 => float(f32::from_bits(convert::bf16_to_f32(bits as u16)).into()),
            E4m3 => float(convert::e4m3_to_f32(bits as u8).into()),
            E5m2 => float(convert::e5m2_to_f32(bits as u8).into()),
            U8 | U16 | U32 | U64 => bits.to_string(),
            S8 => (bits as i8).to_string(),
            S16 => (bits as i16).to_string(),
            S32 => (bits as i32).to_string(),
            S64 => (bits as i64).to_string(),
            B8 | B16 | B32 | B64 => format!("{bits:#x}"),
            Pred => (if bits & 1 == 1 { "true" } else { "false" }).into(),
        }
    }

    /// A register's bits in every way in which its width can be meant: hexadecimal, signed, and as floats.
    pub fn shown(self, bits: u64) -> String {
        match self.bytes() {
            _ if self == Pred => self.value(bits),
            8 => format!("{bits:#018x}  {}  f64 {}", S64.value(bits), F64.value(bits)),
            4 => {
                let halves = [bits, bits >> 16].map(|h| F16.value(h & 0xffff));
                let brains = [bits, bits >> 16].map(|h| Bf16.value(h & 0xffff));
                format!(
                    "{:#010x}  {}  f32 {}  f16x2 ({}, {})  bf16x2 ({}, {})",
                    bits as u32,
                    S32.value(bits),
                    F32.value(bits),
                    halves[0],
                    halves[1],
                    brains[0],
                    brains[1]
                )
            }
            2 => format!("{:#06x}  {}  f16 {}  bf16 {}", bits as u16, S16.value(bits), F16.value(bits), Bf16.value(bits)),
            _ => format!("{:#04x}  {}", bits as u8, S8.value(bits)),
        }
    }
}

/// Six digits, as a table has room for.
fn float(x: f64) -> String {
    let small = x != 0.0 && x.abs() < 1e-4;
    if small || x.abs() >= 1e7 && x.is_finite() {
        format!("{x:.3e}")
    } else {
        let text = format!("{x:.5}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, e)| e == self).map_or("pred", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Element {
    type Err = String;

    fn from_str(text: &str) -> Result<Element, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, e)| *e);
        found.ok_or_else(|| format!("{text:?} is no type; there are {}", NAMES.map(|(name, _)| name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_values() {
        let cases = [
            ("f32", 0x3fc0_0000, "1.5"),
            ("f16", 0xc000, "-2"),
            ("bf16", 0x4049, "3.14062"),
            ("e4m3", 0x38, "1"),
            ("s8", 0xff, "-1"),
            ("u16", 0xffff, "65535"),
            ("b32", 16, "0x10"),
            ("f32", 0x7fc0_0000, "NaN"),
            ("f64", 0x3eb0_c6f7_a0b5_ed8d, "1.000e-6"),
        ];
        for (ty, bits, says) in cases {
            assert_eq!(ty.parse::<Element>().unwrap().value(bits), says);
        }
        assert!("f8".parse::<Element>().unwrap_err().contains("e4m3"));
        assert_eq!(B32.shown(0x3fc0_4000), "0x3fc04000  1069563904  f32 1.50195  f16x2 (2, 1.9375)  bf16x2 (2, 1.5)");
    }
}
