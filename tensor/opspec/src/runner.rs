//! Running properties.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// Runs a property over `cases` draws of a strategy; a failure, a panic too, is shrunk. The draws are the same every time unless
/// `PROPTEST_RNG_SEED` says otherwise, and `PROPTEST_CASES` makes more of them.
///
/// # Errors
/// The smallest case found that fails, and how.
pub fn holds<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) -> Result<(), String> {
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
