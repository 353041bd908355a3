//! Which elements of a matrix a lane holds.
//!
//! One rule covers the fragments of every `mma.sync` shape that sm_90 computes and wgmma's: with g = lane / 4, t = lane % 4,
//! a register of A or B holds E consecutive k of one row of A or column of B, E being 1 for tf32 and f64, 2 for 16-bit and 4
//! for 8-bit types. Lanes of a group of four take the next E each, and the following register of A is eight rows down, then
//! 4·E further along k. For wgmma, rows start at 16 times the warp's number in its warpgroup.

use crate::text::ast::Type;

/// What D and C consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    /// Two halves a register.
    F16,
    /// f32.
    F32,
    /// s32.
    S32,
}

impl Accumulator {
    /// How many fill a register.
    pub const fn per_register(self) -> usize {
        match self {
            Accumulator::F16 => 2,
            _ => 1,
        }
    }

    /// The type of the registers.
    pub const fn register(self) -> Type {
        match self {
            Accumulator::F16 => Type::B32,
            Accumulator::F32 => Type::F32,
            Accumulator::S32 => Type::S32,
        }
    }
}

/// (row, k) in A of element `j` of register `register` with `per_register` elements each. The shapes of 8 rows have register 0
/// alone.
#[inline(always)]
pub const fn a(lane: usize, register: usize, j: usize, per_register: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    (group + 8 * (register % 2), per_register * (thread + 4 * (register / 2)) + j)
}

/// (k, column) in B of element `j` of register `register`.
#[inline(always)]
pub const fn b(lane: usize, register: usize, j: usize, per_register: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    (per_register * (thread + 4 * register) + j, group)
}

/// (row, column) in C or D of element `i`, counted as 32-bit (or f64) elements; 16-bit ones lie two to a register in the same
/// order.
#[inline(always)]
pub const fn accumulator(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    (group + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * thread + i % 2)
}

/// (row, column) of the 16-bit element `half` (0 low, 1 high) of the register that `ldmatrix`, `stmatrix` and `movmatrix` hold
/// of an 8×8 matrix; transposed for `.trans`.
#[inline(always)]
pub const fn eight_by_eight(lane: usize, half: usize, transposed: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, 2 * (lane % 4) + half);
    if transposed { (column, row) } else { (row, column) }
}
