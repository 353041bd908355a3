//! Gradients on the device are those on the CPU, which central differences hold (see the tests of autograd).

use crate::holds;
use crate::operations::{apply, differentiable, joined, operands};
use autograd::Var;
use opspec::Case;
use tensor::{DType, Device, Tensor};

/// Gradients of a weighted sum of all results, in f64. The weights differ, so that no gradient flows in equal parts.
fn gradients(case: &Case, device: &Device) -> Vec<Vec<f64>> {
    let which = case.differentiable();
    let tensors = case.tensors(device);
    let params: Vec<Var> = which.iter().map(|&i| Var::parameter(tensors[i].clone())).collect();
    let results = joined(&apply(&case.op, &operands(&tensors, &which, &params)).expect("a gradient rule"));
    let weights = Tensor::arange(1, results.numel() as i64 + 1, 1, DType::F64, device).cos();
    results.mul(&Var::from(&weights)).sum((), false).backward();
    params.iter().map(|p| p.grad().expect("a gradient").to_f64_vec()).collect()
}

fn agree(case: Case, device: &Device) -> Result<(), String> {
    if !differentiable(&case) || matches!(&case.op, opspec::Op::View(opspec::View::ToDtype(t)) if *t != DType::F64) {
        return Ok(());
    }
    let (expected, got) = (gradients(&case, &Device::cpu()), gradients(&case, device));
    for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
        // Both are within a few hundred roundings of the largest term from the truth; a wrong rule is off by far more.
        let size = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        for (at, (e, g)) in expected.iter().zip(got).enumerate() {
            if (e - g).abs() > 1e4 * f64::EPSILON * size {
                return Err(format!("{}: gradient {i} at {at} is {g}, on the CPU {e}", case.op.name()));
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_the_cpus() {
    let only = std::env::var("SCRATCHWORK_OP").unwrap_or_default();
    let failures: Vec<String> = opspec::all()
        .iter()
        .filter(|s| s.dtypes.contains(&DType::F64) && s.name.contains(&only))
        .filter_map(|s| holds(16, s.smooth(0.01), agree).err().map(|e| format!("{}: {e}", s.name)))
        .collect();
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}
