//! Problems, rewards, rollouts and Group Relative Policy Optimization.

pub mod arithmetic;
pub mod behaviour;
pub mod chain_sum;
pub mod countdown;
pub mod eval_stats;
pub mod jsonl;
pub mod problem;
pub mod reward;
pub mod rng;
pub mod tokenizer;
pub mod verify;
pub use behaviour::{Behaviour, Verdicts};
pub use chain_sum::{ChainSum, ChainSumConfig};
pub use countdown::{Countdown, CountdownConfig};
pub use jsonl::DataError;
pub use problem::{HeldOutConfig, Problem, ProblemSet, Question, TaskError};
pub use reward::{Accuracy, Combined, Completion, Format, Reward};
pub use rng::Rng;
pub use tokenizer::{EncodeError, Tokenizer, TokenizerError, token};
