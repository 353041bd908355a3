//! The integration tests of the crate, in one binary.

mod engine;
mod operations;
mod rules;
mod specs;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message of the panic of `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("expected a panic"),
        Err(p) => p.downcast_ref::<String>().cloned().or(p.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default(),
    }
}

/// Runs a property over `cases` draws of a strategy; a failure, a panic too, is shrunk and told. The draws are the same every
/// time unless `PROPTEST_RNG_SEED` says otherwise, and `PROPTEST_CASES` makes more of them.
fn holds<T: Debug>(cases: u32, strategy: &BoxedStrategy<T>, check: fn(T) -> Result<(), TestCaseError>) -> Result<(), String> {
    let from_environment = Config::default();
    let config = Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { from_environment.cases } else { cases },
        rng_seed: match from_environment.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            fixed => fixed,
        },
        failure_persistence: None,
        ..from_environment
    };
    TestRunner::new(config).run(strategy, check).map_err(|e| e.to_string())
}
