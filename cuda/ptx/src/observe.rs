//! Seeing what happens inside a launch. What is not asked for costs nothing.
//!
//! This is a leaf: it knows numbers and names, and nothing of what runs. [`crate::Options`] carries the questions, a
//! [`Report`](crate::Report) the answers.

mod interrupt;

pub use interrupt::Interrupt;
