//! One specification an operation: how its cases are drawn (shapes, layouts, values), what they must give (plain loops over
//! f64 that share no code with `tensor`), how large the error may be (derived from accumulation length and roundoff), where
//! derivatives jump, and what it costs.
//!
//! Everything that checks or measures operations iterates [`all`]: the CPU tests, the gradient checks, the tests of other
//! devices, the benches. [`Op`] is matched without a wildcard wherever something must be said about every operation, so the
//! compiler names the places that a new one has to fill.
//!
//! ```
//! use opspec::Draw;
//! use tensor::{DType, Device};
//! for spec in opspec::all() {
//!     let case = spec.draw(&mut opspec::Source::seeded(1, spec.dtypes[0], Draw::Small));
//!     case.verify(&Device::cpu()).unwrap_or_else(|e| panic!("{e}"));
//! }
//! ```

mod array;
mod attention;
mod binary;
mod case;
mod family;
mod fused;
mod index;
mod input;
mod join;
mod long;
mod matmul;
mod precision;
mod reduce;
mod runner;
mod softmax;
mod sort;
mod source;
mod unary;
mod view;

pub use array::{Array, Expected, for_each_index};
pub use attention::Attend;
pub use binary::Binary;
pub use case::{Case, Cost, FLOATS, Mismatch, Spec};
pub use family::{Family, Named};
pub use index::Index;
pub use input::{Input, Placement};
pub use join::Join;
pub use long::accumulations;
pub use matmul::Product;
pub use precision::{Precision, gamma, round_to, summands};
pub use reduce::Reduce;
pub use runner::holds;
pub use softmax::Softmax;
pub use sort::Order;
pub use source::{Draw, Source};
pub use view::View;

use tensor::{Fused, UnaryOp};

/// Declares [`Op`] of the families, each in a variant of its own.
macro_rules! families {
    ($($(#[$doc:meta])* $family:ident($type:ty),)*) => {
        /// An operation with the arguments that are not tensors. The operands are described at each variant of the families.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $family($type)),*
        }

        impl Op {
            /// The names of the variants.
            pub const VARIANTS: &'static [&'static str] = &[$(stringify!($family)),*];

            /// The specification behind it.
            pub fn family(&self) -> &dyn Family {
                match self {
                    $(Op::$family(f) => f),*
                }
            }
        }
    };
}

families! {
    /// Elementwise, one operand.
    Unary(UnaryOp),
    /// Elementwise, two or three operands.
    Binary(Binary),
    /// Reductions and running sums.
    Reduce(Reduce),
    /// Softmax, its logarithm, cross-entropy.
    Softmax(Softmax),
    /// Matrix products.
    Product(Product),
    /// Attention.
    Attend(Attend),
    /// Fused operations, and their gradients.
    Fused(Fused),
    /// Reading and writing at positions.
    Index(Index),
    /// Sorting and choosing.
    Order(Order),
    /// Joining and splitting.
    Join(Join),
    /// Views and rearrangements.
    View(View),
}

impl Op {
    /// The operation's name in PyTorch, or in `tensor` where PyTorch has none.
    pub fn name(&self) -> &'static str {
        self.family().name()
    }
}

/// The specifications of all operations.
pub fn all() -> Vec<Spec> {
    [
        unary::specs(),
        binary::specs(),
        reduce::specs(),
        softmax::specs(),
        matmul::specs(),
        attention::specs(),
        fused::specs(),
        index::specs(),
        sort::specs(),
        join::specs(),
        view::specs(),
    ]
    .concat()
}
