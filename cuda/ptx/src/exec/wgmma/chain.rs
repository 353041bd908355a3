//! The sums of wgmma in flight, between the registers that hold them before and after.

use smallvec::SmallVec;

use super::op::M;
use crate::exec::lanes::ALL;
use crate::exec::warp::Warp;
use crate::ir::{Class, Reg};
use crate::matrix::fragment::{self, Accumulator};
use crate::num::half::Kind;
use crate::num::single::canonical;

/// What a register of D holds while it is in flight, and an element that nothing defined: a NaN as f32 and as two halves.
pub(super) const POISON: u32 = 0x7fff_7fff;

/// Sums in flight, of one list of registers D.
pub(super) struct Chain {
    pub(super) d: SmallVec<[u16; 16]>,
    pub(super) n: usize,
    pub(super) accumulator: Accumulator,
    /// 64 × n, of the kind that the accumulator needs.
    pub(super) floats: Vec<f32>,
    pub(super) integers: Vec<i32>,
    /// Elements that nothing defined; empty if there are none.
    pub(super) undefined: Vec<bool>,
    /// Warps and registers of D that were written meanwhile: what they hold in the end is anyone's guess.
    pub(super) clobbered: Vec<(usize, u16)>,
    /// The warps whose rows are here and not in their registers.
    pub(super) held: [bool; 4],
    /// The last wgmma that each warp issued into it.
    pub(super) last: [u64; 4],
}

impl Chain {
    pub(super) fn rows(&self, warp: usize) -> std::ops::Range<usize> {
        16 * warp * self.n..16 * (warp + 1) * self.n
    }

    pub(super) fn spoil(&mut self, elements: impl Iterator<Item = usize>) {
        if self.undefined.is_empty() {
            self.undefined = vec![false; M * self.n];
        }
        for i in elements {
            self.undefined[i] = true;
        }
    }

    /// Where element `j` of register `r` in `lane` of `warp` is.
    fn place(&self, warp: usize, r: usize, lane: usize, j: usize) -> usize {
        let (row, column) = fragment::accumulator(lane, r * self.accumulator.per_register() + j);
        (16 * warp + row) * self.n + column
    }

    /// Takes the rows of `warp` from its registers.
    pub(super) fn load(&mut self, warp: usize, from: &Warp) {
        for r in 0..self.d.len() {
            let index = self.d[r];
            let undef = from.regs.undef32(index);
            for (lane, &bits) in from.regs.r32[index as usize].iter().enumerate() {
                for j in 0..self.accumulator.per_register() {
                    let at = self.place(warp, r, lane, j);
                    match self.accumulator {
                        Accumulator::F16 => self.floats[at] = Kind::F16.to_f32((bits >> (16 * j)) as u16),
                        Accumulator::F32 => self.floats[at] = f32::from_bits(bits),
                        Accumulator::S32 => self.integers[at] = bits as i32,
                    }
                    if undef >> lane & 1 == 1 {
                        self.spoil(std::iter::once(at));
                    } else if !self.undefined.is_empty() {
                        self.undefined[at] = false;
                    }
                }
            }
        }
    }

    /// Gives the rows of `warp` back to its registers.
    pub(super) fn store(&mut self, warp: usize, to: &mut Warp) {
        let bad = |at: usize| self.undefined.get(at).copied().unwrap_or(false);
        for (r, &index) in self.d.iter().enumerate() {
            let mut undef = 0;
            let register: &mut [u32; 32] = &mut to.regs.r32[index as usize];
            for (lane, out) in register.iter_mut().enumerate() {
                let at = |j| self.place(warp, r, lane, j);
                *out = match self.accumulator {
                    Accumulator::F16 => [0, 1].map(|j| u32::from(Kind::F16.of_f32(self.floats[at(j)])) << (16 * j)).iter().sum(),
                    Accumulator::F32 => canonical(self.floats[at(0)]),
                    Accumulator::S32 => self.integers[at(0)] as u32,
                };
                if !self.undefined.is_empty() && (0..self.accumulator.per_register()).any(|j| bad(at(j))) {
                    undef |= 1 << lane;
                    *out = POISON;
                }
            }
            if self.clobbered.contains(&(warp, index)) {
                undef = ALL;
                *register = [POISON; 32];
            }
            let reg = Reg { class: Class::B32, index };
            to.regs.set_undef(reg, undef, ALL);
            to.regs.set_flight(reg, 0);
        }
        self.clobbered.retain(|c| c.0 != warp);
    }
}
