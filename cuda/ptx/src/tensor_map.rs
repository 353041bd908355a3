//! Tensor maps: what `cuTensorMapEncodeTiled` makes and TMA reads.
//!
//! The 128 bytes that a real driver writes are not documented; these are our own, with a mark and a sum by which TMA tells
//! a map from other bytes. A map made here means nothing to a card, nor the other way round.
//!
//! A *box* is cut from a tensor of rank 1 to 5, innermost dimension first. In shared memory its rows lie one after the other,
//! and then the swizzle moves 16-byte chunks by bits of their absolute address. Elements outside the tensor read as zero (or
//! as NaN, if the map says so) and are not written. With element stride `e` in a dimension every `e`-th element of
//! the box is taken; the innermost dimension's element stride is ignored, as the driver's documentation has it for
//! maps without interleave.

use serde::{Deserialize, Serialize};

pub use crate::matrix::swizzle::Swizzle;

/// Bytes of an encoded map, and its alignment.
pub const MAP_BYTES: usize = 128;
/// The alignment of an encoded map.
pub const MAP_ALIGN: u64 = 64;
/// The most shared memory that a CTA can have, which a box must fit.
const MAX_BOX: u64 = 227 * 1024;
const MAGIC: u32 = 0x5057_4D54;

/// Type of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ElementType {
    U8,
    U16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
    Bf16,
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

const ELEMENT_TYPES: [ElementType; 13] = {
    use ElementType::*;
    [U8, U16, U32, I32, U64, I64, F16, F32, F64, Bf16, F32Ftz, Tf32, Tf32Ftz]
};

impl ElementType {
    /// Bytes of an element.
    pub(crate) fn bytes(self) -> u64 {
        use ElementType::*;
        match self {
            U8 => 1,
            U16 | F16 | Bf16 => 2,
            U32 | I32 | F32 | F32Ftz | Tf32 | Tf32Ftz => 4,
            U64 | I64 | F64 => 8,
        }
    }

    /// Whether out-of-bounds elements can be NaN.
    pub(crate) fn is_float(self) -> bool {
        use ElementType::*;
        matches!(self, F16 | F32 | F64 | Bf16 | F32Ftz | Tf32 | Tf32Ftz)
    }

    /// The types as `tensormap.replace` numbers them (PTX ISA 9.7.9.27.1.3), which is not how the driver does.
    const OF_PTX: [ElementType; 13] = {
        use ElementType::*;
        [U8, U16, U32, I32, U64, I64, F16, F32, F32Ftz, F64, Bf16, Tf32, Tf32Ftz]
    };

    /// The value that `CUtensorMapDataType` gives it.
    pub fn from_cuda(value: u32) -> Option<ElementType> {
        ELEMENT_TYPES.get(value as usize).copied()
    }
}

/// Interleaved layouts (NC/8HWC8 and NC/16HWC16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Interleave {
    #[default]
    #[serde(rename = "none")]
    None,
    #[serde(rename = "16B")]
    B16,
    #[serde(rename = "32B")]
    B32,
}

/// How much the L2 cache fetches at a time: no effect here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum L2Promotion {
    #[default]
    #[serde(rename = "none")]
    None,
    #[serde(rename = "64B")]
    B64,
    #[serde(rename = "128B")]
    B128,
    #[serde(rename = "256B")]
    B256,
}

/// What elements outside the tensor read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OobFill {
    /// Zero.
    #[default]
    Zero,
    /// A NaN, for floating types (`NAN_REQUEST_ZERO_FMA`).
    Nan,
}

/// The parameters of `cuTensorMapEncodeTiled`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorMap {
    /// Type of the elements.
    pub element: ElementType,
    /// Address of the tensor.
    pub address: u64,
    /// Elements in each dimension, innermost first.
    pub dims: Vec<u64>,
    /// Bytes from one element to the next in each dimension but the innermost.
    pub strides: Vec<u64>,
    /// Elements of the box in each dimension.
    pub box_dims: Vec<u32>,
    /// Every how many-th element is taken.
    pub element_strides: Vec<u32>,
    /// Interleaved layout.
    pub interleave: Interleave,
    /// Swizzle of shared memory.
    pub swizzle: Swizzle,
    /// L2 promotion.
    pub l2_promotion: L2Promotion,
    /// Fill for what is out of bounds.
    pub oob_fill: OobFill,
}

