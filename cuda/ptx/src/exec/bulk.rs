//! `cp.async…`, `mbarrier…`, fences, and the queue of asynchronous operations.

use super::warp::Warp;
use super::{At, Flow, Machine, Stop};
use crate::ir::{Cx, Decode, Op};

/// An instruction of this family.
pub enum Bulk {
    /// `fence`, `membar`.
    Fence,
}

/// Operations under way.
#[derive(Default)]
pub struct Asyncs {}

/// What lanes wait for.
#[derive(Clone, Debug, PartialEq)]
pub enum AsyncWait {}

impl AsyncWait {
    /// Whether the wait may give up (`try_wait`).
    pub fn has_time_limit(&self) -> bool {
        match *self {}
    }

    /// "waits for …", for a deadlock's report.
    pub fn describe(&self) -> String {
        match *self {}
    }
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    if matches!(cx.head(), "fence" | "membar") { Ok(Op::Bulk(Box::new(Bulk::Fence))) } else { cx.unknown() }
}

/// Executes one.
pub fn execute(_m: &mut Machine<'_>, _warp: &mut Warp, op: &Bulk, _at: At) -> Result<Flow, Stop> {
    match op {
        Bulk::Fence => Ok(Flow::Next),
    }
}

/// Called before each burst: lands what the seed lets land early.
pub fn progress(_m: &mut Machine<'_>) {}

/// Nothing can run: lands one operation that the model allows to land, by the seed. False if there is none.
pub fn land_one(_m: &mut Machine<'_>) -> bool {
    false
}

/// Whether what a lane of the CTA in `slot` waits for has come.
pub fn is_over(_m: &Machine<'_>, _slot: u32, wait: &AsyncWait) -> bool {
    match *wait {}
}

/// A warp has ended: what it left unwaited for is a hazard.
pub fn warp_ended(_m: &mut Machine<'_>, _warp: &Warp) {}

/// A CTA has ended.
pub fn cta_ended(_m: &mut Machine<'_>, _slot: u32) {}

/// The launch has ended (`ok`: without a fault): everything lands.
pub fn end_launch(_m: &mut Machine<'_>, _ok: bool) {}
