//! Problems, rewards, rollouts and Group Relative Policy Optimization.
//!
//! What a run is about, in the order in which a reader may want to open it: a [`Problem`] has a prompt; a policy answers with a
//! [`Response`]; a [`Reward`] scores it through a verifier ([`verify`]); [`Behaviour`] says what the thinking did; and
//! [`eval_stats`] what many answers prove. The [`corpus`] is what the base model learns from.

pub mod arithmetic;
pub mod behaviour;
pub mod chain_sum;
mod chart;
pub mod checksum;
pub mod config;
pub mod console;
pub mod corpus;
pub mod cost;
pub mod countdown;
pub mod eval_stats;
pub mod evaluate;
pub mod file_error;
pub mod jsonl;
pub mod memory;
pub mod metrics;
pub mod objective;
pub mod policy;
pub mod pretrain;
pub mod problem;
mod progress;
pub mod report;
pub mod reward;
pub mod rng;
pub mod rollout;
pub mod run;
pub mod rundir;
pub mod setup;
pub mod state;
pub mod step;
mod task_error;
pub mod tokenizer;
pub mod trainer;
pub mod verify;
pub use behaviour::{Behaviour, Verdicts};
pub use chain_sum::ChainSum;
pub use corpus::{Batch, Corpus, Example};
pub use countdown::{Countdown, CountdownConfig};
pub use jsonl::DataError;
pub use problem::{Problem, ProblemSet, TaskError};
pub use reward::{Accuracy, Combined, Format, Response, Reward};
pub use rng::Rng;
pub use tokenizer::{EncodeError, Tokenizer, TokenizerError, token};
