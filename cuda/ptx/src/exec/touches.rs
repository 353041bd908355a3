//! What a warp remembers about the registers of wgmma.

use crate::ir::{Class, Reg};
use crate::matrix::fragment::Accumulator;

/// Columns, products of an element of D, and what D consists of.
pub type Shape = (usize, usize, Accumulator);

/// When 32-bit registers were last touched, counted in fences.
#[derive(Default)]
pub struct Touches {
    fences: u32,
    /// The number of fences when something else than a wgmma last touched a register, plus one.
    touched: Vec<u32>,
    /// The number of fences when a wgmma last accumulated into a register, plus one, and its shape.
    accumulated: Vec<(u32, Option<Shape>)>,
}

impl Touches {
    /// `wgmma.fence`.
    pub fn fence(&mut self) {
        self.fences += 1;
    }

    /// Whether there was a fence at all.
    pub fn any_fence(&self) -> bool {
        self.fences > 0
    }

    /// An instruction that is no wgmma touches `reg`.
    pub fn touch(&mut self, reg: Reg) {
        if reg.class == Class::B32 {
            *at(&mut self.touched, reg.index) = self.fences + 1;
        }
    }

    /// Whether one did since the last fence.
    pub fn is_touched(&mut self, reg: Reg) -> bool {
        *at(&mut self.touched, reg.index) == self.fences + 1
    }

    /// A wgmma accumulates into a register: whether one of another shape did since the last fence.
    pub fn accumulate(&mut self, index: u16, shape: Shape) -> bool {
        let now = (self.fences + 1, Some(shape));
        let before = std::mem::replace(at(&mut self.accumulated, index), now);
        before.0 == now.0 && before.1 != now.1
    }
}

fn at<T: Clone + Default>(list: &mut Vec<T>, index: u16) -> &mut T {
    let index = usize::from(index);
    if list.len() <= index {
        list.resize(index + 1, T::default());
    }
    &mut list[index]
}
