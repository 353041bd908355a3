//! The integration tests of the crate, in one binary.

mod common;
mod hostile;
mod objective;
mod policy;
mod ppo;
mod pretrain;
mod problems;
mod rollout;
mod run;
mod stages;
mod state;
mod trainer;
