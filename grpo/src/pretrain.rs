//! Stage *base*: next-token prediction on the corpus.

use nn::{AdamW, DeepseekV3ForCausalLM, ForwardOptions, OptimError};
use tensor::{CrossEntropy, DType, Tensor};

use crate::config::{BaseConfig, ModelConfig};
use crate::corpus::Batch;

/// What a step of pre-training did.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseStep {
    /// Mean cross-entropy of the tokens that count.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// For each mixture layer the busiest expert's load over the mean.
    pub expert_load: Vec<f64>,
    /// Tokens read, padding not counted.
    pub tokens: u64,
}

/// The busiest expert's load over the mean load, a layer.
pub fn load_ratios(load: &[Vec<u64>]) -> Vec<f64> {
    let ratio = |layer: &Vec<u64>| {
        let (max, sum) = (layer.iter().max().copied().unwrap_or(0), layer.iter().sum::<u64>());
        if sum == 0 { 0.0 } else { max as f64 * layer.len() as f64 / sum as f64 }
    };
    load.iter().map(ratio).collect()
}

/// One optimizer step on a batch with learning rate `lr`.
///
/// # Errors
/// If a parameter got no gradient, or one that is not finite; nothing has changed then.
pub fn step(
    policy: &DeepseekV3ForCausalLM,
    optimizer: &mut AdamW,
    batch: &Batch,
    lr: f64,
    base: &BaseConfig,
    model: &ModelConfig,
) -> Result<BaseStep, OptimError> {
    let (device, shape) = (policy.device(), [batch.rows, batch.width - 1]);
    let ids = Tensor::from_vec(batch.inputs(), shape, &device);
    let mask = ids.ne(crate::token::PAD);
    let options = ForwardOptions { mask: Some(&mask), balance_loss: model.seq_aux_alpha > 0.0, checkpoint: false };
    let out = policy.forward_with(&ids, &options);
    // Logits only where a label counts: the other positions have no part in the loss.
    let labels = batch.labels();
    let counted: Vec<i64> = (0..labels.len()).filter(|&i| labels[i] != Batch::IGNORE_INDEX).map(|i| i as i64).collect();
    let labels: Vec<i64> = counted.iter().map(|&i| labels[i as usize]).collect();
    let hidden = out.hidden.flatten(0, 1).index_select(0, &Tensor::from_slice(&counted, counted.len(), &device));
    let labels = Tensor::from_slice(&labels, labels.len(), &device);
    let loss = policy.logits(&hidden).to_dtype(DType::F32).cross_entropy(&labels, &CrossEntropy::default());
    let value = loss.value().to_f64_vec()[0];
    let total = match &out.balance_loss {
        Some(balance) => loss.add(&balance.mul(model.seq_aux_alpha)),
        None => loss,
    };
    optimizer.zero_grad();
    total.backward();
    let grad_norm = optimizer.step_clipped(lr, base.grad_clip)?;
    policy.update_bias(&out.expert_load, model.bias_update_speed);
    let tokens = mask.to_dtype(DType::I64).sum((), false).item::<i64>() as u64;
    Ok(BaseStep { loss: value, grad_norm, expert_load: load_ratios(&out.expert_load), tokens })
}
