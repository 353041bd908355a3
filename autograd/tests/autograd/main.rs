//! The integration tests of the crate, in one binary.

#[path = "../../../tensor/tests/tensor/blame.rs"]
mod blame;
mod engine;
mod misuse;
mod operations;
mod rules;
mod specs;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message of the panic of `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("expected a panic"),
        Err(p) => p.downcast_ref::<String>().cloned().or(p.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default(),
    }
}