/// Why a tensor map is refused. Dimensions count from the innermost, 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TensorMapError {
    #[error("rank {0}: a tensor map has 1 to 5 dimensions")]
    Rank(usize),
    #[error("{name} has {got} entries, not {want}")]
    Length { name: &'static str, got: usize, want: usize },
    #[error("interleave {0:?} needs at least 3 dimensions, not {1}")]
    InterleaveRank(Interleave, usize),
    #[error("interleave {0:?} is not implemented by the interpreter")]
    InterleaveUnsupported(Interleave),
    #[error("global address {address:#x} is not a multiple of {align}")]
    Address { address: u64, align: u64 },
    #[error("dimension {dim} has {size} elements: 1 to 2^32 are possible")]
    Dim { dim: usize, size: u64 },
    #[error("stride {stride} of dimension {dim} is not a multiple of {align}")]
    StrideAlign { dim: usize, stride: u64, align: u64 },
    #[error("stride {stride} of dimension {dim} is not below 2^40")]
    StrideSize { dim: usize, stride: u64 },
    #[error("box dimension {dim} has {size} elements: 1 to 256 are possible")]
    Box { dim: usize, size: u32 },
    #[error("a box of {0:?} elements does not fit the {max} bytes of a CTA's shared memory", max = MAX_BOX)]
    BoxBytes(Vec<u32>),
    #[error("element stride {stride} of dimension {dim}: 1 to 8 are possible")]
    ElementStride { dim: usize, stride: u32 },
    #[error("the innermost box dimension has {0} bytes, which is not a multiple of 16")]
    InnerBox(u64),
    #[error("the innermost box dimension has {bytes} bytes, more than the {span} of the swizzle")]
    InnerSwizzle { bytes: u64, span: u64 },
    #[error("interleave 32B goes with swizzle 32B only")]
    InterleaveSwizzle,
    #[error("NaN fill is for floating types, not for {0:?}")]
    NanFill(ElementType),
}

/// A row of a box: where it lies in the box's linear image, and the elements of it that are inside the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Offset of its first byte in the box's image, before the swizzle.
    pub offset: u32,
    /// Address of the first byte that is inside the tensor.
    pub address: u64,
    /// Bytes before it that are outside.
    pub skip: u32,
    /// Bytes inside; 0 if the whole row is outside.
    pub bytes: u32,
}

/// A field that `tensormap.replace` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    GlobalAddress,
    Rank,
    BoxDim(usize),
    GlobalDim(usize),
    GlobalStride(usize),
    ElementStride(usize),
    ElementType,
    Interleave,
    Swizzle,
    Fill,
}

impl TensorMap {
    /// A map of a dense row-major tensor with unit element strides and no swizzle: `dims` innermost first.
    pub fn dense(element: ElementType, address: u64, dims: &[u64], box_dims: &[u32]) -> Self {
        let mut strides = Vec::new();
        let mut stride = element.bytes();
        for &d in dims.iter().take(dims.len().saturating_sub(1)) {
            stride = stride.wrapping_mul(d);
            strides.push(stride);
        }
        Self {
            element,
            address,
            dims: dims.to_vec(),
            strides,
            box_dims: box_dims.to_vec(),
            element_strides: vec![1; dims.len()],
            interleave: Interleave::None,
            swizzle: Swizzle::None,
            l2_promotion: L2Promotion::None,
            oob_fill: OobFill::Zero,
        }
    }

