//! PTX text to syntax tree: [`lexer`] cuts, [`parser`] shapes, [`ast`] holds. Nothing here knows what an opcode means.

pub mod ast;
mod body;
mod constant;
pub mod lexer;
pub mod parser;

use std::fmt;

/// One thing wrong with a PTX file, at its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Error {
    /// Name of the PTX file as the caller gave it.
    pub file: String,
    /// Line in that file, from 1.
    pub line: u32,
    /// What is wrong, naming the culprit.
    pub message: String,
}

/// All that is wrong with a PTX file, in order of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            write!(f, "{}{e}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
