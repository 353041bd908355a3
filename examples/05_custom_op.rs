//! An operation of your own with its gradient, checked against differences.
//!
//! `cargo run --release --example 05_custom_op` explains itself on stderr and prints one JSON line on stdout.

use std::process::ExitCode;

use scratchwork::autograd::{Gradcheck, Var, gradcheck};
use scratchwork::grpo::console::{finish, say};
use scratchwork::tensor::{DType, Device, Generator, Tensor};
use serde_json::json;

/// Soft capping of logits (as in Gemma 2): `cap·tanh(x/cap)`, whose slope is `1 − (y/cap)²`.
fn softcap(x: &Var, cap: f64) -> Var {
    let y = (x.value() / cap).tanh() * cap;
    let saved = y.clone(); // a shared handle: the rule keeps the result, which is cheaper than tanh again
    Var::op("softcap", y, [x], move |grad, _needs| {
        let slope = (&saved / cap).square().neg() + 1.0;
        [Some(grad * &slope)]
    })
}

/// The same with a wrong rule: the slope at 0 everywhere.
fn wrong_softcap(x: &Var, cap: f64) -> Var {
    let y = (x.value() / cap).tanh() * cap;
    Var::op("wrong_softcap", y, [x], |grad, _needs| [Some(grad.clone())])
}

fn main() -> ExitCode {
    let cpu = Device::cpu();
    // A transposed slice: a rule must be right for any layout.
    let x = Generator::new(0).normal([6, 5], 0.0, 3.0, DType::F64, &cpu).t().slice(1, 0, 6, 2);
    let settings = Gradcheck::default();

    let right = gradcheck(|v| softcap(&v[0], 2.0), std::slice::from_ref(&x), &settings);
    let wrong = gradcheck(|v| wrong_softcap(&v[0], 2.0), std::slice::from_ref(&x), &settings);
    say(format_args!("softcap over {} values: {right:?}", x.numel()));
    say(format_args!("wrong_softcap: {}", wrong.as_ref().expect_err("the rule is wrong")));

    // It composes with everything else: a parameter below it is trained through it.
    let w = Var::parameter(Tensor::from_slice(&[0.5f32, 4.0], 2, &cpu));
    softcap(&w, 2.0).sum((), false).backward();
    let gradient = w.grad().expect("w is in the sum").to_vec::<f32>();
    say(format_args!("slopes at 0.5 and 4: {gradient:.4?}"));

    assert!(right.is_ok() && wrong.is_err());
    finish(json!({ "gradcheck": right.is_ok(), "planted_error_found": wrong.is_err(), "slopes": gradient }))
}
