//! What follows from a module's names: each parameter once, whatever the number of its names.

use crate::common::{cpu, grad, model, tiny};
use autograd::Var;
use nn::{AdamW, AdamWConfig, Buffer, Config, Module, Path, Visitor, clip_grad_norm, grad_norm};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tensor::{DType, Tensor};

/// Parameters and a buffer under whatever names.
struct Named {
    parameters: Vec<(&'static str, Var)>,
    buffers: Vec<(&'static str, Buffer)>,
}

impl Module for Named {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        self.parameters.iter().for_each(|(name, var)| path.parameter(name, var, f));
        self.buffers.iter().for_each(|(name, buffer)| path.buffer(name, buffer, f));
    }
}

fn parameter(value: f32) -> Var {
    Var::parameter(Tensor::from_slice(&[value], 1, &cpu()))
}

/// 3 as `in` and `out`, 4 as `between`, and a buffer of two names.
fn tied() -> Named {
    let (shared, other, buffer) = (parameter(3.0), parameter(4.0), Buffer::new(Tensor::zeros(2, DType::F32, &cpu())));
    Named {
        parameters: vec![("in", shared.clone()), ("between", other), ("out", shared.clone()), ("in", shared)],
        buffers: vec![("load", buffer.clone()), ("load_too", buffer)],
    }
}

const PLAIN: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decay_matrices_only: false };

#[test]
fn a_parameter_with_two_names_is_one_parameter() {
    let module = tied();
    let walked = module.walk();
    let names: Vec<_> = walked.iter().map(|named| (&*named.name, &named.tied_names[..])).collect();
    let tied_names = [vec!["out".to_owned()], vec![], vec!["load_too".to_owned()]];
    assert_eq!(names, [("in", &tied_names[0][..]), ("between", &tied_names[1][..]), ("load", &tied_names[2][..])]);
    assert_eq!(module.named_parameters().iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["in", "between"]);
    assert_eq!(module.state_dict().iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["in", "between", "load"]);
    assert_eq!(module.num_parameters(), 2);
}

/// With the loss in·out, 3² and the gradient 6. Adam's first step is the rate, in the direction of the sign.
#[test]
fn a_parameter_with_two_names_is_stepped_clipped_and_counted_once() {
    let w = tied().parameters.swap_remove(0).1;
    let list = || vec![("in".to_owned(), w.clone()), ("out".to_owned(), w.clone())];
    let module = Named { parameters: vec![("in", w.clone()), ("out", w.clone())], buffers: vec![] };
    // A module's own list, and one made by hand, of two modules that share it.
    for parameters in [module.named_parameters(), list()] {
        w.set_value(Tensor::from_slice(&[3.0f32], 1, &cpu()));
        w.zero_grad();
        w.mul(&w).backward();
        let mut adamw = AdamW::new(parameters, PLAIN);
        assert_eq!(adamw.step_clipped(0.5, 1e9).unwrap(), 6.0);
        assert_eq!(w.value().to_vec::<f32>(), [2.5]);
        let state: Vec<String> = adamw.state_dict().into_keys().collect();
        assert_eq!(state, ["in.exp_avg", "in.exp_avg_sq", "step"]);
    }
    assert_eq!(grad_norm(list().iter().map(|(name, var)| (&**name, var))).unwrap(), 6.0);
    assert_eq!(clip_grad_norm(&list(), 3.0).unwrap(), 6.0);
    assert_eq!(grad(&w).to_vec::<f32>(), [3.0]);
    module.zero_grad();
    assert!(w.grad().is_none());
}

#[test]
fn two_parameters_of_one_name_are_refused_where_they_would_overwrite_each_other() {
    let said = |f: &dyn Fn()| {
        let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("two of one name were accepted");
        *payload.downcast::<String>().unwrap()
    };
    let twice = Named { parameters: vec![("w", parameter(1.0)), ("v", parameter(1.0)), ("w", parameter(1.0))], buffers: vec![] };
    let of_both_kinds = Named {
        parameters: vec![("w", parameter(1.0))],
        buffers: vec![("w", Buffer::new(Tensor::zeros(1, DType::F32, &cpu())))],
    };
    // A parameter's second name may not be another's, either.
    let mut borrowed = tied();
    borrowed.parameters.push(("out", parameter(5.0)));
    for (module, name) in [(&twice, "w"), (&of_both_kinds, "w"), (&borrowed, "out")] {
        let expected = format!("walk: two different parameters or buffers have the name `{name}`");
        assert_eq!(said(&|| drop(module.state_dict())), expected);
        assert_eq!(said(&|| drop(module.named_parameters())), expected);
        assert_eq!(said(&|| assert_eq!(module.num_parameters(), 0)), expected);
        assert_eq!(said(&|| module.zero_grad()), expected);
    }
    let list = twice.parameters.iter().map(|(name, var)| (name.to_string(), var.clone())).collect::<Vec<_>>();
    assert!(said(&|| drop(AdamW::new(list.clone(), PLAIN))).starts_with("AdamW: two different"));
}

#[test]
fn a_tied_head_is_a_second_name_of_the_embedding() {
    let of = |tie_word_embeddings| model(Config { tie_word_embeddings, ..tiny() }, 1, DType::F32);
    let (tied, free) = (of(true), of(false));
    let walked = tied.walk();
    let embedding = &walked[0];
    assert_eq!((&*embedding.name, &embedding.tied_names[..]), ("model.embed_tokens.weight", &["lm_head.weight".to_owned()][..]));
    assert!(walked[1..].iter().all(|named| named.tied_names.is_empty()) && free.walk().iter().all(|n| n.tied_names.is_empty()));
    assert_eq!(tied.num_parameters() + 13 * 8, free.num_parameters());
    assert_eq!(tied.num_parameters() as u64, tied.config().num_parameters());
    // One step moves it once: a gradient of both uses, one pair of moments.
    tied.loss(&crate::common::ids(3, [2, 5], 13)).backward();
    let (before, mut adamw) = (tied.state_dict()[0].1.to_vec::<f32>(), AdamW::new(tied.named_parameters(), PLAIN));
    adamw.step(0.01).unwrap();
    let after = tied.state_dict()[0].1.to_vec::<f32>();
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 0.01 + 1e-6) && before != after);
}