    /// Checks every limit that the driver documents.
    pub fn check(&self) -> Result<(), TensorMapError> {
        use TensorMapError as E;
        let rank = self.dims.len();
        if !(1..=5).contains(&rank) {
            return Err(E::Rank(rank));
        }
        for (name, got, want) in [
            ("strides", self.strides.len(), rank - 1),
            ("box", self.box_dims.len(), rank),
            ("element strides", self.element_strides.len(), rank),
        ] {
            if got != want {
                return Err(E::Length { name, got, want });
            }
        }
        if self.interleave != Interleave::None && rank < 3 {
            return Err(E::InterleaveRank(self.interleave, rank));
        }
        let align = if self.interleave == Interleave::B32 { 32 } else { 16 };
        if !self.address.is_multiple_of(align) {
            return Err(E::Address { address: self.address, align });
        }
        if let Some(dim) = self.dims.iter().position(|&d| d == 0 || d > 1 << 32) {
            return Err(E::Dim { dim, size: self.dims[dim] });
        }
        for (i, &stride) in self.strides.iter().enumerate() {
            if !stride.is_multiple_of(align) {
                return Err(E::StrideAlign { dim: i + 1, stride, align });
            }
            if stride >= 1 << 40 {
                return Err(E::StrideSize { dim: i + 1, stride });
            }
        }
        if let Some(dim) = self.box_dims.iter().position(|&b| b == 0 || b > 256) {
            return Err(E::Box { dim, size: self.box_dims[dim] });
        }
        if let Some(dim) = self.element_strides.iter().position(|&s| s == 0 || s > 8) {
            return Err(E::ElementStride { dim, stride: self.element_strides[dim] });
        }
        let times = |n: u64, &e: &u32| n * u64::from(e);
        if self.extents().iter().fold(self.element.bytes(), times) > MAX_BOX {
            return Err(E::BoxBytes(self.box_dims.clone()));
        }
        let inner = u64::from(self.box_dims[0]) * self.element.bytes();
        if self.interleave == Interleave::B32 && self.swizzle != Swizzle::B32 {
            return Err(E::InterleaveSwizzle);
        }
        if self.interleave == Interleave::None {
            if !inner.is_multiple_of(16) {
                return Err(E::InnerBox(inner));
            }
            let span = u64::from(self.swizzle.span());
            if self.swizzle != Swizzle::None && inner > span {
                return Err(E::InnerSwizzle { bytes: inner, span });
            }
        }
        if self.oob_fill == OobFill::Nan && !self.element.is_float() {
            return Err(E::NanFill(self.element));
        }
        if self.interleave != Interleave::None {
            return Err(E::InterleaveUnsupported(self.interleave));
        }
        Ok(())
    }

    /// Checks and encodes: the interpreter's `cuTensorMapEncodeTiled`.
    pub fn encode(&self) -> Result<[u8; MAP_BYTES], TensorMapError> {
        self.check()?;
        Ok(self.to_bytes())
    }

    /// What a map of zeros stands for: one dimension of one byte at address zero.
    pub(crate) fn blank() -> TensorMap {
        TensorMap::dense(ElementType::U8, 0, &[1], &[1])
    }

    /// The map without a check, as `tensormap.replace` leaves it. Bytes 0: magic, 4: sum, 8: rank and enumerations, 16: address, 24: dims - 1, 48: strides, 80: box, 90: element strides.
    pub(crate) fn to_bytes(&self) -> [u8; MAP_BYTES] {
        let mut b = [0; MAP_BYTES];
        b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[8] = self.dims.len() as u8;
        b[9] = self.element as u8;
        b[10] = self.interleave as u8;
        b[11] = self.swizzle as u8;
        b[12] = self.l2_promotion as u8;
        b[13] = self.oob_fill as u8;
        b[16..24].copy_from_slice(&self.address.to_le_bytes());
        for (i, d) in self.dims.iter().enumerate() {
            b[24 + 4 * i..28 + 4 * i].copy_from_slice(&(d.wrapping_sub(1) as u32).to_le_bytes());
        }
        for (i, s) in self.strides.iter().enumerate() {
            b[48 + 8 * i..56 + 8 * i].copy_from_slice(&s.to_le_bytes());
        }
        for (i, n) in self.box_dims.iter().enumerate() {
            b[80 + 2 * i..82 + 2 * i].copy_from_slice(&(*n as u16).to_le_bytes());
        }
        for (i, n) in self.element_strides.iter().enumerate() {
            b[90 + i] = *n as u8;
        }
        let sum = checksum(&b);
        b[4..8].copy_from_slice(&sum.to_le_bytes());
        b
    }

    /// Reads what [`TensorMap::encode`] wrote; `None` if the bytes are no map.
    pub fn decode(b: &[u8; MAP_BYTES]) -> Option<TensorMap> {
        let word = |at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
        let rank = usize::from(b[8]);
        if word(0) != MAGIC || word(4) != checksum(b) || !(1..=5).contains(&rank) {
            return None;
        }
        Some(TensorMap {
            element: *ELEMENT_TYPES.get(usize::from(b[9]))?,
            interleave: *[Interleave::None, Interleave::B16, Interleave::B32].get(usize::from(b[10]))?,
            swizzle: *[Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].get(usize::from(b[11]))?,
            l2_promotion: *[L2Promotion::None, L2Promotion::B64, L2Promotion::B128, L2Promotion::B256].get(usize::from(b[12]))?,
            oob_fill: *[OobFill::Zero, OobFill::Nan].get(usize::from(b[13]))?,
            address: long(16),
            dims: (0..rank).map(|i| u64::from(word(24 + 4 * i)) + 1).collect(),
            strides: (0..rank - 1).map(|i| long(48 + 8 * i)).collect(),
            box_dims: (0..rank).map(|i| u32::from(u16::from_le_bytes([b[80 + 2 * i], b[81 + 2 * i]]))).collect(),
            element_strides: (0..rank).map(|i| u32::from(b[90 + i])).collect(),
        })
    }

