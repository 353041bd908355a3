//! wgmma's shared-memory matrix descriptors: 64 bits that say where a tile lies.
//!
//! | bits | field |
//! |---|---|
//! | 0–13 | start address / 16 |
//! | 16–29 | leading-dimension byte offset (LBO) / 16 |
//! | 32–45 | stride-dimension byte offset (SBO) / 16 |
//! | 49–51 | base offset: the line where the swizzle pattern starts, if not at a multiple of its length |
//! | 62–63 | swizzle: 0 none, 1 128B, 2 64B, 3 32B |

use super::swizzle::Swizzle;

/// Which index of an operand runs along memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Major {
    /// k: rows of A or columns of B are contiguous. The only one for types that are not of 16 bits.
    K,
    /// m of A or n of B.
    Mn,
}

/// Shared addresses in a descriptor have 18 bits.
const ADDRESS_MASK: u32 = 0x3_ffff;

/// A descriptor taken apart. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Address of the tile's first byte.
    pub start: u32,
    /// LBO.
    pub leading: u32,
    /// SBO.
    pub stride: u32,
    /// Base offset, in lines of 128 bytes.
    pub base: u32,
    /// The swizzle.
    pub swizzle: Swizzle,
}

impl Descriptor {
    /// Takes a descriptor apart; `Err` says which field holds what the ISA reserves.
    pub fn decode(bits: u64) -> Result<Descriptor, &'static str> {
        let field = |from: u32, width: u32| (bits >> from) as u32 & ((1 << width) - 1);
        if field(14, 2) | field(30, 2) | field(46, 3) | field(52, 10) != 0 {
            return Err("bits 14-15, 30-31, 46-48 and 52-61 of a matrix descriptor are reserved");
        }
        let swizzle = match field(62, 2) {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        if swizzle == Swizzle::None && field(49, 3) != 0 {
            return Err("a matrix descriptor without swizzle has a base offset");
        }
        Ok(Descriptor {
            start: field(0, 14) << 4,
            leading: field(16, 14) << 4,
            stride: field(32, 14) << 4,
            base: field(49, 3),
            swizzle,
        })
    }

    /// The descriptor's bits.
    pub fn encode(&self) -> u64 {
        let code = match self.swizzle {
            Swizzle::None => 0,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3,
        };
        let field = |bytes: u32| u64::from((bytes & ADDRESS_MASK) >> 4);
        field(self.start) | field(self.leading) << 16 | field(self.stride) << 32 | u64::from(self.base) << 49 | code << 62
    }

    /// Shared address of a chunk of 16 bytes. K-major: of row `line` (m or n), chunk `chunk` along k. MN-major: of `line` = k,
    /// chunk `chunk` along m or n.
    ///
    /// Memory is made of core matrices, 8 lines of 16 bytes. Without swizzle the lines of one are adjacent; with it they are a
    /// span apart, and a span's worth of core matrices lies side by side.
    #[inline(always)]
    pub fn chunk(&self, major: Major, line: u32, chunk: u32) -> u32 {
        let (group, in_group) = (line / 8, line % 8);
        let span = self.swizzle.span();
        let offset = match (major, self.swizzle) {
            (Major::K, Swizzle::None) => group * self.stride + in_group * 16 + chunk * self.leading,
            (Major::K, _) => group * self.stride + in_group * span + chunk * 16,
            (Major::Mn, Swizzle::None) => chunk * self.stride + group * self.leading + in_group * 16,
            (Major::Mn, _) => {
                let chunks = span / 16;
                chunk / chunks * self.leading + group * self.stride + in_group * span + chunk % chunks * 16
            }
        };
        self.swizzle.apply((self.start + offset) & ADDRESS_MASK, self.base)
    }
}
