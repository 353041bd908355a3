//! A warpgroup: what its warps have issued, and how far each is.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chain::Chain;
use super::op::{M, Wgmma};
use crate::exec::lanes::V32;
use crate::matrix::fragment::Accumulator;
use crate::mem::WarpOrder;

/// What one warp contributed to a wgmma when it issued it.
pub struct Call {
    pub scale_d: bool,
    pub a: u64,
    pub b: u64,
    /// A register was touched after the last fence.
    pub unfenced: bool,
    /// The metadata of a sparse A.
    pub metadata: Option<V32>,
    /// What the warp knew.
    pub order: Option<WarpOrder>,
}

/// A wgmma that some warp has issued and not every warp has waited for.
pub struct Pending {
    pub pc: u32,
    pub op: Arc<Wgmma>,
    pub chain: usize,
    pub calls: [Option<Call>; 4],
    /// Runs as soon as it can.
    pub early: bool,
    /// The interval of the warpgroup's agent in which it reads.
    pub stamp: u32,
}

/// A warp's view of the sequence.
#[derive(Default)]
pub struct Progress {
    /// How many it has issued.
    pub issued: u64,
    /// How many of them are in groups.
    pub committed: u64,
    /// Ends of the groups that it has not waited for.
    pub groups: VecDeque<u64>,
    /// How many it has waited for.
    pub retired: u64,
}

impl Progress {
    /// `wgmma.commit_group`.
    pub fn commit(&mut self) {
        self.groups.push_back(self.issued);
        self.committed = self.issued;
    }
}

/// Four warps and what they have in flight.
#[derive(Default)]
pub struct Warpgroup {
    pub warps: [Progress; 4],
    /// Those from number `first` on.
    pub queue: VecDeque<Pending>,
    pub first: u64,
    /// How many have run.
    pub executed: u64,
    pub(super) chains: Vec<Chain>,
    pub agent: Option<u32>,
}

impl Warpgroup {
    /// A wgmma by its number.
    pub fn pending(&mut self, number: u64) -> &mut Pending {
        &mut self.queue[(number - self.first) as usize]
    }

    /// How many all of its warps have issued.
    pub fn issued_by_all(&self) -> u64 {
        self.warps.iter().map(|w| w.issued).min().unwrap_or(0)
    }

    /// The chain of these registers; a new one if there is none.
    pub fn chain(&mut self, op: &Wgmma) -> usize {
        let fits = |c: &Chain| c.d == op.d && c.n == op.n && c.accumulator == op.accumulator;
        if let Some(i) = self.chains.iter().position(fits) {
            return i;
        }
        let (floats, integers) = if op.accumulator == Accumulator::S32 { (0, M * op.n) } else { (M * op.n, 0) };
        let chain = Chain {
            d: op.d.clone(),
            n: op.n,
            accumulator: op.accumulator,
            floats: vec![0.0; floats],
            integers: vec![0; integers],
            undefined: Vec::new(),
            clobbered: Vec::new(),
            held: [false; 4],
            last: [0; 4],
        };
        // Chains that nobody uses any more are replaced; numbers in the queue stay valid.
        let free =
            (0..self.chains.len()).find(|&i| !self.chains[i].held.contains(&true) && self.queue.iter().all(|p| p.chain != i));
        match free {
            Some(i) => self.chains[i] = chain,
            None => self.chains.push(chain),
        }
        free.unwrap_or(self.chains.len() - 1)
    }
}
