//! Checking answers: exact arithmetic, bounded parsing, an error that says what was wrong, and never a panic.
//!
//! A verifier reads what a policy wrote, which is anything at all. Both parsers look at a bounded number of characters,
//! compute in exact rationals over checked `i128`, and refuse what they cannot compute.

mod expression;
mod numeric;
mod rational;

pub(crate) use expression::is_reachable;
pub use expression::{Expression, ExpressionError, Uses, check_expression};
pub use numeric::{NumberError, parse_number};
pub use rational::Rational;
