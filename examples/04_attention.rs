//! Attention from primitives, the same fused, and decoding over a cache with the bits of the whole pass.
//!
//! `cargo run --release --example 04_attention` explains itself on stderr and prints one JSON line on stdout.

use std::process::ExitCode;

use scratchwork::grpo::console::{finish, say};
use scratchwork::tensor::{Attention, DType, Device, Generator, Tensor};
use serde_json::json;

/// Causal attention: `softmax(q·kᵀ/√dim, without later keys)·v`; all `[batch, heads, seq, dim]`.
fn from_primitives(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let scores = q.matmul(&k.t()) / (q.dim(-1) as f64).sqrt();
    let visible = Tensor::ones([q.dim(-2), k.dim(-2)], DType::Bool, q.device()).tril(0);
    Tensor::where_(&visible, &scores, f64::NEG_INFINITY).softmax(-1).matmul(v)
}

/// One query a step over a growing cache, as in generation.
fn decode(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Tensor {
    let (mut keys, mut values) = (k.zeros_like(), v.zeros_like()); // room for all, nothing in it
    let batch = q.dim(0);
    let steps: Vec<Tensor> = (0..q.dim(2))
        .map(|t| {
            let now = |x: &Tensor| x.narrow(2, t as isize, 1);
            keys.write_rows(&vec![t; batch], &now(k)); // each sequence writes at position t,
            values.write_rows(&vec![t; batch], &now(v));
            Tensor::attention_causal(&now(q), &keys, &values, Some(&vec![t + 1; batch]), scale).0 // and sees t + 1 keys
        })
        .collect();
    Tensor::cat(&steps, 2)
}

fn main() -> ExitCode {
    let cpu = Device::cpu();
    let mut rng = Generator::new(0);
    let [q, k, v] = std::array::from_fn(|_| rng.normal([2, 4, 50, 16], 0.0, 1.0, DType::F32, &cpu));
    let scale = 0.25; // 1/√16

    let plain = from_primitives(&q, &k, &v);
    let causal = Attention { is_causal: true, ..Attention::default() };
    let general = Tensor::scaled_dot_product_attention(&q, &k, &v, &causal);
    let (fused, lse) = Tensor::attention_causal(&q, &k, &v, None, scale);
    let difference = |x: &Tensor| (x - &plain).abs().amax((), false).item::<f32>();
    say(format_args!("output {}, log-sum-exp of the scores {}", fused.shape(), lse.shape()));
    say(format_args!(
        "largest difference from the primitives: general {:.1e}, fused {:.1e}",
        difference(&general),
        difference(&fused)
    ));

    // Another order of summation, another rounding; but a cache changes no order.
    let equal = decode(&q, &k, &v, scale).to_bytes() == fused.to_bytes();
    say(format_args!("50 decoding steps over a cache give the bits of the whole pass: {equal}"));

    assert!(equal && difference(&fused) < 1e-5);
    finish(json!({ "fused_max_abs": difference(&fused), "cache_bit_equal": equal }))
}
