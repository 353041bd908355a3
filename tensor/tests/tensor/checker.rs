//! The checker is checked: a planted error must be found, or its approval means nothing.

use opspec::{Attend, Binary, Case, Draw, Index, Join, Op, Order, Precision, Product, Reduce, Softmax, Source, View};
use std::collections::BTreeSet;
use tensor::{BinaryOp, DType, Device, Fused, Gelu, Tensor, UnaryOp};

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

/// The first words of an operation's debug text: its family and its variant, such as `Unary Gelu`.
fn words(op: &Op, n: usize) -> String {
    let text = format!("{op:?}");
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).take(n).collect::<Vec<_>>().join(" ")
}

/// A variant for which `specs()` has no line would not be tested, and nothing else would say so.
#[test]
fn every_variant_is_drawn() {
    let unary: Vec<String> = UnaryOp::ALL.iter().map(|&op| words(&Op::Unary(op), 2)).collect();
    let plain: Vec<String> = BinaryOp::ALL.iter().map(|&op| words(&Op::Binary(Binary::Plain(op)), 3)).collect();
    let families = [
        ("Binary", Binary::VARIANTS),
        ("Reduce", Reduce::VARIANTS),
        ("Softmax", Softmax::VARIANTS),
        ("Product", Product::VARIANTS),
        ("Attend", Attend::VARIANTS),
        ("Fused", Fused::VARIANTS),
        ("Index", Index::VARIANTS),
        ("Order", Order::VARIANTS),
        ("Join", Join::VARIANTS),
        ("View", View::VARIANTS),
    ];
    let named: Vec<&str> = ["Unary"].into_iter().chain(families.iter().map(|f| f.0)).collect();
    assert_eq!(named, Op::VARIANTS, "a family is missing here");
    let rest = families.iter().flat_map(|(family, variants)| variants.iter().map(move |v| format!("{family} {v}")));
    let mut missing: BTreeSet<String> = unary.into_iter().chain(plain).chain(rest).collect();
    for spec in opspec::all() {
        for seed in 0..200 {
            let op = spec.draw(&mut Source::seeded(seed, spec.dtypes[0], Draw::Small)).op;
            missing.remove(&words(&op, 2));
            missing.remove(&words(&op, 3));
        }
    }
    assert!(missing.is_empty(), "no specification draws {missing:?}");
}

/// Operations whose operands all have dimensions.
const NEVER_0D: &str = "mm bmm matmul linear attention_causal attention_causal_backward rms_norm \
    rms_norm_backward cat split chunk narrow slice select tril triu";

#[test]
fn empty_and_0d_operands_are_drawn_wherever_they_are_legal() {
    let without: BTreeSet<&str> = NEVER_0D.split_whitespace().collect();
    for spec in opspec::all() {
        let (mut empty, mut scalar) = (false, false);
        for seed in 0..1000 {
            let case = spec.draw(&mut Source::seeded(seed, spec.dtypes[0], Draw::Small));
            empty |= case.inputs.iter().any(|i| i.array.numel() == 0);
            scalar |= case.inputs.iter().any(|i| i.array.rank() == 0);
        }
        assert!(empty, "{}: no empty operand in 1000 cases", spec.name);
        assert!(scalar != without.contains(spec.name), "{}: a 0-d operand in 1000 cases: {scalar}", spec.name);
    }
}

/// Outputs with one element moved by four times what is allowed, towards zero; where nothing is, to a neighbouring value.
fn planted(case: &Case, outputs: &[Tensor], which: usize, at: usize) -> Vec<Tensor> {
    let mut out = outputs.to_vec();
    let t = &outputs[which];
    let mut values = t.to_f64_vec();
    let (value, allowed) = (values[at], case.allowed()[which][at]);
    values[at] = match t.dtype() {
        DType::Bool => 1.0 - value,
        d if !d.is_float() => value + 1.0,
        d if allowed == 0.0 => value + d.epsilon() * if value == 0.0 { 1.0 } else { value.abs() },
        _ => value - (4.0 * allowed).copysign(value),
    };
    out[which] = Tensor::from_vec(values, t.shape(), &Device::cpu()).to_dtype(t.dtype());
    out
}

