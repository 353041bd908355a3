//! Answers that a stage kept, for others to imitate.

use serde::{Deserialize, Serialize};

use crate::example::Example;
use crate::tokenizer::Tokenizer;

/// An answer that was kept: a line of a stage's `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The problem, as the model reads it.
    pub question: String,
    /// All that was written after `<think>`, up to and with the `<eos>`.
    pub response: String,
}

impl Kept {
    /// The example that it makes: everything after the prompt counts in the loss.
    ///
    /// # Panics
    /// If it was not written with this tokenizer.
    pub fn example(&self, tokenizer: &Tokenizer) -> Example {
        let prompt = tokenizer.encode(&format!("<bos>{}<think>", self.question)).expect("a problem of this run");
        let mut example = Example::of(prompt);
        example.push(tokenizer, &self.response, |_| true);
        example
    }
}
