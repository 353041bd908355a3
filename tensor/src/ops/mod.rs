//! The operations, a file a family: docs, shape rule, definition and CPU kernel together.

mod attention;
mod binary;
mod create;
mod fused;
mod index;
mod layout;
mod loss;
mod matmul;
mod reduce;
mod softmax;
mod sort;
mod unary;

pub use attention::Attention;
pub use binary::{BinaryOp, Operand};
pub use index::Repeats;
pub use loss::{CrossEntropy, Reduction};
pub use reduce::ReduceOp;
pub use unary::{Gelu, UnaryOp};

pub(crate) mod kernels {
    //! The CPU kernels of the families, gathered for [`crate::cpu::CpuBackend`].
    pub(crate) use super::binary::cpu as binary;
    pub(crate) use super::create::cpu as create;
    pub(crate) use super::fused::cpu as fused;
    pub(crate) use super::index::cpu as index;
    pub(crate) use super::matmul::cpu as matmul;
    pub(crate) use super::reduce::cpu as reduce;
    pub(crate) use super::softmax::cpu as softmax;
    pub(crate) use super::sort::cpu as sort;
    pub(crate) use super::unary::cpu as unary;
}
