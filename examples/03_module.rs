//! A module of your own: named parameters, AdamW, saving and loading.
//!
//! `cargo run --release --example 03_module` explains itself on stderr and prints one JSON line on stdout.

use std::process::ExitCode;

use scratchwork::autograd::Var;
use scratchwork::grpo::console::{exit, say};
use scratchwork::nn::{AdamW, AdamWConfig, Init, Linear, Module, Path, Visitor, load_tensors, save_tensors};
use scratchwork::tensor::{DType, Device, Generator, Tensor};
use serde_json::json;

struct Net {
    hidden: Linear,
    out: Linear,
}

impl Net {
    fn forward(&self, x: &Var) -> Var {
        self.out.forward(&self.hidden.forward(x).tanh())
    }
}

/// Visiting its parts by name is all that makes it a [`Module`]: names, checkpoints and `zero_grad` follow.
impl Module for Net {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.module("hidden", &self.hidden, f);
        path.module("out", &self.out, f);
    }
}

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let (cpu, mut rng) = (Device::cpu(), Generator::new(0));
    let init = &mut Init::normal(&mut rng, 0.5, DType::F32, &cpu);
    let net = Net { hidden: Linear::new(init, 2, 16, true), out: Linear::new(init, 16, 1, true) };
    net.named_parameters().iter().for_each(|(name, var)| say(format_args!("{name:14} {}", var.shape())));

    let x = Var::from(Tensor::from_slice(&[0.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], [4, 2], &cpu));
    let y = Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.0], [4, 1], &cpu); // exclusive or: no linear layer can do it
    let loss = || net.forward(&x).sub(&y).square().mean((), false);
    let mut adamw = AdamW::new(net.named_parameters(), AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() });
    for _ in 0..300 {
        adamw.zero_grad();
        loss().backward();
        adamw.step_clipped(0.03, 1.0)?;
    }
    let last = loss().value().item::<f32>();
    say(format_args!("loss {last:.1e}, answers {:.3?}", net.forward(&x).value().to_vec::<f32>()));

    // A parameter that no gradient reached is an error that names it, not a silence.
    adamw.zero_grad();
    net.hidden.forward(&x).sum((), false).backward();
    say(format_args!("with `out` left out of the loss: {}", adamw.step(0.03).expect_err("out.weight has no gradient")));

    let file = std::env::temp_dir().join(format!("scratchwork-03-{}.safetensors", std::process::id()));
    save_tensors(&file, &net.state_dict().into_iter().collect())?;
    let again = load_tensors(&file, &cpu)?;
    let equal = net.state_dict().iter().all(|(name, t)| again[name].to_bytes() == t.to_bytes());
    std::fs::remove_file(&file)?;
    Ok(json!({ "parameters": net.num_parameters(), "loss": last, "saved_equal": equal }))
}
