//! Scratchwork: a tensor and reverse-mode autodiff library from scratch, and GRPO training of a DeepSeek-style model on it.
//!
//! This crate only gathers the layers, so that a user adds one dependency.

pub use {autograd, grpo, nn, tensor};
