//! Where the elements of a matrix lie: in a warp's registers ([`fragment`]), and in shared memory ([`descriptor`], [`swizzle`]).
//! Pure functions of indices; the instructions move the data.

pub mod descriptor;
pub mod fragment;
pub mod swizzle;

pub use descriptor::{Descriptor, Major};
pub use swizzle::Swizzle;
