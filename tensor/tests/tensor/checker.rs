//! The checker is checked: a planted error must be found, or its approval means nothing.

use opspec::{Case, Draw, Source};
use std::collections::BTreeSet;
use tensor::{DType, Device, Tensor};

/// Operations of PyTorch that must have a specification (those of its OpInfo suite that the library has).
const NAMES: &str = "abs add amax amin argmax argmin argsort bmm broadcast_to cat chunk clamp cos cross_entropy cumsum div \
    embedding eq exp expand flatten flip gather ge gelu gt index_add index_select le linear log log_softmax logsumexp lt \
    masked_fill matmul maximum mean minimum mm mul narrow ne neg permute pow reciprocal relu repeat repeat_interleave reshape \
    rms_norm roll rsqrt scaled_dot_product_attention scatter scatter_add sigmoid silu sin softmax softplus sort split sqrt \
    square squeeze stack sub sum take_along_dim tanh topk transpose tril triu unsqueeze var where";

#[test]
fn every_operation_has_a_specification() {
    let specified: BTreeSet<&str> = opspec::all().iter().map(|s| s.name).collect();
    let names: Vec<&str> = NAMES.split_whitespace().collect();
    assert_eq!(names.len(), 79);
    let missing: Vec<&&str> = names.iter().filter(|n| !specified.contains(**n)).collect();
    assert!(missing.is_empty(), "no specification of {missing:?}");
    // A specification draws cases of the operation that it is named after.
    for spec in opspec::all() {
        for seed in 0..20 {
            let case = spec.draw(&mut Source::seeded(seed, spec.dtypes[0], Draw::Small));
            assert_eq!(case.op.name(), spec.name);
        }
    }
}

/// Outputs with one element moved by about a percent, or flipped.
fn planted(outputs: &[Tensor], which: usize, at: usize) -> Vec<Tensor> {
    let mut out = outputs.to_vec();
    let t = &outputs[which];
    let mut values = t.to_f64_vec();
    values[at] = match t.dtype() {
        DType::Bool => 1.0 - values[at],
        d if d.is_float() => values[at] + 0.02 * (1.0 + values[at].abs()),
        _ => values[at] + 1.0,
    };
    out[which] = Tensor::from_vec(values, t.shape(), &Device::cpu()).to_dtype(t.dtype());
    out
}

#[test]
fn a_planted_error_is_found_in_every_operation() {
    let cpu = Device::cpu();
    for spec in opspec::all() {
        let mut found = 0;
        for seed in 0..12 {
            let case: Case = spec.draw(&mut Source::seeded(seed, DType::F32, Draw::Small));
            let outputs = case.apply(&case.tensors(&cpu));
            case.check(&outputs).unwrap_or_else(|e| panic!("{e}"));
            for (which, t) in outputs.iter().enumerate() {
                for at in [0, t.numel() / 2, t.numel().saturating_sub(1)] {
                    if t.numel() > 0 && t.to_f64_vec()[at].is_finite() {
                        assert!(
                            case.check(&planted(&outputs, which, at)).is_err(),
                            "{} seed {seed}: output {which} at {at}",
                            spec.name
                        );
                        found += 1;
                    }
                }
                let mut nan = outputs.clone();
                nan[which] = t.to_dtype(DType::F64).mul(f64::NAN).to_dtype(t.dtype());
                assert!(
                    t.numel() == 0
                        || !t.dtype().is_float()
                        || case.check(&nan).is_err()
                        || t.to_f64_vec().iter().all(|v| v.is_nan())
                );
                let mut shape = outputs.clone();
                shape[which] = t.unsqueeze(0);
                assert!(case.check(&shape).is_err(), "{}: another shape passes", spec.name);
                let mut dtype = outputs.clone();
                dtype[which] = t.to_dtype(if t.dtype() == DType::F64 { DType::F32 } else { DType::F64 });
                assert!(case.check(&dtype).is_err(), "{}: another dtype passes", spec.name);
            }
            assert!(case.check(&outputs[1..]).is_err(), "{}: a missing output passes", spec.name);
        }
        assert!(found > 0, "{}: nothing was planted", spec.name);
    }
}

#[test]
fn costs_count_what_is_moved_and_computed() {
    let matmul = opspec::all().into_iter().find(|s| s.name == "mm").unwrap();
    let case = matmul.large(DType::F32, 3);
    let (m, k, n) = (case.inputs[0].array.shape[0], case.inputs[0].array.shape[1], case.inputs[1].array.shape[1]);
    assert_eq!(case.cost(), opspec::Cost { flops: (2 * m * k * n) as u64, bytes: (4 * (m * k + k * n + m * n)) as u64 });
}
