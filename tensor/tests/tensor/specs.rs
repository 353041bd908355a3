//! Every operation held to its specification, in every dtype it takes.

use opspec::{Case, Spec, holds};
use proptest::prelude::*;
use tensor::{DType, Device, Tensor};

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

/// Where it would show that terms are added one after the other.
#[test]
fn long_accumulations() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for n in [1025, 100_003] {
            for case in opspec::accumulations(dtype, n) {
                case.verify(&Device::cpu()).unwrap_or_else(|e| panic!("{e}"));
            }
        }
    }
    // The references add up in f64 themselves.
    let n = 300_000;
    let run = Tensor::full([n], 0.1, DType::F64, &Device::cpu()).cumsum(0).to_f64_vec();
    assert!((run[n - 1] - 3e4).abs() <= 2.0 * f64::EPSILON * 3e4, "{}", run[n - 1]);
    // Beyond the last number to which f32 can add 1.
    let n = (1 << 24) + 64;
    let ones = Tensor::ones([n], DType::F32, &Device::cpu());
    let last = |t: Tensor| t.narrow(0, -1, 1).item::<f32>();
    assert_eq!(last(ones.cumsum(0)), n as f32);
    assert_eq!(last(ones.sum((), true)), n as f32);
    let at = Tensor::zeros([n], DType::U8, &Device::cpu());
    let zero = Tensor::zeros([1], DType::F32, &Device::cpu());
    assert_eq!(last(zero.index_add(0, &at, &ones, 1.0)), n as f32);
    assert_eq!(last(zero.scatter_add(0, &at, &ones)), n as f32);
}
