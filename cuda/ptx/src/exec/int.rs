//! The int family.

use crate::ir::{Cx, Decode};

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    cx.unknown()
}
