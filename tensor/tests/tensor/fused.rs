//! A fused operation equals the composition that defines it, over random layouts: both lie within the bound of one reference.

use opspec::{Attend, Backward, Case, Fused, Op, holds};
use proptest::prelude::*;
use tensor::{DType, Device, Generator, Tensor};

/// The composition by public operations, for cases that have one.
fn composed(case: &Case, x: &[Tensor]) -> Option<Vec<Tensor>> {
    Some(match &case.op {
        Op::Fused(Fused::Swiglu) => vec![x[0].silu().mul(&x[1])],
        Op::Fused(Fused::RmsNorm { dims, eps }) => {
            let over: Vec<isize> = (1..=*dims as isize).map(|d| -d).collect();
            let eps = eps.unwrap_or(x[0].dtype().epsilon());
            let y = x[0].mul(&x[0].square().mean(&over[..], true).add(eps).rsqrt());
            vec![x.get(1).map_or(y.clone(), |w| y.mul(w))]
        }
        Op::Fused(Fused::Rope { inverse }) => {
            let (a, b) = (x[0].slice(-1, 0, isize::MAX, 2), x[0].slice(-1, 1, isize::MAX, 2));
            let sin = if *inverse { x[2].neg() } else { x[2].clone() };
            let pair = [a.mul(&x[1]).sub(&b.mul(&sin)), a.mul(&sin).add(&b.mul(&x[1]))];
            let shape: Vec<isize> = x[0].dims().iter().map(|&n| n as isize).collect();
            vec![Tensor::stack(&pair, -1).reshape(&shape)]
        }
        Op::Attend(Attend::Causal { visible, scale }) => {
            let (seq, keys) = (x[0].dims()[2] as i64, x[1].dims()[2] as i64);
            let last: Vec<i64> = match visible {
                Some(n) => n.iter().map(|&n| n as i64).collect(),
                None => vec![keys; x[0].dims()[0]],
            };
            let cpu = Device::cpu();
            let seen = Tensor::from_slice(&last, [last.len(), 1, 1, 1], &cpu);
            let row = Tensor::arange(0, seq, 1, DType::I64, &cpu).unsqueeze(1).sub(seq - 1);
            let mask = Tensor::arange(0, keys, 1, DType::I64, &cpu).lt(&row.add(&seen));
            let scores = Tensor::where_(&mask, &x[0].matmul(&x[1].t()).mul(*scale), f64::NEG_INFINITY);
            vec![scores.softmax(-1).matmul(&x[2]), scores.logsumexp(-1, false)]
        }
        Op::Backward(Backward::Swiglu) => {
            let s = x[1].sigmoid();
            let slope = s.mul(&x[1].mul(&s.neg().add(1.0)).add(1.0));
            vec![x[0].mul(&x[2]).mul(&slope), x[0].mul(&x[1].silu())]
        }
        _ => return None,
    })
}

#[test]
fn fused_operations_equal_their_compositions() {
    let cpu = Device::cpu();
    let mut compared = 0;
    for spec in opspec::all() {
        for dtype in [DType::F32, DType::F64] {
            let case = spec.large(dtype, 1);
            if composed(&case, &case.tensors(&cpu)).is_none() {
                continue;
            }
            compared += 1;
            let result = holds(48, &spec.strategy(dtype), |case: Case| {
                let x = case.tensors(&cpu);
                let parts = composed(&case, &x).expect("one operation, one composition");
                case.check(&parts).map_err(|e| TestCaseError::fail(format!("composition: {e}")))?;
                case.check(&case.apply(&x)).map_err(|e| TestCaseError::fail(format!("fused: {e}")))
            });
            result.unwrap_or_else(|e| panic!("{} {dtype}: {e}", spec.name));
        }
    }
    assert_eq!(compared, 12);
}

/// The sizes of the three operands multiply to 2⁶⁶.
#[test]
fn attention_has_no_bound_below_memorys() {
    let x = Generator::new(1).normal([1 << 16, 1, 1, 64], 0.0, 1.0, DType::F32, &Device::cpu());
    let (out, lse) = Tensor::attention_causal(&x, &x, &x, None, 0.5);
    let (dq, dk, dv) = Tensor::attention_causal_backward(&x, &x, &x, &x, &out, &lse, 0.5);
    // One key a row: it gets all the weight.
    assert_eq!(dv.to_bytes(), x.to_bytes());
    assert!([dq, dk].iter().all(|t| t.abs().amax((), false).item::<f32>() < 1e-4));
}
