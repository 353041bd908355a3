//! The integration tests of the crate, in one binary.

mod attention;
mod checkpoint;
mod common;
mod config;
mod format;
mod generation;
mod gradients;
mod module;
mod optim;
mod parity;
mod rope;
mod routing;
