//! The tests of the `cuda` crate that see it from outside, on the interpreted GPU; `SCRATCHWORK_DEVICE=cuda` takes a card.

mod allocator;
mod determinism;
mod driver;
mod faults;
mod gradients;
mod mutants;
#[path = "../../../autograd/tests/autograd/operations.rs"]
mod operations;
mod specs;
mod transfers;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tensor::{Device, Tensor};

/// The device under test; `seed` decides what a card leaves open.
fn device(seed: u64) -> Device {
    match std::env::var("SCRATCHWORK_DEVICE").as_deref() {
        Ok("cuda") => {
            static CARD: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
            CARD.get_or_init(|| cuda::device(0).unwrap_or_else(|e| panic!("{e}"))).clone()
        }
        _ => cuda::interpreted_with(cuda::Options { seed, ..cuda::Options::default() }),
    }
}

/// The backend behind a device.
fn backend(device: &Device) -> &cuda::Cuda {
    device.backend().expect("a device of this crate")
}

/// Runs a property over `cases` draws of a strategy and a seed of the interpreter; the failure is shrunk and told. The draws are
/// the same every time unless `PROPTEST_RNG_SEED` says otherwise, and `PROPTEST_CASES` makes more of them. A panic is a failure.
fn holds<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value, &Device) -> Result<(), String>) -> Result<(), String>
where
    S::Value: std::fmt::Debug,
{
    let from_environment = Config::default();
    let config = Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { from_environment.cases } else { cases },
        rng_seed: match from_environment.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            fixed => fixed,
        },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..from_environment
    };
    let run = |(value, seed)| match catch_unwind(AssertUnwindSafe(|| test(value, &device(seed)))) {
        Ok(result) => result.map_err(TestCaseError::fail),
        Err(panic) => Err(TestCaseError::fail(format!("panicked: {}", text_of(&*panic)))),
    };
    TestRunner::new(config).run(&(strategy, any::<u64>()), run).map_err(|e| e.to_string())
}

/// What a panic said.
fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
    text.unwrap_or_default()
}

/// `f`'s panic, which must come.
fn panic_of(f: impl FnOnce()) -> String {
    text_of(&*catch_unwind(AssertUnwindSafe(f)).expect_err("a panic"))
}

/// Values that tell one place from another.
fn counting(shape: &[usize], device: &Device) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 16.0 - 3.0).collect();
    Tensor::from_slice(&values, shape, device)
}
