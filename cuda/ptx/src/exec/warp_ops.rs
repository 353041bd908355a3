//! Instructions in which the lanes of a warp meet: `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`.

use super::lanes::lanes_of;
use super::warp::Warp;
use super::{At, Flow, Machine, Stop};
use crate::hazard::HazardKind;
use crate::ir::{Cx, Decode};

/// x
pub enum WarpOp {}

/// x
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    cx.unknown()
}

/// x
pub fn execute(_m: &mut Machine<'_>, _warp: &mut Warp, op: &WarpOp, _at: At) -> Result<Flow, Stop> {
    match *op {}
}

/// The lanes that a `.sync` instruction names in register `members` must all be here. `None`: they are; else what to return.
pub(super) fn gather(m: &mut Machine<'_>, warp: &Warp, members: u16, at: At) -> Result<Option<Flow>, Stop> {
    let named = &warp.regs.r32[members as usize];
    let undef = warp.regs.undef32(members);
    m.demand(warp, at.pc, at.mask, undef, "the member mask");
    let first = at.mask.trailing_zeros() as usize;
    if lanes_of(at.mask).all(|l| named[l] == named[first]) {
        if named[first] & at.mask != at.mask {
            let site = m.site(warp, at.pc, (at.mask & !named[first]).trailing_zeros() as usize);
            m.mem.tracker.hazards.report(HazardKind::UndefinedBehavior, site, None, || {
                format!("the executing lane is not in the member mask {:#010x}", named[first])
            });
            return Ok(None);
        }
        if named[first] & warp.live & !at.mask != 0 {
            return Ok(Some(Flow::Members(named[first])));
        }
    }
    Ok(None)
}
