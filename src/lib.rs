//! Scratchwork: a tensor and reverse-mode autodiff library from scratch, and GRPO training of a DeepSeek-style model on it.
//!
//! This crate only gathers the layers, so that a user adds one dependency. Each layer's page says in which order to read it:
//! [`tensor`], [`autograd`], [`nn`], [`grpo`], and [`cuda`] for GPUs. The book in `docs/` has a chapter per layer, `examples/` the programs to open first.
//!
//! ```
//! use scratchwork::autograd::Var;
//! use scratchwork::tensor::{Device, Tensor};
//! let w = Var::parameter(Tensor::from_slice(&[1.0f32, 2.0], 2, &Device::cpu()));
//! w.square().sum((), false).backward();
//! assert_eq!(w.grad().unwrap().to_vec::<f32>(), [2.0, 4.0]);
//! ```

pub use {autograd, cuda, grpo, nn, tensor};

use tensor::Device;

/// Why there is no device of a name.
#[derive(Debug, thiserror::Error)]
pub enum DeviceNameError {
    /// Nothing is called so.
    #[error("no device is called `{0}`: there are cpu, cuda, cuda:NUMBER, interpreted and interpreted:SEED")]
    Unknown(String),
    /// It cannot be opened.
    #[error("{name}: {source}")]
    Unavailable {
        /// The name.
        name: String,
        /// Why.
        source: cuda::DriverError,
    },
}

/// The device of a name: `cpu`; `cuda` or `cuda:1` for a card; `interpreted` or `interpreted:7` for a Hopper GPU played by an
/// interpreter, with a seed for what a card leaves open.
///
/// ```
/// assert_eq!(scratchwork::device("cpu").unwrap().name(), "cpu");
/// assert!(scratchwork::device("gpu").unwrap_err().to_string().contains("no device is called `gpu`"));
/// ```
///
/// # Errors
/// If nothing is called so, or there is no such card.
pub fn device(name: &str) -> Result<Device, DeviceNameError> {
    let (kind, number) = match name.split_once(':') {
        Some((kind, number)) => (kind, number.parse().ok()),
        None => (name, Some(0)),
    };
    match (kind, number) {
        ("cpu", _) if name == "cpu" => Ok(Device::cpu()),
        ("cuda", Some(ordinal)) => {
            cuda::device(ordinal as usize).map_err(|source| DeviceNameError::Unavailable { name: name.into(), source })
        }
        ("interpreted", Some(seed)) => Ok(cuda::interpreted_with(cuda::Options { seed, ..cuda::Options::default() })),
        _ => Err(DeviceNameError::Unknown(name.into())),
    }
}

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
    #[doc = include_str!("../docs/7-cuda.md")]
    mod chapter_7 {}
}
