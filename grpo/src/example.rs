//! Sequences to learn from by imitation, alone and side by side.

use crate::tokenizer::{Tokenizer, token};

/// A sequence to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The prompt and what follows.
    pub tokens: Vec<i64>,
    /// For each token whether predicting it counts in the loss. The prompt's tokens never do.
    pub loss_mask: Vec<bool>,
}

impl Example {
    /// The prompt alone, nothing to learn yet.
    pub fn of(prompt: Vec<i64>) -> Example {
        Example { loss_mask: vec![false; prompt.len()], tokens: prompt }
    }

    /// Appends `text`; `counts` says of its `i`th token whether it counts in the loss.
    ///
    /// # Panics
    /// If the text has a character without a token: a task names all that it writes ([`Task::alphabet`](crate::task::Task::alphabet)).
    pub fn push(&mut self, tokenizer: &Tokenizer, text: &str, counts: impl Fn(usize) -> bool) {
        let tokens = tokenizer.encode(text).expect("a task writes only the characters that it names");
        self.loss_mask.extend((0..tokens.len()).map(counts));
        self.tokens.extend(tokens);
    }
}

/// Examples side by side, padded to the right with `<pad>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many examples.
    pub rows: usize,
    /// The length of the longest.
    pub width: usize,
    /// Token ids, `[rows, width]`.
    pub ids: Vec<i64>,
    /// Whether a token counts in the loss, `[rows, width]`.
    pub loss_mask: Vec<bool>,
}

impl Batch {
    /// The label that cross-entropy ignores by default, as in PyTorch.
    pub const IGNORE_INDEX: i64 = -100;

    /// Pads `examples` to the longest.
    pub fn of(examples: &[&Example]) -> Batch {
        let width = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let mut batch = Batch { rows: examples.len(), width, ids: Vec::new(), loss_mask: Vec::new() };
        for example in examples {
            let padding = width - example.tokens.len();
            batch.ids.extend(example.tokens.iter().chain(std::iter::repeat_n(&token::PAD, padding)));
            batch.loss_mask.extend(example.loss_mask.iter().chain(std::iter::repeat_n(&false, padding)));
        }
        batch
    }

    /// What the model reads, `[rows, width - 1]`: every token but the last.
    pub fn inputs(&self) -> Vec<i64> {
        let rows = self.ids.chunks_exact(self.width.max(1));
        rows.flat_map(|row| &row[..row.len() - 1]).copied().collect()
    }

    /// What it should say next, `[rows, width - 1]`: every token but the first, [`IGNORE_INDEX`](Self::IGNORE_INDEX) where it
    /// does not count.
    pub fn labels(&self) -> Vec<i64> {
        let rows = self.ids.chunks_exact(self.width.max(1)).zip(self.loss_mask.chunks_exact(self.width.max(1)));
        let label = |(&id, &counts): (&i64, &bool)| if counts { id } else { Self::IGNORE_INDEX };
        rows.flat_map(|(ids, mask)| ids[1..].iter().zip(&mask[1..]).map(label)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_padded_and_shifted() {
        let example = |tokens: &[i64], mask: &[bool]| Example { tokens: tokens.into(), loss_mask: mask.into() };
        let examples = [example(&[1, 9, 2, 8], &[false, false, true, true]), example(&[1, 7], &[false, true])];
        let batch = Batch::of(&[&examples[0], &examples[1]]);
        assert_eq!((batch.rows, batch.width, batch.loss_mask.iter().filter(|&&counts| counts).count()), (2, 4, 3));
        assert_eq!(batch.ids, [1, 9, 2, 8, 1, 7, 0, 0]);
        assert_eq!(batch.inputs(), [1, 9, 2, 1, 7, 0]);
        assert_eq!(batch.labels(), [-100, 2, 8, 7, -100, -100]);
        let empty = Batch::of(&[]);
        assert_eq!((empty.rows, empty.width, empty.inputs(), empty.labels()), (0, 0, vec![], vec![]));
    }
}
