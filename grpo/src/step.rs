//! What a training step of any stage needs: how it is cut into parts, what may fail, what the experts got.

use nn::OptimError;
use tensor::Tensor;

use crate::rollout::RolloutError;

/// Why a step of training failed. Its optimizer step was not made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each passes on an error that explains itself
pub enum StepError {
    #[error(transparent)]
    Optim(#[from] OptimError),
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    #[error("the loss is {0}")]
    Loss(f64),
}

/// The value of a loss, before anything is done with its gradient.
///
/// # Errors
/// It is NaN or infinite.
pub fn finite(loss: &Tensor) -> Result<f64, StepError> {
    let value = loss.to_f64_vec()[0];
    if value.is_finite() { Ok(value) } else { Err(StepError::Loss(value)) }
}

/// How many tokens each expert of each mixture layer got.
pub(crate) type Load = Vec<Vec<u64>>;

/// The busiest expert's load over the mean load, per layer.
pub fn load_ratios(load: &[Vec<u64>]) -> Vec<f64> {
    let ratio = |layer: &Vec<u64>| {
        let (max, sum) = (layer.iter().max().copied().unwrap_or(0), layer.iter().sum::<u64>());
        if sum == 0 { 0.0 } else { max as f64 * layer.len() as f64 / sum as f64 }
    };
    load.iter().map(ratio).collect()
}

/// Padded tokens that go through the model at once: few enough that the activations of a thread's part stay in its core's cache.
pub(crate) const MICRO_BATCH_TOKENS: usize = 1024;

/// Sequences in parts of similar lengths, so that little is padded; the indices of each part, and lengths given by `len`.
pub(crate) fn micro_batches(which: &[usize], len: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    let mut by_length = which.to_vec();
    by_length.sort_by_key(|&i| (len(i), i));
    let mut parts: Vec<Vec<usize>> = Vec::new();
    for i in by_length {
        match parts.last_mut() {
            // Ascending: the newcomer is the longest and sets the width.
            Some(part) if (part.len() + 1) * len(i) <= MICRO_BATCH_TOKENS => part.push(i),
            _ => parts.push(vec![i]),
        }
    }
    parts
}

/// Adds the experts' loads of one pass to those of others.
pub(crate) fn add_load(sum: &mut Load, load: Load) {
    if sum.is_empty() {
        *sum = load;
    } else {
        sum.iter_mut().zip(load).for_each(|(s, l)| s.iter_mut().zip(l).for_each(|(s, l)| *s += l));
    }
}
