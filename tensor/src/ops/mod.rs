//! The operations, a file a family: docs, shape rule, definition and CPU kernel together.

mod attention;
mod binary;
mod create;
mod index;
mod layout;
mod loss;
mod matmul;
mod norm;
mod optim;
mod reduce;
mod rope;
mod softmax;
mod sort;
mod unary;

pub use attention::Attention;
pub use binary::{BinaryOp, Operand};
pub use index::Repeats;
pub use loss::{CrossEntropy, Reduction};
pub use optim::AdamW;
pub use reduce::ReduceOp;
pub use unary::{Gelu, UnaryOp};

pub(crate) use attention::{attention_causal_backward_composed, attention_causal_composed};
pub(crate) use norm::{rms_norm_backward_composed, rms_norm_composed};
pub(crate) use optim::adamw_composed;
pub(crate) use rope::rope_composed;
pub(crate) use unary::{swiglu_backward_composed, swiglu_composed};

use crate::dtype::DType;
use crate::tensor::Tensor;

/// f32 for half types, in which operations of several steps are computed and rounded once; else the tensor itself.
pub(crate) fn wide(t: &Tensor) -> Tensor {
    if t.dtype().is_half() { t.to_dtype(DType::F32) } else { t.clone() }
}

pub(crate) mod kernels {
    //! The CPU kernels of the families, gathered for [`crate::cpu::CpuBackend`].
    pub(crate) use super::attention::cpu as attention;
    pub(crate) use super::binary::cpu as binary;
    pub(crate) use super::create::cpu as create;
    pub(crate) use super::index::cpu as index;
    pub(crate) use super::matmul::cpu as matmul;
    pub(crate) use super::norm::cpu as norm;
    pub(crate) use super::optim::cpu as optim;
    pub(crate) use super::reduce::cpu as reduce;
    pub(crate) use super::rope::cpu as rope;
    pub(crate) use super::softmax::cpu as softmax;
    pub(crate) use super::sort::cpu as sort;
    pub(crate) use super::unary::cpu as unary;
}
