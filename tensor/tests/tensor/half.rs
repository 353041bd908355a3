//! bf16 and f16: every operation computes in f32 and rounds once.

use opspec::{Binary, Case, Op, holds};
use proptest::prelude::*;
use tensor::{BinaryOp, CrossEntropy, DType, Device, Fused, Tensor, bf16, f16};

const HALVES: [DType; 2] = [DType::BF16, DType::F16];

fn t(values: &[f64], dtype: DType) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::cpu()).to_dtype(dtype)
}

/// Whether an operation means another one in another dtype, so that it cannot be repeated in f32.
fn depends_on_the_dtype(op: &Op) -> bool {
    match op {
        // The number is rounded to the dtype first, as in PyTorch.
        Op::Binary(Binary::Scalar(op, _)) => op.is_predicate(),
        // Two operations: the forward pass stores its output.
        Op::Fused(Fused::AttentionCausalBackward { .. }) => true,
        _ => false,
    }
}

/// The operation on the same operands in f32, rounded, gives the same bits.
#[test]
fn every_operation_is_f32s_rounded_once() {
    let cpu = Device::cpu();
    let mut failures = vec![];
    for (spec, dtype) in opspec::all().iter().flat_map(|s| HALVES.map(|d| (s, d))).filter(|(s, d)| s.dtypes.contains(d)) {
        let result = holds(48, &spec.strategy(dtype), |case: Case| {
            if depends_on_the_dtype(&case.op) {
                return Ok(());
            }
            let x = case.tensors(&cpu);
            let wide: Vec<Tensor> =
                x.iter().map(|t| if t.dtype() == dtype { t.to_dtype(DType::F32) } else { t.clone() }).collect();
            for (i, (got, want)) in case.apply(&x).iter().zip(case.apply(&wide)).enumerate() {
                prop_assert!(got.to_bytes() == want.to_dtype(got.dtype()).to_bytes(), "{:?}: result {i}", case.op);
            }
            Ok(())
        });
        failures.extend(result.err().map(|e| format!("{} {dtype}: {e}", spec.name)));
    }
    assert!(failures.is_empty(), "{} operations fail:\n{}", failures.len(), failures.join("\n"));
}

/// As in PyTorch, whose kernels take a number in f32.
#[test]
fn numbers_are_not_rounded_to_the_half_type() {
    let x = t(&[60000.0], DType::F16);
    assert_eq!(x.div(1e5).item::<f16>(), f16::from_f32(0.6));
    assert_eq!(x.mul(1e-8).item::<f16>(), f16::from_f32(6e-4));
    assert_eq!(x.sub(1e5).item::<f16>(), f16::from_f32(-4e4));
    assert_eq!(x.pow(0.1).item::<f16>(), f16::from_f32(60000f32.powf(0.1)));
    assert_eq!(t(&[3.0], DType::BF16).mul(1.0 / 3.0).item::<bf16>().to_f32(), 1.0);
    // Nor is a 0-d tensor beside one with dimensions.
    let number = |v: f64, dtype| Tensor::scalar(v, dtype, &Device::cpu());
    for dtype in [DType::F32, DType::F64, DType::I64] {
        assert_eq!(x.div(&number(1e5, dtype)).item::<f16>(), f16::from_f32(0.6), "{dtype}");
        assert_eq!(number(1e5, dtype).div(&x).item::<f16>(), f16::from_f32(1e5 / 6e4), "{dtype}");
    }
    // A comparison does round it: 1.001 is 1 in bf16.
    assert!(t(&[1.0], DType::BF16).eq(1.001).item::<bool>());
    // A number that is only put somewhere is rounded once.
    let tie = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
    assert_eq!(number(tie, DType::BF16).item::<bf16>().to_f32(), 1.0 + 2f32.powi(-7));
}

#[test]
fn a_product_is_not_rounded_before_its_bias() {
    for dtype in HALVES {
        let ulps = 1.0 / dtype.epsilon(); // 1 is half a step here: a tie
        let (x, w) = (t(&[1.0, 1.0 / 1024.0], dtype).reshape(&[1, 2]), t(&[2.0 * ulps, 1.0], dtype).reshape(&[1, 2]));
        // 2·ulps + 1/1024 + 1: the rest decides the tie, if it is still there.
        assert_eq!(x.linear(&w, Some(&t(&[1.0], dtype))).to_f64_vec(), [2.0 * ulps + 2.0], "{dtype}");
    }
}

#[test]
fn probabilities_are_weighed_in_f32() {
    // 1 − 0.1 and 0.1/3 would each be rounded to bf16.
    let (logits, target) = (t(&[0.5, -1.0, 2.0], DType::BF16), t(&[0.25, 0.25, 0.5], DType::BF16));
    let options = CrossEntropy { label_smoothing: 0.1, ..Default::default() };
    let (_, coefficients, _) = options.coefficients(&logits.to_dtype(DType::F32), &target);
    let want = target.to_dtype(DType::F32).mul(0.9).add(0.1 / 3.0);
    assert_eq!((coefficients.dtype(), coefficients.to_bytes()), (DType::F32, want.to_bytes()));
}

#[test]
fn a_large_exponent_is_not_cut_off() {
    let cpu = Device::cpu();
    let power = |base: i64, exponent: i64| {
        Tensor::from_slice(&[base], 1, &cpu)
            .binary(BinaryOp::Pow, (&Tensor::from_slice(&[exponent], 1, &cpu)).into())
            .item::<i64>()
    };
    assert_eq!(
        [power(0, 1 << 32), power(2, 1 << 32), power(3, (1 << 32) + 1)],
        [0, 0, 3i64.wrapping_pow(u32::MAX).wrapping_mul(9)]
    );
    assert_eq!([power(-1, (1 << 40) + 1), power(-1, 1 << 40), power(7, 0), power(-3, 5)], [-1, 1, 1, -243]);
}
