//! The tests of the `tensor` crate that see it from outside.

mod casts;
mod checker;
mod determinism;
mod display;
mod fused;
mod index;
mod isa;
mod misuse;
mod promotion;
mod specs;
mod views;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Runs a property over `cases` draws of a strategy; the failure is shrunk and told. The draws are the same every time unless
/// `PROPTEST_RNG_SEED` says otherwise, and `PROPTEST_CASES` makes more of them.
fn holds<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) -> Result<(), String>
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
        ..from_environment
    };
    TestRunner::new(config).run(&strategy, test).map_err(|e| e.to_string())
}
