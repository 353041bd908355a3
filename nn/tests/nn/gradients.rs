//! Every module against difference quotients in f64, over random layouts, with and without checkpointing.

use crate::common::{bits, cpu, grad, ids, model, randomise_buffers, relayout, tiny};
use autograd::{Gradcheck, Var, checkpoint, gradcheck};
use nn::{Config, DeepseekV3ForCausalLM, Embedding, ForwardOptions, Init, Linear, Mla, Mlp, Module, Moe, RmsNorm, Rope};
use std::sync::Arc;
use tensor::{DType, Generator, Tensor};

/// Checks `forward` of the module that `make` makes, for its parameters and an input `x` of this shape.
fn check<M: Module + 'static>(
    make: impl Fn(&mut Init) -> M + Send + Sync + 'static,
    x: &[usize],
    forward: impl Fn(&M, &Var) -> Var + Send + Sync + 'static,
) {
    let device = cpu();
    for seed in 0..4 {
        let mut rng = Generator::new(seed);
        let fresh = make(&mut Init::normal(&mut rng, 0.5, DType::F64, &device));
        let mut inputs = vec![rng.normal(x, 0.0, 1.0, DType::F64, &device)];
        inputs.extend(fresh.named_parameters().iter().map(|(_, var)| var.value()));
        // Norms start at 1 and biases at 0: move them, and give everything some layout.
        let inputs: Vec<Tensor> = inputs
            .iter()
            .enumerate()
            .map(|(i, t)| relayout(&t.add(&rng.normal(t.shape().clone(), 0.0, 0.1, DType::F64, &device)), seed + i as u64))
            .collect();
        let (make, forward) = (&make, &forward);
        let run = move |vars: &[Var]| {
            let module = make(&mut Init::given(&vars[1..], DType::F64, &cpu()));
            randomise_buffers(&module, &mut Generator::new(9));
            forward(&module, &vars[0])
        };
        let settings = Gradcheck { samples: 24, seed, ..Gradcheck::default() };
        gradcheck(run, &inputs, &settings).unwrap();
    }
    let shared = Arc::new((make, forward));
    let (x, mut rng) = (x.to_vec(), Generator::new(7));
    let fresh = (shared.0)(&mut Init::normal(&mut rng, 0.5, DType::F64, &device));
    let mut inputs = vec![rng.normal(x, 0.0, 1.0, DType::F64, &device)];
    inputs.extend(fresh.named_parameters().iter().map(|(_, var)| var.value()));
    let run = move |vars: &[Var]| {
        let shared = shared.clone();
        let again = move |vars: &[Var]| (shared.1)(&(shared.0)(&mut Init::given(&vars[1..], DType::F64, &cpu())), &vars[0]);
        checkpoint(again, vars)
    };
    gradcheck(run, &inputs, &Gradcheck { samples: 12, ..Gradcheck::default() }).unwrap();
}

#[test]
fn linear_norm_and_mlp() {
    check(|init| Linear::new(init, 5, 4, true), &[2, 3, 5], |m, x| m.forward(x));
    check(|init| RmsNorm::new(init, 6, 1e-6), &[3, 6], |m, x| m.forward(x));
    check(|init| Mlp::new(init, 4, 7), &[2, 3, 4], |m, x| m.forward(x));
}

#[test]
fn embedding() {
    // The input only scales the rows, so that the check has one.
    check(|init| Embedding::new(init, 7, 3), &[2, 4, 1], |m, x| m.forward(&ids(3, [2, 4], 7)).mul(x));
}

#[test]
fn attention() {
    let rope = |c: &Config| Rope::new(c, DType::F64, &cpu());
    for config in [
        tiny(),
        Config { q_lora_rank: None, rope_interleave: false, ..tiny() },
        Config { attention_bias: true, num_attention_heads: 1, ..tiny() },
    ] {
        let (a, b) = (config.clone(), config);
        check(move |init| Mla::new(init, &a), &[2, 5, 8], move |m, x| m.forward(x, &rope(&b).first(5)));
    }
}

