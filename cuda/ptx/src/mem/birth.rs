//! Where undefined values come from. Kept beside the values, where there are such alone: nothing is spent on what is defined.

use std::collections::{BTreeMap, HashMap};

use crate::ir::Reg;

/// What made a value undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// A register that nothing had written when the instruction read it.
    Register { reg: Reg, pc: u32 },
    /// Memory that nothing had written when the instruction read it: the address as reports give it.
    Memory { shared: bool, address: u64, pc: u32 },
    /// The shared memory of a CTA that had ended when the instruction read it.
    Gone { address: u64, pc: u32 },
    /// Memory that `by` had written, or was still writing, with a value that nothing defined.
    Written { shared: bool, address: u64, by: u32, pc: u32 },
    /// The instruction gave a result that nothing defines.
    Instruction { pc: u32 },
}

/// Where a warp's undefined registers come from, by lanes. What is defined by now may still be in it.
#[derive(Default)]
pub struct Births(HashMap<Reg, Vec<(u32, Birth)>>);

impl Births {
    /// The lanes `mask` of a register are undefined for this reason.
    pub fn note(&mut self, reg: Reg, mask: u32, birth: Birth) {
        let list = self.0.entry(reg).or_default();
        list.iter_mut().for_each(|(lanes, _)| *lanes &= !mask);
        list.retain(|(lanes, _)| *lanes != 0);
        match list.iter_mut().find(|(_, o)| *o == birth) {
            Some((lanes, _)) => *lanes |= mask,
            None => list.push((mask, birth)),
        }
    }

    /// Where the lanes `mask`, which are undefined and which the instruction at `pc` reads, come from.
    pub fn of(&self, reg: Reg, mask: u32, pc: u32) -> Vec<(u32, Birth)> {
        if mask == 0 {
            return Vec::new();
        }
        let known = self.0.get(&reg).map_or(&[][..], Vec::as_slice);
        let mut found: Vec<(u32, Birth)> = known.iter().map(|(l, o)| (l & mask, *o)).filter(|(l, _)| *l != 0).collect();
        let rest = found.iter().fold(mask, |rest, (lanes, _)| rest & !lanes);
        if rest != 0 {
            found.push((rest, Birth::Register { reg, pc }));
        }
        found
    }
}

/// Where undefined bytes of a segment come from, by words of 4 bytes. What is defined by now may still be in it.
#[derive(Clone, Debug, Default)]
pub struct Spots(BTreeMap<u32, Birth>);

impl Spots {
    /// Bytes are undefined for this reason.
    pub fn note(&mut self, at: usize, len: usize, birth: Birth) {
        (at / 4..=(at + len - 1) / 4).for_each(|word| _ = self.0.insert(word as u32, birth));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was noted later.
    pub fn append(&mut self, mut later: Spots) {
        self.0.append(&mut later.0);
    }

    /// Where an undefined byte comes from, if a store brought it.
    pub fn of(&self, at: usize) -> Option<Birth> {
        self.0.get(&(at as u32 / 4)).copied()
    }
}