#[test]
fn a_planted_error_is_found_in_every_operation() {
    let cpu = Device::cpu();
    for (spec, &dtype) in opspec::all().iter().flat_map(|s| s.dtypes.iter().map(move |d| (s, d))) {
        let mut found = 0;
        for seed in 0..12 {
            let case: Case = spec.draw(&mut Source::seeded(seed, dtype, Draw::Small));
            let outputs = case.apply(&case.tensors(&cpu));
            case.check(&outputs).unwrap_or_else(|e| panic!("{e}"));
            for (which, t) in outputs.iter().enumerate() {
                for at in [0, t.numel() / 2, t.numel().saturating_sub(1)] {
                    if t.numel() > 0 && t.to_f64_vec()[at].is_finite() {
                        assert!(
                            case.check(&planted(&case, &outputs, which, at)).is_err(),
                            "{} {dtype} seed {seed}: output {which} at {at}",
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
                let mut other = outputs.clone();
                other[which] = t.to_dtype(if t.dtype() == DType::F64 { DType::F32 } else { DType::F64 });
                assert!(case.check(&other).is_err(), "{}: another dtype passes", spec.name);
            }
            assert!(case.check(&outputs[1..]).is_err(), "{}: a missing output passes", spec.name);
        }
        assert!(found > 0, "{} {dtype}: nothing was planted", spec.name);
    }
}

/// How many roundings of its own size a result may be off where nothing cancels; `None` for sums, whose terms may.
fn roundings(op: &Op) -> Option<f64> {
    use BinaryOp::{Div, Mul, Pow};
    match op {
        // The lower tail is steep.
        Op::Unary(UnaryOp::Gelu(Gelu::None)) => Some(256.0),
        Op::Unary(UnaryOp::Gelu(Gelu::Tanh)) | Op::Softmax(Softmax::LogSoftmax(_) | Softmax::CrossEntropy { .. }) => None,
        Op::Unary(_) | Op::Fused(Fused::Swiglu) => Some(32.0),
        Op::Binary(Binary::Plain(Mul | Div | Pow) | Binary::Scalar(Mul | Div | Pow, _)) => Some(8.0),
        Op::Softmax(Softmax::Softmax(_)) => Some(256.0),
        Op::Fused(Fused::RmsNorm { .. }) => Some(512.0),
        _ => None,
    }
}

/// A bound that is too wide would let every result pass: beyond what it costs to store the result, it is a few roundings of the
/// arithmetic.
#[test]
fn bounds_are_narrow_in_every_dtype() {
    for spec in opspec::all() {
        for &dtype in spec.dtypes.iter().filter(|d| d.is_float()) {
            for seed in 0..100 {
                let case = spec.draw(&mut Source::seeded(seed, dtype, Draw::Small));
                for (expected, allowed) in case.reference().iter().zip(case.allowed()) {
                    let p = Precision::of(expected.array.dtype);
                    // In f64 the reference's own error comes on top.
                    let u = if expected.array.dtype == DType::F64 { 2.0 * p.u } else { p.u };
                    for (&value, allowed) in expected.array.data.iter().zip(allowed) {
                        if !value.is_finite() {
                            continue;
                        }
                        let most = match (roundings(&case.op), &case.op) {
                            (Some(n), _) => n * u * value.abs(),
                            // The output that the forward pass saves is rounded to the dtype.
                            (None, Op::Fused(Fused::AttentionCausalBackward { .. })) => {
                                (f64::from(1 << 19) * u + 128.0 * p.store) * (1.0 + value.abs())
                            }
                            // It is taken as 1 + tanh z, which cancels in f64 (and is rounded to f32 afterwards).
                            (None, Op::Unary(UnaryOp::Gelu(_))) => 1e-4 * value.abs(),
                            (None, _) => f64::from(1 << 19) * u * (1.0 + value.abs()),
                        };
                        let stored = 1.01 * (p.store * value.abs() + 2.0 * p.tiny);
                        assert!(
                            allowed <= most + stored,
                            "{} {dtype} seed {seed}: an error of {allowed:e} of {value:e} would pass",
                            spec.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn costs_count_what_is_moved_and_computed() {
    let matmul = opspec::all().into_iter().find(|s| s.name == "mm").unwrap();
    let case = matmul.large(DType::F32, 3);
    let (m, k, n) = (case.inputs[0].array.shape[0], case.inputs[0].array.shape[1], case.inputs[1].array.shape[1]);
    assert_eq!(case.cost(), opspec::Cost { flops: (2 * m * k * n) as u64, bytes: (4 * (m * k + k * n + m * n)) as u64 });
}