#[test]
fn experts() {
    for config in [
        tiny(),
        Config { norm_topk_prob: false, n_shared_experts: 0, n_group: 1, topk_group: 1, ..tiny() },
        Config { n_shared_experts: 2, scoring_func: nn::ScoringFunc::Softmax, routed_scaling_factor: 1.0, ..tiny() },
    ] {
        let again = config.clone();
        check(move |init| Moe::new(init, &config), &[2, 4, 8], |m, x| m.forward(x).0);
        // The gates' only other result.
        let gate_only = move |init: &mut Init| Moe::new(init, &again);
        check(gate_only, &[2, 4, 8], |m, x| {
            let (y, routing) = m.forward(x);
            routing.balance_loss(2, Some(&[true, true, true, false, true, true, false, true])).add(&y.sum((), false))
        });
    }
}

/// The loss of the whole model as a function of its parameters, prediction module and balance loss too.
#[test]
fn whole_model() {
    let config = Config { num_nextn_predict_layers: 1, ..tiny() };
    for (tied, recompute) in [(false, false), (true, true)] {
        let config = Config { tie_word_embeddings: tied, ..config.clone() };
        let fresh = model(config.clone(), 5, DType::F64);
        let inputs: Vec<Tensor> =
            fresh.named_parameters().iter().enumerate().map(|(i, (_, var))| relayout(&var.value(), i as u64)).collect();
        let tokens = ids(1, [2, 5], config.vocab_size);
        let run = |vars: &[Var]| {
            let model = DeepseekV3ForCausalLM::with_init(config.clone(), &mut Init::given(vars, DType::F64, &cpu())).unwrap();
            randomise_buffers(&model, &mut Generator::new(3));
            let options = ForwardOptions { checkpoint: recompute, balance_loss: true, mask: None };
            let out = model.forward_with(&tokens, &options);
            let (log_probs, _) = model.token_log_probs(&out.hidden, &tokens, 0.8);
            let mtp = model.mtp_loss(&tokens, &out.hidden).unwrap();
            log_probs.mean((), false).neg().add(&mtp.mul(0.3)).add(&out.balance_loss.unwrap().mul(0.1))
        };
        gradcheck(run, &inputs, &Gradcheck { samples: 6, ..Gradcheck::default() }).unwrap();
    }
}

#[test]
fn checkpointing_changes_no_bit() {
    let (tokens, mask) =
        (ids(2, [3, 7], 13), Tensor::from_vec((0..21).map(|i| i % 5 != 4).collect::<Vec<bool>>(), [3, 7], &cpu()));
    let run = |checkpoint: bool| {
        let model = model(tiny(), 8, DType::F32);
        let out = model.forward_with(&tokens, &ForwardOptions { checkpoint, mask: Some(&mask), balance_loss: true });
        let loss = model.logits(&out.hidden).square().mean((), false).add(&out.balance_loss.unwrap());
        loss.backward();
        let grads: Vec<Vec<u32>> = model.named_parameters().iter().map(|(_, var)| bits(&grad(var))).collect();
        (bits(&loss.value()), out.expert_load, grads)
    };
    let (plain, again) = (run(false), run(true));
    assert_eq!(plain, again);
    assert_eq!(plain.1.len(), 1);
    assert_eq!(plain.1[0].iter().sum::<u64>(), 2 * 17, "17 tokens of 21 count, two experts each");
}

/// An expert that saw no token has a gradient, of zeros.
#[test]
fn an_idle_expert_gets_zeros() {
    let model = model(tiny(), 4, DType::F32);
    let tokens = ids(2, [1, 1], 13);
    let out = model.forward_with(&tokens, &ForwardOptions::default());
    assert_eq!(out.expert_load[0].iter().filter(|&&n| n == 0).count(), 4, "one token uses two of six experts");
    model.logits(&out.hidden).sum((), false).backward();
    for (name, var) in model.named_parameters() {
        let zero = grad(&var).to_f64_vec().iter().all(|&g| g == 0.0);
        let expert = name.split_once(".experts.").map(|(_, rest)| rest.split('.').next().unwrap().parse::<usize>().unwrap());
        if let Some(e) = expert {
            assert_eq!(zero, out.expert_load[0][e] == 0, "{name}");
        }
    }
}
