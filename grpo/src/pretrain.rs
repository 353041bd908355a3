//! Stage *base*: next-token prediction on the corpus.

use autograd::{Var, backward_parts};
use nn::{AdamW, DeepseekV3ForCausalLM, ForwardOptions};
use tensor::{CrossEntropy, DType, Reduction, Tensor};

use crate::config::BaseConfig;
use crate::example::{Batch, Example};
use crate::step::{Load, StepError, add_load, finite, load_ratios, micro_batches};

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

/// One optimizer step on examples with learning rate `lr`. Their loss is one mean, computed part by part.
///
/// # Errors
/// If the loss is not finite, or a parameter got no gradient or one that is not finite; nothing has changed then.
pub fn step(
    policy: &DeepseekV3ForCausalLM,
    optimizer: &mut AdamW,
    examples: &[Example],
    lr: f64,
    base: &BaseConfig,
) -> Result<BaseStep, StepError> {
    optimizer.zero_grad();
    let counted: usize = examples.iter().map(|e| e.loss_mask.iter().filter(|&&counts| counts).count()).sum();
    let all: Vec<usize> = (0..examples.len()).collect();
    let parts = micro_batches(&all, |i| examples[i].tokens.len());
    let done = backward_parts(&parts, |part| {
        let share = part.len() as f64 / examples.len() as f64;
        let batch = Batch::of(&part.iter().map(|&i| &examples[i]).collect::<Vec<_>>());
        part_loss(policy, &batch, counted, share * base.seq_aux_alpha)
    })?;
    let (mut loss, mut load) = (0.0, Load::new());
    for (part_loss, part_load) in done {
        loss += part_loss;
        add_load(&mut load, part_load);
    }
    let grad_norm = optimizer.step_clipped(lr, base.grad_clip)?;
    policy.update_bias(&load, base.bias_update_speed);
    let tokens = examples.iter().map(|e| e.tokens.len() as u64).sum();
    Ok(BaseStep { loss, grad_norm, expert_load: load_ratios(&load), tokens })
}

/// The loss of a part whose tokens weigh `1/counted` each, to be differentiated; its share of the mean, and the experts' loads.
fn part_loss(
    policy: &DeepseekV3ForCausalLM,
    batch: &Batch,
    counted: usize,
    balance_weight: f64,
) -> Result<(Var, (f64, Load)), StepError> {
    let (device, shape) = (policy.device(), [batch.rows, batch.width - 1]);
    let ids = Tensor::from_vec(batch.inputs(), shape, &device);
    let mask = ids.ne(crate::token::PAD);
    let options = ForwardOptions { mask: Some(&mask), balance_loss: balance_weight > 0.0, checkpoint: false };
    let out = policy.forward_with(&ids, &options);
    // Logits only where a label counts: the other positions have no part in the loss.
    let labels = batch.labels();
    let at: Vec<i64> = (0..labels.len()).filter(|&i| labels[i] != Batch::IGNORE_INDEX).map(|i| i as i64).collect();
    let labels: Vec<i64> = at.iter().map(|&i| labels[i as usize]).collect();
    let hidden = out.hidden.flatten(0, 1).index_select(0, &Tensor::from_slice(&at, at.len(), &device));
    let sum = CrossEntropy { reduction: Reduction::Sum, ..CrossEntropy::default() };
    let labels = Tensor::from_slice(&labels, labels.len(), &device);
    let loss = policy.logits(&hidden).to_dtype(DType::F32).cross_entropy(&labels, &sum).div(counted.max(1) as f64);
    let value = finite(&loss.value())?;
    let total = match &out.balance_loss {
        Some(balance) => loss.add(&balance.mul(balance_weight)),
        None => loss,
    };
    Ok((total, (value, out.expert_load)))
}
