//! The operations, a file a family: docs, shape rule, definition and CPU kernel together.

pub(crate) mod attention;
pub(crate) mod binary;
pub(crate) mod create;
pub(crate) mod fused;
pub(crate) mod index;
mod layout;
pub(crate) mod loss;
pub(crate) mod matmul;
pub(crate) mod reduce;
pub(crate) mod softmax;
pub(crate) mod sort;
pub(crate) mod unary;
