//! Every operation held to its specification, in every dtype it takes.

use opspec::{Case, Spec, holds};
use proptest::prelude::*;
use tensor::{DType, Device};

fn check(case: Case) -> Result<(), TestCaseError> {
    case.verify(&Device::cpu()).map_err(|e| TestCaseError::fail(e.to_string()))
}

/// All specifications that take a dtype, each over many cases; says every one that fails.
fn all_hold(dtype: DType, cases: u32) {
    let specs: Vec<Spec> = opspec::all().into_iter().filter(|s| s.dtypes.contains(&dtype)).collect();
    assert!(specs.len() > 20, "only {} operations take {dtype}", specs.len());
    let failures: Vec<String> = specs
        .iter()
        .filter_map(|s| holds(cases, &s.strategy(dtype), check).err().map(|e| format!("{} {dtype}: {e}", s.name)))
        .collect();
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn f32() {
    all_hold(DType::F32, 96);
}

#[test]
fn f64() {
    all_hold(DType::F64, 96);
}

#[test]
fn bf16() {
    all_hold(DType::BF16, 48);
}

#[test]
fn f16() {
    all_hold(DType::F16, 48);
}

/// Infinities, NaN, and the largest and least numbers of each dtype.
#[test]
fn elementwise_operations_at_the_ends_of_the_range() {
    let mut failures = Vec::new();
    for &dtype in opspec::FLOATS {
        let extreme = |s: &Spec| s.dtypes.contains(&dtype).then(|| s.extreme(dtype)).flatten();
        let specs: Vec<_> = opspec::all().iter().filter_map(|s| Some((s.name, extreme(s)?))).collect();
        assert!(specs.len() > 35, "only {} operations are elementwise", specs.len());
        failures.extend(specs.iter().filter_map(|(name, s)| Some(format!("{name} {dtype}: {}", holds(96, s, check).err()?))));
    }
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn integers_and_bool() {
    for dtype in [DType::I64, DType::I32, DType::U8, DType::Bool] {
        all_hold(dtype, 32);
    }
}
