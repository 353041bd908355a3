//! `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wgmma`.

use super::warp::Warp;
use super::{At, Flow, Machine, Stop};
use crate::ir::{Cx, Decode};

/// An instruction of this family.
pub enum Matrix {}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    cx.unknown()
}

/// Executes one.
pub fn execute(_m: &mut Machine<'_>, _warp: &mut Warp, op: &Matrix, _at: At) -> Result<Flow, Stop> {
    match *op {}
}
