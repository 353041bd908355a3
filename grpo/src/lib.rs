//! Problems, rewards, rollouts and Group Relative Policy Optimization.
//!
//! What a run is about, in the order in which a reader may want to open it: a [`Task`](task::Task) has problems, and a [`Problem`] a
//! prompt; a policy answers with a [`Response`]; a [`Reward`] scores it by what the problem says of it, through a verifier
//! ([`verify`]); and [`eval_stats`] says what many answers prove. The [`corpus`] is what a base model learns from, the domains that are
//! shipped are in [`tasks`]. A run is a list of stages ([`stage`]), which [`run`] drives.

mod chart;
pub mod checksum;
pub mod config;
pub mod console;
pub mod corpus;
pub mod cost;
pub mod eval_stats;
pub mod evaluate;
pub mod example;
pub mod file_error;
pub mod jsonl;
pub mod memory;
pub mod metrics;
pub mod objective;
pub mod policy;
pub mod ppo;
pub mod preference;
pub mod pretrain;
mod progress;
pub mod report;
pub mod response;
pub mod reward;
pub mod rng;
pub mod rollout;
pub mod run;
pub mod rundir;
pub mod samples;
pub mod setup;
pub mod stage;
pub mod stages;
pub mod state;
pub mod step;
pub mod task;
pub mod tasks;
pub mod tokenizer;
pub mod trainer;
pub mod verify;

pub use corpus::Corpus;
pub use example::{Batch, Example};
pub use jsonl::DataError;
pub use response::Response;
pub use reward::{Accuracy, Combined, Format, Reward, Rules};
pub use rng::Rng;
pub use task::{Problem, TaskError};
pub use tokenizer::{EncodeError, Tokenizer, TokenizerError, token};
