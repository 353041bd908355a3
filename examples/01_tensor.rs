//! Tensors: views, broadcasting, dtypes, random numbers, and bits that do not depend on the batch.
//!
//! `cargo run --release --example 01_tensor` explains itself on stderr and prints one JSON line on stdout.

use std::process::ExitCode;

use scratchwork::grpo::console::{finish, say};
use scratchwork::tensor::{DType, Device, Generator, Tensor, bf16};
use serde_json::json;

fn main() -> ExitCode {
    let cpu = Device::cpu();

    // A view is arithmetic on shape, strides and offset: nothing is copied.
    let x = Tensor::arange(0, 12, 1, DType::F32, &cpu).reshape(&[3, 4]);
    let view = x.t().slice(0, 0, 4, 2); // columns 0 and 2, as rows
    let shared = x.storage().same(view.storage());
    say(format_args!("x =\n{x}\n\nits columns 0 and 2, as rows =\n{view}"));
    say(format_args!("strides {:?} and {:?}, the same memory: {shared}\n", x.strides(), view.strides()));

    // Sizes broadcast from the right as in NumPy: [3, 4] − [1, 4].
    let centred = &x - &x.mean(0, true);
    say(format_args!("x without its columns' means =\n{centred}\n"));

    // Dtypes promote as in PyTorch: a number takes the tensor's dtype, two integers divide to f32, a sum of booleans counts.
    let ids = Tensor::from_slice(&[3i64, 1, 2], 3, &cpu);
    let dtypes = [(&ids * 2).dtype(), (&ids / 2).dtype(), ids.gt(1).sum((), false).dtype()];
    say(format_args!("i64·2, i64/2 and the number of those above 1 are {dtypes:?}"));

    // Half types round after each operation; inside one (a sum, a product of matrices) they are accumulated in f32.
    let tenth = Tensor::full([1000], 0.1, DType::BF16, &cpu);
    let sum = tenth.sum((), false).item::<bf16>();
    say(format_args!("1000 · bf16(0.1) = {sum}, where adding one by one in bf16 would stop at 32"));

    // Random numbers are a function of seed and position: the same whatever the number of threads.
    let mut rng = Generator::new(7);
    let a = rng.normal([64, 300], 0.0, 1.0, DType::F32, &cpu);
    let w = rng.normal([300, 200], 0.0, 1.0, DType::F32, &cpu);

    // A row of a product has the same bits alone and within a batch: the order of its sums depends on k = 300 alone.
    let alone = a.narrow(0, 5, 1).matmul(&w).to_vec::<f32>();
    let together = a.matmul(&w).narrow(0, 5, 1).to_vec::<f32>();
    let batch_invariant = alone.iter().map(|x| x.to_bits()).eq(together.iter().map(|x| x.to_bits()));
    say(format_args!("row 5 of [64, 300]·[300, 200] has the same bits alone: {batch_invariant}"));

    assert!(shared && batch_invariant);
    finish(json!({ "view_shares_memory": shared, "bf16_sum": sum.to_f32(), "batch_invariant": batch_invariant }))
}
