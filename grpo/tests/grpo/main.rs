//! The integration tests of the crate, in one binary.

mod common;
mod hostile;
mod objective;
mod policy;
mod pretrain;
mod problems;
mod rollout;
mod run;
mod state;
mod trainer;
