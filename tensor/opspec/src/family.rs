//! [`Family`]: what a specification says about its operations.

use crate::array::{Array, Expected};
use tensor::Tensor;

/// Declares an enum of operations together with its variants' names, by which a test finds the one that no specification
/// draws.
///
/// With `= "name"` behind each, also what they are called.
macro_rules! operations {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident $(($($tuple:tt)*))? $({ $($fields:tt)* })? = $called:literal),* $(,)?
        }
    ) => {
        operations! {
            $(#[$meta])*
            pub enum $name {
                $($(#[$doc])* $variant $(($($tuple)*))? $({ $($fields)* })?),*
            }
        }

        impl crate::family::Named for $name {
            fn name(&self) -> &'static str {
                match self {$(
                    $name::$variant { .. } => $called,
                )*}
            }
        }
    };
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident $(($($tuple:tt)*))? $({ $($fields:tt)* })?),* $(,)?
        }
    ) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* $variant $(($($tuple)*))? $({ $($fields)* })?),*
        }

        impl $name {
            /// The names of the variants.
            pub const VARIANTS: &'static [&'static str] = &[$(stringify!($variant)),*];
        }
    };
}
pub(crate) use operations;

/// What has a name in PyTorch, or in `tensor` where PyTorch has none.
pub trait Named {
    /// That name.
    fn name(&self) -> &'static str;
}

/// A group of operations specified together. Nothing has a default that could hide an omission, but for kinks: most have
/// none.
pub trait Family: Named {
    /// The operation itself.
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor>;
    /// What it must give, from plain loops, with the error that its arithmetic may make.
    fn reference(&self, x: &[Array]) -> Vec<Expected>;
    /// Which operands a gradient flows to; optional ones are named even where they are missing.
    fn differentiable(&self) -> Vec<usize>;
    /// How far the operands are from the nearest point where a derivative jumps: moving every element by less crosses none.
    fn kink(&self, x: &[Array]) -> f64 {
        let _ = x;
        f64::INFINITY
    }
    /// Floating-point operations (an elementary function counts as one) for these operands and results.
    fn flops(&self, x: &[Array], out: &[Expected]) -> u64;
}

/// The smallest of some distances.
pub(crate) fn nearest(distances: impl IntoIterator<Item = f64>) -> f64 {
    distances.into_iter().fold(f64::INFINITY, f64::min)
}

/// Elements of all results.
pub(crate) fn elements(out: &[Expected]) -> u64 {
    out.iter().map(|e| e.array.numel() as u64).sum()
}
