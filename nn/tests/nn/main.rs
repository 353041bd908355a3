//! The integration tests of the crate, in one binary.

mod attention;
mod checkpoint;
mod common;
mod config;
mod generation;
mod gradients;
mod optim;
mod parity;
mod rope;
mod routing;
