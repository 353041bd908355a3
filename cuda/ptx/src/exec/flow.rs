//! How an instruction is called and what it answers.
//!
//! [`At`] has the lanes to execute and the pc, for hazards. While a warp runs it is not in its CTA's list, so a family may touch other
//! warps, shared memory and queues freely. A wait is over when the scheduler finds it so; it asks after the warp or its CTA was
//! woken ([`super::machine::Ready`]).

use super::warp::{Wait, Warp};
use crate::ir::Reg;
use crate::observe::trace::Reason;
use crate::request::Fault;

/// The launch ends: a fault.
pub type Stop = Box<Fault>;

/// Where an instruction is and in which lanes.
#[derive(Clone, Copy, Debug)]
pub struct At<'g> {
    /// The instruction.
    pub pc: u32,
    /// Lanes that execute it.
    pub mask: u32,
    /// The wait before this was given up.
    pub timed_out: bool,
    /// Registers that it writes.
    pub defs: &'g [Reg],
}

impl At<'_> {
    /// Whether every live lane of the warp is here.
    #[inline]
    pub fn is_converged(&self, warp: &Warp) -> bool {
        self.mask == warp.live
    }

    /// The first lane.
    #[inline]
    pub fn lane(&self) -> u32 {
        self.mask.trailing_zeros() & 31
    }

    /// The same in other lanes.
    #[inline]
    pub fn of(self, mask: u32) -> Self {
        At { mask, ..self }
    }

    /// The same in one lane.
    #[inline]
    pub fn only(self, lane: u32) -> Self {
        self.of(1 << lane)
    }

    /// Marks every result as defined.
    #[inline]
    pub fn define(&self, warp: &mut Warp) {
        self.mark(warp, 0);
    }

    /// Whether a result is undefined in a lane.
    #[inline]
    pub fn any_undefined(&self, warp: &Warp) -> bool {
        self.defs.iter().any(|reg| warp.regs.undef(*reg) & self.mask != 0)
    }

    /// Says in which lanes every result is undefined.
    #[inline]
    pub fn mark(&self, warp: &mut Warp, undef: u32) {
        self.defs.iter().for_each(|reg| warp.regs.set_undef(*reg, undef, self.mask));
    }
}

/// What happens after an instruction.
#[derive(Clone, Debug)]
pub enum Flow {
    /// The next instruction.
    Next,
    /// The instruction is `.aligned`: gather all live lanes of the warp ([`At::is_converged`]), then execute again.
    Converge,
    /// The same for the named lanes of a `.sync` instruction.
    Members(u32),
    /// The next instruction, when the wait is over.
    Block(Wait),
    /// This instruction again, when the wait is over (`try_wait`).
    Retry(Wait),
    /// The next instruction, after another warp ran.
    Yield,
}

impl Flow {
    /// What lanes wait for, in the words of a trace.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Flow::Next | Flow::Yield => None,
            Flow::Converge => Some(Reason::Lanes(u32::MAX)),
            Flow::Members(lanes) => Some(Reason::Lanes(*lanes)),
            Flow::Block(wait) | Flow::Retry(wait) => Some(match *wait {
                Wait::Converge => Reason::Lanes(u32::MAX),
                Wait::Members(lanes) => Reason::Lanes(lanes),
                Wait::Barrier { id, .. } => Reason::Barrier(id),
                Wait::ClusterBarrier { .. } => Reason::Cluster,
                Wait::Mbarrier { offset, phase, .. } => Reason::Mbarrier { offset, phase },
                Wait::Warpgroup { .. } => Reason::Warpgroup,
                Wait::Registers { .. } => Reason::Registers,
                Wait::Sleep { .. } => Reason::Sleep,
            }),
        }
    }
}

/// What a step leaves to do.
pub enum After {
    /// The split goes on.
    Go,
    /// It goes on, but another warp should run first.
    Later,
    /// It waits.
    Blocked,
    /// Its lanes have left, or are elsewhere.
    Gone,
}
