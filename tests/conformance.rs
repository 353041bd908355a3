//! PyTorch's own operator cases, forward and gradients: the suite that `examples/op_conformance` runs.

#[path = "../examples/op_conformance/suite/mod.rs"]
mod suite;

use std::path::Path;
use suite::{Suite, SuiteError, Verdict};

#[test]
fn every_case_of_pytorch_passes() {
    let suite = Suite::load(Path::new("tests/fixtures/opinfo_f32")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(suite.cases().count(), 580);
    let wrong: Vec<String> = suite
        .cases()
        .filter_map(|case| match suite.run(case) {
            Verdict::Passed => None,
            other => Some(format!("{}: {other:?}", case.id)),
        })
        .collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
