//! Neural-network modules and the DeepSeek-V3 model, on [`autograd`].
//!
//! Read in this order: [`Module`] (names of parameters), the small modules in `layers.rs`, then the parts of DeepSeek-V3
//! ([`Mla`], [`Moe`], [`Mtp`], [`Rope`]), and the whole [`DeepseekV3ForCausalLM`] built from a hub [`Config`]. Beside the model:
//! checkpoints in the hub's format, [`AdamW`], and generation.
//!
//! A sequence's results do not depend on what else is in the batch, on padding after it, or on whether it is computed at once
//! or token by token over a cache: log-probabilities recorded while sampling equal those of the training pass bit for bit.

mod cache;
mod checkpoint;
mod config;
mod decoder;
mod files;
mod generate;
mod init;
mod layers;
mod memory;
mod mla;
mod model;
mod module;
mod moe;
mod mtp;
mod optim;
pub mod or_none;
mod rope;
mod safetensors;
pub mod text;

pub use cache::{KvCache, LayerCache, Rows};
pub use checkpoint::{CheckpointError, Notice};
pub use config::{Config, ConfigError, ScoringFunc, TopkMethod};
pub use decoder::DecoderLayer;
pub use files::{write_atomic, write_atomic_with};
pub use generate::{Completion, Generate, GenerateError, Progress, Sampling, row_seed};
pub use init::Init;
pub use layers::{Embedding, Linear, Mlp, RmsNorm};
pub use memory::{TooLittleMemory, available_memory, bytes, require_memory};
pub use mla::Mla;
pub use model::{DeepseekV3ForCausalLM, ForwardOptions, Output};
pub use module::{Buffer, Module, Named, Path, Slot, Visitor};
pub use moe::{Gate, Moe, Routing};
pub use mtp::Mtp;
pub use optim::{AdamW, AdamWConfig, OptimError, Schedule, clip_grad_norm, grad_norm};
pub use rope::{Angles, Rope, RopeScaling, Yarn};
pub use safetensors::{TensorFile, load_tensors, save_tensors, tensors_to_bytes};
