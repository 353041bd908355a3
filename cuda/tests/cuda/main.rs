//! The tests of the `cuda` crate that see it from outside, on the interpreted GPU; `SCRATCHWORK_DEVICE=cuda` takes a card.

mod allocator;
mod determinism;
mod faults;
mod gradients;
mod hidden;
#[path = "../../../autograd/tests/autograd/operations.rs"]
mod operations;
mod specs;
mod transfers;

use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tensor::{Device, Tensor};

/// The device under test; `seed` decides what a card leaves open.
fn device(seed: u64) -> Device {
    match std::env::var("SCRATCHWORK_DEVICE").as_deref() {
        Ok("cuda") => {
            static CARD: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
            CARD.get_or_init(|| cuda::device(0).unwrap_or_else(|e| panic!("{e}"))).clone()
        }
        _ => cuda::interpreted_with(cuda::Options::pedantic(seed)),
    }
}

/// The backend behind a device.
fn backend(device: &Device) -> &cuda::Cuda {
    device.backend().expect("a device of this crate")
}

/// [`opspec::holds`] on a device, with a seed of the interpreter for each case.
fn holds<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value, &Device) -> Result<(), String>) -> Result<(), String> {
    opspec::holds(cases, &(strategy, any::<u64>()), |(value, seed)| test(value, &device(seed)).map_err(TestCaseError::fail))
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
