//! Misuse panics at the caller's line and names the operation and what did not fit.

use crate::blame::{Walk, public_functions, refuses};
use autograd::{Attention, Var, backward_parts, sum_to};
use std::path::Path;
use tensor::cpu::CpuBackend;
use tensor::{CrossEntropy, DType, Device, Fused, Gelu, Shape, Tensor};

#[test]
fn panics_name_the_operation_and_the_callers_line() {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu);
    let f = |shape: &[usize]| Var::parameter(zeros(shape));
    let ids = |v: &[i64]| Tensor::from_slice(v, v.len(), &cpu);
    let (x, y, q) = (f(&[2, 3]), f(&[4, 3]), f(&[1, 1, 2, 3]));
    let x8 = Var::constant(x.value().to_dtype(DType::F8E4M3));
    let integers = || Tensor::zeros([2, 3], DType::I64, &cpu);
    // 256 TiB of one element, which every result would have to hold.
    let huge = Var::constant(zeros(&[1]).broadcast_to([1 << 46]));
    let elsewhere = Device::new(CpuBackend);
    let none = |_: &Tensor, _: [bool; 1]| [None];
    let options = CrossEntropy::default();
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    refuses! { (refused, wrong)
        x8.neg() => "f8e4m3";
        x8.abs() => "f8e4m3";
        x8.exp() => "f8e4m3";
        x8.log() => "f8e4m3";
        x8.sqrt() => "f8e4m3";
        x8.rsqrt() => "f8e4m3";
        x8.sin() => "f8e4m3";
        x8.cos() => "f8e4m3";
        x8.tanh() => "f8e4m3";
        x8.sigmoid() => "f8e4m3";
        x8.silu() => "f8e4m3";
        x8.relu() => "f8e4m3";
        x8.reciprocal() => "f8e4m3";
        x8.square() => "f8e4m3";
        x8.sign() => "f8e4m3";
        x8.floor() => "f8e4m3";
        x8.erf() => "f8e4m3";
        x8.gelu(Gelu::None) => "f8e4m3";
        x.softplus(0.0, 20.0) => "beta";
        x.add(&y) => "shapes [2, 3] and [4, 3]";
        x.sub(&y) => "shapes [2, 3] and [4, 3]";
        x.mul(&y) => "shapes [2, 3] and [4, 3]";
        x.div(&y) => "shapes [2, 3] and [4, 3]";
        x.pow(&y) => "shapes [2, 3] and [4, 3]";
        x.maximum(&y) => "shapes [2, 3] and [4, 3]";
        x.minimum(&y) => "shapes [2, 3] and [4, 3]";
        x.clamp_min(&y) => "shapes [2, 3] and [4, 3]";
        x.clamp_max(&y) => "shapes [2, 3] and [4, 3]";
        &x - &y => "sub: shapes";
        x.add_alpha(&y, 2.0) => "shapes [2, 3] and [4, 3]";
        x.sub_alpha(&y, 2.0) => "shapes [2, 3] and [4, 3]";
        x.clamp(1.0, &y) => "shapes [2, 3] and [4, 3]";
        Var::where_(&integers(), &x, 0.0) => "i64", "bool";
        x.masked_fill(&y.value().eq(0.0), 0.0) => "shapes";
        x.to_dtype(DType::I64) => "i64 carries no gradient";
        huge.to_dtype(DType::F64) => "out of memory";
        x.dim(2) => "dimension 2";
        x.matmul(&y) => "[2, 3]", "[4, 3]";
        x.mm(&q) => "[1, 1, 2, 3]";
        x.bmm(&y) => "[4, 3]";
        x.linear(&f(&[5, 4]), None) => "[2, 3]", "[4, 5]";
        x.linear(&f(&[5, 3]), Some(&f(&[4]))) => "shapes [2, 5] and [4]";
        x.linear(&f(&[3]), Some(&f(&[3]))) => "shapes [2] and [3]";
        x.sum(2, false) => "dimension 2";
        x.mean([0, -2], false) => "twice";
        x.var(2, 0.0, false) => "dimension 2";
        x.logsumexp(2, false) => "dimension 2";
        f(&[2, 0]).amax(1, false) => "[2, 0]";
        f(&[2, 0]).amin(1, false) => "[2, 0]";
        x.cumsum(2) => "dimension 2";
        x.softmax(2) => "dimension 2";
        x.log_softmax(2) => "dimension 2";
        x.sort(2, false) => "dimension 2";
        x.topk(4, 1, true, true) => "4 of 3";
        x.gather(0, &ids(&[0])) => "[1]", "[2, 3]";
        x.scatter(1, &ids(&[3]).unsqueeze(0), 0.0) => "position 3";
        x.scatter_add(1, &ids(&[3]).unsqueeze(0), &f(&[1, 1])) => "position 3";
        x.index_select(1, &ids(&[0, 3])) => "position 3";
        x.index_add(0, &ids(&[2]), &f(&[1, 3]), 1.0) => "position 2";
        x.take_along_dim(&ids(&[3]).unsqueeze(1), Some(0)) => "position 3", "[2, 3]";
        x.take_along_dim(&ids(&[6]), None) => "position 6";
        x.take_along_dim(&x.value(), Some(0)) => "f32";
        Var::embedding(&x, &ids(&[-1])) => "position -1";
        x.repeat_interleave(&ids(&[-1, 1]), Some(0)) => "negative";
        x.repeat_interleave(2, Some(5)) => "dimension 5";
        x.reshape(&[4, -1]) => "[2, 3]", "[4, -1]";
        x.flatten(1, 0) => "dimension 1 lies behind 0";
        x.unsqueeze(4) => "dimension 4";
        x.squeeze([0, 2]) => "dimension 2";
        huge.contiguous() => "out of memory";
        huge.to_device(&elsewhere) => "out of memory";
        x.permute(&[0, 5]) => "dimension 5";
        x.transpose(0, 3) => "dimension 3";
        x.expand(&[2, 4]) => "[2, 3]", "[2, 4]";
        x.broadcast_to([2, 4]) => "[2, 3]", "[2, 4]";
        x.narrow(1, 2, 2) => "[2, 3]";
        x.slice(0, 0, 1, 0) => "step is 0";
        x.select(0, 2) => "position 2";
        x.flip(&[5]) => "dimension 5";
        x.roll(&[1], &[5]) => "dimension 5";
        x.repeat(&[2]) => "[2, 3]";
        x.tril(0).select(0, 0).tril(0) => "[3]";
        x.triu(0).select(0, 0).triu(0) => "[3]";
        Var::cat(&[x.clone(), f(&[2, 4])], 0) => "[2, 3]", "[2, 4]";
        Var::stack(&[x.clone(), y.clone()], 0) => "[2, 3]", "[4, 3]";
        x.split(1, 5) => "dimension 5";
        x.chunk(0, 0) => "0 pieces";
        x.split_with_sizes(&[1, 1], 5) => "dimension 5";
        x.split_with_sizes(&[1, 2], 0) => "[1, 2]", "[2, 3]";
        x.split_with_sizes(&[usize::MAX, 3], 0) => "[2, 3]";
        x.cross_entropy(&ids(&[0, 3]), &options) => "position 3";
        x.cross_entropy(1.0, &options) => "the target is a number";
        Var::scaled_dot_product_attention(&x, &f(&[2, 4]), &x, &Attention::default()) => "[2, 4]";
        Var::scaled_dot_product_attention(&x, &x, &x, &Attention { mask: Some(1.0.into()), ..Default::default() }) => "a number";
        Var::attention_causal(&q, &q, &q, Some(&[2]), 1.0) => "no gradient";
        Var::attention_causal(&x, &x, &x, None, 1.0) => "[2, 3]";
        x.rms_norm(&[2], None, None) => "[2, 3]", "[2]";
        x.rms_norm(&[3], None, Some(f64::NAN)) => "eps";
        f(&[2, 3, 5]).rope(&x.value(), &x.value()) => "[2, 3, 5]";
        x.swiglu(&y) => "[2, 3]", "[4, 3]";
        Var::fused(&Fused::Swiglu, &[&x]) => "swiglu: 1 operands";
        Var::parameter(integers()) => "i64";
        x.sum((), false).grad() => "the result of sum";
        x.sum((), false).zero_grad() => "the result of sum";
        x.set_grad(Some(zeros(&[1]))) => "[1]", "[2, 3]";
        x.set_value(zeros(&[1])) => "[1]", "[2, 3]";
        x.backward() => "[2, 3]";
        Var::constant(zeros(&[1])).backward() => "no parameter";
        x.backward_with(&zeros(&[1])) => "[1]", "[2, 3]";
        backward_parts(&[()], |_| Ok::<_, ()>((x.clone(), ()))) => "[2, 3]";
        Var::op("turn", integers(), [&x], none) => "turn: i64";
        Var::op_vec("turn", integers(), &[x.clone(), x.clone()], |_, _| vec![]) => "turn: i64";
        Var::op_multi("turn", vec![integers()], [&x], |_, _| [None]) => "turn: i64";
        sum_to(&zeros(&[2, 3]), &Shape::from(2)) => "[2, 3]", "[2]";
    }
    let walk = Walk {
        functions: public_functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")),
        refused: &refused,
        file: "misuse.rs",
        source: include_str!("misuse.rs"),
        aliases: &[
            ("sub", " - "),
            ("swiglu", "Var::fused("),
            ("turn", "Var::op("),
            ("turn", "Var::op_vec("),
            ("turn", "Var::op_multi("),
        ],
        sound: &[
            (
                "reads what is there, or makes another handle of it",
                &[
                    "Var::constant",
                    "Var::detach",
                    "Var::device",
                    "Var::dtype",
                    "Var::id",
                    "Var::numel",
                    "Var::rank",
                    "Var::requires_grad",
                    "Var::shape",
                    "Var::value",
                    "mode.rs: is_grad_enabled",
                ],
            ),
            ("a view of what it is given, that always fits", &["Var::t"]),
            ("panics only where the function that it is given does", &["mode.rs: no_grad", "gradcheck.rs: gradcheck"]),
        ],
        unreachable: &[("panics in the backward pass", &["checkpoint.rs: checkpoint"])],
    };
    wrong.extend(walk.complaints());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
