//! A step of pre-training against the definition of its loss.

use grpo::config::BaseConfig;
use grpo::config::RunConfig;
use grpo::{Corpus, Example, pretrain, setup};
use nn::Module;
use tensor::{DType, Device, Tensor};

use crate::common::{adamw, bits, copy_of, model};

fn examples(steps: u64) -> Vec<Example> {
    let problems = setup::pools(&RunConfig::default()).unwrap();
    let config = BaseConfig { batch_size: 24, long_every: 2, long_batch_size: 12, ..BaseConfig::default() };
    let corpus = Corpus::new(&config, &problems, 0);
    (0..steps).flat_map(|step| corpus.examples(step)).collect()
}

fn config() -> BaseConfig {
    BaseConfig { grad_clip: 1e9, weight_decay: 0.0, ..BaseConfig::default() }
}

fn norm(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).square().sum((), false).item::<f64>().sqrt()
}

#[test]
fn the_loss_is_the_mean_over_the_tokens_that_count() {
    let (policy, examples) = (model(2), examples(3));
    let lengths: usize = examples.iter().map(|e| e.tokens.len()).sum();
    assert!(lengths > 4096, "{lengths} tokens fit in one part");
    // Example by example: minus the log-probability of each token that counts, over their number.
    let whole = copy_of(&policy);
    let counted = examples.iter().flat_map(|e| &e.loss_mask).filter(|&&counts| counts).count();
    let mut loss = 0.0;
    for Example { tokens, loss_mask } in &examples {
        let ids = Tensor::from_slice(tokens, [1, tokens.len()], &Device::cpu());
        let (logp, _) = whole.log_probs(&ids, 1.0);
        let weights: Vec<f32> = loss_mask[1..].iter().map(|&counts| if counts { -1.0 / counted as f32 } else { 0.0 }).collect();
        let part = logp.mul(&Tensor::from_slice(&weights, [1, weights.len()], &Device::cpu())).sum((), false);
        loss += part.value().to_f64_vec()[0];
        part.backward();
    }
    let made = pretrain::step(&policy, &mut adamw(&policy), &examples, 1e-3, &config()).unwrap();
    // Each is a sum over the tokens, in another order: n·u of what is added up, of one sign in the loss.
    let bound = lengths as f64 * f64::from(f32::EPSILON) / 2.0;
    assert!((made.loss - loss).abs() <= bound * loss, "{} and {loss}", made.loss);
    let total = whole.named_parameters().iter().map(|(_, p)| norm(&p.grad().unwrap()).powi(2)).sum::<f64>().sqrt();
    assert!((made.grad_norm - total).abs() <= bound * total, "{} and {total}", made.grad_norm);
    for ((name, p), (_, q)) in policy.named_parameters().iter().zip(whole.named_parameters()) {
        let difference = norm(&p.grad().unwrap().sub(&q.grad().unwrap()));
        assert!(difference <= bound * total, "{name}: {difference} of {total}");
    }
    assert_eq!(made.tokens, lengths as u64);
}

#[test]
fn a_step_teaches_and_moves_the_routers_bias() {
    let (policy, examples, config) = (model(2), examples(1), config());
    let mut optimizer = adamw(&policy);
    let bias = |of: &nn::DeepseekV3ForCausalLM| -> Vec<f32> {
        let all = of.state_dict();
        all.iter().find(|(name, _)| name.ends_with("e_score_correction_bias")).unwrap().1.to_vec()
    };
    assert!(bias(&policy).iter().all(|&b| b == 0.0));
    let mut step = || pretrain::step(&policy, &mut optimizer, &examples, 3e-3, &config).unwrap();
    let losses: Vec<f64> = (0..6).map(|_| step().loss).collect();
    assert!(losses.windows(2).all(|w| w[1] < w[0]), "{losses:?}");
    assert!(bias(&policy).iter().any(|&b| b > 0.0) && bias(&policy).iter().any(|&b| b < 0.0));
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let policy = model(2);
    let (_, weight) = policy.named_parameters().pop().unwrap();
    weight.set_value(weight.value().mul(f64::NAN));
    let before = bits(&policy);
    let mut optimizer = adamw(&policy);
    let error = pretrain::step(&policy, &mut optimizer, &examples(1), 1e-3, &config()).unwrap_err();
    assert_eq!(error.to_string(), "the loss is NaN");
    assert_eq!((optimizer.steps(), bits(&policy)), (0, before));
}
