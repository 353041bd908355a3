//! Every operation of the specifications on `Var`: the same result as on `Tensor`, and the gradient that central differences
//! give, over shapes and layouts.

use crate::operations::{apply, differentiable, joined, operands};
use autograd::{Gradcheck, Var, gradcheck, no_grad};
use opspec::{Case, Op, Spec, View, holds};
use proptest::prelude::*;
use tensor::{DType, Device, Fused, Tensor};

/// Farther from every kink than the steps of the differences reach.
const DISTANCE: f64 = 0.01;

fn gradients_hold(case: Case) -> Result<(), TestCaseError> {
    let which = case.differentiable();
    let tensors = case.tensors(&Device::cpu());
    if !differentiable(&case) {
        return Ok(());
    }
    // A cast to fewer bits is a staircase: no difference quotient sees its slope.
    if matches!(&case.op, Op::View(View::ToDtype(t)) if *t != DType::F64) {
        return Ok(());
    }
    let inputs: Vec<Tensor> = which.iter().map(|&i| tensors[i].clone()).collect();
    let f = |vars: &[Var]| joined(&apply(&case.op, &operands(&tensors, &which, vars)).expect("a gradient rule"));
    if f(&inputs.iter().map(|x| Var::parameter(x.clone())).collect::<Vec<_>>()).numel() == 0 {
        return Ok(());
    }
    gradcheck(f, &inputs, &Gradcheck::default()).map_err(|e| TestCaseError::fail(format!("{}: {e}", case.op.name())))
}

/// In any dtype and any shape, empty ones too: results equal those on `Tensor` bit for bit, and gradients have the operands'
/// shape and dtype (which the engine demands) in every combination of operands that need one.
fn results_agree(case: Case) -> Result<(), TestCaseError> {
    let which = case.differentiable();
    let tensors = case.tensors(&Device::cpu());
    let expected = case.apply(&tensors);
    let bits = |t: &Tensor| (t.dims().to_vec(), t.dtype(), t.to_bytes());
    let untracked = no_grad(|| apply(&case.op, &operands(&tensors, &[], &[])));
    prop_assert_eq!(untracked.is_some(), !matches!(&case.op, op if op.family().differentiable().is_empty()));
    let Some(untracked) = untracked else { return Ok(()) };
    for (y, t) in untracked.iter().zip(&expected) {
        prop_assert_eq!(bits(&y.value()), bits(t));
    }
    if !differentiable(&case) {
        return Ok(());
    }
    for subset in 1..1usize << which.len() {
        let some: Vec<usize> = which.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1).map(|(_, &w)| w).collect();
        let params: Vec<Var> = some.iter().map(|&i| Var::parameter(tensors[i].clone())).collect();
        let outputs = apply(&case.op, &operands(&tensors, &some, &params)).expect("a gradient rule");
        for (y, t) in outputs.iter().zip(&expected) {
            prop_assert_eq!(bits(&y.value()), bits(t));
        }
        joined(&outputs).sum((), false).backward();
        for p in &params {
            prop_assert!(p.grad().is_some(), "no gradient for {p:?}");
        }
    }
    Ok(())
}

/// The gradient in a half type is that in f32 at the same point, rounded: rules compute in f32, from results that were not rounded
/// either.
fn half_gradients_are_f32s(case: Case) -> Result<(), TestCaseError> {
    // The kernel of this one takes the stored output.
    let stored = matches!(&case.op, Op::Fused(Fused::AttentionCausal { .. }));
    // What a cast means depends on the dtype.
    let other = matches!(&case.op, Op::View(View::ToDtype(_)));
    if !differentiable(&case) || stored || other {
        return Ok(());
    }
    let (which, tensors) = (case.differentiable(), case.tensors(&Device::cpu()));
    let half = tensors[which[0]].dtype();
    let gradients = |dtype: DType| -> Vec<Vec<u8>> {
        let wide = |t: &Tensor| if t.dtype() == half { t.to_dtype(dtype) } else { t.clone() };
        let tensors: Vec<Tensor> = tensors.iter().map(wide).collect();
        let params: Vec<Var> = which.iter().map(|&i| Var::parameter(tensors[i].clone())).collect();
        let y = joined(&apply(&case.op, &operands(&tensors, &which, &params)).expect("a gradient rule"));
        // Weights that a half type holds.
        let weights = Tensor::arange(0, y.numel() as i64, 1, DType::F64, &Device::cpu()).sin().mul(8.0).floor().div(8.0);
        y.backward_with(&weights);
        params.iter().map(|p| p.grad().expect("a gradient").to_dtype(half).to_bytes()).collect()
    };
    prop_assert_eq!(gradients(half), gradients(DType::F32), "{:?}", case.op);
    Ok(())
}

#[test]
fn gradients_in_half_types_are_f32s_rounded_once() {
    for dtype in [DType::BF16, DType::F16] {
        all_hold(dtype, 48, |s| s.strategy(dtype), half_gradients_are_f32s);
    }
}

/// Every specification that takes the dtype; says each that fails.
fn all_hold(dtype: DType, cases: u32, draw: impl Fn(&Spec) -> BoxedStrategy<Case>, check: fn(Case) -> Result<(), TestCaseError>) {
    let specs: Vec<Spec> = opspec::all().into_iter().filter(|s| s.dtypes.contains(&dtype)).collect();
    let failures: Vec<String> =
        specs.iter().filter_map(|s| holds(cases, &draw(s), check).err().map(|e| format!("{} {dtype}: {e}", s.name))).collect();
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn gradients_equal_central_differences() {
    all_hold(DType::F64, 48, |s| s.smooth(DISTANCE), gradients_hold);
}

#[test]
fn results_and_shapes_agree_with_tensor() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        all_hold(dtype, 32, |s| s.strategy(dtype), results_agree);
    }
}
