//! atomics
use super::warp::Warp;
use super::{At, Flow, Machine, Stop};
use crate::ir::{Cx, Decode};

/// x
pub enum Atomic {}

/// x
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    cx.unknown()
}

/// x
pub fn execute(_m: &mut Machine<'_>, _warp: &mut Warp, op: &Atomic, _at: At) -> Result<Flow, Stop> {
    match *op {}
}
