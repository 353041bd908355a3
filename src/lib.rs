//! Scratchwork: a tensor and reverse-mode autodiff library from scratch, and GRPO training of a DeepSeek-style model on it.
//!
//! This crate only gathers the layers, so that a user adds one dependency. Each layer's page says in which order to read it:
//! [`tensor`], [`autograd`], [`nn`], [`grpo`]. The book in `docs/` has a chapter a layer, `examples/` the programs to open first.
//!
//! ```
//! use scratchwork::autograd::Var;
//! use scratchwork::tensor::{Device, Tensor};
//! let w = Var::parameter(Tensor::from_slice(&[1.0f32, 2.0], 2, &Device::cpu()));
//! w.square().sum((), false).backward();
//! assert_eq!(w.grad().unwrap().to_vec::<f32>(), [2.0, 4.0]);
//! ```

pub use {autograd, grpo, nn, tensor};

/// The chapters of the book, whose code runs as tests of the documentation.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../docs/1-tensor.md")]
    mod chapter_1 {}
    #[doc = include_str!("../docs/2-autograd.md")]
    mod chapter_2 {}
    #[doc = include_str!("../docs/3-nn.md")]
    mod chapter_3 {}
    #[doc = include_str!("../docs/4-grpo.md")]
    mod chapter_4 {}
    #[doc = include_str!("../docs/5-flagship.md")]
    mod chapter_5 {}
    #[doc = include_str!("../docs/6-how-to-add-an-op.md")]
    mod chapter_6 {}
}