    /// `tensormap.replace`: changes one field, in the units that the instruction takes. The map is checked when it is used.
    pub(crate) fn replace(&mut self, field: Field, value: u64) -> Option<()> {
        match field {
            Field::GlobalAddress => self.address = value,
            Field::Rank => {
                let rank = usize::try_from(value).ok()? + 1;
                if rank > 5 {
                    return None;
                }
                self.dims.resize(rank, 1);
                self.strides.resize(rank - 1, 0);
                self.box_dims.resize(rank, 1);
                self.element_strides.resize(rank, 1);
            }
            Field::BoxDim(i) => *self.box_dims.get_mut(i)? = value as u32 & 0xFFFF,
            Field::GlobalDim(i) => *self.dims.get_mut(i)? = if value as u32 == 0 { 1 << 32 } else { value & 0xFFFF_FFFF },
            Field::GlobalStride(i) => *self.strides.get_mut(i)? = value,
            Field::ElementStride(i) => *self.element_strides.get_mut(i)? = value as u32 & 0xFF,
            Field::ElementType => self.element = *ElementType::OF_PTX.get(value as usize)?,
            Field::Interleave => self.interleave = *[Interleave::None, Interleave::B16, Interleave::B32].get(value as usize)?,
            Field::Swizzle => {
                self.swizzle = *[Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].get(value as usize)?;
            }
            Field::Fill => self.oob_fill = *[OobFill::Zero, OobFill::Nan].get(value as usize)?,
        }
        Some(())
    }

    /// Elements of the box's image in each dimension.
    pub(crate) fn extents(&self) -> [u32; 5] {
        std::array::from_fn(|i| match (self.box_dims.get(i), self.element_strides.get(i)) {
            (Some(&b), _) if i == 0 => b,
            (Some(&b), Some(&s)) => b.div_ceil(s),
            _ => 1,
        })
    }

    /// Bytes of the box's image: what a load's mbarrier counts, whatever lies out of bounds.
    pub(crate) fn box_bytes(&self) -> u32 {
        self.extents().iter().product::<u32>() * self.element.bytes() as u32
    }

    /// The rows of the box at `coordinates` (innermost first), in the order of its image.
    pub(crate) fn rows(&self, coordinates: &[i32], mut visit: impl FnMut(Row)) {
        let extents = self.extents();
        let bytes = self.element.bytes();
        let row_bytes = extents[0] * bytes as u32;
        let x = i64::from(coordinates[0]);
        let first = (-x).clamp(0, i64::from(extents[0])) as u64;
        let last = (self.dims[0] as i64 - x).clamp(first as i64, i64::from(extents[0])) as u64;
        let mut index = [0u32; 5];
        let rows: u32 = extents[1..].iter().product();
        for row in 0..rows {
            let mut inside = last > first;
            let mut address = self.address.wrapping_add(((x + first as i64) as u64).wrapping_mul(bytes));
            for d in 1..self.dims.len() {
                let at = i64::from(coordinates[d]) + i64::from(index[d]) * i64::from(self.element_strides[d]);
                inside &= (0..self.dims[d] as i64).contains(&at);
                address = address.wrapping_add((at as u64).wrapping_mul(self.strides[d - 1]));
            }
            let (skip, inner) = if inside { (first * bytes, (last - first) * bytes) } else { (0, 0) };
            visit(Row { offset: row * row_bytes, address, skip: skip as u32, bytes: inner as u32 });
            for d in 1..5 {
                index[d] += 1;
                if index[d] < extents[d] {
                    break;
                }
                index[d] = 0;
            }
        }
    }

