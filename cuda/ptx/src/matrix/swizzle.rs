//! The swizzles of shared memory that TMA and wgmma agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A permutation of 16-byte chunks inside a span of so many bytes, by the number of the 128-byte line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Swizzle {
    /// No permutation.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Pairs of chunks, alternating each line: repeats after 256 bytes.
    #[serde(rename = "32B")]
    B32,
    /// Groups of four chunks: repeats after 512 bytes.
    #[serde(rename = "64B")]
    B64,
    /// All eight chunks of a line: repeats after 1024 bytes.
    #[serde(rename = "128B")]
    B128,
}

impl fmt::Display for Swizzle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Swizzle::None => f.write_str("none"),
            swizzled => write!(f, "{}B", swizzled.span()),
        }
    }
}

impl Swizzle {
    /// The bits of the line's number that take part.
    const fn mask(self) -> u32 {
        match self {
            Swizzle::None => 0,
            Swizzle::B32 => 1,
            Swizzle::B64 => 3,
            Swizzle::B128 => 7,
        }
    }

    /// Bytes of the span inside which chunks move; 16 where none does.
    pub const fn span(self) -> u32 {
        16 * (self.mask() + 1)
    }

    /// Where the byte at a linear shared address really lies. `base` is the number of the line at which the pattern starts,
    /// modulo 8: 0 unless a descriptor says otherwise.
    #[inline(always)]
    pub const fn apply(self, address: u32, base: u32) -> u32 {
        address ^ (((address >> 7).wrapping_sub(base) & self.mask()) << 4)
    }
}
