//! Every operation held to its specification, in every dtype it takes, each case with an interpreter seed of its own.

use crate::{device, holds};
use opspec::{Draw, Source, Spec};
use std::time::Instant;
use tensor::DType;

/// All specifications that take a dtype; says every one that fails. `SCRATCHWORK_OP` keeps those whose name contains it.
fn all_hold(dtype: DType, cases: u32) {
    let only = std::env::var("SCRATCHWORK_OP").unwrap_or_default();
    let specs: Vec<Spec> = opspec::all().into_iter().filter(|s| s.dtypes.contains(&dtype)).collect();
    assert!(specs.len() > 20, "only {} operations take {dtype}", specs.len());
    let mut failures = vec![];
    for spec in specs.iter().filter(|s| s.name.contains(&only)) {
        let start = Instant::now();
        let result = holds(cases, spec.strategy(dtype), |case, device| case.verify(device).map_err(|e| e.to_string()));
        println!("{} {dtype}: {:.2} s", spec.name, start.elapsed().as_secs_f64());
        failures.extend(result.err().map(|e| format!("{} {dtype}: {e}", spec.name)));
    }
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn f32() {
    all_hold(DType::F32, 96);
}

#[test]
fn f64() {
    all_hold(DType::F64, 48);
}

#[test]
fn bf16() {
    all_hold(DType::BF16, 64);
}

#[test]
fn f16() {
    all_hold(DType::F16, 48);
}

#[test]
fn integers_and_bool() {
    for dtype in [DType::I64, DType::I32, DType::U8, DType::Bool] {
        all_hold(dtype, 32);
    }
}

/// Infinities, NaN, and the largest and least numbers of each dtype.
#[test]
fn elementwise_operations_at_the_ends_of_the_range() {
    let mut failures = vec![];
    for &dtype in opspec::FLOATS {
        let extreme = |s: &Spec| s.dtypes.contains(&dtype).then(|| s.extreme(dtype)).flatten();
        for (name, strategy) in opspec::all().iter().filter_map(|s| Some((s.name, extreme(s)?))) {
            let result = holds(48, strategy, |case, device| case.verify(device).map_err(|e| e.to_string()));
            failures.extend(result.err().map(|e| format!("{name} {dtype}: {e}")));
        }
    }
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}

/// Sizes that fill tiles and blocks and leave a rest.
#[test]
fn large_cases() {
    for name in ["matmul", "attention_causal", "attention_causal_backward", "sum", "softmax", "sort", "rms_norm", "cumsum"] {
        let spec = opspec::all().into_iter().find(|s| s.name == name).expect("a specification");
        for dtype in [DType::F32, DType::BF16] {
            let case = spec.draw(&mut Source::seeded(7, dtype, Draw::Large));
            case.verify(&device(3)).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// Where it would show that terms are added one after the other.
#[test]
fn long_accumulations() {
    for dtype in [DType::F32, DType::BF16] {
        for case in opspec::accumulations(dtype, 100_003) {
            let start = Instant::now();
            case.verify(&device(5)).unwrap_or_else(|e| panic!("{e}"));
            println!("{} {dtype}: {:.2} s", case.op.name(), start.elapsed().as_secs_f64());
        }
    }
}
