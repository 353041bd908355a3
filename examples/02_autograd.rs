//! Reverse-mode autodiff: a gradient against the one worked out by hand, gradient descent, checkpointing.
//!
//! `cargo run --release --example 02_autograd` explains itself on stderr and prints one JSON line on stdout.

use std::process::ExitCode;

use scratchwork::autograd::{Var, checkpoint, no_grad};
use scratchwork::grpo::console::{finish, say};
use scratchwork::tensor::{DType, Device, Generator, Tensor};
use serde_json::json;

fn main() -> ExitCode {
    let cpu = Device::cpu();
    let mut rng = Generator::new(0);
    // y = X·[2, −3, 1] and a little noise; X is [50, 3].
    let truth = Tensor::from_slice(&[2.0f32, -3.0, 1.0], [3, 1], &cpu);
    let x = rng.normal([50, 3], 0.0, 1.0, DType::F32, &cpu);
    let y = x.matmul(&truth) + &rng.normal([50, 1], 0.0, 0.01, DType::F32, &cpu);

    // Only what a parameter goes into is recorded; x and y are constants.
    let w = Var::parameter(Tensor::zeros([3, 1], DType::F32, &cpu));
    let (x_var, y_var) = (Var::from(&x), Var::from(&y));
    let loss = |w: &Var| x_var.matmul(w).sub(&y_var).square().mean((), false);

    // The gradient of mean (Xw − y)² is 2/n · Xᵀ(Xw − y).
    loss(&w).backward();
    let gradient = w.grad().expect("w is in the loss");
    let by_hand = x.t().matmul(&(x.matmul(&w.value()) - &y)) * (2.0 / 50.0);
    let difference = (&gradient - &by_hand).abs().amax((), false).item::<f32>();
    say(format_args!("gradient {:?}\nby hand  {:?}\n", gradient.to_vec::<f32>(), by_hand.to_vec::<f32>()));

    // Backward passes add up, as in PyTorch, until zero_grad: so large batches can be cut in parts.
    loss(&w).backward();
    let doubled = w.grad().expect("w is in the loss").to_vec::<f32>() == (&gradient * 2.0).to_vec::<f32>();

    for _ in 0..100 {
        w.zero_grad();
        loss(&w).backward();
        w.set_value(w.value() - &(w.grad().expect("w is in the loss") * 0.1));
    }
    let found = w.value().to_vec::<f32>();
    say(format_args!(
        "after 100 steps of gradient descent w = {found:.3?}, loss {:.6}",
        no_grad(|| loss(&w)).value().item::<f32>()
    ));

    // A checkpoint keeps its input and computes the rest again in the backward pass. The bits are the same.
    let deep = |x: &Var| (0..4).fold(x.clone(), |h, _| h.mul(1.5).tanh());
    let gradient_of = |f: &dyn Fn(&Var) -> Var| {
        w.zero_grad();
        f(&w).sum((), false).backward();
        w.grad().expect("w is in the sum").to_vec::<f32>()
    };
    let same_bits = gradient_of(&deep) == gradient_of(&|w| checkpoint(move |inputs| deep(&inputs[0]), std::slice::from_ref(w)));
    say(format_args!("gradients add up: {doubled}; with and without a checkpoint they are equal: {same_bits}"));

    assert!(difference < 1e-5 && doubled && same_bits);
    finish(json!({ "by_hand_max_abs": difference, "w": found, "checkpoint_equal": same_bits }))
}
