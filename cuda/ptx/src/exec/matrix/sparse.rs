//! Operands A of which half is zero: what the metadata says about where the other half lies (PTX ISA 9.7.14.6, 9.7.15.6).
//!
//! A row is cut into chunks of 4 elements (2 of tf32, 4 pairs of 4-bit integers). Each has four bits of metadata, two indices of
//! which the lower is the first; for tf32 they are those of the halves of the one element that is there. A word of metadata covers
//! for types of 16 and 32 bits four chunks of row g in its low half and of row g + 8 in its high half, and the next lane of the
//! group of four goes on along k; for smaller types eight chunks of one row, of row g in even lanes and of row g + 8 in odd ones.
//! The selector says which lanes of each group of four are asked.

use crate::exec::lanes::V32;
use crate::ir::Cx;
use crate::num::tensor::Element;

/// What is wrong with metadata of which the indices of a chunk are the same, or no halves of one element.
pub const INVALID: &str = "the metadata of a sparse matrix name an element twice";

/// The metadata of an instruction: the register of its words, and the first lane of each group of four that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Sparse {
    pub metadata: u16,
    pub first_lane: u8,
}

/// Eats operands `i` and `i + 1`: the metadata and the selector. `k` is that of the whole row.
pub fn operands(cx: &mut Cx<'_>, i: usize, element: Element, k: usize) -> Result<Sparse, String> {
    let metadata = cx.src(i, crate::text::ast::Type::B32)?;
    let selector = cx.int(i + 1)?;
    let lanes = lanes_asked(element, k);
    if !(0..4 / lanes as i64).contains(&selector) {
        return Err(format!("`{}`: the sparsity selector is below {}, not {selector}", cx.inst.opcode, 4 / lanes));
    }
    Ok(Sparse { metadata, first_lane: (selector as usize * lanes) as u8 })
}

/// Elements of a chunk, and the indivisible piece that an index names.
const fn chunk(element: Element) -> (usize, usize) {
    match element.bits() {
        32 => (2, 1),
        4 => (8, 2),
        _ => (4, 1),
    }
}

/// How many lanes of a group of four hold the metadata of 16 rows.
const fn lanes_asked(element: Element, k: usize) -> usize {
    // 16 rows by k / chunk times 4 bits, in 8 groups, 32 bits a lane.
    16 * (k / chunk(element).0) * 4 / 256
}

/// Writes 16 dense rows of `k` from rows of k/2 that hold what is there; false if an index is none that may be.
pub fn expand(element: Element, k: usize, packed: &[f32], words: &V32, sparse: Sparse, dense: &mut [f32]) -> bool {
    let (size, piece) = chunk(element);
    let mut valid = true;
    dense.fill(0.0);
    for row in 0..16 {
        let (group, below) = (row % 8, row / 8);
        for c in 0..k / size {
            let (lane, shift) = match element.bits() {
                16 | 32 => (c / 4, 16 * below + 4 * (c % 4)),
                _ => (2 * (c / 8) + below, 4 * (c % 8)),
            };
            let bits = words[4 * group + sparse.first_lane as usize + lane] >> shift;
            let (first, second) = ((bits & 3) as usize, (bits >> 2 & 3) as usize);
            let (from, to) = (row * k / 2 + c * size / 2, row * k + c * size);
            if element.bits() == 32 {
                // The two halves of one element.
                valid &= matches!((first, second), (0, 1) | (2, 3));
                dense[to + first / 2] = packed[from];
                continue;
            }
            valid &= first != second;
            for (n, index) in [first, second].into_iter().enumerate() {
                for p in 0..piece {
                    dense[to + index * piece + p] = packed[from + n * piece + p];
                }
            }
        }
    }
    valid
}