    /// The bytes that an element outside the tensor reads as.
    pub(crate) fn fill(&self) -> [u8; 8] {
        use ElementType::*;
        match (self.oob_fill, self.element) {
            (OobFill::Zero, _) => [0; 8],
            // The quiet NaN with every bit set below the sign: the choice of NaN is not documented.
            (OobFill::Nan, F16 | Bf16) => [0xFF, 0x7F, 0xFF, 0x7F, 0xFF, 0x7F, 0xFF, 0x7F],
            (OobFill::Nan, F64) => [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            (OobFill::Nan, _) => [0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0x7F],
        }
    }
}

fn checksum(b: &[u8; MAP_BYTES]) -> u32 {
    b[8..].iter().fold(0x811C_9DC5, |h, &x| (h ^ u32::from(x)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good() -> TensorMap {
        TensorMap::dense(ElementType::Bf16, 0x7000_0000_0100, &[128, 64, 8], &[64, 16, 2])
    }

    fn refused(change: impl FnOnce(&mut TensorMap)) -> TensorMapError {
        let mut map = good();
        change(&mut map);
        map.encode().unwrap_err()
    }

    #[test]
    fn every_limit_is_refused_by_name() {
        use TensorMapError as E;
        assert!(good().encode().is_ok());
        assert_eq!(refused(|m| m.dims.clear()), E::Rank(0));
        assert_eq!(refused(|m| m.dims.extend([1; 3])), E::Rank(6));
        assert_eq!(refused(|m| m.strides.push(16)), E::Length { name: "strides", got: 3, want: 2 });
        assert_eq!(refused(|m| m.box_dims.push(1)), E::Length { name: "box", got: 4, want: 3 });
        assert_eq!(refused(|m| m.element_strides.push(1)), E::Length { name: "element strides", got: 4, want: 3 });
        assert_eq!(refused(|m| m.address += 8), E::Address { address: 0x7000_0000_0108, align: 16 });
        assert_eq!(refused(|m| m.dims[1] = 0), E::Dim { dim: 1, size: 0 });
        assert_eq!(refused(|m| m.dims[2] = (1 << 32) + 1), E::Dim { dim: 2, size: (1 << 32) + 1 });
        assert_eq!(refused(|m| m.strides[0] = 264), E::StrideAlign { dim: 1, stride: 264, align: 16 });
        assert_eq!(refused(|m| m.strides[1] = 1 << 40), E::StrideSize { dim: 2, stride: 1 << 40 });
        assert_eq!(refused(|m| m.box_dims[1] = 0), E::Box { dim: 1, size: 0 });
        assert_eq!(refused(|m| m.box_dims[2] = 257), E::Box { dim: 2, size: 257 });
        assert_eq!(refused(|m| m.element_strides[0] = 0), E::ElementStride { dim: 0, stride: 0 });
        assert_eq!(refused(|m| m.element_strides[1] = 9), E::ElementStride { dim: 1, stride: 9 });
        assert_eq!(refused(|m| m.box_dims[0] = 12), E::InnerBox(24));
        for (swizzle, span) in [(Swizzle::B32, 32), (Swizzle::B64, 64)] {
            assert_eq!(refused(|m| m.swizzle = swizzle), E::InnerSwizzle { bytes: 128, span });
        }
        let wide = |m: &mut TensorMap| (m.swizzle, m.box_dims[0]) = (Swizzle::B128, 72);
        assert_eq!(refused(wide), E::InnerSwizzle { bytes: 144, span: 128 });
        let integers = |m: &mut TensorMap| (m.oob_fill, m.element) = (OobFill::Nan, ElementType::U16);
        assert_eq!(refused(integers), E::NanFill(ElementType::U16));
        assert_eq!(refused(|m| m.interleave = Interleave::B16), E::InterleaveUnsupported(Interleave::B16));
        assert_eq!(refused(|m| m.interleave = Interleave::B32), E::InterleaveSwizzle);
        let interleaved = |m: &mut TensorMap| (m.interleave, m.address) = (Interleave::B32, 0x7000_0000_0110);
        assert_eq!(refused(interleaved), E::Address { address: 0x7000_0000_0110, align: 32 });
        let flat = |m: &mut TensorMap| {
            *m = TensorMap { interleave: Interleave::B16, ..TensorMap::dense(ElementType::U8, 0, &[64, 8], &[16, 8]) }
        };
        assert_eq!(refused(flat), E::InterleaveRank(Interleave::B16, 2));
        // The limits themselves are fine.
        let mut edge = good();
        (edge.dims[2], edge.strides[1], edge.box_dims[1], edge.element_strides[2]) = (1 << 32, (1 << 40) - 16, 256, 8);
        assert_eq!(TensorMap::decode(&edge.encode().unwrap()), Some(edge));
    }

    #[test]
    fn other_bytes_are_no_map() {
        let mut bytes = good().encode().unwrap();
        assert_eq!(TensorMap::decode(&bytes), Some(good()));
        bytes[16] ^= 16;
        assert_eq!(TensorMap::decode(&bytes), None);
        assert_eq!(TensorMap::decode(&[0; 128]), None);
    }

    #[test]
    fn fields_can_be_replaced() {
        let mut map = good();
        let values = [
            (Field::GlobalAddress, 0x40),
            (Field::Rank, 1),
            (Field::BoxDim(1), 8),
            (Field::GlobalDim(0), 99),
            (Field::GlobalStride(0), 512),
            (Field::ElementStride(1), 2),
            (Field::ElementType, 7),
            (Field::Interleave, 0),
            (Field::Swizzle, 3),
            (Field::Fill, 1),
        ];
        for (field, value) in values {
            map.replace(field, value).unwrap();
        }
        let want = TensorMap {
            address: 0x40,
            dims: vec![99, 64],
            strides: vec![512],
            box_dims: vec![64, 8],
            element_strides: vec![1, 2],
            element: ElementType::F32,
            swizzle: Swizzle::B128,
            oob_fill: OobFill::Nan,
            ..good()
        };
        assert_eq!(map, want);
        assert_eq!(map.replace(Field::GlobalDim(2), 1), None);
        assert_eq!(map.replace(Field::ElementType, 13), None);
    }

    proptest! {
        /// Every element of the image, found by counting through the box one coordinate at a time.
        #[test]
        fn boxes_agree_with_a_plain_walk(
            rank in 1usize..=5,
            dims in proptest::collection::vec(1u64..9, 5),
            boxes in proptest::collection::vec(1u32..7, 5),
            steps in proptest::collection::vec(1u32..4, 5),
            start in proptest::collection::vec(-5i32..9, 5),
            pad in proptest::collection::vec(0u64..3, 5),
            element in prop_oneof![Just(ElementType::Bf16), Just(ElementType::F32), Just(ElementType::U8), Just(ElementType::F64)],
        ) {
            let size = element.bytes();
            let mut strides = vec![];
            let mut stride = (dims[0] * size).next_multiple_of(16);
            for i in 1..rank {
                stride += pad[i] * 16;
                strides.push(stride);
                stride *= dims[i];
            }
            let mut map = TensorMap::dense(element, 0x1000, &dims[..rank], &boxes[..rank]);
            map.strides = strides;
            map.element_strides = steps[..rank].to_vec();
            map.box_dims[0] = boxes[0] * (16 / size) as u32;
            prop_assert_eq!(map.check(), Ok(()));
            // For each element of the image: its address, or none outside.
            let mut want = vec![];
            let mut at = vec![0u32; rank];
            loop {
                let mut inside = true;
                let mut address = map.address as i64;
                for d in 0..rank {
                    let step = if d == 0 { 1 } else { map.element_strides[d] };
                    let c = i64::from(start[d]) + i64::from(at[d] * step);
                    inside &= c >= 0 && c < map.dims[d] as i64;
                    address += c * if d == 0 { size } else { map.strides[d - 1] } as i64;
                }
                want.push(inside.then_some(address as u64));
                let mut d = 0;
                loop {
                    at[d] += 1;
                    let step = if d == 0 { 1 } else { map.element_strides[d] };
                    if at[d] * step < map.box_dims[d] {
                        break;
                    }
                    at[d] = 0;
                    d += 1;
                    if d == rank {
                        break;
                    }
                }
                if d == rank {
                    break;
                }
            }
            prop_assert_eq!(u64::from(map.box_bytes()), want.len() as u64 * size);
            let mut got = vec![None; want.len()];
            let mut rows = 0;
            map.rows(&start[..rank], |row| {
                rows += 1;
                for i in 0..u64::from(row.bytes) / size {
                    let slot = (u64::from(row.offset + row.skip) / size + i) as usize;
                    assert!(got[slot].is_none());
                    got[slot] = Some(row.address + i * size);
                }
            });
            prop_assert_eq!(got, want);
            prop_assert_eq!(rows * map.extents()[0] as usize, want_len(&map));
        }
    }

    fn want_len(map: &TensorMap) -> usize {
        (u64::from(map.box_bytes()) / map.element.bytes()) as usize
    }
}
